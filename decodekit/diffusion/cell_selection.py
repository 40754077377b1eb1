"""Which uncertain cells to commit together: apart from each other, or by how much they were seen to depend.

How far a cell's influence reaches is measured, not assumed: where a cell was explored, the share of its neighbours'
entropy that is gone one round later is added up by distance. Nothing else is known of the model.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from decodekit.core.rows import NONE, Rows
from decodekit.diffusion.canvas import View

REACH: Final = 256  # distances beyond are counted as this one
_PRIOR: Final = 20.0  # weight, in nats of entropy seen, of the belief before anything was measured
_FALL: Final = 8.0  # ... that dependence falls to 1/e at this distance


def apart(score: Tensor, scope: Tensor, at: Tensor, count: Tensor, gap: int) -> Tensor:
    """[R, K] bool: up to `count` [R] cells of the `scope`, best `score` [R, K] first, `gap` or more apart."""
    taken = torch.zeros_like(scope)
    left = scope
    for turn in range(int(count.max()) if count.numel() else 0):
        going = left.any(1) & (turn < count)
        if not bool(going.any()):
            break
        best = score.masked_fill(~left, -torch.inf).argmax(1, keepdim=True)  # [R, 1]
        new = torch.zeros_like(scope).scatter(1, best, going[:, None])
        taken = taken | new
        near = (at - at.gather(1, best)).abs() < max(1, gap)
        left = left & ~(near & going[:, None])
    return taken


def one_per_block(score: Tensor, scope: Tensor, block: Tensor, count: Tensor) -> Tensor:
    """[R, K] bool: up to `count` [R] cells, best first, no two of them in one `block` [R, K]."""
    taken, left = torch.zeros_like(scope), scope
    for turn in range(int(count.max()) if count.numel() else 0):
        going = left.any(1) & (turn < count)
        if not bool(going.any()):
            break
        best = score.masked_fill(~left, -torch.inf).argmax(1, keepdim=True)
        taken = taken | torch.zeros_like(scope).scatter(1, best, going[:, None])
        left = left & ~((block == block.gather(1, best)) & going[:, None])
    return taken


class Dependence:
    """What the rounds so far say about how cells depend on each other; columns of the rows, so it follows them."""

    def __init__(self, name: str) -> None:
        self._name = name

    def learn(self, view: View) -> None:
        """Compare entropies with those of the round before."""
        rows, at = view.rows, view.ask.at
        before, touched = self._memory(rows)
        cell = at.clamp(min=0)
        old, here = before.gather(1, cell), at != NONE  # [R, K]
        distance = self._distance(touched, cell)  # [R, K] to the nearest cell that was explored
        known = here & (old >= 0) & (distance > 0)
        drop = (old - view.entropy).clamp(min=0.0)
        drops, seen = self._tables(rows)
        index = distance.clamp(max=REACH - 1)
        self._put(rows, "drop", drops.scatter_add(1, index, drop.masked_fill(~known, 0.0)))
        self._put(rows, "seen", seen.scatter_add(1, index, old.masked_fill(~known, 0.0)))

    def remember(self, view: View, explored: Tensor) -> None:
        """Keep the entropies of this round, and which cells are explored in it [R, K]."""
        rows = view.rows
        before, touched = self._memory(rows)
        cell = view.ask.at.clamp(min=0)
        here = view.ask.at != NONE
        value = torch.where(here, view.entropy, before.gather(1, cell))
        self._put(rows, "entropy", torch.full_like(before, -1.0).scatter(1, cell, value.masked_fill(~here, -1.0)))
        fresh = torch.zeros_like(touched).scatter_add(1, cell, (explored & here).long())
        self._put(rows, "touched", fresh)

    def at(self, rows: Rows, distance: Tensor) -> Tensor:
        """[R, K] share of a cell's entropy that another cell at `distance` [R, K] explains."""
        drops, seen = self._tables(rows)
        prior = torch.exp(-torch.arange(REACH, dtype=drops.dtype, device=drops.device) / _FALL)
        share = (drops + _PRIOR * prior) / (seen + _PRIOR)  # [R, D]
        return share.clamp(0.0, 1.0).gather(1, distance.clamp(0, REACH - 1))

    def pick(self, view: View, scope: Tensor, count: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """(cells [R, K] bool, what filling them together may cost [R] in nats): most news first, within `allowed` [R].

        A cell's news is its entropy less what the cells taken before it explain. The first costs nothing.
        """
        at, entropy = view.ask.at, view.entropy
        taken, spent = torch.zeros_like(scope), torch.zeros_like(allowed)
        shared = torch.zeros_like(entropy)  # [R, K] nats that the taken cells explain of each
        left = scope
        for turn in range(int(count.max()) if count.numel() else 0):
            fits = left & (spent[:, None] + shared <= allowed[:, None])
            going = fits.any(1) & (turn < count)
            if not bool(going.any()):
                break
            news = (entropy - shared).masked_fill(~fits, -torch.inf)
            best = news.argmax(1, keepdim=True)
            new = torch.zeros_like(scope).scatter(1, best, going[:, None])
            taken, left = taken | new, left & ~new
            spent = spent + torch.where(going, shared.gather(1, best)[:, 0], 0.0)
            link = self.at(view.rows, (at - at.gather(1, best)).abs()) * torch.minimum(entropy, entropy.gather(1, best))
            shared = shared + torch.where(going[:, None], link, 0.0)
        return taken, spent

    def _distance(self, touched: Tensor, cell: Tensor) -> Tensor:
        """[R, K] from each cell to the nearest touched one [R, T]; 0 where none was."""
        width = touched.shape[1]
        place = torch.arange(width, device=touched.device).expand_as(touched)
        far = 4 * width
        hit = touched > 0
        left = place.masked_fill(~hit, -far).cummax(1).values
        right = place.masked_fill(~hit, far).flip(1).cummin(1).values.flip(1)
        nearest = torch.minimum(place - left, right - place)
        return torch.where(hit.any(1, keepdim=True), nearest, 0).gather(1, cell)

    def _memory(self, rows: Rows) -> tuple[Tensor, Tensor]:
        width = int(rows.limit.max()) + 1
        blank = torch.full((len(rows), width), -1.0, dtype=torch.float64, device=rows.device)
        found = []
        for name, fill in (("entropy", blank), ("touched", torch.zeros_like(blank, dtype=torch.int64))):
            column = rows.column(f"{self._name}.{name}", fill)
            if column.shape[1] < width:
                column = torch.nn.functional.pad(column, (0, width - column.shape[1]))
            found.append(column)
        return found[0], found[1]

    def _tables(self, rows: Rows) -> tuple[Tensor, Tensor]:
        blank = torch.zeros(len(rows), REACH, dtype=torch.float64, device=rows.device)
        return rows.column(f"{self._name}.drop", blank), rows.column(f"{self._name}.seen", blank.clone())

    def _put(self, rows: Rows, name: str, value: Tensor) -> None:
        rows.columns[f"{self._name}.{name}"] = value
