"""Abstain: a text that becomes too uncertain is not written to its end."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin
from decodekit.scores.running import Live, live


@plugin(role="stop", exactness="approximate")
class Abstain:
    """Ends a text, with `finish == "abstain"`, as soon as its running score is beyond a threshold.

    The token after which it is so is the last one; a text that has ended by itself in the same round has ended.

    Args:
        score: an uncertainty score of tokens, such as "mean_entropy", "nll" or "epr(k=10)".
        above: abstain when the score is more than this. below: when it is less. Give one of them.
        after: look only at texts of at least this many tokens.

    Raises:
        OptionError: both thresholds, or none. CompositionError: when bound, a score of whole texts.
    """

    score: Any
    above: float | None = None
    below: float | None = None
    after: Annotated[int, Field(ge=1)] = 1

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise OptionError("abstain takes a threshold: give above=, or below=")

    def bind(self, run: BindContext) -> _Abstain:
        """A running score."""
        return _Abstain(self, live(run, self.score, "abstain"))


class _Abstain:
    reason = "abstain"

    def __init__(self, options: Abstain, running: Live) -> None:
        self._options, self._running = options, running

    def watch(self, rows: Rows, ask: Proposal, logits: Tensor, choice: Selection, take: Tensor) -> None:
        """Before it is asked: see what was taken."""
        self._running.watch(rows, ask, logits, choice, take)

    def ended(self, rows: Rows, before: Tensor) -> Tensor | None:
        """[R] `rows.n` of the rows that are beyond the threshold, else -1; None if none is."""
        value, options = self._running.value(rows), self._options
        above, below = options.above, options.below
        beyond = (value > above if above is not None else torch.zeros_like(rows.done)) | (
            value < below if below is not None else torch.zeros_like(rows.done)
        )
        beyond = beyond & (self._running.count(rows) >= options.after)
        return torch.where(beyond, rows.n, NONE) if bool(beyond.any()) else None
