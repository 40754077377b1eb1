"""The default answers: the next position without a guess, one forward pass, every row for itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from decodekit.kit import Run
from decodekit.roles import Proposal, Scorer
from decodekit.rows import NONE, Rows


@dataclass(frozen=True)
class Next:
    """Proposer: the next position of every row that is not done, no guess."""

    def bind(self, run: Run) -> Next:
        """Nothing to prepare."""
        return self

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """`at` [R, 1] = n, NONE where the row is done."""
        at = rows.n.masked_fill(rows.done, NONE)[:, None]  # [R, 1]
        return Proposal(at, torch.full_like(at, NONE))


@dataclass(frozen=True)
class ModelScorer:
    """Scorer: one forward pass of the run's model."""

    def bind(self, run: Run) -> Scorer:
        """A reader of the model over its own cache, counted under `run.label`."""
        if run.hidden:
            from decodekit.models.states import reader_of

            return reader_of(run.model, run.cost, run.label)
        return run.model.reader(run.cost, run.label)


@dataclass(frozen=True)
class Alone:
    """Population: each row lives alone and leaves when it is done."""

    width: int = 1

    def bind(self, run: Run) -> Alone:
        """Nothing to prepare."""
        return self

    def survivors(self, rows: Rows) -> Tensor | None:
        """Every row goes on as it is."""
        return None

    def leaving(self, rows: Rows) -> Tensor:
        """[R] bool, all that are done."""
        return rows.done
