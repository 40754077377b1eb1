"""All sequences in flight, with the two structural verbs through which they multiply and vanish (law 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

NONE: Final = -1
"""In a token tensor: no token here. In a position tensor: no position here (padding of a ragged proposal)."""

LINEAGE = ("tokens", "final", "n", "start", "limit", "done", "reason", "note", "logw", "group")
"""What follows a row wherever it is copied to. Slots (`stream`, `sample`) do not: see :meth:`Rows.fork`."""

GROW = 64


class Fact(NamedTuple):
    """Numbers that a plugin has to tell: `value` [M] float64 about slots [M] of groups [M].

    now: told while a round is going on, of that round; else of the one before.
    """

    name: str
    group: Tensor
    slot: Tensor
    value: Tensor
    now: bool = False


@dataclass(frozen=True, slots=True)
class Retired:
    """A row that left the batch: all its tokens (prompt included), where the prompt ended, and how it went.

    note: what was remarked on the row, in a sentence.
    """

    tokens: list[int]
    start: int
    logw: float
    reason: str
    group: int
    sample: int
    note: str = ""


class Rows:
    """R sequences in flight, ragged: row r holds `n[r]` final tokens, and whatever was guessed past them.

    Whoever depends on the text follows it by itself (:class:`decodekit.core.follower.Follower`); nobody manages caches.

    Attributes:
        tokens: [R, T] int64. Past `n`: guesses, mask tokens of a canvas, or padding.
        final: [R, T] bool, which cells are decided. Append-only decoding fills it from the left, a canvas anywhere.
        n: [R] int64, length of the leading run of final cells: the text so far, prompt included.
        start: [R] int64, length of the prompt.
        limit: [R] int64, the length that the row may reach, prompt included.
        done: [R] bool; a done row is never decided again, whatever its population does with it.
        reason: [R] int64, index into :attr:`reasons` (why a row is done), or NONE.
        note: [R] int64, index into :attr:`remarks` (what went wrong with a row, in words), or NONE.
        logw: [R] float64, log importance weight.
        stream: [R] int64, the noise stream of the slot (law 2).
        group: [R] int64, which request the row belongs to. Rows of a group are neighbours.
        sample: [R] int64, number of the slot within its group.
        retired: rows that left the batch, in the order in which they left.
        moves: every index that ever rearranged the rows, oldest first; followers replay them.
        reopened: which rows began again, [R] bool each time.
        facts: what plugins had to tell in this round (:meth:`tell`); the recorder takes them over.
        columns: extra per-row tensors of plugins ([R, ...]); they travel with the lineage.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], limit: Tensor, stream: Tensor, group: Tensor, sample: Tensor
    ) -> None:
        device = stream.device
        length = [len(p) for p in prompts]
        self.tokens = torch.zeros(len(prompts), max(length) + GROW, dtype=torch.int64, device=device)  # [R, T]
        for r, prompt in enumerate(prompts):
            self.tokens[r, : length[r]] = torch.as_tensor(prompt, device=device)
        self.n = torch.tensor(length, dtype=torch.int64, device=device)  # [R]
        self.final = torch.arange(self.tokens.shape[1], device=device) < self.n[:, None]  # [R, T]
        self.start, self.limit = self.n.clone(), limit
        self.done = torch.zeros_like(self.n, dtype=torch.bool)
        self.reason, self.note = torch.full_like(self.n, NONE), torch.full_like(self.n, NONE)
        self.logw = torch.zeros(len(prompts), dtype=torch.float64, device=device)
        self.stream, self.group, self.sample = stream, group, sample
        self.retired: list[Retired] = []
        self.moves: list[Tensor] = []
        self.reasons: list[str] = []
        self.remarks: list[str] = []
        self.facts: list[Fact] = []
        self.reopened: list[Tensor] = []
        self.columns: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def device(self) -> torch.device:
        """Where all row tensors are."""
        return self.tokens.device

    def reserve(self, length: int) -> None:
        """Make room for positions below `length`; one spare column stays open at the end."""
        short = length + 1 - self.tokens.shape[1]
        if short > 0:
            more = max(short, GROW, self.tokens.shape[1] // 2)
            self.tokens = torch.nn.functional.pad(self.tokens, (0, more))
            self.final = torch.nn.functional.pad(self.final, (0, more))

    def write(self, at: Tensor, tokens: Tensor, where: Tensor) -> None:
        """Write guesses: `tokens` [R, K] at positions `at` [R, K] wherever `where` [R, K]; nothing becomes final."""
        if bool(where.any()):
            place = self._place(at, where)  # makes room, so before `tokens` is looked up
            self.tokens.scatter_(1, place, tokens)

    def commit(self, at: Tensor, tokens: Tensor, where: Tensor) -> Tensor:
        """Make `tokens` [R, K] final at `at` [R, K] wherever `where` [R, K], and return the old `n` [R].

        The token NONE opens a cell again (revocation on a canvas); `n` is the first cell that is not final.
        """
        before, kept = self.n, where & (tokens != NONE)
        place = self._place(at, where)  # makes room, too
        self.final.scatter_(1, place, kept)  # the spare column stays open: what goes there is not kept
        self.tokens.scatter_(1, self._place(at, kept), tokens)
        frontier = self.final.view(torch.uint8).argmin(1)  # the spare column guarantees an open cell
        self.n = torch.where(self.done, self.n, frontier)
        return before

    def _place(self, at: Tensor, where: Tensor) -> Tensor:
        """`at` [R, K] where `where`, and elsewhere the spare column, whose content nobody reads; makes room for all."""
        self.reserve(int(at.max()) + 1)
        return at.masked_fill(~where, self.tokens.shape[1] - 1)

    def end(self, where: Tensor, at: Tensor, reason: str) -> None:
        """Rows `where` [R] bool are done, cut to the length `at` [R], for `reason` (a word for users)."""
        where = where & ~self.done
        if not where.any():
            return
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.reason = torch.where(where, self.reasons.index(reason), self.reason)
        self.n = torch.where(where, torch.minimum(self.n, at), self.n)
        self.done = self.done | where

    def why(self, row: int) -> str:
        """Why `row` is done; empty while it is not."""
        code = int(self.reason[row])
        return self.reasons[code] if code != NONE else ""

    def reopen(self, where: Tensor) -> None:
        """Rows `where` [R] bool begin again after their prompt, with the noise that they had; nothing is kept."""
        self.reopened.append(where)
        self.n = torch.where(where, self.start, self.n)
        past = torch.arange(self.tokens.shape[1], device=self.device) >= self.start[:, None]
        self.final = self.final & ~(where[:, None] & past)
        self.done, self.logw = self.done & ~where, self.logw.masked_fill(where, 0.0)
        self.reason, self.note = (code.masked_fill(where, NONE) for code in (self.reason, self.note))

    def remark(self, row: int, words: str) -> None:
        """Note what went wrong with `row`; the user reads it where the row is the answer."""
        self.note = self.note.index_fill(0, torch.tensor([row], device=self.device), len(self.remarks))
        self.remarks.append(words)

    def remarked(self, row: int) -> str:
        """What was remarked on `row`; empty if nothing was."""
        code = int(self.note[row])
        return self.remarks[code] if code != NONE else ""

    def tell(self, name: str, group: Tensor, slot: Tensor, value: Tensor, now: bool = False) -> None:
        """Put numbers [M] about slots [M] (NONE: the whole group) of groups [M] into the trace, under `name`.

        Proposers, scorers and selectors, which answer before a round is over, say `now`.
        """
        self.facts.append(Fact(name, group, slot, value, now))

    def text(self, row: int) -> list[int]:
        """The final tokens of `row`, prompt included."""
        ids: list[int] = self.tokens[row, : int(self.n[row])].tolist()
        return ids

    def column(self, name: str, fill: Tensor) -> Tensor:
        """A per-row tensor [R, ...] under `name`; made from `fill` at the first call."""
        return self.columns.setdefault(name, fill)

    def fork(self, index: Tensor, stream: Tensor | None = None, sample: Tensor | None = None) -> None:
        """Row j becomes a copy of row `index[j]`: resample or expand.

        Noise stays with the slot: two copies of one row must diverge (with inherited streams 8 resampled particles gave
        2 distinct texts). If the number of rows changes, the caller gives the slots' `stream` and `sample`.
        """
        if stream is None and len(index) != len(self):
            raise ValueError("fork to another number of rows needs the streams of the new slots")
        self._gather(index)
        if stream is not None:
            self.stream = stream
            self.sample = self.sample[index] if sample is None else sample

    def keep(self, index: Tensor) -> None:
        """Keep the rows `index`, in that order, slots included: drop finished ones, reorder a beam."""
        self._gather(index)
        self.stream, self.sample = self.stream[index], self.sample[index]

    def retire(self, where: Tensor) -> Tensor | None:
        """Rows `where` [R] bool leave the batch; returns the index of those that stay, or None if none leaves."""
        if not bool(where.any()):
            return None
        for r in where.nonzero()[:, 0].tolist():
            self.retired.append(
                Retired(
                    tokens=self.text(r),
                    start=int(self.start[r]),
                    logw=float(self.logw[r]),
                    reason=self.why(r),
                    group=int(self.group[r]),
                    sample=int(self.sample[r]),
                    note=self.remarked(r),
                )
            )
        stay = (~where).nonzero()[:, 0]
        self.keep(stay)
        return stay

    def _gather(self, index: Tensor) -> None:
        for name in LINEAGE:
            setattr(self, name, getattr(self, name)[index])
        self.columns = {name: column[index] for name, column in self.columns.items()}
        self.moves.append(index)
