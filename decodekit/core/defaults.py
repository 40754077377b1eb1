"""The default answers: the next position without a guess, one forward pass, every row for itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Scorer
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError


@dataclass(frozen=True)
class Next:
    """Proposer: the next position of every row that is not done, no guess."""

    def bind(self, run: BindContext) -> Next:
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

    def bind(self, run: BindContext) -> Scorer:
        """A reader of the model over its own cache, counted under `run.label`."""
        if run.hidden:
            made = getattr(run.model, "hidden_scorer", None)
            if made is None or "hidden" not in run.model.provides:
                raise CompositionError(
                    f"hidden=True asks for hidden states, and {run.model.name} does not give them; drop it"
                )
            scorer: Scorer = made(run.cost, run.label)
            return scorer
        return run.model.reader(run.cost, run.label)


@dataclass(frozen=True)
class Alone:
    """Population: each row lives alone and leaves when it is done."""

    width: int = 1

    def bind(self, run: BindContext) -> Alone:
        """Nothing to prepare."""
        return self

    def survivors(self, rows: Rows) -> Tensor | None:
        """Every row goes on as it is."""
        return None

    def leaving(self, rows: Rows) -> Tensor:
        """[R] bool, all that are done."""
        return rows.done
