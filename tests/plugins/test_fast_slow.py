"""Fast and slow: the limits of every combiner and route, in ragged batches, drafted, and under a schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.ensembles import combiners
from decodekit.errors import CompositionError, DecodekitError, OptionError
from decodekit.models.load import load
from decodekit.plugins.fast_slow import FastSlow
from decodekit.registry.spec import parse
from decodekit.scores.fitted_rules import Fitted
from decodekit.zoo.data import JSON_SCHEMAS, json_examples

PROMPTS = [e.prompt for e in json_examples("heldout", 3, 5)] + ["x", "Count the pets.\nvet as SQL:\n"]
FAST, SLOW = "zoo:draft", "zoo:base"


def texts(model: Any, strategy: Any, **options: Any) -> list[list[int]]:
    return [one.tokens for one in dk.generate(model, PROMPTS, strategy=strategy, seed=4, max_tokens=24, **options)]


def with_slow(rest: str, selector: str = "greedy") -> str:
    return f"{selector} | fast_slow(slow='zoo:base', {rest})"


LIKE_FAST = [
    "route='never'",
    "route='random', threshold=0.0",
    "combine='interpolate', beta=0.0, alpha=0.0",
    "combine='ensemble', weight=0.0",
    "combine='product', weight=0.0",
]
LIKE_SLOW = [
    "route='always'",
    "route='random', threshold=1.0",
    "route='entropy', threshold=0.0",
    "route='gap', threshold=1.0",
    "combine='interpolate', beta=1.0, alpha=0.0",
    "combine='contrastive', beta=0.0, alpha=0.0",
    "combine='ensemble', weight=1.0",
    "combine='product', weight=1.0",
    "combine='proxy', tuned='zoo:draft'",
    "combine='proxy', tuned='zoo:draft', beta=0.0",
]


@pytest.mark.parametrize("selector", ["greedy", "sample"])
@pytest.mark.parametrize("constrained", [False, True])
def test_limits(selector: str, constrained: bool) -> None:
    limit = {"constraint": dk.json_schema(JSON_SCHEMAS["order"])} if constrained else {}
    fast, slow = texts(FAST, selector, **limit), texts(SLOW, selector, **limit)
    assert fast != slow
    for rest in LIKE_FAST:
        assert texts(FAST, with_slow(rest, selector), **limit) == fast, rest
    for rest in LIKE_SLOW:
        assert texts(FAST, with_slow(rest, selector), **limit) == slow, rest


def test_guidance_of_scale_one_or_by_its_own_prompt_is_no_guidance() -> None:
    plain = texts(SLOW, "sample")
    for rest in ("scale=1.0, prompt='No.'", "scale=3.0, prompt='{prompt}'"):
        assert texts(SLOW, f"sample | fast_slow(combine='guidance', {rest})") == plain
    assert texts(SLOW, "sample | fast_slow(combine='guidance', scale=3.0, prompt='')") != plain


MIXED = [
    "route='entropy', threshold=0.5",
    "route='gap', combine='ensemble'",
    "route='random', threshold=0.4, combine='contrastive'",
    "route='top1', combine='product', prompt='Answer. {prompt}'",
    "route='varentropy', threshold=0.3, combine='proxy', tuned='zoo:deep'",
]


@pytest.mark.parametrize("rest", MIXED)
def test_a_model_that_lags_catches_up_exactly(rest: str) -> None:
    """The same as reading everything anew for every token; the same drafted, and alone as in a batch."""
    cached = texts(FAST, with_slow(rest, "sample"))
    fresh = {name: load(name, cache="none") for name in (FAST, SLOW, "zoo:deep")}
    (part,) = [p for p in parse(with_slow(rest)).parts if isinstance(p, FastSlow)]
    own = {name: getattr(part, name) for name in ("combine", "route", "threshold", "prompt")}
    tuned = {"tuned": fresh["zoo:deep"]} if part.tuned else {}
    anew = FastSlow(slow=fresh[SLOW], **own, **tuned)
    assert texts(fresh[FAST], ["sample", anew]) == cached
    drafted = texts(FAST, with_slow(rest, "sample") + " | speculative(draft='zoo:deep', k=3)")
    assert drafted == cached
    alone = [dk.generate(FAST, p, strategy=with_slow(rest, "sample"), seed=4, max_tokens=24).tokens for p in PROMPTS]
    assert alone == cached


def test_it_says_where_the_slow_model_was_asked() -> None:
    out = dk.generate(FAST, PROMPTS[0], strategy=with_slow("route='entropy', threshold=0.3"), max_tokens=60)
    assert out.trace is not None
    asked = out.trace.told("position asked", 0)["value"]
    changed = out.trace.told("position changed", 0)["value"]
    assert 0 < len(changed) < len(asked) == out.cost.models["slow"].calls
    assert set(changed) <= set(asked) <= set(range(len(out.tokens)))
    everywhere = dk.generate(FAST, PROMPTS[0], strategy=with_slow("route='always'"), max_tokens=60)
    quick = dk.generate(FAST, PROMPTS[0], strategy="greedy", max_tokens=60)
    assert everywhere.trace is not None
    first = everywhere.trace.told("position changed", 0)["value"][0]
    assert [a == b for a, b in zip(everywhere.tokens, quick.tokens, strict=False)].index(False) == first


def test_a_fitted_router(tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    Fitted({"entropy": 1.0}, 0.5, made={"by": "hand"}).save(path)
    rest = f"route='fitted', fitted={str(path)!r}"
    assert texts(FAST, with_slow(rest)) == texts(FAST, with_slow("route='entropy', threshold=0.5"))


def test_populations_and_schemas() -> None:
    schema = dk.json_schema(JSON_SCHEMAS["order"])
    strategy = with_slow("route='entropy', combine='ensemble'", "awrs | smc(particles=3)")
    out = dk.generate(FAST, PROMPTS[:2], strategy=strategy, constraint=schema, max_tokens=90)
    assert all(one.value is not None and len(one.samples) == 3 for one in out)


def test_mixing_is_its_formulas() -> None:
    f, s, t = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = f.softmax(-1), s.softmax(-1)
    close = torch.testing.assert_close
    close(combiners.ensemble(f, s, 0.3).exp(), 0.7 * p + 0.3 * q)
    close(combiners.product(f, s, 0.3).softmax(-1), (p**0.7 * q**0.3) / (p**0.7 * q**0.3).sum(-1, keepdim=True))
    close(combiners.contrastive(s, f, 0.5).exp(), q**1.5 / p**0.5)
    close(combiners.guided(f, s, 2.0).exp(), p**2 / q)
    close(
        combiners.proxy(s, t, f, 1.0).softmax(-1),
        (q * t.softmax(-1) / p) / (q * t.softmax(-1) / p).sum(-1, keepdim=True),
    )
    kept = combiners.plausible(s, 0.2)
    assert torch.equal(kept, q >= 0.2 * q.amax(-1, keepdim=True))
    only = torch.zeros_like(kept)
    only[..., 2] = True
    assert bool(combiners.plausible(s, 0.9, only)[..., 2].all())


def test_bad_input(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("{}")
    cases: list[tuple[type[DecodekitError], str, str]] = [
        (OptionError, "fast_slow()", "needs slow="),
        (OptionError, "fast_slow(combine='guidance')", "needs prompt="),
        (OptionError, "fast_slow(slow='zoo:base', combine='proxy')", "go together"),
        (OptionError, "fast_slow(slow='zoo:base', tuned='zoo:deep')", "go together"),
        (CompositionError, "fast_slow(slow='zoo:base', route='gap', threshold=1.5)", "out of range"),
        (CompositionError, "fast_slow(slow='zoo:base', route='entropy', threshold=-1.0)", "out of range"),
        (CompositionError, "fast_slow(slow='zoo:base', threshold=0.5)", "has no threshold"),
        (CompositionError, "fast_slow(slow='zoo:base', route='fitted')", "go together"),
        (CompositionError, "fast_slow(slow='zoo:base', route='fitted', fitted='no.json')", "there is no fitted file"),
        (
            CompositionError,
            f"fast_slow(slow='zoo:base', route='fitted', fitted={str(tmp_path / 'odd.json')!r})",
            "is no fitted",
        ),
        (CompositionError, "fast_slow(slow='zoo:masked')", "not a causal language model"),
        (CompositionError, "fast_slow(slow='zoo:hops')", "has other tokens"),
    ]
    for kind, strategy, said in cases:
        with pytest.raises(kind, match=said):
            dk.generate(FAST, "x", strategy=f"greedy | {strategy}", max_tokens=2)
