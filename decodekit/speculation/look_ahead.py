"""Branches off the rows of a run: a few continuations of each, through the very cache that reads the rows.

The branches are rows of their own, `width` for each row of the run, of which the first always says what the row says.
So one reader serves both, a branch begins with a copy of its row's cache, and the row goes on with the winner's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core.protocols import Proposal, Scorer
from decodekit.core.rows import NONE, Rows


class Branches:
    """A reader of rows (:class:`decodekit.core.protocols.Scorer`) that can also read `width` continuations of each of
    them.
    """

    def __init__(self, reader: Scorer, width: int) -> None:
        self._reader, self._width = reader, width
        self._version = 0
        self.rows: Rows

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] of the rows themselves."""
        self._mirror(rows)
        wide = torch.full((len(self.rows), at.shape[1]), NONE, device=at.device)
        wide[:: self._width] = at
        asked = torch.zeros(len(self.rows), dtype=torch.bool, device=at.device)
        asked[:: self._width] = True if only is None else only
        return self._reader.read(self.rows, wide, asked)[:: self._width]

    def open(self, rows: Rows, at: Tensor, which: Tensor, tokens: Tensor) -> Branches:
        """Rows `which` [P] branch at `at` [P] into `tokens` [P, B] (B <= width), each after the row's own text."""
        self._mirror(rows)
        own, width = self.rows, self._width
        self._which, self._count = which, tokens.shape[1]
        index = torch.arange(len(own), device=at.device).view(-1, width)
        index[which] = which[:, None] * width
        own.fork(index.flatten())
        self._lines = which[:, None] * width + torch.arange(self._count, device=at.device)  # [P, B]
        own.reserve(int(at.max()) + 1)
        own.n[self._lines] = at[:, None].expand_as(tokens)
        own.done[self._lines] = False
        self.write(tokens, torch.ones_like(tokens, dtype=torch.bool))
        return self

    def next(self, alive: Tensor) -> tuple[Tensor, Proposal]:
        """([N, 1, V] of all branches, what was asked): the next token of those `alive` [P, B]."""
        at = torch.full((len(self.rows), 1), NONE, device=alive.device)
        lines = self._lines[alive]
        at[lines, 0] = self.rows.n[lines]
        return self._reader.read(self.rows, at, at[:, 0] != NONE), Proposal(at, torch.full_like(at, NONE))

    def own(self, logits: Tensor) -> Tensor:
        """[P, B, V] of the open branches, from [N, 1, V]."""
        return logits[self._lines, 0]

    def write(self, tokens: Tensor, where: Tensor) -> None:
        """Go on with `tokens` [P, B] where `where` [P, B]."""
        rows, lines = self.rows, self._lines[where]
        rows.reserve(int(rows.n.max()) + 2)
        rows.tokens[lines, rows.n[lines]] = tokens[where]
        rows.n[lines] += 1

    def close(self, winner: Tensor) -> None:
        """The rows go on with the cache of branch `winner` [P]; the others end."""
        index = torch.arange(len(self.rows), device=winner.device)
        index[self._which * self._width] = self._lines.gather(1, winner[:, None])[:, 0]
        self.rows.fork(index)
        self._rest()

    def _rest(self) -> None:
        """Branches are done while nobody looks ahead, and give up their places in the cache."""
        done = torch.ones(len(self.rows) // self._width, self._width, dtype=torch.bool, device=self.rows.device)
        done[:, 0] = self.rows.done[:: self._width]
        self.rows.done = done.flatten()

    def _mirror(self, rows: Rows) -> None:
        """The first branch of every row says what the row says."""
        width = self._width
        if not hasattr(self, "rows"):
            each = torch.arange(len(rows), device=rows.device).repeat_interleave(width)
            prompts = [rows.text(r) for r in each.tolist()]
            self.rows = Rows(prompts, rows.limit[each], rows.stream[each], rows.group[each], rows.sample[each])
            self._version = len(rows.moves)
        own = self.rows
        for index in rows.moves[self._version :]:
            own.keep((index[:, None] * width + torch.arange(width, device=index.device)).flatten())
        self._version = len(rows.moves)
        own.reserve(rows.tokens.shape[1] - 1)
        own.tokens[::width, : rows.tokens.shape[1]] = rows.tokens
        for name in ("n", "start", "limit", "stream"):
            setattr(own, name, getattr(rows, name).repeat_interleave(width))
        own.done[::width] = rows.done
        self._rest()
