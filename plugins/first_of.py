"""The first proposer that has a guess."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import Rows
from decodekit.registry.declaration import plugin
from decodekit.speculation.combined_proposers import Several, checked, declared, first_guess


@plugin(role="proposer", exactness="exact", requires=("causal_lm",), provides=("guesses", "logq"))
class FirstOf:
    """Row by row, the guesses of the first of several proposers that has any.

    The next is asked only for rows that have none yet: put the cheap ones first (`ngram` before a draft model). Which
    part guesses depends on the text alone, never on what is drawn, so every exact selector stays exact, `rejection`
    too. The trace says who guessed.

    Args:
        proposers: two or more, in the order in which they are asked.

    Raises:
        OptionError: fewer, or something that is no proposer of chains.
    """

    proposers: tuple[Any, ...]

    def __post_init__(self) -> None:
        checked(self.proposers, "first_of")
        declared(self, self.proposers, certain=False)

    def bind(self, run: BindContext) -> First:
        """Bind every part."""
        return First(run, self.proposers, "first_of")


class First(Several):
    """The bound proposer."""

    def choose(self, rows: Rows) -> tuple[list[Proposal], Tensor]:
        """Parts in turn, each for the rows that still have no guess."""
        asks: list[Proposal] = []
        winner = torch.zeros_like(rows.n)
        has = rows.done.clone()
        for number, part in enumerate(self._parts):
            ask = self.ask(part, rows, has if number else None)
            asks.append(ask)
            winner = torch.where(~has, number, winner)  # the last one asked also tells rows without any guess to go on
            has = has | first_guess(ask)
            if bool(has.all()):
                break
        return asks, winner
