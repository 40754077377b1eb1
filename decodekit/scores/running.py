"""Scores while the text grows: the folds of :mod:`decodekit.scores`, row by row, for whoever decides by them.

A running score is that of the text so far, as of the beginning of the round: where several positions are decided at
once (guesses of a drafter) it is the same for all of them.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Round, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError
from decodekit.scores.folds import Fold, State, Tokens
from decodekit.scores.plan import scores_of
from decodekit.trace.logit_statistics import digest_of

_LOST: Final = -(1 << 40)
"""Tokens that a row has whose score is not known any more."""


class Live:
    """Observer: one running score. What it knows of a row travels with it, and begins anew when the row does."""

    def __init__(self, score: Any, name: str) -> None:
        self.score, self.name = score, name
        self._fold: Fold = score
        self._top = score.needs().top
        self._last: Tensor | None = None

    def value(self, rows: Rows) -> Tensor:
        """[R] float64 of the text so far, NaN before the first token, and where cells of a canvas were reopened."""
        state, upto = self._state(rows), self._upto(rows)
        return self._fold.value(state).masked_fill(upto <= 0, torch.nan)

    def beyond(self, rows: Rows, limit: float) -> Tensor:
        """[R] bool, more uncertain than `limit`; False while nothing is known."""
        value = self.value(rows)
        return value > limit if self.score.rising else value < limit

    def count(self, rows: Rows) -> Tensor:
        """[R] tokens that the score has seen."""
        return self._upto(rows).clamp(min=0)

    def watch(self, rows: Rows, ask: Proposal, logits: Tensor, choice: Selection, take: Tensor) -> None:
        """After a commit, before anybody is told that it ended: see what was taken."""
        self._last = logits
        took = take & (choice.tokens != NONE)
        self._begin_again(rows, took, take & (choice.tokens == NONE))
        columns = self._columns(ask, logits, choice)
        state = self._state(rows)
        for k in range(took.shape[1]):
            tokens = Tokens({name: column[:, k] for name, column in columns.items()}, logits.shape[-1])
            state = self._fold.add(state, tokens, took[:, k])
        rows.columns |= {f"live.{self.name}.{key}": part for key, part in state.items()}
        rows.columns[f"live.{self.name}"] = self._upto(rows) + took.sum(1)

    def round(self, what: Round) -> None:
        """See what was taken, unless a stop has made it look already."""
        if self._last is not what.logits:
            self.watch(what.rows, what.ask, what.logits, what.choice, what.take)
        self._last = None

    def moved(self, rows: Rows, index: Tensor) -> None:
        """Columns travel with their rows."""

    def _upto(self, rows: Rows) -> Tensor:
        return rows.column(f"live.{self.name}", torch.zeros_like(rows.n))

    def _state(self, rows: Rows) -> State:
        fresh = self._fold.start(len(rows), rows.device)
        return {key: rows.column(f"live.{self.name}.{key}", part) for key, part in fresh.items()}

    def _begin_again(self, rows: Rows, took: Tensor, opened: Tensor) -> None:
        """Rows that were set back to their prompt know nothing again; rows with reopened cells never will."""
        past = torch.arange(rows.final.shape[1], device=rows.device) >= rows.start[:, None]
        before = (rows.final & past).sum(1) - took.sum(1)  # tokens that were final when the round began
        upto = self._upto(rows)
        again = (before == 0) & (upto > 0)
        if bool(again.any()):
            for key, part in self._fold.start(len(rows), rows.device).items():
                held = rows.columns[f"live.{self.name}.{key}"]
                if part.shape != held.shape:  # grown along the text
                    part = torch.full_like(held, torch.nan)
                where = again.view(-1, *[1] * (held.dim() - 1))
                rows.columns[f"live.{self.name}.{key}"] = torch.where(where, part, held)
            upto = upto.masked_fill(again, 0)
        rows.columns[f"live.{self.name}"] = upto.masked_fill(opened.any(1), _LOST)

    def _columns(self, ask: Proposal, logits: Tensor, choice: Selection) -> dict[str, Tensor]:
        found = digest_of(logits, self._top)
        token = choice.tokens.clamp(min=0)
        logp = logits.gather(-1, token[..., None])[..., 0] - found.norm
        named = {name: part for name, part in found._asdict().items() if part is not None and name != "norm"}
        wide = {name: part.double() if part.is_floating_point() else part for name, part in named.items()}
        return {**wide, "logp": logp.double(), "token": token}


def live(run: BindContext, score: Any, who: str) -> Live:
    """A running score of this run, kept up to date from its first round on; `who` is named in errors.

    Raises:
        CompositionError: the score is no fold over tokens, or this is no run of its own (a draft).
    """
    ((name, made),) = scores_of(score).items()
    if not isinstance(made, Fold):
        raise CompositionError(
            f"{who}: {name} is known of whole texts only, so nothing can be decided by it on the way; "
            "use a score of tokens, such as mean_entropy"
        )
    if run.watchers is None:
        raise CompositionError(f"{who}: a draft has no running score; use a signal of the law, such as entropy")
    for known in run.watchers:
        if isinstance(known, Live) and known.name == name:
            return known
    run.watchers.append(Live(made, name))
    found: Live = run.watchers[-1]
    return found
