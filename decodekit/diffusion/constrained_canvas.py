"""A constraint on a canvas: what is allowed in each cell given all that stands, joint values, and their weights.

Whatever subset of the cells a rule commits, it commits values of one filling that the automaton accepts, so the canvas
can always be completed and every finished text satisfies the constraint. The values are drawn from (or the best of)
the product of the round's laws given the constraint; that is not the model given the constraint. With weights it is:
a round's weight is the mass of accepted fillings under the new laws, over what the canvas had under the laws before it
was read anew (a twisted proposal; the product over all rounds is that of all Z before over Z after the commits). The
weighted law is the model's own along the order in which this run chose its cells (one cell a round: its any-order
chain), restricted to accepted canvases: the text is accepted, and nothing but ends was drawn behind its end.

Truncating warpers cut the marginal of each cell given the constraint; what is drawn is then the product of the
distributions cut in this way, given the constraint, and the weights are those without the cut. As in text from left to
right, truncation moves mass among accepted fillings only: a weighted run aims at the product over rounds of what the
truncated distributions given the constraint say of the values committed, times the ratio of the untruncated Z that the
round's weight is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from decodekit.core import warping
from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Warper
from decodekit.core.rows import NONE, Rows
from decodekit.diffusion.marginals import LEAST, Cells, Lattice, Sums
from decodekit.errors import ConstraintError
from decodekit.registry.discovery import default

_Z, _DRAWN = "canvas.z", "canvas.drawn"
"""Columns: [R] log of the accepted mass after the last commit; [R] joint draws so far."""


def held(run: BindContext) -> Held:
    """The constraints of a run as an automaton. One that knows its own (`lattice(run)`) is asked for it.

    Raises:
        CompositionError: a constraint has no automaton. ConstraintError: it is too large, or allows no text.
    """
    if len(run.limits) == 1 and hasattr(run.limits[0], "lattice"):
        return Held(run.limits[0].lattice(run), run)
    return Held(default("constraint.lattice")(run.limits, run), run)


class Held:
    """The automaton on the rows of a run; what it keeps of a row is in columns of the rows."""

    def __init__(self, lattice: Lattice | Callable[[int], Lattice], run: BindContext) -> None:
        """`lattice`: itself, or, where it depends on that, a function of the most cells of a canvas."""
        self._made = lattice if callable(lattice) else None
        if not callable(lattice):
            self._lattice = lattice
        self._eos = torch.tensor(run.eos, dtype=torch.int64, device=run.model.device)

    def fits(self, rows: Rows, given: Tensor) -> None:
        """Refuse, before anything is read, canvases that hold no text of the constraint.

        Raises:
            ConstraintError: too few cells, or what a template gives contradicts the constraint.
        """
        if self._made is not None:
            self._lattice = self._made(max(1, int((rows.limit - rows.start).max())))
        nothing = Proposal(rows.n[:, None], torch.full_like(rows.n[:, None], NONE))
        cells = self._cells(rows, nothing, given, torch.zeros_like(rows.n[:, None], dtype=torch.bool))
        none = torch.zeros(len(rows), 1, self._lattice.table.shape[1], dtype=torch.float64, device=rows.device)
        lost = Sums(self._lattice, cells, none).log_z().isneginf() & ~rows.done
        if not bool(lost.any()):
            return
        room, least = int(cells.length[lost].min()), self._lattice.least
        if room < least:
            raise ConstraintError(
                f"{self._lattice.what} needs at least {least} cells, and the canvas has {room}; raise max_tokens"
            )
        raise ConstraintError(
            f"no text of {self._lattice.what} fits the {room} cells of this canvas and what the template gives; change "
            "one of them"
        )

    def look(
        self, rows: Rows, ask: Proposal, raw: Tensor, given: Tensor, sample: bool, late: Sequence[Warper] = ()
    ) -> tuple[Tensor, Tensor, Sums]:
        """([R, K, V] log marginals, [R, K] joint values, the sums) for laws `raw` [R, K, V] of the round.

        late: warpers that act within the constraint: on the marginals. What is returned first is what they leave, the
        sums are those before them. Committed cells that were read again keep their law, and so do rows that warpers
        left without any filling.
        """
        here = (ask.at != NONE) & ~rows.done[:, None]
        fresh = here & ~rows.final.gather(1, ask.at.clamp(min=0))
        cells = self._cells(rows, ask, given, fresh)
        sums = last = self._sums(cells, raw)
        good = fresh & ~sums.log_z().isneginf()[:, None]
        for warper in late:
            raw = self._truncated(rows, ask, raw, last, good, warper)
            last = self._sums(cells, raw)
        if sample:
            rows.columns[_DRAWN] = cells.number + 1
        joint = last.draw() if sample else last.best()
        logp = torch.where(good[..., None], last.marginals().log(), raw)
        return logp, torch.where(good & (joint != NONE), joint, raw.argmax(2)), sums

    def _sums(self, cells: Cells, raw: Tensor) -> Sums:
        return Sums(self._lattice, cells, torch.where(raw > -torch.inf, raw.exp().clamp(min=LEAST), 0.0))

    @staticmethod
    def _truncated(rows: Rows, ask: Proposal, raw: Tensor, sums: Sums, good: Tensor, warper: Warper) -> Tensor:
        """The laws `raw` [R, K, V] after one more warper, which acts on the marginals of the `good` [R, K] cells.

        A factor by which it changes a marginal changes the distribution. Cells are cut one by one, and what is left of
        them need not make an accepted filling; so the tokens of the most probable one stay.
        """
        if warping.is_pointwise(warper):
            return warper.warp(rows, ask, raw).log_softmax(-1)
        marginal = torch.where(good[..., None], sums.marginals().log(), raw)
        out = warper.warp(rows, ask, marginal)
        change = torch.where(marginal > -torch.inf, out - marginal, -torch.inf)
        kept = torch.zeros_like(raw, dtype=torch.bool).scatter_(2, sums.best().clamp(min=0)[..., None], True)
        change = torch.where(kept & good[..., None] & (change == -torch.inf), 0.0, change)
        return (raw + change).log_softmax(-1)

    def weight(self, rows: Rows, ask: Proposal, sums: Sums, given: Tensor, tokens: Tensor, take: Tensor) -> Tensor:
        """[R, K] what this round's commits add to the log weights, all at the first of them."""
        cells = sums.cells
        took = take & (ask.at != NONE)
        place = (ask.at - rows.start[:, None]).masked_fill(~took, cells.token.shape[1])  # a spare column takes the rest
        after = torch.nn.functional.pad(cells.token, (0, 1), value=NONE).scatter(1, place, tokens)[:, :-1]
        step = torch.arange(after.shape[1], device=after.device)
        ends = torch.isin(after, self._eos) & (after != NONE) & (cells.at >= given[:, None])
        # What stands behind an end that is committed now has been counted, and is not read again.
        left = sums.log_z(after, torch.minimum(cells.length, (step + 1).masked_fill(~ends, len(step)).amin(1)))
        before = rows.column(_Z, torch.zeros_like(rows.logw))
        rows.columns[_Z] = left
        added = sums.log_z() - before
        first = torch.zeros_like(took).scatter(1, took.to(torch.int8).argmax(1, keepdim=True), True) & took
        return torch.where(first, added[:, None], 0.0)

    def _cells(self, rows: Rows, ask: Proposal, given: Tensor, fresh: Tensor) -> Cells:
        """The canvas of every row, from its start to its limit or a committed end of the text."""
        length = (rows.limit - rows.start).masked_fill(rows.done, 0)
        width = max(1, int(length.max()))
        place = torch.arange(width, device=rows.device)
        at = rows.start[:, None] + place  # [R, T]
        rows.reserve(int(at.max()) + 1)
        inside = place < length[:, None]
        stands = rows.final.gather(1, at) & inside
        token = rows.tokens.gather(1, at).masked_fill(~stands, NONE)
        ends = stands & torch.isin(token, self._eos) & (at >= given[:, None])
        length = torch.minimum(length, (place + 1).masked_fill(~ends, width).amin(1))
        read = torch.full((len(rows), width + 1), NONE, device=rows.device)
        number = torch.arange(ask.at.shape[1], device=rows.device).expand_as(ask.at)
        read.scatter_(1, (ask.at - rows.start[:, None]).masked_fill(~fresh, width), number)
        read = read[:, :-1].masked_fill(place >= length[:, None], NONE)
        drawn = rows.column(_DRAWN, torch.zeros_like(rows.n))
        return Cells(token, read, length, rows.stream, at, drawn)
