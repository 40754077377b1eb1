"""When is a row done? The answers that every run has: end of text, stop strings, length, clock, budget.

Several tokens may become final in one round, so each stop looks at all that are new and names the length at which the
row ends; the loop cuts at the earliest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.follower import Follower
from decodekit.core.rows import NONE, Rows
from decodekit.text.codec import Codec, TextState, earliest_stop

_NEVER = torch.iinfo(torch.int64).max


class EndOfText:
    """Stop: the first of the ids `eos` that becomes final; it stays in the tokens and gives no text."""

    reason = "eos"

    def __init__(self, eos: Sequence[int], device: torch.device) -> None:
        self._eos = torch.tensor(list(eos), dtype=torch.int64, device=device)  # [E]

    def ended(self, rows: Rows, before: Tensor) -> Tensor | None:
        """[R] position after the first end token among the new ones, or -1; None if no row ends."""
        new = int((rows.n - before).max())
        if new <= 0:
            return None
        at = before[:, None]
        if new > 1:
            at = (at + torch.arange(new, device=rows.device)).clamp(max=rows.tokens.shape[1] - 1)  # [R, S]
        hit = rows.tokens.gather(1, at)[..., None] == self._eos  # [R, S, E]
        if not bool(hit.any()):
            return None
        hit = hit.any(-1)
        hit = hit & (at < rows.n[:, None])
        first = torch.where(hit, at + 1, _NEVER).amin(1)
        return first.masked_fill(first == _NEVER, NONE)


class Length:
    """Stop: the row has reached the length it may have."""

    reason = "length"

    def ended(self, rows: Rows, before: Tensor) -> Tensor | None:
        """[R] `rows.limit` where it is reached, else -1; None if no row ends."""
        reached = rows.n >= rows.limit
        return torch.where(reached, rows.limit, NONE) if bool(reached.any()) else None


class Complete:
    """Stop: the constraint is satisfied and allows nothing more; for models whose text has no end token."""

    reason = "complete"

    def __init__(self, finished: Callable[[Rows], Tensor]) -> None:
        self._finished = finished

    def ended(self, rows: Rows, before: Tensor) -> Tensor | None:
        """[R] `rows.n` where nothing may follow, else -1; None if no row ends."""
        return torch.where(self._finished(rows), rows.n, NONE)


class Deadline:
    """Stop: the clock. Every row in flight ends at the round in which the time is up."""

    reason = "time"

    def __init__(self, until: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._until, self._clock = until, clock

    def passed(self) -> bool:
        """Whether the time is up."""
        return self._clock() >= self._until

    def ended(self, rows: Rows, before: Tensor) -> Tensor | None:
        """[R] `rows.n` once the time is up, else -1; None if no row ends."""
        return rows.n.clone() if self.passed() else None


class Budget:
    """Stop: the target model was fed `most` tokens; every row in flight ends."""

    reason = "budget"

    def __init__(self, cost: Cost, most: int) -> None:
        self._cost, self._most = cost, most

    def passed(self) -> bool:
        """Whether the budget is spent."""
        return "target" in self._cost.models and self._cost.models["target"].fed >= self._most

    def ended(self, rows: Rows, before: Tensor) -> Tensor | None:
        """[R] `rows.n` once the budget is spent, else -1; None if no row ends."""
        return rows.n.clone() if self.passed() else None


class _Watch:
    """The text of one row as far as it was searched."""

    __slots__ = ("hit", "tail", "text", "upto")

    def __init__(self, text: TextState, upto: int, tail: str = "", hit: int = NONE) -> None:
        self.text, self.upto, self.tail, self.hit = text, upto, tail, hit

    def copy(self) -> _Watch:
        return _Watch(self.text.copy(), self.upto, self.tail, self.hit)


class StopStrings(Follower):
    """Stop: one of `stops` is completed in the generated text, wherever token borders lie.

    The token that completes it is the last one kept; the text is cut before the stop string (:func:`earliest_stop`).
    The prompt is not searched.
    """

    reason = "stop"

    def __init__(self, stops: Sequence[str], codec: Codec) -> None:
        super().__init__()
        self._stops, self._codec = tuple(stops), codec
        self._back = max(len(stop) for stop in stops) - 1  # characters that may begin a match completed later
        self._watch: list[_Watch | None] = []

    def ended(self, rows: Rows, before: Tensor) -> Tensor | None:
        """[R] position after the token that completes a stop string, or -1; None if no row ends."""
        self.sync(rows, rows.n)
        hits = [NONE if watch is None else watch.hit for watch in self._watch]
        return torch.tensor(hits, dtype=torch.int64, device=rows.device)

    def fork(self, index: Tensor) -> None:
        """New row j goes on with the text of old row `index[j]`."""
        old = self._watch
        self._watch = [None if old[i] is None else old[i].copy() for i in index.tolist()]

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> None:
        """Search what is new in each row; a row that lost tokens is searched again from the end of its prompt."""
        if not self._watch:
            self._watch = [None] * len(rows)
        start = rows.start.tolist()
        for r, (kept, end, asked) in enumerate(zip(keep.tolist(), upto.tolist(), only.tolist(), strict=True)):
            if not asked:
                continue
            watch = self._watch[r]
            if watch is None or kept < watch.upto:
                prompt = rows.tokens[r, : start[r]].tolist()
                watch = _Watch(self._codec.start(prompt), start[r])
            self._search(watch, rows.tokens[r, watch.upto : end].tolist())
            self._watch[r] = watch

    def _search(self, watch: _Watch, tokens: list[int]) -> None:
        for token in tokens:
            watch.upto += 1
            if watch.hit != NONE:
                continue
            text = watch.tail + watch.text.push(token)
            if earliest_stop(text, self._stops) is not None:
                watch.hit = watch.upto
            watch.tail = text[max(0, len(text) - self._back) :]
