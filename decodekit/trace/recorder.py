"""The observer behind every run: sums of log-probabilities, and the trace.

A round costs a few tensor operations and no synchronisation with an accelerator: what it borrows is copied as small
tensors [R, K] and turned into columns every :data:`FLUSH` rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.protocols import Round
from decodekit.core.rows import NONE, Fact, Rows
from decodekit.trace.cell_sums import Cells
from decodekit.trace.events import Kept, append, events_of
from decodekit.trace.logit_statistics import digest_of
from decodekit.trace.trace import END_COLUMNS, EVENT_COLUMNS, FACT_COLUMNS, Array, Trace, joined

FLUSH: Final = 64
Told = Callable[[Rows, Tensor], Mapping[str, Tensor]]
"""What a scorer tells of positions [R, K] after it was asked: any of `layers` [R, K] and `hidden` [R, K, H]."""


class Recorder:
    """Observer: log-probability sums of every row, and with `trace` the events of the run.

    Args:
        rows: at the start of the run.
        cost: the meter that the run's models count on.
        trace: whether to keep events. top_k: how many of the likeliest tokens to keep per event.
        told: asked every round for what the scorer has to tell of the round's positions.
        scattered: tokens become final in any order and may be taken back, so sums are kept cell by cell.
    """

    def __init__(
        self,
        rows: Rows,
        cost: Cost,
        *,
        trace: bool = True,
        top_k: int = 0,
        told: Told | None = None,
        scattered: bool = False,
    ) -> None:
        self._rows, self._told = rows, told
        self._sums = torch.zeros_like(rows.logw)  # [R] float64, up to what is pending
        self._cells = Cells(rows) if scattered else None
        self._pending: list[Tensor] = []  # [R, K] log-probabilities of what was taken, 0 elsewhere
        self.left: list[float] = []
        """Log-probability sums of the rows that left, in the order of `rows.retired`."""
        self._cost, self._trace, self._top_k = cost, trace, top_k
        self._words: list[str] = [""]
        self._kept: list[Kept] = []
        self._parts: list[dict[str, Array]] = []
        self._rounds: list[tuple[float, int, dict[str, tuple[int, int]]]] = []
        self._moves: list[tuple[int, int, Tensor]] = []
        self._number, self._vocab = -1, 0
        self._facts: list[tuple[int, Fact]] = []
        self._begun = time.perf_counter()
        self._before = {label: (one.calls, one.fed) for label, one in cost.models.items()}  # of earlier batches
        self._prompts = _prompts(rows) if trace else {}
        self._width = len(rows) // max(1, len(set(rows.group.tolist())))

    def round(self, what: Round) -> None:
        """Add to the sums, and copy what the trace keeps."""
        rows, ask, choice = what.rows, what.ask, what.choice
        self._begin_again(rows)
        took = what.take & (choice.tokens != NONE)  # [R, K]
        found = digest_of(what.logits, self._top_k) if self._trace else None
        norm = what.logits.logsumexp(-1) if found is None else found.norm  # [R, K]
        logp = _at(what.logits, choice.tokens) - norm  # [R, K]
        if self._cells is not None:
            self._cells.put(ask.at, logp, took)
        else:
            self._pending.append(logp.masked_fill(~took, 0.0))
        if len(self._pending) >= FLUSH:
            self._add_up()
        if found is None:
            return
        self._collect(rows, what.number)  # what was told after the last round, and in this one
        self._number, self._vocab = what.number, what.logits.shape[-1]
        going = what.ended | ~rows.done
        for name, value in choice.told:
            self._facts.append((what.number, Fact(name, rows.group[going], rows.sample[going], value[going])))
        cells = {"at": ask.at, "guess": ask.guess, "tokens": choice.tokens.clone(), "took": took, "logp": logp}
        if ask.by or ask.logq is not None:  # a proposer without a word guesses nothing: save the second look-up
            cells["guess_logp"] = _at(what.logits, ask.guess) - norm
        if ask.logq is not None:
            cells["logq"] = _at(ask.logq, ask.guess)
        if choice.law is what.logits:
            cells["logt"] = logp
        elif choice.law is not None:
            cells["logt"] = _at(choice.law, choice.tokens) - choice.law.logsumexp(-1)
        if choice.logw is not None:
            cells["logw"] = choice.logw
        wanted = _LAW if self._top_k else _LAW[:-2]
        cells |= {name: figure for name, figure in found._asdict().items() if name in wanted and figure is not None}
        if self._told is not None:
            cells |= self._told(rows, ask.at)
        if choice.why is not None:
            words = torch.tensor([self._word(word) for word in choice.words], device=choice.why.device)
            cells["why"] = words[choice.why]
        if ask.who is not None:
            cells["by"] = self._words_of(ask.who, ask.words)
        if what.refused is not None:
            append(cells, what.refused, ask.words if ask.who is not None else None, self._words_of)
        lines = {"group": rows.group, "slot": rows.sample}
        self._kept.append(Kept(what.number, self._word(ask.by), cells, lines))
        totals = {label: (one.calls, one.fed) for label, one in self._cost.models.items()}
        self._rounds.append((time.perf_counter() - self._begun, len(rows), totals))
        if len(self._kept) >= FLUSH:
            self._flush()

    @property
    def logp(self) -> Tensor:
        """[R] float64, sum of the raw log-probabilities of each row's tokens so far."""
        if self._cells is not None:
            return self._cells.logp.sum(1)
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
            if self._cells is not None:
                self._cells.logp = self._cells.logp.masked_fill(where[:, None], 0.0)
            if self._trace:
                self._moves.append((self._number, 2, where.nonzero()[:, 0]))
        rows.reopened.clear()

    def moved(self, rows: Rows, index: Tensor) -> None:
        """Follow the rows; the sums of those that left are settled."""
        self._begin_again(rows)
        gone = len(rows.retired) - len(self.left)
        if gone:
            if self._cells is not None:
                self.left += self._cells.of_those_that_left(rows, index, len(self.left))
            logp = self.logp
            stayed = torch.zeros(len(logp), dtype=torch.bool, device=index.device)
            stayed[index] = True
            self.left += (
                [] if self._cells is not None else logp[~stayed].tolist()
            )  # rows leave in the order in which they stood
        if self._trace:
            self._collect(rows, self._number)
            self._moves.append((self._number, int(gone > 0), index))
        self._sums = self.logp[index]
        if self._cells is not None:
            self._cells.logp = self._cells.logp[index]

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
            "models": {label: name for label, name in self._cost.names.items() if label in labels},
            "prompts": {str(group): len(ids) for group, ids in self._prompts.items()},
            "prompt_ids": {str(group): ids for group, ids in self._prompts.items()},
            "batches": [{"round": 0, "group": min(self._prompts, default=0), "width": self._width}],
            "top_k": self._top_k,
            "vocab": self._vocab,
        }
        facts, ends = self._fact_columns(full), self._end_columns(full)
        events, rounds = joined(self._parts, names), self._round_columns(labels)
        return Trace(full, events, rounds, self._move_columns(), facts=facts, ends=ends)

    def _end_columns(self, header: dict[str, Any]) -> dict[str, Array]:
        """How every row came out; rows still in flight have no word for it yet."""
        rows, logp = self._rows, self.logp.tolist()
        left = [
            (one.group, one.sample, len(one.tokens) - one.start, one.reason, one.logw, sums)
            for one, sums in zip(rows.retired, self.left, strict=False)
        ]
        here = zip(rows.group.tolist(), rows.sample.tolist(), (rows.n - rows.start).tolist(), strict=True)
        left += [(*one, rows.why(r), float(rows.logw[r]), logp[r]) for r, one in enumerate(here) if r < len(logp)]
        words = header["finishes"] = sorted({one[3] for one in left})
        values = zip(*[(*one[:3], words.index(one[3]), *one[4:]) for one in left], strict=True) if left else [[]] * 6
        kinds = END_COLUMNS.items()
        return {name: np.array(list(column), dtype=kind) for (name, kind), column in zip(kinds, values, strict=True)}

    def _collect(self, rows: Rows, current: int) -> None:
        self._facts += [(current if fact.now else self._number, fact) for fact in rows.facts]
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
        for _, same in groupby(kept, key=Kept.shape):
            self._parts.append(events_of(list(same)))

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


def _prompts(rows: Rows) -> dict[int, list[int]]:
    """The prompt of every group."""
    first = {group: r for r, group in reversed(list(enumerate(rows.group.tolist())))}
    return {group: rows.tokens[r, : int(rows.start[r])].tolist() for group, r in sorted(first.items())}


def _at(law: Tensor, tokens: Tensor) -> Tensor:
    """`law` [R, K, V] at `tokens` [R, K] -> [R, K]; anything where the token is NONE."""
    return law.gather(-1, tokens.clamp(min=0)[..., None])[..., 0]


_LAW: Final = ("entropy", "varentropy", "s2", "s3", "s4", "top_ids", "top_logps")
