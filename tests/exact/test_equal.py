"""Token for token: batches are single runs, speculation is plain decoding, AWRS is masked sampling."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from decodekit.core.rows import Retired
from decodekit.plugins.speculative import Speculative
from decodekit.testing.harness import Outcome, run
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

WARPERS = ["temperature(0.6)", "top_k(3)", "top_p(0.8)", "min_p(0.15)", "repetition_penalty(1.7)", "temperature(2.5)"]


@dataclass(frozen=True)
class Setting:
    """One random situation."""

    model: TableModel
    draft: TableModel
    k: int
    prompts: list[list[int]]
    most: list[int]
    toy: ToyConstraint | None
    warpers: list[str]
    samples: int
    seed: int


def setting(seed: int, constrained: bool | None = None) -> Setting:
    luck = random.Random(seed)
    vocab, eos = luck.randint(3, 8), luck.choice([(), (0,), (0,), (0, 2)])
    scale = luck.choice([0.3, 1.0, 3.0])
    model = TableModel(vocab=vocab, eos=eos, seed=seed, scale=scale)
    draft = luck.choice(
        [
            model,
            TableModel(vocab=vocab, eos=eos, seed=seed, scale=scale, blur=0.3),
            TableModel(vocab=vocab, eos=eos, seed=seed + 1, scale=2.0),
            TableModel(vocab=vocab, eos=eos, seed=seed, scale=scale, context=luck.randint(2, 8)),
        ]
    )
    with_toy = luck.random() < 0.5 if constrained is None else constrained
    toy = ToyConstraint(seed=seed, vocab=vocab, eos=eos, refuse=0.4, dead_ends=luck.random() < 0.4)
    prompts = [[luck.randrange(vocab) for _ in range(luck.randint(1, 7))] for _ in range(luck.randint(1, 4))]
    return Setting(
        model=model,
        draft=draft,
        k=luck.randint(1, 6),
        prompts=prompts,
        most=[luck.randint(1, 14) for _ in prompts],
        toy=toy if with_toy else None,
        warpers=luck.sample(WARPERS, luck.randint(0, 3)),
        samples=luck.randint(1, 3),
        seed=luck.randrange(1000),
    )


def go(s: Setting, parts: Sequence[Any], prompts: Sequence[int] | None = None) -> Outcome:
    index = range(len(s.prompts)) if prompts is None else prompts
    return run(
        [*parts, *acting(s.warpers, "greedy" not in parts)],
        s.model,
        [s.prompts[i] for i in index],
        constraint=s.toy,
        max_tokens=[s.most[i] for i in index],
        seed=s.seed,
        samples=s.samples,
    )


def acting(warpers: Sequence[str], draws: bool) -> list[str]:
    """Those that change something: under a selector that takes the best token, what never changes it is refused."""
    return [one for one in warpers if draws or one.startswith("repetition_penalty")]


def facts(row: Retired) -> tuple[list[int], str, float]:
    return row.tokens, row.reason, row.logw


@pytest.mark.parametrize("seed", range(120))
def test_speculative_is_plain(seed: int) -> None:
    s = setting(seed)
    for selector in ["greedy", "sample", *(["mask", "awrs"] if s.toy else [])]:
        plain, fast = go(s, [selector]), go(s, [selector, Speculative(s.draft, k=s.k)])
        assert fast.texts == plain.texts
        assert [row.reason for row in fast.rows] == [row.reason for row in plain.rows]
        assert [row.logw for row in fast.rows] == pytest.approx([row.logw for row in plain.rows], abs=1e-12)
        assert fast.rounds <= plain.rounds
        assert fast.cost.calls <= plain.cost.calls


def test_the_settings_of_that_test_are_of_all_kinds() -> None:
    some = [setting(seed) for seed in range(120)]
    assert {s.toy is None for s in some} == {True, False}
    assert any(s.toy and s.toy.dead_ends and s.warpers and len(s.prompts) > 2 for s in some)
    outcomes = [(go(s, ["sample", Speculative(s.draft, k=s.k)]), s) for s in some[:25]]
    reasons = {row.reason for out, _ in outcomes for row in out.rows}
    assert reasons == {"eos", "length", "dead end"}
    takes = [take for out, _ in outcomes for one in out.takes for take in one]
    assert {0, 1, 2, 3, 4} <= set(takes)


PARTS: dict[str, list[Any]] = {
    "greedy": ["greedy"],
    "sample": ["sample"],
    "mask": ["mask"],
    "awrs": ["awrs"],
    "awrs smc": ["awrs", "smc(particles=3, ess=0.9)"],
    "mask smc": ["mask", "smc(particles=4, ess=1.0)"],
}
DRAFTED = ["greedy", "sample", "rejection", "mask"]


@pytest.mark.parametrize("name", [*PARTS, *(f"{name} drafted" for name in DRAFTED), "mask smc drafted"])
@pytest.mark.parametrize("seed", range(4))
def test_a_batch_is_its_single_runs(name: str, seed: int) -> None:
    s = setting(1000 + seed, constrained=True)
    parts: list[Any] = PARTS.get(name.removesuffix(" drafted"), ["rejection"])
    parts = [*parts, Speculative(s.draft, k=s.k)] if name.endswith("drafted") else parts
    batch = go(s, parts)
    singles = [row for i in range(len(s.prompts)) for row in go(s, parts, [i]).rows]
    assert [facts(row) for row in batch.rows] == [facts(row) for row in singles]
    again = go(s, parts)
    assert [facts(row) for row in again.rows] == [facts(row) for row in batch.rows]


@pytest.mark.parametrize("weight", ["recursive", "exact", "none"])
@pytest.mark.parametrize("seed", range(10))
def test_awrs_writes_what_masked_sampling_writes(seed: int, weight: str) -> None:
    s = setting(2000 + seed, constrained=True)
    masked = go(s, ["mask"])
    walked = go(s, [f"awrs(weight={weight!r}, chunk={1 + seed % 5})"])
    assert walked.texts == masked.texts
    assert [row.reason for row in walked.rows] == [row.reason for row in masked.rows]
    if weight == "exact":
        assert [row.logw for row in walked.rows] == pytest.approx([row.logw for row in masked.rows], abs=1e-9)


def test_seeds_matter() -> None:
    s = setting(3)
    texts = {tuple(run("sample", s.model, [[1]], max_tokens=12, eos=(), seed=seed).texts) for seed in range(8)}
    assert len(texts) == 8
