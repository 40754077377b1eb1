"""Scores of one text as folds over its tokens: the same code while the text grows and afterwards.

A fold has a state of a few tensors [R, ...] per row, takes one token of each row at a time, and can be asked for its
value after any of them. Nothing is kept per token, but by folds that say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Tokens:
    """One token of each of N rows, or N tokens of one: what the plain model said where it was taken.

    columns: by name as in the trace, each [N] or [N, k], float64 (`token`, `top_ids`: int64). vocab: V of the law.
    """

    columns: Mapping[str, Tensor]
    vocab: int

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@runtime_checkable
class Fold(Protocol):
    """What a score of one text can do. All tensors are float64."""

    def start(self, rows: int, device: torch.device) -> State:
        """State before the first token, tensors [R, ...]."""

    def add(self, state: State, tokens: Tokens, where: Tensor) -> State:
        """After one token more of the rows `where` [R] bool; the others stay as they are."""

    def value(self, state: State) -> Tensor:
        """[R], NaN where there is nothing to say yet."""


@dataclass(frozen=True)
class Seen:
    """What :class:`Running` keeps of C numbers per token. count: [R]. total, most: [R, C]. values: [R, T, C], NaN
    where a row has fewer tokens; only if asked for.
    """

    count: Tensor
    total: Tensor
    most: Tensor
    values: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """[R, C], NaN for rows without tokens."""
        return self.total / self.count.masked_fill(self.count == 0, torch.nan)[:, None]


class Running:
    """A fold of sums and maxima of C numbers per token; a score says which numbers, and what it makes of these."""

    whole: ClassVar[bool] = False
    """Whether all numbers are kept, token by token (quantiles)."""

    def each(self, tokens: Tokens) -> Tensor:
        """[N, C] the numbers of each token."""
        raise NotImplementedError

    def made(self, seen: Seen) -> Tensor:
        """[R] the score."""
        raise NotImplementedError

    def width(self) -> int:
        """C."""
        return 1

    def start(self, rows: int, device: torch.device) -> State:
        """See :class:`Fold`."""
        zeros = torch.zeros(rows, self.width(), dtype=torch.float64, device=device)
        state = {"count": zeros[:, 0].clone(), "total": zeros, "most": torch.full_like(zeros, -torch.inf)}
        return {**state, "values": zeros[:, None, :][:, :0]} if self.whole else state

    def add(self, state: State, tokens: Tokens, where: Tensor) -> State:
        """See :class:`Fold`."""
        each = self.each(tokens).double()
        new = {
            "count": state["count"] + where,
            "total": torch.where(where[:, None], state["total"] + each, state["total"]),
            "most": torch.where(where[:, None], torch.maximum(state["most"], each), state["most"]),
        }
        if self.whole:
            place = state["count"].long()
            values = state["values"]
            short = int(place.max()) + 1 - values.shape[1] if len(place) else 0
            if short > 0:
                values = torch.nn.functional.pad(values, (0, 0, 0, max(short, 32)), value=torch.nan)
            here = (torch.arange(values.shape[1], device=place.device) == place[:, None]) & where[:, None]  # [R, T]
            new["values"] = torch.where(here[..., None], each[:, None, :], values)
        return new

    def value(self, state: State) -> Tensor:
        """See :class:`Fold`."""
        return self.made(Seen(state["count"], state["total"], state["most"], state.get("values")))


def folded(fold: Fold, columns: Mapping[str, Tensor], lengths: Tensor, vocab: int) -> State:
    """The state after whole texts: `columns` are [S, T, ...], of which text s has the first `lengths[s]`."""
    state = fold.start(len(lengths), lengths.device)
    for t in range(int(lengths.max()) if len(lengths) else 0):
        tokens = Tokens({name: column[:, t] for name, column in columns.items()}, vocab)
        state = fold.add(state, tokens, t < lengths)
    return state
