"""From copies of rounds to the columns of the trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from decodekit.core.protocols import Refused
from decodekit.core.rows import NONE
from decodekit.trace.trace import EVENT_COLUMNS, MORE_COLUMNS, Array

_FILL: Final = {"logq": torch.nan, "logt": torch.nan, "logw": 0.0, "layers": NONE, "why": 0}
_FIRST: Final = ("at", "guess", "tokens", "took")


@dataclass(frozen=True, slots=True)
class Kept:
    """Copies of one round: `cells` are [R, K] (top-k: [R, K, k]), `lines` are [R]."""

    number: int
    word: int
    cells: dict[str, Tensor]
    lines: dict[str, Tensor]

    def shape(self) -> tuple[Any, ...]:
        """What rounds must agree on to be stacked."""
        return (self.cells["at"].shape, tuple(self.cells))


def events_of(kept: list[Kept]) -> dict[str, Array]:
    """Columns of the events in rounds of one shape.

    Every cell [round, row, k] may hold two events, in this order: a guess that was not taken, and the token taken.
    """

    def cells(name: str) -> Array:
        if name not in kept[0].cells:
            return np.full(shape, _FILL[name], dtype=np.float32)
        array: Array = torch.stack([one.cells[name] for one in kept]).cpu().numpy()
        return array

    at, guess, tokens, took = (torch.stack([k.cells[n] for k in kept]).cpu().numpy() for n in _FIRST)
    shape = at.shape  # [n, R, K]
    agreed = took & (guess == tokens)
    lost = (guess != NONE) & (at != NONE) & ~agreed
    mask = np.stack([lost, took], -1)  # [n, R, K, 2]

    def pick(lost_value: Any, took_value: Any, kind: Any) -> Array:
        both = np.stack([np.broadcast_to(lost_value, shape), np.broadcast_to(took_value, shape)], -1)
        picked: Array = both[mask].astype(kind)
        return picked

    line = np.arange(shape[1])[None, :, None]
    number = np.array([one.number for one in kept])[:, None, None]
    word = cells("by") if "by" in kept[0].cells else np.array([one.word for one in kept])[:, None, None]
    group, slot = (torch.stack([k.lines[n] for k in kept]).cpu().numpy()[..., None] for n in ("group", "slot"))
    logp, logq, entropy = cells("logp"), cells("logq"), cells("entropy")
    values = {
        "group": (group, group),
        "slot": (slot, slot),
        "row": (line, line),
        "round": (number, number),
        "position": (at, at),
        "token": (guess, tokens),
        "by": (word, np.where(agreed, word, cells("why"))),
        "accepted": (False, True),
        "logp": (cells("guess_logp") if "guess_logp" in kept[0].cells else np.nan, logp),
        "logq": (logq, np.where(agreed, logq, np.nan)),
        "logt": (np.nan, cells("logt")),
        "logw": (0.0, cells("logw")),
        "entropy": (entropy, entropy),
        **{name: (cells(name),) * 2 for name in ("varentropy", "s2", "s3", "s4", "layers")},
    }
    columns = {name: pick(*values[name], kind) for name, kind in EVENT_COLUMNS.items()}
    for name, kind in MORE_COLUMNS.items():
        if name in kept[0].cells:
            columns[name] = np.stack([cells(name)] * 2, 3)[mask].astype(kind)
    return columns


def append(
    cells: dict[str, Tensor],
    refused: Refused,
    words: tuple[str, ...] | None,
    coded: Callable[[Tensor, tuple[str, ...]], Tensor],
) -> None:
    """More columns: what a tree guessed beside the chain that was walked."""
    known = {"at": refused.at, "guess": refused.token, "tokens": refused.token, "guess_logp": refused.logp}
    if refused.logq is not None:
        known["logq"] = refused.logq
    if words is not None and refused.who is not None:
        known["by"] = coded(refused.who, words)
    count = refused.at.shape[1]
    for name, cell in cells.items():
        more = known.get(name)
        if more is None:  # nothing is known of it
            fill = False if cell.dtype == torch.bool else torch.nan if cell.is_floating_point() else NONE
            more = cell.new_full((cell.shape[0], count, *cell.shape[2:]), fill)
        cells[name] = torch.cat([cell, more.to(cell.dtype)], 1)
