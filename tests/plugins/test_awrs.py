"""AWRS: the token of masked sampling, and a weight that is proper whatever the order, the chunks and the cap."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.mask import Mask
from decodekit.registry.metadata import form
from decodekit.testing.harness import run
from decodekit.testing.oracle import Z_ALARM, enumerate_law, rows_of, z_score
from decodekit.testing.single import Fixed, step
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

MODEL = TableModel(vocab=5, eos=(0,), seed=3)


@given(st.integers(0, 2**31), st.sampled_from([3, 70, 400]), st.sampled_from([0.5, 0.97, 1.0]), st.sampled_from([1, 8]))
def test_same_token_as_masked_sampling(seed: int, vocab: int, refused: float, chunk: int) -> None:
    made = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, vocab, generator=made) * 3
    rule = Fixed((torch.rand(vocab, generator=made) >= refused).tolist())
    masked = step(Mask(), logits, rule)
    for weight in ("auto", "recursive", "two_loops", "exact", "none"):
        choice = step(AWRS(weight=weight, chunk=chunk), logits, rule)
        assert torch.equal(choice.tokens, masked.tokens)
        assert torch.equal(choice.take, masked.take)
        assert choice.dead is not None
        assert masked.dead is not None
        assert torch.equal(choice.dead, masked.dead)


@pytest.mark.parametrize("seed", range(30))
def test_same_texts_as_masked_sampling_in_the_loop(seed: int) -> None:
    rule = ToyConstraint(seed=seed, dead_ends=seed % 2 == 0, refuse=0.6)
    prompts, most = [[1, 2], [3], [4, 1, 2]], [8, 3, 5]
    walked = run(AWRS(chunk=1 + seed % 3), MODEL, prompts, constraint=rule, seed=seed, max_tokens=most, samples=7)
    masked = run(Mask(), MODEL, prompts, constraint=rule, seed=seed, max_tokens=most, samples=7)
    assert walked.texts == masked.texts
    assert [r.reason for r in walked.rows] == [r.reason for r in masked.rows]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("z", [1e-2, 1e-5, 1e-8, 1e-12, 1e-30])
def test_tiny_allowed_mass(z: float, dtype: torch.dtype) -> None:
    """One allowed token of mass z among ten: never dead, and its weight is z on average."""
    logits = torch.full((400, 11), math.log((1 - z) / 10), dtype=dtype)
    logits[:, 7] = math.log(z)
    for selector in (
        AWRS(),
        AWRS(weight="recursive"),
        AWRS(weight="recursive", ahead=3, chunk=2),
        AWRS(weight="two_loops"),
    ):
        choice = step(selector, logits, Fixed([i == 7 for i in range(11)]))
        assert choice.dead is not None
        assert choice.logw is not None
        assert not choice.dead.any()
        assert (choice.tokens == 7).all()
        if selector.weight != "two_loops":  # which is right on average by rare large weights
            assert float((choice.logw - math.log(z)).exp().mean()) == pytest.approx(1.0, rel=0.25)


def test_edges() -> None:
    certain = torch.tensor([[0.0, -torch.inf, -torch.inf]], dtype=torch.float64)
    for weight in ("auto", "recursive", "two_loops", "head"):
        choice = step(AWRS(weight=weight), certain, Fixed([True, False, False]))
        assert (choice.tokens.tolist(), choice.logw.tolist()) == ([[0]], [[0.0]])  # type: ignore[union-attr]
    for logits in (certain, torch.zeros(1, 3)):
        choice = step(AWRS(), logits, Fixed([False] * 3))
        assert choice.dead.tolist() == [True]  # type: ignore[union-attr]
        assert choice.take.tolist() == [[False]]
    rule = Fixed([False] * 500 + [True])
    logits = torch.zeros(3, 501)
    logits[:, -1] = -20.0
    choice = step(AWRS(max_rejects=10), logits, rule)
    assert choice.dead.tolist() == [True] * 3  # type: ignore[union-attr]
    assert rule.checks == 30


def test_checks_are_few_and_calls_fewer() -> None:
    logits = torch.randn(64, 5000, generator=torch.Generator().manual_seed(1)) * 4
    rule = Fixed([i % 3 > 0 for i in range(5000)])
    step(AWRS(), logits, rule)
    assert rule.checks <= 64 * 16
    assert rule.calls <= 3


def test_guesses_are_verified_like_single_steps() -> None:
    rule = ToyConstraint(seed=5, refuse=0.6)
    prompts = [[1, 2], [3], [4, 4, 1]]
    plain = run(AWRS(), MODEL, prompts, constraint=rule, max_tokens=4, eos=(), seed=4)
    for r, i in itertools.product(range(3), range(4)):
        rows = rows_of(prompts)
        rows.stream = torch.cat([noise.streams(4, p, 1) for p in prompts])
        guess = torch.tensor([[*text[:3], NONE] for text in plain.texts])
        guess[r, i] = (guess[r, i] + 1) % 5 if i < 3 else NONE
        ask = Proposal(rows.n[:, None] + torch.arange(4), guess)
        rows.write(ask.at, guess, guess != NONE)
        bound = BindContext(model=MODEL, open=lambda thing: MODEL)
        logits = MODEL.reader(Cost(), "target").read(rows, ask.at)
        choice = AWRS().bind(bound).select(rows, ask, logits, rule.bind(bound))
        assert choice.logw is not None
        for row, text in enumerate(plain.texts):
            most = i + 1 if row == r and i < 3 else 4
            assert choice.tokens[row][choice.take[row]].tolist() == list(text[:most])
            if most == 4:
                assert math.isclose(float(choice.logw[row].sum()), plain.rows[row].logw, rel_tol=1e-12)


def test_a_batch_is_its_single_runs() -> None:
    rule = ToyConstraint(seed=2, dead_ends=True)
    prompts, most = [[1, 2], [3], [4, 4, 1, 2, 3], [1, 2]], [5, 1, 9, 3]
    batch = run(AWRS(chunk=2), MODEL, prompts, constraint=rule, max_tokens=most, seed=11, samples=2)
    singles = [
        run(AWRS(chunk=2), MODEL, [p], constraint=rule, max_tokens=m, seed=11, samples=2)
        for p, m in zip(prompts, most, strict=True)
    ]
    assert batch.texts == [text for single in singles for text in single.texts]
    assert [row.logw for row in batch.rows] == [row.logw for single in singles for row in single.rows]


@pytest.mark.parametrize("selector", [AWRS(), AWRS(chunk=1), AWRS(max_rejects=2), AWRS(weight="exact")], ids=form)
def test_weighted_texts_are_those_of_the_plain_model(selector: AWRS) -> None:
    """Over whole texts: E[w 1{text}] = p(text) [allowed], text by text."""
    rule = ToyConstraint(seed=5, dead_ends=True)
    laws = enumerate_law(MODEL.logits, [1, 2], 3, eos=(0,), constraint=rule)
    out = run(selector, MODEL, [[1, 2]], constraint=rule, max_tokens=3, samples=20000)
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    assert abs(z_score(weight, laws.evidence)) < Z_ALARM
    for text, p in laws.posterior.items():
        if p * laws.evidence > 0.003:
            hit = torch.tensor([t == text for t in out.texts])
            assert abs(z_score(weight * hit, p * laws.evidence)) < Z_ALARM
