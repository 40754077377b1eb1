"""The observer behind every run: sums of log-probabilities, and the trace.

A round costs a few tensor operations and no synchronisation with an accelerator: what it borrows is copied as small
tensors [R, K] and turned into columns every :data:`FLUSH` rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from decodekit.cost import Cost
from decodekit.roles import Refused, Round
from decodekit.rows import NONE, Fact, Rows
from decodekit.trace import EVENT_COLUMNS, FACT_COLUMNS, MORE_COLUMNS, Array, Trace, joined
from decodekit.uncertainty import Reading

FLUSH: Final = 64
_LEAST: Final = -1e4  # stands for log 0, which times 0 would be NaN
_FILL: Final = {"logq": torch.nan, "logt": torch.nan, "logw": 0.0}


@dataclass(frozen=True, slots=True)
class _Kept:
    """Copies of one round: `cells` are [R, K] (top-k: [R, K, k]), `lines` are [R]."""

    number: int
    word: int
    cells: dict[str, Tensor]
    lines: dict[str, Tensor]

    def shape(self) -> tuple[Any, ...]:
        return (self.cells["at"].shape, tuple(self.cells))


class Recorder:
    """Observer: log-probability sums of every row, and with `trace` the events of the run.

    Args:
        rows: at the start of the run.
        cost: the meter that the run's models count on.
        trace: whether to keep events. top_k: how many of the likeliest tokens to keep per event.
    """

    def __init__(self, rows: Rows, cost: Cost, *, trace: bool = True, top_k: int = 0) -> None:
        self._sums = torch.zeros_like(rows.logw)  # [R] float64, up to what is pending
        self._pending: list[Tensor] = []  # [R, K] log-probabilities of what was taken, 0 elsewhere
        self.left: list[float] = []
        """Log-probability sums of the rows that left, in the order of `rows.retired`."""
        self._cost, self._trace, self._top_k = cost, trace, top_k
        self._words: list[str] = [""]
        self._kept: list[_Kept] = []
        self._parts: list[dict[str, Array]] = []
        self._rounds: list[tuple[float, int, dict[str, tuple[int, int]]]] = []
        self._moves: list[tuple[int, int, Tensor]] = []
        self._number = -1
        self._facts: list[tuple[int, Fact]] = []
        self._begun = time.perf_counter()
        self._before = {label: (one.calls, one.fed) for label, one in cost.models.items()}  # of earlier batches
        self._prompts = dict(zip(rows.group.tolist(), rows.start.tolist(), strict=True))

    def round(self, what: Round) -> None:
        """Add to the sums, and copy what the trace keeps."""
        rows, ask, choice = what.rows, what.ask, what.choice
        self._begin_again(rows)
        took = what.take & (choice.tokens != NONE)  # [R, K]
        law = what.logits.log_softmax(-1)  # [R, K, V]
        logp = _at(law, choice.tokens)  # [R, K]
        self._pending.append(logp.masked_fill(~took, 0.0))
        if len(self._pending) >= FLUSH:
            self._add_up()
        if not self._trace:
            return
        self._collect(rows)  # what was told after the last round
        self._number = what.number
        cells = {"at": ask.at, "guess": ask.guess, "tokens": choice.tokens.clone(), "took": took, "logp": logp}
        if ask.by or ask.logq is not None:  # a proposer without a word guesses nothing: save the second look-up
            cells["guess_logp"] = _at(law, ask.guess)
        if ask.logq is not None:
            cells["logq"] = _at(ask.logq, ask.guess)
        if choice.law is what.logits:
            cells["logt"] = logp
        elif choice.law is not None:
            cells["logt"] = _at(choice.law, choice.tokens) - choice.law.logsumexp(-1)
        if choice.logw is not None:
            cells["logw"] = choice.logw
        if self._top_k:
            top = law.topk(min(self._top_k, law.shape[-1]), -1)
            cells["top_logps"], cells["top_ids"] = top.values, top.indices
            cells["varentropy"] = Reading(what.logits).varentropy
        cells["entropy"] = -torch.linalg.vecdot(law.exp(), law.clamp(min=_LEAST))  # three times faster than entr
        if ask.who is not None:
            cells["by"] = self._words_of(ask.who, ask.words)
        if what.refused is not None:
            _append(cells, what.refused, None if ask.who is None else ask.words, self._words_of)
        lines = {"group": rows.group, "slot": rows.sample}
        self._kept.append(_Kept(what.number, self._word(ask.by), cells, lines))
        totals = {label: (one.calls, one.fed) for label, one in self._cost.models.items()}
        self._rounds.append((time.perf_counter() - self._begun, len(rows), totals))
        if len(self._kept) >= FLUSH:
            self._flush()

    @property
    def logp(self) -> Tensor:
        """[R] float64, sum of the raw log-probabilities of each row's tokens so far."""
        self._add_up()
        return self._sums

    def _add_up(self) -> None:
        if self._pending:
            self._sums = self._sums + torch.cat(self._pending, 1).sum(1, dtype=torch.float64)
            self._pending = []

    def _begin_again(self, rows: Rows) -> None:
        """Forget the sums of rows that were set back to their prompt."""
        for where in rows.reopened:
            self._sums = self.logp.masked_fill(where, 0.0)
        rows.reopened.clear()

    def moved(self, rows: Rows, index: Tensor) -> None:
        """Follow the rows; the sums of those that left are settled."""
        self._begin_again(rows)
        gone = len(rows.retired) - len(self.left)
        if gone:
            logp = self.logp
            stayed = torch.zeros(len(logp), dtype=torch.bool, device=index.device)
            stayed[index] = True
            self.left += logp[~stayed].tolist()  # rows leave in the order in which they stood
        if self._trace:
            self._collect(rows)
            self._moves.append((self._number, int(gone > 0), index))
        self._sums = self.logp[index]

    def trace(self, **header: Any) -> Trace | None:
        """The events so far, or None if none are kept; `header` is stored with them."""
        if not self._trace:
            return None
        self._flush()
        labels = sorted({label for *_, totals in self._rounds for label in totals})
        names = {**EVENT_COLUMNS}
        full = {
            **header,
            "words": list(self._words),
            "labels": labels,
            "prompts": {str(group): length for group, length in self._prompts.items()},
        }
        facts = self._fact_columns(full)
        return Trace(full, joined(self._parts, names), self._round_columns(labels), self._move_columns(), facts=facts)

    def _collect(self, rows: Rows) -> None:
        self._facts += [(self._number, fact) for fact in rows.facts]
        rows.facts.clear()

    def _fact_columns(self, header: dict[str, Any]) -> dict[str, Array]:
        names = header["facts"] = sorted({fact.name for _, fact in self._facts})
        parts = [
            {
                "round": np.full(len(fact.value), number),
                "name": np.full(len(fact.value), names.index(fact.name)),
                "group": fact.group.cpu().numpy(),
                "slot": fact.slot.cpu().numpy(),
                "value": fact.value.double().cpu().numpy(),
            }
            for number, fact in self._facts
        ]
        columns = joined(parts, FACT_COLUMNS)
        return {name: columns[name].astype(kind) for name, kind in FACT_COLUMNS.items()}

    def _word(self, by: str) -> int:
        if by not in self._words:
            self._words.append(by)
        return self._words.index(by)

    def _words_of(self, who: Tensor, words: tuple[str, ...]) -> Tensor:
        """Codes [R, K] of who guessed."""
        return torch.tensor([self._word(word) for word in words], device=who.device)[who.clamp(min=0)]

    def _flush(self) -> None:
        kept, self._kept = self._kept, []
        for _, same in groupby(kept, key=_Kept.shape):
            self._parts.append(_events(list(same)))

    def _round_columns(self, labels: list[str]) -> dict[str, Array]:
        rows = [self._before, *(totals for *_, totals in self._rounds)]
        spent = np.array([[t.get(label, (0, 0)) for label in labels] for t in rows], dtype=np.int64)
        spent = spent.reshape(len(rows), len(labels), 2)
        gained = np.diff(spent, axis=0)  # [rounds, labels, 2]
        seconds = np.array([0.0, *(s for s, *_ in self._rounds)])
        return {
            "seconds": np.diff(seconds),
            "rows": np.array([n for _, n, _ in self._rounds], dtype=np.int32),
            "calls": gained[..., 0],
            "fed": gained[..., 1],
        }

    def _move_columns(self) -> dict[str, Array]:
        index = [move.cpu().numpy() for *_, move in self._moves]
        lengths = [0, *(len(one) for one in index)]
        return {
            "round": np.array([number for number, *_ in self._moves], dtype=np.int32),
            "kind": np.array([kind for _, kind, _ in self._moves], dtype=np.int8),
            "offset": np.cumsum(lengths, dtype=np.int64),
            "index": np.concatenate([np.zeros(0, dtype=np.int64), *index]).astype(np.int32),
        }


def _at(law: Tensor, tokens: Tensor) -> Tensor:
    """`law` [R, K, V] at `tokens` [R, K] -> [R, K]; anything where the token is NONE."""
    return law.gather(-1, tokens.clamp(min=0)[..., None])[..., 0]


def _events(kept: list[_Kept]) -> dict[str, Array]:
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
        "by": (word, np.where(agreed, word, 0)),
        "accepted": (False, True),
        "logp": (cells("guess_logp") if "guess_logp" in kept[0].cells else np.nan, logp),
        "logq": (logq, np.where(agreed, logq, np.nan)),
        "logt": (np.nan, cells("logt")),
        "logw": (0.0, cells("logw")),
        "entropy": (entropy, entropy),
    }
    columns = {name: pick(*values[name], kind) for name, kind in EVENT_COLUMNS.items()}
    for name, kind in MORE_COLUMNS.items():
        if name in kept[0].cells:
            columns[name] = np.stack([cells(name)] * 2, 3)[mask].astype(kind)
    return columns


def _append(
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


_FIRST: Final = ("at", "guess", "tokens", "took")
