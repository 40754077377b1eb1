"""Guesses beside everything else: a schema in a streamed batch, particles, AWRS, forced text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import decodekit as dk
from decodekit.comparison.tasks.embedded import Json
from decodekit.errors import CompositionError
from decodekit.models.load import load
from decodekit.plugins.speculative import Speculative
from decodekit.plugins.tree import Tree
from decodekit.testing.harness import run
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

ITEMS = Json(limit=16).items()
PROMPTS = [item.prompt for item in ITEMS]
SCHEMA = ITEMS[0].constraint


def decoder(*parts: Any) -> dk.Decoder:
    return dk.Decoder(load("zoo:base"), list(parts), SCHEMA, seed=5, max_tokens=30)


def draft() -> Any:
    return dk.speculative(draft="zoo:draft", k=4)


@pytest.mark.parametrize("selector", ["sample", "awrs"])
def test_a_schema_in_a_batch_of_sixteen_and_streamed(selector: str) -> None:
    plain = decoder(selector).generate(PROMPTS)
    fast = decoder(draft(), selector)
    batch = fast.generate(PROMPTS)
    assert len(batch) == 16
    assert [one.text for one in batch] == [one.text for one in plain]
    assert [one.tokens for one in batch] == [one.tokens for one in plain]
    assert [one.finish for one in batch] == [one.finish for one in plain]
    calls = [one[0].cost.models["target"].calls for one in (batch, plain)]
    assert calls[0] < calls[1]
    for prompt, one in zip(PROMPTS[:3], batch, strict=False):
        pieces = list(fast.stream(prompt))
        assert "".join(piece.text for piece in pieces) == one.text
        assert [token for piece in pieces for token in piece.tokens] == one.tokens
        assert len(pieces) < len(one.tokens)  # some pieces bring several tokens


TARGET = TableModel(vocab=5, seed=21, scale=1.0)
GOOD = TableModel(vocab=5, seed=21, scale=1.0, blur=0.4)
POOR = TableModel(vocab=5, seed=3, scale=2.0)
TRAPS = ToyConstraint(seed=3, vocab=5, refuse=0.1, dead_ends=True)
GUESSERS: dict[str, Callable[[Any], Any]] = {
    "chain": lambda draft: Speculative(draft, k=3),
    "tree": lambda draft: Tree(draft, branch=(2, 2, 1)),
    "tree by confidence": lambda draft: Tree(draft, width=2, depth=3, nodes=5),
}


@pytest.mark.parametrize("selector", ["awrs", "awrs(weight='exact')", "mask"])
@pytest.mark.parametrize("guesser", GUESSERS)
@pytest.mark.parametrize("draft", [GOOD, POOR])
def test_one_particle_weighs_what_it_weighs_without_guesses(guesser: str, selector: str, draft: TableModel) -> None:
    """AWRS as the target's sampler: texts, dead ends and weights, whoever guesses."""
    options: dict[str, Any] = {"constraint": TRAPS, "max_tokens": [9, 4, 7], "samples": 12, "seed": 3}
    prompts = [[1, 2, 2], [3], [2, 1]]
    plain = run([selector], TARGET, prompts, **options)
    fast = run([selector, GUESSERS[guesser](draft)], TARGET, prompts, **options)
    assert fast.texts == plain.texts
    assert {"eos", "length", "dead end"} == {row.reason for row in plain.rows}
    assert [row.reason for row in fast.rows] == [row.reason for row in plain.rows]
    assert [row.logw for row in fast.rows] == pytest.approx([row.logw for row in plain.rows], abs=1e-9)
    assert fast.rounds < plain.rounds


@pytest.mark.parametrize("guesser", GUESSERS)
def test_particles_fork_under_a_tree_as_its_single_runs_do(guesser: str) -> None:
    """Resampling between rounds moves rows of every follower: a batch still is its single runs, run after run."""
    parts = ["awrs", "smc(particles=4, ess=1.0)", GUESSERS[guesser](GOOD)]
    prompts, most = [[1, 2, 2], [3], [2, 1]], [8, 5, 7]
    options: dict[str, Any] = {"constraint": TRAPS, "seed": 3}
    batch = run(parts, TARGET, prompts, max_tokens=most, **options)
    alone = [run(parts, TARGET, [one], max_tokens=[m], **options) for one, m in zip(prompts, most, strict=True)]
    assert batch.texts == [text for one in alone for text in one.texts]
    assert [row.logw for row in batch.rows] == [row.logw for one in alone for row in one.rows]
    assert any(take > 1 for one in batch.takes for take in one)


def test_forced_text_and_a_draft_are_two_proposers_and_go_together_in_one() -> None:
    forced, rule = dk.Strategy.of("forced(k=6)").parts[0], SCHEMA
    with pytest.raises(CompositionError, match="forced and speculative are both a proposer, and a strategy has one"):
        decoder(forced, draft(), "sample")
    both = dk.Strategy.of([forced, draft()])  # a strategy may be written down before it is composed
    assert len(both.parts) == 2
    options: dict[str, Any] = {"constraint": rule, "max_tokens": 30, "seed": 2}
    model = load("zoo:base")
    plain = dk.generate(model, PROMPTS[0], strategy="sample", **options)
    joined = dk.generate(model, PROMPTS[0], strategy=[dk.first_of(proposers=(forced, draft())), "sample"], **options)
    assert joined.tokens == plain.tokens
    assert joined.trace is not None
    assert {"forced", "draft"} <= set(joined.trace.header["words"])
    assert joined.cost.models["target"].calls < plain.cost.models["target"].calls
