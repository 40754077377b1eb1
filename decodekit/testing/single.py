"""One step of a selector, without a loop around it: for tests of what a single decision does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.testing.oracle import rows_of
from decodekit.testing.tables import TableModel


class Fixed:
    """A constraint that allows the same ids `ok` everywhere, and counts.

    checks, calls: of `admits`. masks: rows whose mask was asked for. needed: checks of a walk that asks for
    one token at a time and stops at the first that is allowed.
    """

    def __init__(self, ok: Sequence[bool]) -> None:
        self.ok, self.checks, self.calls, self.needed = torch.tensor(ok), 0, 0, 0
        self.masks = 0

    def bind(self, run: BindContext) -> Fixed:
        """Nothing to prepare."""
        return self

    def mask(self, rows: Rows, at: Tensor) -> Tensor:
        """[R, K, V] bool."""
        self.masks += int((at != NONE).sum())
        return self.ok.expand(*at.shape, -1)

    def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
        """[R, C] bool; rows without a position must not be asked."""
        if ((at == NONE)[:, None] & (tokens != NONE)).any():
            raise AssertionError("a row without a position was asked")
        self.checks, self.calls = self.checks + int((tokens != NONE).sum()), self.calls + 1
        found = self.ok[tokens.clamp(min=0)] & (tokens != NONE)
        first = torch.where(found.any(1), found.to(torch.uint8).argmax(1) + 1, (tokens != NONE).sum(1))
        self.needed += int(first.sum())  # what a walk that checks one by one would have asked
        return found

    def complete(self, rows: Rows) -> Tensor:
        """[R] bool, never."""
        return torch.zeros_like(rows.done)

    def forced(self, rows: Rows) -> list[list[int]]:
        """Nothing is."""
        return [[] for _ in range(len(rows))]


def step(selector: Any, logits: Tensor, rule: Fixed) -> Selection:
    """One step of R rows with `logits` [R, V], all after the same one-token prompt, each with its own stream."""
    rows = rows_of([[0]] * len(logits))
    ask = Proposal(rows.n[:, None], torch.full((len(logits), 1), NONE))
    model = TableModel(vocab=logits.shape[1], eos=(), seed=0)
    bound = selector.bind(BindContext(model=model, open=lambda thing: model))
    choice: Selection = bound.select(rows, ask, logits[:, None], rule)
    return choice
