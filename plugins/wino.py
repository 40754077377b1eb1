"""WINO: draft boldly, check what stands, and take back what does not hold."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.diffusion.canvas import Filler, Pick, View, first
from decodekit.diffusion.check_cells import Reread, reread
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without

_LEAST, _MOST, _SHARE, _FIRST = 5, 20, 0.7, 30  # of what is accepted in a round: the authors' constants


@plugin(
    role=("proposer", "selector"),
    exactness="approximate",
    requires=("masked_lm",),
    provides=("randomness", "distribution"),
    conflicts_with=("scorer",),
    paper="Hong et al. 2025 (WINO), arXiv 2507.18578, section 3.2 and the authors' code",
)
class Wino:
    """Wide in, narrow out: commit every cell above `tau`, open again every cell that its neighbours no longer support.

    A committed cell is checked without itself: where the model can be read with a mask of ours, by a shadow of the
    block (mask tokens at the same positions that see all but their own cell, and that no cell sees) in the same forward
    pass; otherwise by one canvas more per cell, in the same batch. Cells are taken back only in rounds that accepted
    more than one, and always fewer than the round before accepted, so it ends.

    Args:
        tau: a cell is committed above this probability; at least the surest one, at most 0.7 of what is left (no fewer
            than 5 and no more than 20).
        back: a committed cell is opened again below this probability.
        block: cells per block, None for one block.
        sample: draw each value instead of taking the most probable one.

    Raises:
        CompositionError: when bound, if the model has no mask token.
    """

    tau: Annotated[float, Field(ge=0.0)] = 0.6
    back: Annotated[float, Field(ge=0.0, le=1.0)] = 0.9
    block: Annotated[int, Field(ge=1)] | None = 32
    sample: bool = False

    def __post_init__(self) -> None:
        if not self.sample:
            without(self, "randomness")

    def bind(self, run: BindContext) -> Checked:
        """A reader of its own, for committed cells are read in a way that no scorer offers; runs no model."""
        return Checked(self, run)


class Checked(Filler):
    """The rule. How many a row accepted last, and in which block, are columns of the rows."""

    weighs = False

    def __init__(self, options: Wino, run: BindContext) -> None:
        super().__init__(run, "wino", block=options.block, sample=options.sample)
        self._options = options
        self._reader: Any = run.model.reader(run.cost, run.label)
        self._read: Reread

    def propose(self, rows: Rows) -> Proposal:
        """The open cells of the current block and the committed ones, read at once."""
        place = torch.arange(int(rows.limit.max()), device=rows.device).expand(len(rows), -1)
        here = self.blocks(rows, rows.n[:, None])  # [R, 1] the current block: that of the first open cell
        self._read = reread(self, rows, self._reader, self.blocks(rows, place) == here)
        return self._read.ask

    def choose(self, view: View) -> Pick:
        """Accept the sure, and take back the unsupported."""
        rows, check, o = view.rows, self._read.check, self._options
        todo = view.scope & ~check
        sure = (-view.nats).exp().masked_fill(~todo, -1.0)  # of the value that the cell would get, as the authors do
        most = (todo.sum(1) * _SHARE).long().clamp(_LEAST, _MOST)
        accept = first(sure, todo & (sure > o.tau), most)
        none = ~accept.any(1)
        accept = accept | first(sure, todo, none.long())
        accepted = accept.sum(1)
        held = view.logp.gather(2, rows.tokens.gather(1, view.ask.at.clamp(min=0))[..., None])[..., 0].exp()
        weak = check & (held < o.back)
        last = self._last(rows)
        count = torch.where(weak.sum(1) >= last, last - 1, weak.sum(1))
        revoke = first(-held, weak, count) & (accepted > 1)[:, None]
        rows.columns["wino.accepted"] = accepted
        tokens = view.value.masked_fill(revoke, NONE)
        why = torch.where(none, 3, 1)[:, None].expand_as(tokens)
        return Pick(accept | revoke, why, tokens=tokens, canvases=self._read.canvases)

    def _last(self, rows: Rows) -> Tensor:
        """[R] how many cells the round before accepted; 30 at the beginning of a block."""
        block = self.blocks(rows, rows.n[:, None])[:, 0]
        seen = rows.column("wino.block", torch.full_like(rows.n, -1))
        last = rows.column("wino.accepted", torch.full_like(rows.n, _FIRST))
        rows.columns["wino.block"] = block
        return torch.where(seen == block, last, _FIRST)
