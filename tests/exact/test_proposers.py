"""Whoever guesses, the text is the same: every proposer under every exact selector, token for token or by its law."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from decodekit.plugins.first_of import FirstOf
from decodekit.plugins.longest_of import LongestOf
from decodekit.plugins.ngram import Ngram
from decodekit.plugins.speculative import Speculative
from decodekit.plugins.suffix import Suffix
from decodekit.plugins.tree import Tree
from decodekit.testing.harness import run
from decodekit.testing.oracle import FALSE_ALARM, Z_ALARM, chi_square, z_score
from tests.exact.test_equal import Setting, go, setting
from tests.exact.test_laws import HORIZON, NUCLEUS, STRONG, TARGET, TOY, TRAPS, WARPED, WEAK, laws, written


def corpus(seed: int, vocab: int) -> list[list[int]]:
    luck = random.Random(seed)
    return [[luck.randrange(vocab) for _ in range(luck.randint(1, 9))] for _ in range(6)]


PROPOSERS: dict[str, Callable[[Any, int, int, int], Any]] = {
    "draft": lambda draft, k, seed, vocab: Speculative(draft, k=k),
    "draft, adapting": lambda draft, k, seed, vocab: Speculative(draft, k=k, adapt=True, cost=0.2),
    "ngram": lambda draft, k, seed, vocab: Ngram(n=3, least=1, k=k),
    "ngram, adapting": lambda draft, k, seed, vocab: Ngram(n=2, least=1, k=k, adapt=True),
    "suffix": lambda draft, k, seed, vocab: Suffix(corpus(seed, vocab), k=k, least=1),
    "first of": lambda draft, k, seed, vocab: FirstOf((Ngram(k=k), Speculative(draft, k=2))),
    "first of, adapting": lambda draft, k, seed, vocab: FirstOf(
        (Ngram(least=1, k=k, adapt=True), Speculative(draft, k=k, adapt=True, cost=0.1))
    ),
    "longest of": lambda draft, k, seed, vocab: LongestOf((Speculative(draft, k=k), Ngram(least=1, k=3))),
    "nested": lambda draft, k, seed, vocab: FirstOf(
        (Suffix(corpus(seed, vocab), k=2), LongestOf((Ngram(k=2), Speculative(draft, k=k))))
    ),
    "tree": lambda draft, k, seed, vocab: Tree(draft, width=2, depth=min(k, 3), nodes=5),
}


def chosen(s: Setting, seed: int) -> Any:
    return list(PROPOSERS.values())[seed % len(PROPOSERS)](s.draft, s.k, seed, s.model.vocab)


@pytest.mark.parametrize("seed", range(200))
def test_two_hundred_settings_write_what_plain_decoding_writes(seed: int) -> None:
    s = setting(5000 + seed)
    for selector in ["greedy", "sample", *(["mask", "awrs"] if s.toy else [])]:
        plain, fast = go(s, [selector]), go(s, [selector, chosen(s, seed)])
        assert fast.texts == plain.texts
        assert [row.reason for row in fast.rows] == [row.reason for row in plain.rows]
        assert [row.logw for row in fast.rows] == pytest.approx([row.logw for row in plain.rows], abs=1e-12)
        assert fast.rounds <= plain.rounds


@pytest.mark.parametrize("name", PROPOSERS)
def test_guesses_are_taken(name: str) -> None:
    """Else the test above would say nothing of this proposer."""
    longest = 0
    for seed in range(8):
        s = setting(5000 + seed)
        out = go(s, ["sample", PROPOSERS[name](s.model, 3, seed, s.model.vocab)])
        longest = max(longest, *(take for one in out.takes for take in one))
    assert longest >= 2


@pytest.mark.parametrize("name", [name for name in PROPOSERS if name != "longest of" and name != "nested"])
@pytest.mark.parametrize(("warpers", "toy"), [("", None), (WARPED, None), (NUCLEUS, TOY), ("", TRAPS)])
def test_rejection_keeps_the_law(name: str, warpers: str, toy: Any) -> None:
    prompts, many = [[1, 2, 2, 1], [3]], 1200
    for draft in (STRONG, WEAK):
        strategy = ["rejection", PROPOSERS[name](draft, 3, 1, 4), *([warpers] if warpers else [])]
        out = run(strategy, TARGET, prompts, constraint=toy, max_tokens=HORIZON, samples=many, seed=9)
        for i, prompt in enumerate(prompts):
            truth = laws(strategy, prompt, toy)
            due = truth.plain if toy is None else truth.masked
            assert chi_square(due, written(out.rows[i * many : (i + 1) * many])) > FALSE_ALARM


@pytest.mark.parametrize("name", ["draft, adapting", "ngram", "suffix", "first of, adapting"])
def test_a_longer_horizon_lets_the_length_adapt(name: str) -> None:
    """Three rounds and more, so that what was accepted decides how much is guessed."""
    prompt, many = [1, 2, 1], 6000
    strategy = ["rejection", PROPOSERS[name](STRONG, 2, 1, 4)]
    out = run(strategy, TARGET, [prompt], max_tokens=5, samples=many, seed=11)
    ends = [text[-2:] for text in written(out.rows) if len(text) == 5]
    plain = run("sample", TARGET, [prompt], max_tokens=5, samples=many, seed=12)
    other = [text[-2:] for text in written(plain.rows) if len(text) == 5]
    kinds = sorted({*ends, *other})
    counts = torch.tensor([[one.count(kind) for kind in kinds] for one in (ends, other)], dtype=torch.float64)
    due = counts.sum(0) * counts.sum(1, keepdim=True) / counts.sum()
    assert float(((counts - due) ** 2 / due).sum()) < len(kinds) + 6 * (2 * len(kinds)) ** 0.5


@pytest.mark.parametrize("name", ["ngram", "suffix", "first of", "tree"])
def test_weights_stay_unbiased_where_particles_fork(name: str) -> None:
    prompt, groups = [1, 2, 1], 1000
    parts = ["mask | smc(particles=4, ess=1.0)", PROPOSERS[name](STRONG, 2, 1, 4)]
    out = run(parts, TARGET, [prompt], constraint=TOY, max_tokens=HORIZON, samples=groups, seed=5)
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp().view(groups, 4)
    assert abs(z_score(weight.mean(1), laws(parts, prompt, TOY).evidence)) < Z_ALARM
