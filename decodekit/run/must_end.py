"""A text that must end by itself: at the last place that a row may reach, only an end of text is allowed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Constraint, Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.core.selection import allowed
from decodekit.errors import OptionError


class MustEnd:
    """A bound constraint (:class:`decodekit.core.protocols.Constraint`), or none, and the end at `rows.limit` at the
    latest.

    The law that a weighted strategy then aims at is the model's, restricted to texts that end by themselves in time:
    the end that is forced has its probability as its weight.

    Raises:
        OptionError: the run has no end token, or its model does not write from left to right.
    """

    def __init__(self, inner: Constraint | None, run: BindContext) -> None:
        if not run.eos:
            raise OptionError(
                f"must_end=True needs a token that ends a text, and {run.model.name} has none; give its id as eos="
            )
        if "causal_lm" not in run.model.provides:
            raise OptionError(
                f"must_end=True is for models that write from left to right; drop it for {run.model.name}"
            )
        self.inner, self.dear = inner, bool(getattr(inner, "dear", False))
        ends = torch.zeros(run.model.vocab, dtype=torch.bool)
        ends[list(run.eos)] = True
        self._ends = ends.to(run.model.device)  # [V]

    @property
    def patience(self) -> int:
        """How many checks are worth a mask, by the inner constraint; without one a mask is nearly free."""
        return int(getattr(self.inner, "patience", 0))

    def prepare(self, rows: Rows, at: Tensor) -> None:
        """Begin the masks of the inner constraint while the model reads."""
        begin = getattr(self.inner, "prepare", None)
        if begin is not None:
            begin(rows, at)

    @property
    def checks_per_mask(self) -> float | None:
        """How many checks cost as much as a mask, by the inner constraint."""
        found: float | None = getattr(self.inner, "checks_per_mask", None)
        return found

    def mask(self, rows: Rows, at: Tensor) -> Tensor:
        """[R, K, V] bool."""
        open_ = ~self._last(rows, at)[..., None] | self._ends  # [R, K, V]
        return open_ if self.inner is None else self.inner.mask(rows, at) & open_

    def masked(self, rows: Rows, at: Tensor, logits: Tensor) -> Tensor:
        """`logits` [R, K, V] with -inf where :meth:`mask` is False; what is open everywhere costs nothing."""
        logits, last = allowed(rows, Proposal(at, at), logits, self.inner), self._last(rows, at)
        return logits.masked_fill(last[..., None] & ~self._ends, -torch.inf) if bool(last.any()) else logits

    def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
        """[R, C] bool; the inner constraint is asked only about what may stand there."""
        given = tokens != NONE
        fits = given & (~self._last(rows, at)[:, None] | self._ends[tokens.clamp(min=0)])
        if self.inner is None:
            return fits
        return fits & self.inner.admits(rows, at.masked_fill(~fits.any(1), NONE), tokens.masked_fill(~fits, NONE))

    def narrow(self, rows: Rows, at: Tensor) -> Tensor | None:
        """[R, V] bool, more than what may stand AT `at` [R] but known at once; None where that is everything."""
        last = self._last(rows, at)
        return ~last[:, None] | self._ends if bool(last.any()) else None

    def complete(self, rows: Rows) -> Tensor:
        """[R] bool, what the inner constraint says."""
        return torch.ones_like(rows.done) if self.inner is None else self.inner.complete(rows)

    def forced(self, rows: Rows) -> list[list[int]]:
        """What the inner constraint forces, as far as there is room before the last place."""
        return self._within(rows, getattr(self.inner, "forced", None))

    def foreseen(self, rows: Rows) -> list[list[int]]:
        """What the inner constraint foresees, as far as there is room before the last place."""
        return self._within(rows, getattr(self.inner, "foreseen", None))

    def _within(self, rows: Rows, ask: Callable[[Rows], list[list[int]]] | None) -> list[list[int]]:
        if ask is None:
            return [[] for _ in range(len(rows))]
        room = (rows.limit - rows.n - 1).tolist()
        return [run[: max(0, most)] for run, most in zip(ask(rows), room, strict=True)]

    def explain(self, rows: Rows, row: int) -> str:
        """What was expected after the final text of `row`."""
        if int(rows.n[row]) + 1 >= int(rows.limit[row]):
            return "the text had to end here and is not complete; raise max_tokens"
        ask = getattr(self.inner, "explain", None)
        return "" if ask is None else str(ask(rows, row))

    @staticmethod
    def _last(rows: Rows, at: Tensor) -> Tensor:
        limit = rows.limit if at.dim() == 1 else rows.limit[:, None]
        return (at + 1 >= limit) & (at != NONE)
