"""AdaDec: its limits, brute force, and that neither caches, guesses, batches nor grammars change what it chooses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import decodekit as dk
from decodekit.errors import CompositionError
from decodekit.models.load import load
from decodekit.plugins.adadec import AdaDec
from decodekit.plugins.best_of import BestOf
from decodekit.plugins.sample import Greedy
from decodekit.plugins.temperature import Temperature
from decodekit.testing.harness import run
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint
from decodekit.zoo.data import JSON_SCHEMAS, json_examples

V, EOS = 5, 0
TABLE = TableModel(vocab=V, eos=(EOS,), seed=3, scale=1.5)
PROMPTS = [[1, 2], [3], [2, 1, 1]]
MOST = [7, 5, 6]


def brute(
    law: Callable[[Sequence[int]], Tensor], prompt: list[int], most: int, threshold: float, width: int, steps: int
) -> tuple[tuple[int, ...], int]:
    """(the text, how many pauses), written out without any cache; `law` gives [V] log-probabilities."""
    text, pauses = list(prompt), 0
    while len(text) < len(prompt) + most:
        logp = law(text)
        if not bool((logp > -torch.inf).any()):
            break
        token = int(logp.argmax())
        entropy = float(-(logp.exp() * logp.masked_fill(logp == -torch.inf, 0.0)).sum())
        if entropy > threshold:
            pauses += 1
            token = look(law, text, logp, len(prompt) + most, width, steps)
        text.append(token)
        if token == EOS:
            break
    return tuple(text[len(prompt) :]), pauses


def look(
    law: Callable[[Sequence[int]], Tensor], text: list[int], logp: Tensor, limit: int, width: int, steps: int
) -> int:
    best, chosen, fallback = -math.inf, -1, int(logp.argmax())
    for first in logp.argsort(descending=True, stable=True)[:width].tolist():
        branch, total, count = [*text, first], float(logp[first]), 1
        while count <= steps and branch[-1] != EOS and len(branch) < limit and total > -math.inf:
            after = law(branch)
            total += float(after.max())
            branch.append(int(after.argmax()))
            count += 1
        if total / count > best:
            best, chosen = total / count, first
    return chosen if chosen >= 0 else fallback


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("options", [(0.5, 3, 3), (0.7, 2, 5), (0.0, 5, 2), (0.3, 3, 1)])
def test_brute_force(options: tuple[float, int, int], constrained: bool) -> None:
    threshold, width, steps = options
    rule = ToyConstraint(seed=6) if constrained else None
    part = AdaDec(threshold=threshold, candidates=width, steps=steps)
    out = run([part, Temperature(0.8)], TABLE, PROMPTS, constraint=rule, max_tokens=MOST)
    paused = 0
    for prompt, most, text in zip(PROMPTS, MOST, out.texts, strict=True):

        def law(tokens: Sequence[int], start: int = len(prompt)) -> Tensor:
            raw = TABLE.logits(tokens).double() / 0.8
            if rule is not None:
                allowed = torch.zeros(V, dtype=torch.bool)
                allowed[rule.allowed(tokens[start:])] = True
                raw = raw.masked_fill(~allowed, -torch.inf)
            return raw.log_softmax(-1)

        want, pauses = brute(law, prompt, most, threshold, width, steps)
        paused += pauses
        assert text == want
    assert paused > 1


def test_limits() -> None:
    greedy = run([Greedy()], TABLE, PROMPTS, max_tokens=MOST).texts
    for part in (AdaDec(threshold=math.inf), AdaDec(threshold=0.0, candidates=1), AdaDec(threshold=0.0, steps=0)):
        assert run([part], TABLE, PROMPTS, max_tokens=MOST).texts == greedy
    assert run([AdaDec(threshold=0.0)], TABLE, PROMPTS, max_tokens=MOST).texts != greedy


ZOO = [e.prompt for e in json_examples("heldout", 3, 5)] + ["x", "Count the pets.\nvet as SQL:\n"]


@pytest.mark.parametrize("limit", [None, "order"])
def test_caches_guesses_and_batches_change_nothing(limit: str | None) -> None:
    rule = None if limit is None else dk.json_schema(JSON_SCHEMAS[limit])
    options: dict[str, Any] = {"max_tokens": 40, "constraint": rule}
    part = AdaDec(threshold=0.3, steps=4)
    cached = dk.generate("zoo:draft", ZOO, strategy=part, **options)
    fresh = dk.generate(load("zoo:draft", cache="none"), ZOO, strategy=part, **options)
    alone = [dk.generate("zoo:draft", one, strategy=part, **options) for one in ZOO]
    assert [one.tokens for one in cached] == [one.tokens for one in fresh] == [one.tokens for one in alone]
    assert [one.tokens for one in cached] != [
        one.tokens for one in dk.generate("zoo:draft", ZOO, strategy="greedy", **options)
    ]
    trace = cached[0].trace
    assert trace is not None
    paused, reranked = (trace.whole.told(name, 0)["value"] for name in ("paused at", "reranked at"))
    assert 0 < len(reranked) <= len(paused)


def test_a_continuation_saves_passes() -> None:
    """What a look-ahead saw is checked in one pass, so pausing always costs less than its steps and the text."""
    out = dk.generate("zoo:draft", ZOO[0], strategy="adadec(threshold=0.3, steps=5)", max_tokens=60)
    assert out.trace is not None
    pauses = len(out.trace.told("paused at", 0)["value"])
    assert pauses > 0
    assert out.cost.rounds < len(out.tokens)
    assert out.cost.models["target"].calls <= out.cost.rounds + 5 * pauses


def test_any_scorer_may_look_ahead() -> None:
    out = dk.generate("zoo:skip", ZOO[0], strategy="adadec(threshold=0.2, scorer=skipdecode(2, 6, 32))", max_tokens=60)
    assert out.text.startswith("{")


def test_bad_input() -> None:
    for strategy, said in (
        ("adadec(signal='gap', threshold=2.0)", "out of range"),
        ("adadec(signal='fitted')", "go together"),
        ("adadec(signal='fitted', fitted='none.json')", "there is no fitted file"),
        ("adadec(scorer=greedy)", "is no scorer"),
        ("adadec | greedy", "selector"),
        ("adadec | speculative(draft='zoo:draft')", "proposer"),
    ):
        with pytest.raises(CompositionError, match=said):
            dk.generate("zoo:draft", "x", strategy=strategy, max_tokens=2)


def test_it_goes_with_populations() -> None:
    chance = AdaDec(threshold=0.5, signal="random")
    out = run([chance, BestOf(n=2)], TABLE, PROMPTS, max_tokens=MOST)
    plain = run([chance], TABLE, PROMPTS, max_tokens=MOST).texts
    assert out.texts[::2] == plain
    with pytest.raises(CompositionError, match="best_of would choose among equal texts under adadec"):
        run([AdaDec(threshold=0.5), BestOf(n=2)], TABLE, PROMPTS, max_tokens=MOST)
