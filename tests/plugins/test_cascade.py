"""Cascades: who answers, what is deferred, and what deferring is worth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import decodekit as dk
from decodekit.analysis import deferral
from decodekit.core.rows import Retired
from decodekit.core.uncertainty import ANSWER, Answers
from decodekit.errors import CompositionError, DecodekitError, OptionError
from decodekit.plugins.cascade import Cascade
from decodekit.plugins.sample import Sample
from decodekit.run.results import Result
from decodekit.scores.fitted_rules import Fitted
from decodekit.testing.harness import run
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint
from decodekit.zoo.data import JSON_SCHEMAS, json_examples

PROMPTS = [e.prompt for e in json_examples("heldout", 4, 3)] + ["x"]
NEVER, ALWAYS = "threshold=-1e9", "threshold=0.0"


def answers(model: str, strategy: str, limit: object = None) -> list[Result]:
    found: list[Result] = dk.generate(model, PROMPTS, strategy=strategy, constraint=limit, seed=1, max_tokens=90)
    return found


def cascade(rest: str, selector: str = "sample") -> str:
    return f"{selector} | cascade(slow='zoo:base', {rest})"


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("selector", ["sample", "greedy", "sample | speculative(draft='zoo:deep', k=3)"])
def test_rates_zero_and_one_are_the_two_models(selector: str, constrained: bool) -> None:
    limit = dk.json_schema(JSON_SCHEMAS["event"]) if constrained else None
    small, large = answers("zoo:draft", selector, limit), answers("zoo:base", selector, limit)
    assert [one.tokens for one in small] != [one.tokens for one in large]
    for rest, want in ((NEVER, small), (ALWAYS, large), ("rule='sum', threshold=0.0", large)):
        got = answers("zoo:draft", cascade(rest, selector), limit)
        assert [(one.tokens, one.finish) for one in got] == [(one.tokens, one.finish) for one in want]
        assert [one.logp for one in got] == pytest.approx([one.logp for one in want], abs=1e-4)


@pytest.mark.parametrize("rule", ["mean", "sum", "quantile"])
def test_what_scores_low_is_deferred_and_the_rest_is_not(rule: str) -> None:
    small, large = answers("zoo:draft", "sample"), answers("zoo:base", "sample")
    never = answers("zoo:draft", cascade(f"rule='{rule}', {NEVER}"))
    scores = []
    for at, one in enumerate(never):
        assert one.trace is not None
        (score,) = one.trace.told("answer score", at)["value"]
        own = one.trace.events["logp"][one.trace.events["accepted"]]
        want = {"mean": own.mean(), "sum": own.sum(), "quantile": own.min()}[rule]
        assert score == pytest.approx(float(want), rel=1e-5)
        scores.append(score)
    middle = float(np.median(scores)) + 1e-9
    got = answers("zoo:draft", cascade(f"rule='{rule}', threshold={middle}"))
    for one, score, s, b in zip(got, scores, small, large, strict=True):
        assert one.tokens == (b if score < middle else s).tokens


def test_a_row_that_is_handed_over_in_the_middle_keeps_what_it_has() -> None:
    small = answers("zoo:draft", "greedy")
    got = answers("zoo:draft", cascade("threshold=-0.05, early=5", "greedy"))
    handed = 0
    for at, (one, s) in enumerate(zip(got, small, strict=True)):
        assert one.trace is not None
        for place in one.trace.told("deferred at", at)["value"]:
            handed += 1
            place = int(place)
            assert place == 0 or place >= 5
            assert one.tokens[:place] == s.tokens[:place]
            rest = dk.generate(
                "zoo:base", [*one.prompt.tokens, *one.tokens[:place]], strategy="greedy", max_tokens=90 - place
            )
            assert one.tokens[place:] == rest.tokens
    assert handed


def test_a_dead_end_goes_to_the_large_model() -> None:
    small, large = (TableModel(vocab=5, eos=(0,), seed=seed) for seed in (0, 9))
    rule = ToyConstraint(seed=6, dead_ends=True)
    texts: dict[str, list[Retired]] = {}
    for name, model, parts in (
        ("small", small, [Sample()]),
        ("large", large, [Sample()]),
        ("both", small, [Sample(), Cascade(slow=large, threshold=-1e9)]),
    ):
        texts[name] = run(parts, model, [[1, 2]], constraint=rule, max_tokens=6, samples=40).rows
    dead = [one.reason == "dead end" for one in texts["small"]]
    assert 0 < sum(dead) < 40
    for lost, one, s, b in zip(dead, texts["both"], texts["small"], texts["large"], strict=True):
        assert (one.tokens, one.reason, one.logw) == ((b if lost else s).tokens, (b if lost else s).reason, one.logw)
        assert lost or one.logw == s.logw


def test_budget_and_time_are_no_answers_to_defer() -> None:
    out = dk.generate("zoo:draft", PROMPTS[0], strategy=cascade(ALWAYS), max_tokens=90, max_fed=60)
    assert out.finish == "budget"
    assert out.tokens


def test_streams_that_would_be_taken_back_are_refused() -> None:
    with pytest.raises(CompositionError, match="cannot be streamed; use generate"):
        list(dk.stream("zoo:draft", PROMPTS[0], strategy=cascade(ALWAYS), max_tokens=20))
    kept = list(dk.stream("zoo:draft", PROMPTS[0], strategy=cascade(NEVER), seed=1, max_tokens=90))
    assert "".join(piece.text for piece in kept) == answers("zoo:draft", "sample")[0].text


def test_fitted_rules(tmp_path: Path) -> None:
    Fitted({"mean": -1.0, "q0": 0.0}, 0.2).save(tmp_path / "rule.json")
    got = answers("zoo:draft", cascade(f"rule='fitted', fitted={str(tmp_path / 'rule.json')!r}"))
    assert [one.tokens for one in got] == [one.tokens for one in answers("zoo:draft", cascade("threshold=-0.2"))]
    Fitted({"entropy": 1.0}, 0.2).save(tmp_path / "token.json")
    assert json.loads((tmp_path / "rule.json").read_text())["version"] == 1
    cases: list[tuple[type[DecodekitError], str, str]] = [
        (CompositionError, f"rule='fitted', fitted={str(tmp_path / 'token.json')!r}", "fitted on single tokens"),
        (CompositionError, "rule='fitted', fitted='none.json'", "there is no fitted file"),
        (OptionError, "rule='fitted'", "go together"),
        (OptionError, "threshold=0.5", "never above 0"),
    ]
    for kind, rest, said in cases:
        with pytest.raises(kind, match=said):
            answers("zoo:draft", cascade(rest))
    with pytest.raises(CompositionError, match="has other tokens"):
        answers("zoo:draft", "sample | cascade(slow='zoo:hops')")
    with pytest.raises(CompositionError, match="population"):
        answers("zoo:draft", cascade(NEVER, "awrs | smc(particles=2)"))


def test_answers_are_numpys_quantiles_and_length_bias_is_the_sums_alone() -> None:
    logp = torch.full((3, 9), torch.nan, dtype=torch.float64)
    logp[0, :4], logp[1, :8] = -0.5, -0.5
    found = Answers(logp)
    assert float(found.feature("mean")[0]) == float(found.feature("mean")[1])
    assert float(found.feature("sum")[0]) > float(found.feature("sum")[1])
    assert found.lengths.tolist() == [4, 8, 0]
    values = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for name in ANSWER[2:]:
        want = np.quantile(values.numpy(), int(name[1:]) / 100)
        assert float(Answers(values[None]).feature(name)[0]) == pytest.approx(float(want))


def test_curves() -> None:
    small, large = [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]
    best, chance = deferral.oracle(small, large), deferral.at_random(small, large)
    assert best.quality.tolist() == [0.5, 0.75, 0.75, 0.75, 0.75]
    assert chance.quality.tolist() == pytest.approx([0.5, 0.5625, 0.625, 0.6875, 0.75])
    worst = deferral.curve([3, 0, 2, 1], small, large)
    assert worst.area < chance.area < best.area
    # One bad token in a long answer: the worst token finds it, the mean is led astray by a short dull answer.
    planted = [[-0.1] * 19 + [-3.0], [-0.3] * 4, [-0.1] * 20]
    right = [0.0, 1.0, 1.0]
    by = {q: [-float(np.quantile(one, 0.0)) if q else -float(np.mean(one)) for one in planted] for q in (0, 1)}
    assert deferral.curve(by[1], right, [1.0] * 3).area > deferral.curve(by[0], right, [1.0] * 3).area
    rates = np.random.default_rng(0).normal(size=400).tolist()
    held = np.random.default_rng(1).normal(size=400)
    assert float((held > deferral.threshold_at(rates, 0.3)).mean()) == pytest.approx(0.3, abs=1 / 20)
