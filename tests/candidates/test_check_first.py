"""Choosing by checks first: token for token what the whole mask gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.candidates import check_first
from decodekit.comparison.tasks.embedded import Json
from decodekit.constraints.core.masks import Pace
from decodekit.core import noise, selection
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.testing import TableModel
from decodekit.testing.harness import kit_for
from decodekit.testing.toy import ToyConstraint

V = 24


class Patient:
    """A bound constraint that says how many checks a mask is worth, and counts both."""

    def __init__(self, inner: Any, patience: int) -> None:
        self.inner, self.patience, self.masks = inner, patience, 0

    def mask(self, rows: Rows, at: torch.Tensor) -> torch.Tensor:
        self.masks += 1
        return self.inner.mask(rows, at)  # type: ignore[no-any-return]

    def admits(self, rows: Rows, at: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.inner.admits(rows, at, tokens)  # type: ignore[no-any-return]


def rows_of(texts: list[list[int]], start: int = 1) -> Rows:
    number = torch.arange(len(texts))
    rows = Rows(texts, torch.full((len(texts),), 40), noise.streams(3, [1], len(texts)), number, number)
    rows.start = torch.full_like(rows.n, start)
    return rows


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("patience", [1, 4, 9, 64])
@pytest.mark.parametrize("refuse", [0.2, 0.8, 0.97])
def test_the_token_is_that_of_the_mask(noisy: bool, patience: int, refuse: float) -> None:
    toy = ToyConstraint(seed=5, vocab=V, refuse=refuse, dead_ends=True)
    kit, _ = kit_for(["sample"], TableModel(vocab=V, seed=1), constraint=toy)
    rows = rows_of([[1, a, b] for a in range(6) for b in range(5)])
    torch.manual_seed(0)
    logits = torch.randn(len(rows), 1, V).round(decimals=1)  # equal ones among them
    logits[3] = -torch.inf
    at = rows.n[:, None].clone()
    at[5] = NONE
    ask = Proposal(at, torch.full_like(at, NONE))
    masked = selection.allowed(rows, ask, logits, kit.constraint)
    best, token = masked.max(-1)
    want = noise.argmax(masked, rows.stream, at) if noisy else token.masked_fill(best == -torch.inf, NONE)
    got = check_first.choose(rows, ask, logits, Patient(kit.constraint, patience), noisy)  # type: ignore[arg-type]
    here = at != NONE
    assert torch.equal(got.tokens[here], want[here])
    assert got.dead is not None
    assert torch.equal(got.dead[here[:, 0]], (want == NONE)[here])


@pytest.mark.parametrize("strategy", ["sample", "greedy"])
def test_a_fitting_model_needs_no_masks(strategy: str) -> None:
    item = Json(limit=1).items()[0]
    prompt, rule = item.prompt, item.constraint
    out = dk.generate("zoo:base", prompt, constraint=rule, strategy=strategy, max_tokens=120)
    assert out.value is not None
    other = "mask" if strategy == "sample" else "mask(greedy=True)"
    eager = dk.generate("zoo:base", prompt, constraint=rule, strategy=other, max_tokens=120)
    assert eager.tokens == out.tokens
    assert out.cost.masks <= len(out.tokens) / 10
    assert out.cost.checks < 3 * len(out.tokens)


def test_patience_is_the_ratio_of_what_was_measured() -> None:
    pace = Pace()
    assert pace.patience == 8
    pace.masks(0.010, 10)
    assert pace.patience == 8
    pace.checks(0.0002, 2)
    assert pace.patience == 10
    for _ in range(100):
        pace.masks(1.0, 1)
    assert pace.patience == 64
