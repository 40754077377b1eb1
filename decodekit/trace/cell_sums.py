"""Sums of log-probabilities where cells become final in any order and may be taken back."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core.rows import Rows


class Cells:
    """Log-probabilities cell by cell: the last commit of a cell counts, and cells behind the end of a text do not."""

    def __init__(self, rows: Rows) -> None:
        self.logp = torch.zeros(len(rows), int(rows.limit.max()) + 1, dtype=torch.float64, device=rows.device)

    def put(self, at: Tensor, logp: Tensor, took: Tensor) -> None:
        """What was taken in a round; the spare column takes the rest."""
        spare = self.logp.shape[1] - 1
        self.logp = self.logp.scatter(1, at.masked_fill(~took, spare), logp.double())
        self.logp[:, spare] = 0.0

    def of_those_that_left(self, rows: Rows, index: Tensor, first: int) -> list[float]:
        """Sums of the rows that left for `rows.retired[first:]`, as far as their texts reach."""
        gone = [r for r in range(len(self.logp)) if r not in set(index.tolist())]
        return [
            float(self.logp[r, one.start : len(one.tokens)].sum())
            for r, one in zip(gone, rows.retired[first:], strict=True)
        ]
