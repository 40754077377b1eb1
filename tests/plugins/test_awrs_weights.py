"""The weights of AWRS: proper for every estimator, by exact enumeration where there is nothing else to draw."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from decodekit.candidates import estimators
from decodekit.core import noise
from decodekit.core.rows import NONE
from decodekit.plugins.awrs import AWRS
from decodekit.registry.metadata import form
from decodekit.testing.harness import run
from decodekit.testing.oracle import Z_ALARM, enumerate_law, rows_of, z_score
from decodekit.testing.single import Fixed, step
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint


def orders(p: list[Fraction]) -> list[tuple[tuple[int, ...], Fraction]]:
    """Every order of draws without replacement from `p`, with its exact probability; tokens of mass 0 are left out."""
    found = []
    for order in itertools.permutations([i for i, mass in enumerate(p) if mass]):
        left, chance = Fraction(1), Fraction(1)
        for i in order:
            chance, left = chance * p[i] / left, left - p[i]
        found.append((order, chance))
    return found


def measure(p: list[Fraction], ok: Sequence[bool], selector: AWRS, patch: pytest.MonkeyPatch) -> list[float]:
    """E[w 1{x}] for each token x: every order is walked by the real code, and weighted by its exact probability."""
    every = orders(p)
    walks = torch.full((len(every), len(p)), NONE)
    for i, (order, _) in enumerate(every):
        walks[i, : len(order)] = torch.tensor(order)
    here = torch.arange(len(every))  # rows_of numbers its streams like this

    def walked(logits: Tensor, stream: Tensor, at: Tensor, count: int, salt: int = 0) -> tuple[Tensor, Tensor]:
        assert logits.shape[0] == len(stream)
        taken = walks[stream][:, :count]
        return taken, torch.zeros(taken.shape)

    assert torch.equal(rows_of([[0]] * len(every)).stream, here)
    patch.setattr(noise, "order", walked)
    law = torch.tensor([float(mass) for mass in p], dtype=torch.float64).log()
    choice = step(selector, law.expand(len(every), -1), Fixed(ok))
    assert choice.logw is not None
    assert choice.dead is not None
    out = [0.0] * len(p)
    for i, (_, chance) in enumerate(every):
        assert bool(choice.dead[i]) == (int(choice.tokens[i, 0]) == NONE) != bool(choice.take[i, 0])
        if not choice.dead[i]:
            out[int(choice.tokens[i, 0])] += float(chance) * math.exp(float(choice.logw[i, 0]))
    return out


LAWS = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)
RULES = st.lists(st.booleans(), min_size=5, max_size=5)


@given(LAWS, RULES, st.sampled_from([1, 2, 3, 8]), st.sampled_from([None, 1, 2, 3, 5]), st.sampled_from([1, 2, 16]))
def test_looking_ahead_is_proper(mass: list[int], ok: list[bool], ahead: int, cap: int | None, chunk: int) -> None:
    """The strong contract, E[w 1{x}] = p(x) [x allowed], over all orders with their exact probabilities."""
    p = [Fraction(m, sum(mass)) for m in mass]
    with pytest.MonkeyPatch.context() as patch:
        out = measure(p, ok[: len(p)], AWRS(weight="recursive", ahead=ahead, chunk=chunk, max_rejects=cap), patch)
    for x, mass_x in enumerate(p):
        assert math.isclose(out[x], float(mass_x) if ok[x] else 0.0, rel_tol=1e-12, abs_tol=1e-14)


def test_the_enumeration_notices_a_wrong_weight() -> None:
    """The control: taking all that is left as weight, without the look ahead, must fail the contract."""
    p, ok = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)], [True, False, True]

    def greedy(walk: estimators.Walk, ahead: int, cap: int | None = None) -> estimators.Steps:
        place, _ = yield from estimators.first(walk, cap)
        return place, estimators.log(walk.tails()[place])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimators, "look", greedy)
        out = measure(p, ok, AWRS(weight="recursive"), patch)
    assert abs(out[0] - 0.5) > 0.01


def both_orders(p: list[Fraction], ok: Sequence[bool], patch: pytest.MonkeyPatch) -> list[float]:
    """E[w 1{x}] of the two loops for each x, over all pairs of orders with their exact probabilities."""
    pairs = list(itertools.product(orders(p), orders(p)))
    walks = torch.full((2, len(pairs), len(p)), NONE)
    for i, pair in enumerate(pairs):
        for which, (order, _) in enumerate(pair):
            walks[which, i, : len(order)] = torch.tensor(order)

    def walked(logits: Tensor, stream: Tensor, at: Tensor, count: int, salt: int = 0) -> tuple[Tensor, Tensor]:
        taken = walks[int(salt != noise.Salt.TOKEN)][stream][:, :count]
        return taken, torch.zeros(taken.shape)

    patch.setattr(noise, "order", walked)
    law = torch.tensor([float(mass) for mass in p], dtype=torch.float64).log()
    choice = step(AWRS(weight="two_loops"), law.expand(len(pairs), -1), Fixed(ok))
    assert choice.logw is not None
    out = [0.0] * len(p)
    for i, ((_, one), (_, other)) in enumerate(pairs):
        if choice.take[i, 0]:
            out[int(choice.tokens[i, 0])] += float(one * other) * math.exp(float(choice.logw[i, 0]))
    return out


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any), RULES)
@settings(max_examples=40)
def test_two_loops_are_proper(mass: list[int], ok: list[bool]) -> None:
    p = [Fraction(m, sum(mass)) for m in mass]
    with pytest.MonkeyPatch.context() as patch:
        out = both_orders(p, ok[: len(p)], patch)
    for x, mass_x in enumerate(p):
        assert math.isclose(out[x], float(mass_x) if ok[x] else 0.0, rel_tol=1e-12, abs_tol=1e-14)


def test_more_loops_would_be_biased() -> None:
    """L (1 - psi_1) / (n + L), the obvious generalisation to L further loops, is not proper: two tokens of 1/2, one of
    them allowed, L = 2 give 13/24 instead of 1/2. Enumerated here, so that nobody adds it.
    """
    half, out, further = Fraction(1, 2), Fraction(0), 2
    for first_refused in (False, True):
        left = half if first_refused else Fraction(1)
        for coins in itertools.product((False, True), repeat=further):
            chance, refused, there = half, int(first_refused), not first_refused
            for coin in coins:  # a loop meets the refused token first with chance 1/2, as long as no loop has
                chance *= half
                refused, there = refused + (there and coin), there and not coin
            out += chance * further * left / (refused + further)
    assert out == Fraction(13, 24)


@pytest.mark.parametrize("allowed", [0.9, 0.5, 1 / 7])
@pytest.mark.parametrize("accepts", [2, 3, 4])
def test_replays_count_what_sampling_with_replacement_counts(allowed: float, accepts: int) -> None:
    """Refusals before the m-th accept follow a negative binomial law, whatever the order was."""
    rng, counts, draws = Random(5), Counter[int](), 4000
    mass = [allowed * x for x in (0.5, 0.3, 0.2)] + [(1 - allowed) * x for x in (0.6, 0.3, 0.1)]
    for _ in range(draws):
        order = sorted(range(6), key=lambda i: math.log(rng.random()) / mass[i], reverse=True)
        walk = estimators.Walk([mass[i] for i in order], 0.0, True, [i < 3 for i in order])
        a, n = _finished(estimators._with_replacement(walk, accepts, None, rng))
        assert a == accepts
        counts[min(n, 12)] += 1
    law = [scipy.stats.nbinom.pmf(n, accepts, allowed) for n in range(12)]
    law.append(1 - sum(law))
    kept = [n for n in range(13) if law[n] * draws > 5]
    seen = [counts[n] for n in kept] + [draws - sum(counts[n] for n in kept)]
    want = [law[n] * draws for n in kept] + [draws * (1 - sum(law[n] for n in kept))]
    statistic = sum((s - w) ** 2 / w for s, w in zip(seen, want, strict=True) if w > 1)
    assert statistic < scipy.stats.chi2.ppf(1 - 1e-4, len(kept))


def _finished(steps: Any) -> Any:
    """What a generator returns that finds all it needs."""
    try:
        while True:
            next(steps)
    except StopIteration as done:
        return done.value


@pytest.mark.parametrize("z", [Fraction(1, 7), Fraction(1, 2), Fraction(9, 10)])
@pytest.mark.parametrize("cap", [None, 2, 3, 5])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_formula_of_replays_against_its_series(z: Fraction, cap: int | None, m: int) -> None:
    """E[w] = Z summed over all (a, n): the formula is a conditional expectation, with and without a cap."""
    total, tail = Fraction(0), 4000 if z < Fraction(1, 5) else 400
    for n in range(cap or tail):
        total += math.comb(m + n - 1, n) * z**m * (1 - z) ** n * Fraction(m - 1, m + n - 1)
    for a in range(1, m) if cap else ():
        chance = math.comb(a + (cap or 1) - 1, a) * z**a * (1 - z) ** (cap or 1)
        total += chance * Fraction(min(m - 1, a), a + (cap or 1) - 1)
    assert abs(float(total - z)) < (1e-12 if cap else 1e-9)


SETTINGS = [
    AWRS(),
    AWRS(weight="replay", accepts=2, replays=1),
    AWRS(weight="replay", accepts=3, replays=4, max_rejects=2),
    AWRS(weight="replay", accepts=2, max_rejects=5),
    AWRS(weight="two_loops"),
    AWRS(weight="head", head=1),
    AWRS(weight="head", head=3),
    AWRS(weight="recursive", ahead=2),
]
NAMES = [form(one) for one in SETTINGS]


@pytest.mark.parametrize("selector", SETTINGS, ids=NAMES)
@pytest.mark.parametrize(
    "ok", [(1, 0, 1, 0, 1, 0), (0, 0, 0, 0, 0, 1), (0, 1, 1, 1, 1, 1)], ids=["half", "rare", "best"]
)
def test_every_weight_is_proper_token_by_token(selector: AWRS, ok: Sequence[int]) -> None:
    """E[w 1{x}] = p(x) for each allowed x, by 6,000 independent steps of the real code and noise."""
    p = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.07, 0.03], dtype=torch.float64)
    choice = step(selector, p.log().expand(6000, -1), Fixed([bool(one) for one in ok]))
    assert choice.logw is not None
    weight = choice.logw[:, 0].exp() * choice.take[:, 0]
    for x in range(6):
        share = weight * (choice.tokens[:, 0] == x)
        if ok[x]:
            assert abs(z_score(share, float(p[x]))) < Z_ALARM
        else:
            assert not share.any()


def test_variance_and_checks_follow_their_laws() -> None:
    """One replay with m = 2 has the squared coefficient of variation ln(1/Z) / (1 - Z) - 1; a walk without weight
    checks 1 + sum over refused i of p_i / (p_i + Z) tokens.
    """
    p = torch.arange(1, 201, dtype=torch.float64).pow(-1.1)
    p /= p.sum()
    ok = [i % 9 == 4 for i in range(200)]
    z = float(p[torch.tensor(ok)].sum())
    choice = step(AWRS(weight="replay", accepts=2, replays=1), p.log().expand(4000, -1), Fixed(ok))
    assert choice.logw is not None
    weight = choice.logw[:, 0].exp()
    assert float(weight.mean()) == pytest.approx(z, rel=0.1)
    assert float(weight.var() / weight.mean() ** 2) == pytest.approx(math.log(1 / z) / (1 - z) - 1, rel=0.2)
    rule = Fixed(ok)
    step(AWRS(weight="none", chunk=1), p.log().expand(1000, -1), rule)
    law = 1 + sum(float(q / (q + z)) for q, fine in zip(p, ok, strict=True) if not fine)
    assert rule.needed / 1000 == pytest.approx(law, rel=0.1)


def test_replays_beat_the_look_ahead_where_the_constraint_bites() -> None:
    p = torch.arange(1, 501, dtype=torch.float64).pow(-0.7)
    p /= p.sum()
    ok = [i % 40 == 17 for i in range(500)]
    price = {}
    for name, selector in (("replay", AWRS()), ("one", AWRS(weight="recursive", chunk=1))):
        rule = Fixed(ok)
        choice = step(selector, p.log().expand(300, -1), rule)
        assert choice.logw is not None
        weight = choice.logw[:, 0].exp()
        price[name] = float(weight.var() / weight.mean() ** 2) * rule.checks
    assert price["replay"] < price["one"] / 2


@pytest.mark.parametrize("proposal", [None, TableModel(vocab=5, eos=(0,), seed=9)], ids=["same model", "other model"])
def test_another_prompt_proposes_and_the_weight_corrects_it(proposal: Any) -> None:
    """The proposal reads other words than the target; joint law by enumeration, rows of different lengths at once."""
    model, rule = TableModel(vocab=5, eos=(0,), seed=4), ToyConstraint(seed=6, dead_ends=True)
    out = run(
        [AWRS(proposal=proposal, instead="dcdbc")],
        model,
        [[1, 2], [3, 1, 1, 2, 1]],
        constraint=rule,
        max_tokens=3,
        samples=2500,
    )
    for number, prompt in enumerate(([1, 2], [3, 1, 1, 2, 1])):
        laws = enumerate_law(model.logits, prompt, 3, eos=(0,), constraint=rule)
        rows = out.rows[number * 2500 : (number + 1) * 2500]
        weight = torch.tensor([row.logw for row in rows], dtype=torch.float64).exp()
        assert abs(z_score(weight, laws.evidence)) < Z_ALARM
        best = max(laws.posterior, key=lambda text: laws.posterior[text])
        hit = torch.tensor([tuple(row.tokens[row.start :]) == best for row in rows])
        assert abs(z_score(weight * hit, laws.posterior[best] * laws.evidence)) < Z_ALARM
    plain = run([AWRS()], model, [[1, 2]], constraint=rule, max_tokens=3, samples=300)
    assert [row.logw for row in plain.rows] != [row.logw for row in out.rows[:300]]  # it does propose otherwise
