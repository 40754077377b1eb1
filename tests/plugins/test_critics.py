"""Models as critics, critics in processes, boundaries of one's own, and what a population tells the trace."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch

import decodekit as dk
from decodekit.analysis import diagnostics
from decodekit.errors import DecodekitError, OptionError
from decodekit.models.load import load
from decodekit.particles import critics, potentials, process_pool
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.smc import SMC
from decodekit.trace.trace import Trace

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 6}}, "required": ["name"]}


def by_hand(name: str, before: str, after: str) -> float:
    """Log-probability of `after` given `before` in one plain pass."""
    model = load(name)
    hf, tokenizer = model.hf, model.tokenizer
    first, rest = (tokenizer.encode(text, add_special_tokens=False) for text in (before, after))
    with torch.inference_mode():
        law = hf(torch.tensor([first + rest])).logits[0].double().log_softmax(-1)
    return sum(float(law[len(first) - 1 + i, token]) for i, token in enumerate(rest))


def test_likelihood_is_that_of_one_plain_pass() -> None:
    texts = ["Ada Park", "", '{"name": "Ada"}', "Ada Park"]
    critic = critics.Likelihood("zoo:draft", prompt="x\n")
    found = critic.many(texts, [False] * 4)
    assert found == pytest.approx([by_hand("zoo:draft", "x\n", text) for text in texts], abs=1e-4)
    passes = critic.cost.as_dict()
    assert critic.many(texts[:2], [False, False]) == found[:2]
    assert critic.cost.as_dict() == passes  # remembered
    ended = critics.Likelihood("zoo:draft", prompt="x\n", ended=True)
    assert ended.score(texts[0], False) == pytest.approx(found[0], abs=1e-5)
    assert ended.score(texts[0], True) < found[0]


def test_an_answer_compares_two_texts() -> None:
    critic = critics.Answer("zoo:draft", "Is {text} good?", yes=" is", no=" has")
    yes, no = (by_hand("zoo:draft", "Is Ada good?", word) for word in (" is", " has"))
    assert critic.score("Ada", False) == pytest.approx(yes - float(np.logaddexp(yes, no)), abs=1e-4)


def test_a_model_critic_guides_a_population() -> None:
    """A product of experts: particles of base, weighed by the draft model's likelihood."""
    smc = SMC(particles=4, critic=critics.Likelihood("zoo:draft") ** 0.5, at="end", ess=0)
    out = dk.generate(
        "zoo:base", "Ada Park is 36.", constraint=SCHEMA, strategy=[AWRS(weight="exact"), smc], max_tokens=24
    )
    plain = dk.generate(
        "zoo:base",
        "Ada Park is 36.",
        constraint=SCHEMA,
        strategy=[AWRS(weight="exact"), SMC(particles=4, ess=0)],
        max_tokens=24,
    )
    critic = critics.Likelihood("zoo:draft")
    for one, other in zip(out.samples, plain.samples, strict=True):
        assert one.text == other.text
        assert one.logw - other.logw == pytest.approx(0.5 * critic.score(one.text, True), abs=1e-3)


def slow(text: str) -> float:
    if "slow" in text:
        time.sleep(600)  # far longer than starting processes takes on a busy machine
    return float(len(text))


def test_a_slow_critic_is_ended_and_forbids_that_text_only() -> None:
    critic = potentials.Function(slow, workers=2, timeout=1.0)
    begin = time.monotonic()
    scores, why = potentials.safely(critic, ["a", "slow", "abc"], [True] * 3)
    assert time.monotonic() - begin < 300
    assert scores == [1.0, -math.inf, 3.0]
    assert "no answer within 1 s" in why[1]
    assert critic.many(["ab"], [True]) == [2.0]  # others go on
    with pytest.raises(OptionError, match="workers"):
        potentials.Function(slow, timeout=1.0)


def test_a_function_that_no_other_process_can_import_is_refused() -> None:
    def alien(text: str) -> float:
        return 0.0

    alien.__module__ = "nowhere_at_all.deep"
    with pytest.raises(OptionError, match=r"'nowhere_at_all[.]deep' cannot be imported by another process"):
        process_pool.ask(alien, ["a"], 1, 1.0)


def test_boundaries_may_be_an_expression() -> None:
    seen: list[str] = []

    def critic(text: str) -> float:
        seen.append(text)
        return 0.0

    strategy = [AWRS(), SMC(particles=2, critic=critic, at='":')]
    out = dk.generate("zoo:base", "Ada Park is 36.", constraint=SCHEMA, strategy=strategy, max_tokens=24)
    whole = {one.text for one in out.samples}
    assert seen
    assert all('":' in text for text in seen)
    assert len(seen) <= 2 * (1 + max(text.count('":') for text in whole))
    with pytest.raises(OptionError, match="regular expression"):
        SMC(at="(")


def population(path: object = None) -> tuple[Trace, int]:
    strategy = [AWRS(), SMC(particles=6, ess=0.95)]
    out = dk.generate(
        "zoo:base", ["Ada Park is 36.", "Bo Lee"], constraint=SCHEMA, strategy=strategy, max_tokens=24, batch_size=6
    )
    assert out[1].trace is not None
    return out[1].trace, len(out[1].samples)


def test_ess_and_evidence_of_every_round_are_in_the_trace(tmp_path: object) -> None:
    trace, width = population()
    ess, log_z = diagnostics.ess(trace), diagnostics.log_evidence(trace)
    assert len(ess) == len(log_z) > 3
    assert ((ess > 0) & (ess <= width + 1e-9)).all()
    resampled = set(trace.told("smc.parent", trace.groups[0] if trace.groups else 0)["round"].tolist())
    assert resampled
    first = trace.told("smc.ess", 1)
    assert {int(number) for number, size in zip(first["round"], ess, strict=True) if size < 0.95 * width} >= resampled
    trace.save(f"{tmp_path}/t.npz")
    again = Trace.load(f"{tmp_path}/t.npz")
    assert (diagnostics.ess(again, 1) == ess).all()


def test_a_genealogy_leads_back_to_the_ancestors() -> None:
    trace, width = population()
    tree = diagnostics.genealogy(trace)
    assert tree.shape[1] == width
    assert (tree[-1] == np.arange(width)).all()
    distinct = [len(set(line.tolist())) for line in tree]
    assert distinct == sorted(distinct)  # going back in time, ancestors only coalesce
    assert "<svg" in diagnostics.figure(trace)


@pytest.mark.parametrize("critic", [None, lambda text: False], ids=["never resampled", "all dead"])
def test_populations_without_any_resampling_have_a_genealogy_too(critic: object) -> None:
    strategy = [AWRS(), SMC(particles=5, ess=0, critic=critic)]
    out = dk.generate("zoo:base", "Ada", constraint=SCHEMA, strategy=strategy, max_tokens=6)
    assert out.trace is not None
    found = diagnostics.data(out.trace)
    assert found["tree"] == [[0, 1, 2, 3, 4]]
    assert all(size == size for size in found["ess"])  # no NaN
    assert (min(found["ess"]) == 0) == (critic is not None)
    assert "<svg" in diagnostics.figure(out.trace)
    with pytest.raises(DecodekitError, match="no population 7"):
        diagnostics.ess(out.trace, 7)
    plain = dk.generate("zoo:base", "Ada", strategy="sample", max_tokens=3)
    assert plain.trace is not None
    with pytest.raises(DecodekitError, match="has no population; decode with smc"):
        diagnostics.genealogy(plain.trace)
