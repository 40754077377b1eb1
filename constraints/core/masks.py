"""From packed masks to logits: each distinct mask is unpacked once, or never."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .cursor import Bits, Cursor, tokens_of

FEW: Final = 16
"""A mask that allows less than the vocabulary over this is a list of ids: no other table of that width is made."""
MOST: Final = 64
GUESS: Final = 8
"""Checks that a mask is taken to be worth, at most, and before any was measured."""


class Masks:
    """The masks of a round: distinct ones in a table, and for each row and position its place there (0: everything).

    shape: [R, K]. width: V. eos: ids that are allowed where a text may end.
    """

    def __init__(self, shape: tuple[int, int], width: int, eos: tuple[int, ...]) -> None:
        self.plan: npt.NDArray[np.int64] = np.zeros(shape, dtype=np.int64)
        self._width, self._eos = width, eos
        self._table: dict[tuple[int, bool], int] = {}
        self._entries: list[tuple[Bits, bool]] = []  # they keep the masks, whose addresses are the keys

    def put(self, r: int, k: int, bits: Bits, complete: bool) -> None:
        """Row `r`, position `k`: `bits`, and an end of text where `complete`."""
        key = (id(bits), complete)
        if key not in self._table:
            self._entries.append((bits, complete))
            self._table[key] = len(self._entries)
        self.plan[r, k] = self._table[key]

    def booleans(self, device: torch.device) -> Tensor:
        """[R, K, V] bool."""
        allowed = torch.ones(len(self._entries) + 1, self._width, dtype=torch.bool, device=device)  # row 0: everything
        if self._entries:
            allowed[1:] = self._unpacked(device)
        return allowed[torch.from_numpy(self.plan).to(device)]

    def apply(self, logits: Tensor) -> Tensor:
        """`logits` [R, K, V] with -inf where nothing is allowed; a new tensor."""
        device = logits.device
        if device.type != "cpu":
            return logits.masked_fill(~self.booleans(device), -torch.inf)
        out, known = torch.empty_like(logits), dict[int, Tensor]()
        for r, line in enumerate(self.plan.tolist()):
            for k, entry in enumerate(line):
                if not entry:
                    out[r, k] = logits[r, k]
                    continue
                if entry not in known:  # rows in one state share their mask
                    known[entry] = self._sparse(*self._entries[entry - 1])
                found = known[entry]
                if found.dtype == torch.bool:
                    out[r, k].copy_(logits[r, k]).masked_fill_(found, -torch.inf)
                else:
                    out[r, k].fill_(-torch.inf)[found] = logits[r, k, found]
        return out

    def _sparse(self, bits: Bits, complete: bool) -> Tensor:
        """[V] bool, what is refused; where little is allowed the ids of that instead."""
        ends = [i for i in self._eos if i < self._width]
        if int(np.bitwise_count(bits).sum()) * FEW < self._width:
            ids = torch.from_numpy(tokens_of(bits, self._width))
            return torch.cat([ids, torch.tensor(ends, dtype=torch.int64)]) if complete and ends else ids
        flags = np.unpackbits(bits.view(np.uint8), count=self._width, bitorder="little")
        flags[ends] = complete
        return torch.from_numpy(np.logical_not(flags.view(np.bool_), out=flags.view(np.bool_)))

    def _unpacked(self, device: torch.device) -> Tensor:
        """[N, V] bool, the table without its row 0; where there is an accelerator the bits are spread out there."""
        packed = np.stack([bits for bits, _ in self._entries])
        ends = torch.tensor([complete for _, complete in self._entries], device=device)
        if device.type == "cpu":
            plain = np.unpackbits(packed.view(np.uint8), axis=1, count=self._width, bitorder="little")
            allowed = torch.from_numpy(plain.view(np.bool_))
        else:
            words = torch.from_numpy(packed.view(np.int32)).to(device)  # [N, W]
            place = torch.arange(32, device=device, dtype=torch.int32)
            allowed = (words[:, :, None] >> place).bitwise_and_(1).bool().flatten(1)[:, : self._width]
        for i in self._eos:
            if i < self._width:
                allowed[:, i] = ends
        return allowed


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "masks")


def ahead(cursors: Sequence[Cursor]) -> Future[None]:
    """Have the masks of `cursors` computed on a thread; nobody may move them until it is done."""

    def compute() -> None:
        for cursor in cursors:
            cursor.mask()

    return _pool().submit(compute)


class Pace:
    """What a mask and a check cost here, as running means: a mask pays off after as many refusals as their ratio."""

    __slots__ = ("_check", "_mask")

    def __init__(self) -> None:
        self._mask = self._check = 0.0

    def masks(self, seconds: float, count: int) -> None:
        """`count` masks took `seconds`, unpacking and all."""
        self._mask = _blend(self._mask, seconds / count) if count else self._mask

    def checks(self, seconds: float, count: int) -> None:
        """`count` checks took `seconds`."""
        self._check = _blend(self._check, seconds / count) if count else self._check

    @property
    def patience(self) -> int:
        """Checks that cost as much as a mask, between 1 and :data:`MOST`; :data:`GUESS` before both were seen."""
        ratio = self.ratio
        return GUESS if ratio is None else max(1, min(MOST, round(ratio)))

    @property
    def ratio(self) -> float | None:
        """Checks that cost as much as a mask, without bounds; None before both were seen."""
        return self._mask / self._check if self._mask and self._check else None


def _blend(old: float, new: float) -> float:
    return new if not old else 0.9 * old + 0.1 * new
