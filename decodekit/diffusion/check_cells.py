"""Reading committed cells again as if each alone were open, together with the open cells of a round."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from decodekit.core.cells import packed
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.diffusion.canvas import Filler
from decodekit.models.leave_one_out import leave_one_out


class Reread(NamedTuple):
    """ask: open cells and cells to check, read. check: [R, K] which are the latter. canvases: [R] read for each row."""

    ask: Proposal
    check: Tensor
    canvases: Tensor


def reread(filler: Filler, rows: Rows, reader: Any, doubtful: Tensor) -> Reread:
    """Read the open cells of the current blocks, and each of the committed cells `doubtful` [R, T] without itself.

    A reader that has `shadowed` does so in one forward pass; for others it is one canvas more for each such cell.
    """
    is_open = filler.open(rows)
    width = is_open.shape[1]
    place = torch.arange(width, device=rows.device).expand_as(is_open)
    rows.write(place, torch.full_like(place, filler.mask), is_open)  # cells that were opened again
    if doubtful.shape[1] < width:
        doubtful = torch.nn.functional.pad(doubtful, (0, width - doubtful.shape[1]))
    stands = doubtful[:, :width] & rows.final[:, :width] & (place >= filler.given(rows)[:, None])
    stands = stands & (place < rows.limit[:, None]) & ~rows.done[:, None]
    at = packed(filler.within(rows, is_open) | stands)
    check = rows.final.gather(1, at.clamp(min=0)) & (at != NONE)  # [R, K]
    shadowed = getattr(reader, "shadowed", None)
    known = leave_one_out(reader, rows, at, check, filler.mask) if shadowed is None else shadowed(rows, at, check)
    extra = check.sum(1) if shadowed is None else torch.zeros_like(rows.n)
    return Reread(Proposal(at, torch.full_like(at, NONE), known=known), check, 1 + extra)
