"""SMC: offspring in proportion, groups apart, survivors in place, and an unbiased evidence by enumeration."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError
from decodekit.particles.resampling import _counts, ancestors, log_evidence
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.mask import Mask
from decodekit.plugins.sample import Sample
from decodekit.plugins.smc import SMC
from decodekit.testing.harness import Outcome, run
from decodekit.testing.oracle import Z_ALARM, enumerate_law, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

MODEL = TableModel(vocab=5, eos=(0,), seed=4)
RULE = ToyConstraint(seed=6, dead_ends=True)
SCHEMES = ("systematic", "stratified", "residual", "multinomial")
BOUND = BindContext(model=MODEL, open=lambda thing: MODEL)


def particles(logw: list[list[float]], seed: int = 0) -> Rows:
    """Groups of particles whose texts are their own numbers."""
    groups, n = len(logw), len(logw[0])
    slot = torch.arange(groups * n)
    stream = torch.cat([noise.streams(seed, [g], n) for g in range(groups)])
    rows = Rows([[r] for r in slot.tolist()], torch.full((groups * n,), 9), stream, slot // n, slot % n)
    rows.logw = torch.tensor(logw, dtype=torch.float64).flatten()
    dead = rows.logw == -torch.inf
    rows.end(dead, rows.n, "dead end")
    return rows


def evidences(out: Outcome, n: int) -> Tensor:
    """exp(log_evidence) of each group."""
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    return weight.view(-1, n).mean(1)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9).filter(any), st.integers(0, 2**31))
def test_ancestors_keep_who_survives_in_place(mass: list[int], seed: int) -> None:
    n = len(mass)
    points = (torch.arange(n) + torch.rand(1, 1, generator=torch.Generator().manual_seed(seed)).double()) / n
    offspring = _counts(torch.tensor([mass], dtype=torch.float64), points)
    index = ancestors(offspring)[0]
    assert torch.equal(index.bincount(minlength=n), offspring[0])
    for slot in range(n):
        expected = n * mass[slot] / sum(mass)
        assert math.floor(expected - 1e-9) <= int(offspring[0, slot]) <= math.ceil(expected + 1e-9)
        if offspring[0, slot]:
            assert int(index[slot]) == slot


def test_a_point_at_the_end_never_picks_a_dead_particle() -> None:
    weight = torch.tensor([[0.0, 0.3, 0.1, 0.0]], dtype=torch.float64)
    points = torch.tensor([[0.0, 0.75, 1 - 2**-53, 1.0]], dtype=torch.float64)
    offspring = _counts(weight, points)[0].tolist()
    assert offspring[0] == offspring[3] == 0
    assert sum(offspring) == 4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mean_offspring_is_proportional(scheme: Any) -> None:
    mass = torch.tensor([0.5, 0.0, 0.125, 0.3, 0.075], dtype=torch.float64)
    groups = 1500
    rows = particles([mass.log().tolist()] * groups)
    index = SMC(particles=5, ess=1.0, resampling=scheme).bind(BOUND).survivors(rows)
    assert index is not None
    picked = (index.view(groups, 5) - torch.arange(groups)[:, None] * 5)[..., None] == torch.arange(5)
    offspring = picked.sum(1).double()  # [G, 5]
    assert (offspring[:, 1] == 0).all()
    for slot in range(5):
        assert abs(z_score(offspring[:, slot], 5 * float(mass[slot]))) < Z_ALARM
    spread = offspring[:, 3].var()
    assert spread < 0.3 if scheme == "systematic" else spread > 0.3


def test_only_groups_below_the_threshold_are_resampled() -> None:
    uneven = [math.log(w) for w in (0.97, 0.01, 0.01, 0.01)]
    even = [-3.0, -3.1, -3.2, -3.0]
    halves = [0.0, 0.0, -math.inf, -math.inf]
    rows = particles([even, uneven, halves, [-math.inf] * 4])
    smc = SMC(particles=4, ess=0.5).bind(BOUND)
    index = smc.survivors(rows)
    assert index is not None
    assert index.tolist()[:5] == [0, 1, 2, 3, 4]
    assert set(index.tolist()[5:8]) <= {4, 5, 6, 7}
    assert index.tolist()[8:] == list(range(8, 16))  # effective size exactly at the threshold; all dead
    assert rows.logw.tolist()[:4] == even
    assert torch.allclose(rows.logw[4:8], torch.tensor(math.log(0.25), dtype=torch.float64))
    rows.fork(index)
    assert rows.columns["smc.resamplings"].tolist() == [0] * 4 + [1] * 4 + [0] * 8
    assert smc.leaving(rows).tolist() == [False] * 12 + [True] * 4
    assert SMC(particles=4, ess=0.0).bind(BOUND).survivors(particles([uneven])) is None
    again = SMC(particles=4, ess=0.6).bind(BOUND).survivors(particles([halves]))
    assert again is not None
    assert set(again.tolist()) == {0, 1}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_resampling_does_not_depend_on_the_batch(scheme: Any) -> None:
    uneven = [[0.0, -2.0, -1.0, -4.0, -9.0], [-5.0, 0.0, -0.5, -9.0, -9.0], [0.0, -9.0, -9.0, -9.0, -1.0]]
    smc = SMC(particles=5, ess=1.0, resampling=scheme).bind(BOUND)
    rows = particles(uneven)
    whole = smc.survivors(rows)
    assert whole is not None
    alone = particles(uneven)
    alone.keep(torch.arange(5, 10))
    index = smc.survivors(alone)
    assert index is not None
    assert index.tolist() == (whole[5:10] - 5).tolist()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("selector", [Mask(), AWRS(), AWRS(chunk=1), AWRS(chunk=2, max_rejects=2)], ids=str)
def test_evidence_is_unbiased(selector: object, scheme: Any) -> None:
    """Mean evidence = P(allowed), and mean weight on each text = p(text) [allowed], with resampling in between."""
    n, horizon = 4, 4
    laws = enumerate_law(MODEL.logits, [1, 2], horizon, eos=(0,), constraint=RULE)
    smc = SMC(particles=n, ess=0.8, resampling=scheme)
    out = run([selector, smc], MODEL, [[1, 2]], constraint=RULE, max_tokens=horizon, samples=1500)
    assert abs(z_score(evidences(out, n), laws.evidence)) < Z_ALARM
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    checked = 0
    for text, p in laws.posterior.items():
        if p * laws.evidence > 0.004:
            hit = torch.tensor([t == text for t in out.texts])
            assert abs(z_score((weight * hit).view(-1, n).mean(1), p * laws.evidence)) < Z_ALARM
            checked += 1
    assert checked >= 5


def test_resampling_happens_and_matters() -> None:
    """The control of the test above: it would not notice a resampling that never happens."""
    watch = Moves()
    out = run([Mask(), SMC(4, ess=0.8)], MODEL, [[1, 2]], constraint=RULE, max_tokens=4, samples=500, observers=[watch])
    assert watch.copies > 200
    none = run([Mask(), SMC(4, ess=0.0)], MODEL, [[1, 2]], constraint=RULE, max_tokens=4, samples=500)
    dead = [sum(row.logw == -math.inf for row in o.rows) for o in (out, none)]
    assert dead[0] < dead[1]


class Moves:
    """Observer that counts copies."""

    def __init__(self) -> None:
        self.copies = 0

    def round(self, what: object) -> None:
        """Not of interest."""

    def moved(self, rows: Rows, index: Tensor) -> None:
        self.copies += len(index) - len(index.unique())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("selector", [Mask(), AWRS()], ids=str)
def test_a_batch_is_its_single_runs(selector: object, scheme: Any) -> None:
    prompts, most = [[1, 2], [3], [4, 4, 1, 2, 3], [1, 2]], [6, 2, 9, 4]
    strategy = [selector, SMC(particles=6, ess=0.9, resampling=scheme)]
    batch = run(strategy, MODEL, prompts, constraint=RULE, max_tokens=most, seed=5, samples=2)
    singles = [
        run(strategy, MODEL, [p], constraint=RULE, max_tokens=m, seed=5, samples=2)
        for p, m in zip(prompts, most, strict=True)
    ]
    assert batch.texts == [text for single in singles for text in single.texts]
    assert [row.logw for row in batch.rows] == [row.logw for single in singles for row in single.rows]


def test_a_selector_without_weights_is_refused() -> None:
    with pytest.raises(CompositionError, match=r"smc.* needs .*weights"):
        run([Sample(), SMC(particles=8)], MODEL, [[1, 2], [3]], max_tokens=6)


def test_with_equal_weights_it_changes_nothing() -> None:
    free = ToyConstraint(seed=5, refuse=0.0, eos=())  # allows everything, so that every weight is 1
    plain = run(Mask(), MODEL, [[1, 2], [3]], constraint=free, max_tokens=6, samples=8, eos=())
    rows = run([Mask(), SMC(particles=8)], MODEL, [[1, 2], [3]], constraint=free, max_tokens=6, eos=())
    assert rows.texts == plain.texts
    assert all(abs(row.logw) < 1e-9 for row in rows.rows)
    assert [row.sample for row in rows.rows] == list(range(8)) * 2


def test_copies_diverge() -> None:
    rule = ToyConstraint(seed=5)
    out = run([Mask(), SMC(particles=32, ess=1.0)], MODEL, [[1, 2]], constraint=rule, max_tokens=12, eos=())
    assert len(set(out.texts)) > 8


def test_all_dead_is_an_end() -> None:
    class Nothing:
        """A constraint that allows nothing."""

        def mask(self, rows: Rows, at: Tensor) -> Tensor:
            return torch.zeros(*at.shape, 5, dtype=torch.bool) | (at == NONE)[..., None]

        def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
            return torch.zeros_like(tokens, dtype=torch.bool)

        def complete(self, rows: Rows) -> Tensor:
            return torch.zeros_like(rows.done)

        def forced(self, rows: Rows) -> list[list[int]]:
            return [[] for _ in range(len(rows))]

        def bind(self, run: object) -> Nothing:
            return self

    from decodekit.core.bound import BindContext, BoundStrategy
    from decodekit.core.cost import Cost
    from decodekit.core.defaults import Next
    from decodekit.core.loop import decode

    for selector in (Mask(), AWRS()):
        bound = BindContext(model=MODEL, open=lambda thing: MODEL)
        smc = SMC(particles=3).bind(bound)
        answer: Any = selector.bind(bound)
        kit = BoundStrategy(Next(), MODEL.reader(Cost(), "target"), answer, smc, constraint=Nothing())
        rows = Rows([[1]] * 3, torch.full((3,), 9), noise.streams(0, [1], 3), torch.zeros(3).long(), torch.arange(3))
        assert len(list(decode(kit, rows))) == 1
        assert [(r.reason, r.logw) for r in rows.retired] == [("dead end", -math.inf)] * 3


def test_log_evidence() -> None:
    assert math.isclose(log_evidence([0.0, -math.inf]), math.log(0.5))
    assert log_evidence([-math.inf] * 2) == -math.inf
