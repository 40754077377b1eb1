"""Top-H: the stated bound, its limits, and what it does to laws that are already cut."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import decodekit as dk
from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.plugins.top_h import TopH
from decodekit.testing.harness import opened
from decodekit.testing.oracle import rows_of
from decodekit.testing.tables import TableModel

FREE = BindContext(TableModel(vocab=5, seed=0), opened)
ALPHAS = st.sampled_from([0.05, 0.3, 0.4, 0.7, 0.95])


def cut(rule: TopH, logits: Tensor) -> Tensor:
    """[N, V] warped."""
    rows = rows_of([[1]] * len(logits))
    return rule.bind(FREE).warp(rows, Proposal(rows.n[:, None], rows.n[:, None] * 0 - 1), logits[:, None])[:, 0]


def entropy(p: Tensor) -> Tensor:
    total: Tensor = torch.special.entr(p).sum(-1)
    return total


@given(
    seed=st.integers(0, 2**31), vocab=st.sampled_from([2, 7, 150]), alpha=ALPHAS, scale=st.sampled_from([0.0, 1.0, 6.0])
)
def test_the_bound_holds_and_one_token_more_would_break_it(seed: int, vocab: int, alpha: float, scale: float) -> None:
    logits = torch.randn(5, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    p = logits.softmax(-1)
    out = cut(TopH(alpha), logits)
    kept = out > -torch.inf
    assert torch.equal(out[kept], logits[kept])
    q = out.softmax(-1)
    bound = alpha * entropy(p)
    assert bool(((entropy(q) <= bound + 1e-9) | (kept.sum(-1) == 1)).all())
    assert bool(kept.gather(1, p.argmax(-1, keepdim=True)).all())
    for row, count in enumerate(kept.sum(-1).tolist()):
        if count < vocab:
            best = p[row].sort(stable=True, dim=-1, descending=True).values[: count + 1]
            assert float(entropy(best / best.sum())) > float(bound[row]) - 1e-9
            assert float(p[row][kept[row]].min()) >= float(p[row][~kept[row]].max())


@given(seed=st.integers(0, 2**31), alpha=ALPHAS)
def test_a_law_that_is_cut_already_is_the_conditional_law(seed: int, alpha: float) -> None:
    noise = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 30, generator=noise, dtype=torch.float64) * 2
    allowed = torch.rand(4, 30, generator=noise) < 0.3
    allowed[:, 3] = True
    masked = logits.masked_fill(~allowed, -torch.inf)
    for row in range(4):
        alone = cut(TopH(alpha), logits[row][allowed[row]][None])[0]
        assert torch.equal(cut(TopH(alpha), masked[row][None])[0][allowed[row]], alone)


def test_limits() -> None:
    logits = torch.randn(3, 200, generator=torch.Generator().manual_seed(1))
    assert torch.equal(cut(TopH(1.0), logits), logits)
    assert int((cut(TopH(1.0, mode="hf"), logits) > -torch.inf).sum(-1).max()) <= 100
    sizes = [int((cut(TopH(a), logits) > -torch.inf).sum()) for a in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)]
    assert sizes == sorted(sizes)
    flat = torch.zeros(1, 1000, dtype=torch.float64)
    # A flat law over 1,000 tokens, H(q_S) = ln |S| <= 0.4 ln 1000 = 2.76, so 15 tokens at most.
    assert int((cut(TopH(0.4), flat) > -torch.inf).sum()) == 15
    one = torch.full((1, 9), -torch.inf)
    one[0, 4] = 1.0
    for mode in ("paper", "hf"):
        assert torch.equal(cut(TopH(0.4, mode=mode), one), one)


def test_the_rules_differ_where_the_papers_bound_is_broken() -> None:
    logits = torch.randn(300, 80, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2
    broken = {
        mode: int(
            (entropy(cut(TopH(0.4, mode=mode), logits).softmax(-1)) > 0.4 * entropy(logits.softmax(-1)) + 1e-9).sum()
        )
        for mode in ("paper", "hf")
    }
    assert broken["paper"] == 0
    assert broken["hf"] > 100


def test_it_works_under_a_schema_in_a_batch() -> None:
    age = {"type": "integer", "minimum": 0, "maximum": 99}
    schema = dk.json_schema(
        {"type": "object", "properties": {"n": age}, "required": ["n"], "additionalProperties": False}
    )
    for mode in ("paper", "hf"):
        strategy = f"temperature(2.0) | top_h(0.3, mode='{mode}', within='constraint') | sample"
        out = dk.generate(
            "zoo:base",
            ["x", "Ada is 36.\nperson as JSON:\n"],
            strategy=strategy,
            constraint=schema,
            max_tokens=60,
            must_end=True,
        )
        assert all(one.value is not None for one in out)
