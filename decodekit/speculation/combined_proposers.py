"""Proposers that hold others and take, for each row, what one of them guesses."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Proposer
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, OptionError
from decodekit.registry.metadata import form, info_of
from decodekit.speculation.model_free import joined


def checked(parts: Sequence[Any], who: str) -> None:
    """Every part must be a proposer of guesses and nothing else, and there must be two at least.

    Raises:
        OptionError: something else.
    """
    if len(parts) < 2:
        raise OptionError(
            f"{who} chooses among proposers of guesses: give two at least (`decodekit strategies` lists them)"
        )
    for part in parts:
        about = info_of(part)
        if about is None or isinstance(part, type) or about.roles != ("proposer",) or "guesses" not in about.provides:
            raise OptionError(
                f"{who}: {form(part)} is no proposer of guesses alone; give one that is: `decodekit strategies`"
            )


def declared(made: object, parts: Sequence[Any], certain: bool) -> None:
    """An instance says for itself what it needs, all that its parts need, and gives: what all of them give.

    certain: laws count only where every part guesses with certainty.
    """
    about, of = info_of(made), [found for part in parts if (found := info_of(part)) is not None]
    assert about is not None  # set by the decorator
    common = frozenset.intersection(*(frozenset(one.provides) for one in of))
    if certain and "certain" not in common:
        common -= {"logq"}
    requires = dict.fromkeys(word for one in of for word in one.requires)
    object.__setattr__(made, "about", replace(about, provides=tuple(sorted(common)), requires=tuple(requires)))


class Several(ABC):
    """A bound proposer over others (:class:`decodekit.core.protocols.Proposer`)."""

    def __init__(self, run: BindContext, parts: Sequence[Any], who: str) -> None:
        self._run, self._who = run, who
        self._parts: list[Proposer] = [part.bind(run) for part in parts]

    def start(self, rows: Rows) -> None:
        """Every part's own."""
        for part in self._parts:
            part.start(rows)

    def propose(self, rows: Rows) -> Proposal:
        """For each row the guesses of one part. What others wrote past the text is overwritten, or never read."""
        asks, winner = self.choose(rows)
        return joined(rows, asks, winner, self._run.model.vocab, "logq" in self._run.requires)

    @abstractmethod
    def choose(self, rows: Rows) -> tuple[list[Proposal], Tensor]:
        """What parts propose, and [R] which of them counts."""

    def ask(self, part: Proposer, rows: Rows, without: Tensor | None = None) -> Proposal:
        """The proposal of a part; rows `without` [R] are left out: it takes them for done."""
        seen = rows
        if without is not None and bool(without.any()):
            seen = copy.copy(rows)
            seen.done = rows.done | without
        ask = part.propose(seen)
        if ask.parent is not None or ask.known is not None:
            raise CompositionError(
                f"{self._who} joins chains of guesses, and a part proposed a tree; use the tree alone"
            )
        return ask


def first_guess(ask: Proposal) -> Tensor:
    """[R] bool, rows for which something is guessed."""
    return ask.guess[:, 0] != NONE


def guessed(ask: Proposal) -> Tensor:
    """[R] how many tokens are guessed."""
    return (ask.guess != NONE).sum(1)
