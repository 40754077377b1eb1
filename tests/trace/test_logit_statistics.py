"""The figures of a law from one pass over its logits are those of the definitions."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit.trace import logit_statistics as module
from decodekit.trace.logit_statistics import digest


def check(logits: torch.Tensor, k: int, rel: float) -> None:
    found = digest(logits, k)
    logp = logits.double().log_softmax(-1)
    p = logp.exp()
    assert found.norm.double() == pytest.approx(logits.double().logsumexp(-1), rel=rel, abs=rel)
    assert found.entropy.double() == pytest.approx(torch.special.entr(p).sum(-1), rel=rel, abs=5 * rel)
    surprise = torch.where(p > 0, -logp, 0.0)
    spread = (p * surprise.square()).sum(-1) - (p * surprise).sum(-1).square()
    assert found.varentropy.double() == pytest.approx(spread, rel=50 * rel, abs=100 * rel)
    for power, value in ((2, found.s2), (3, found.s3), (4, found.s4)):
        assert value.double() == pytest.approx((p**power).sum(-1), rel=20 * rel)
    if k:
        assert found.top_logps is not None
        assert found.top_ids is not None
        best = logp.topk(min(k, logits.shape[-1]), -1).values
        assert found.top_logps.double().nan_to_num(neginf=-1e9) == pytest.approx(
            best.nan_to_num(neginf=-1e9), rel=rel, abs=10 * rel
        )
        own = logp.gather(-1, found.top_ids)  # of equally likely tokens any may be named
        assert own.nan_to_num(neginf=-1e9) == pytest.approx(best.nan_to_num(neginf=-1e9), rel=rel, abs=10 * rel)
        assert all(len(set(ids)) == len(ids) for ids in found.top_ids.flatten(0, -2).tolist())
    assert found.norm.dtype == logits.dtype
    assert found.norm.shape == logits.shape[:-1]


@settings(max_examples=60)
@given(
    st.integers(1, 700),
    st.integers(0, 24),
    st.integers(0, 10_000),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
def test_random_laws(vocab: int, k: int, seed: int, dtype: torch.dtype, holes: bool) -> None:
    made = torch.Generator().manual_seed(seed)
    logits = 6 * torch.randn(2, 3, vocab, generator=made, dtype=dtype)
    if holes and vocab > 1:
        logits[..., 1:] = logits[..., 1:].masked_fill(torch.rand(2, 3, vocab - 1, generator=made) < 0.6, -torch.inf)
    if seed % 3 == 0:
        logits = logits.round()  # many ties
    with patch.object(module, "_BLOCK", 128 if seed % 2 else module._BLOCK):
        check(logits, k, 1e-5 if dtype == torch.float32 else 1e-11)


def test_a_large_vocabulary_and_extreme_laws() -> None:
    made = torch.Generator().manual_seed(1)
    check(4 * torch.randn(1, 2, 128_256, generator=made), 20, 1e-5)
    check(torch.zeros(1, 1, 128_256), 20, 1e-5)
    peaked = torch.full((1, 1, 50_000), -60.0)
    peaked[..., 777] = 60.0
    check(peaked, 5, 1e-5)


def test_nothing_allowed_is_nan() -> None:
    found = digest(torch.full((1, 2, 9), -torch.inf), 3)
    assert bool(found.entropy.isnan().all())
    assert bool(found.s2.isnan().all())
