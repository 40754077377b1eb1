"""Jump-forward: the very text that plain decoding gives, in fewer passes."""

from __future__ import annotations

import pytest

import decodekit as dk
from decodekit.comparison.tasks.embedded import Json
from decodekit.errors import CompositionError
from decodekit.models.load import load
from decodekit.plugins.forced import Forced
from decodekit.registry.compose import compose
from decodekit.registry.discovery import load as named
from decodekit.text.canonical import canonicality_of

ITEMS = Json(limit=3).items()


@pytest.mark.parametrize("strategy", ["sample", "greedy", "awrs"])
def test_the_text_is_the_same_and_the_passes_are_fewer(strategy: str) -> None:
    model = load("zoo:base")
    for item in ITEMS:
        options = {"constraint": item.constraint, "max_tokens": 100, "seed": 4}
        plain = dk.generate(model, item.prompt, strategy=strategy, **options)
        jumped = dk.generate(model, item.prompt, strategy=f"forced | {strategy}", **options)
        assert jumped.tokens == plain.tokens
        assert jumped.logw == pytest.approx(plain.logw)
        assert jumped.cost.calls < 0.8 * plain.cost.calls
        assert jumped.trace is not None
        assert len(set(jumped.trace["by"].tolist())) == 2  # some by jumps, some not


def test_a_batch_and_a_full_row_change_nothing() -> None:
    prompts, rule = [item.prompt for item in ITEMS], ITEMS[0].constraint
    plain = dk.generate("zoo:base", prompts, strategy="sample", constraint=rule, max_tokens=13, n=2)
    jumped = dk.generate("zoo:base", prompts, strategy="forced(k=5) | sample", constraint=rule, max_tokens=13, n=2)
    assert [[s.tokens for s in one.samples] for one in plain] == [[s.tokens for s in one.samples] for one in jumped]


@pytest.mark.parametrize(
    "kind",
    [dk.choice(["a thing", "a thought"]), dk.regex("x-[0-9]{3} is the number"), dk.sql("CREATE TABLE a (b TEXT)")],
)
def test_every_kind_of_constraint(kind: object) -> None:
    out = [
        dk.generate("zoo:base", "Say it: ", strategy=strategy, constraint=kind, max_tokens=30, seed=1)
        for strategy in ("sample", "forced | sample")
    ]
    assert out[0].tokens == out[1].tokens
    assert out[1].cost.calls <= out[0].cost.calls


def test_canonical_is_canonical_and_says_what_it_keeps() -> None:
    rule = dk.regex("the number of the pet is [0-9]{2} and that is all")
    out = dk.generate("zoo:base", "x", strategy="forced(canonical=True, k=40) | sample", constraint=rule, max_tokens=60)
    model = load("zoo:base")
    head = canonicality_of(model.tokenizer).encode("the number of the pet is ")
    assert out.finish == "eos"
    assert out.tokens[: len(head)] == head
    sample = named("sample")()
    assert compose([Forced(canonical=True), sample], frozenset({"causal_lm"}), (rule,)).exactness == "approximate"
    assert compose([Forced(), sample], frozenset({"causal_lm"}), (rule,)).exactness == "exact"


def test_without_a_constraint_nothing_is_forced() -> None:
    with pytest.raises(CompositionError, match="forced"):
        dk.generate("zoo:base", "x", strategy="forced | sample")
