"""The proposer that guesses most."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import Rows
from decodekit.registry.declaration import plugin
from decodekit.speculation.combined_proposers import Several, checked, declared, guessed


@plugin(role="proposer", exactness="exact", requires=("causal_lm",), provides=("guesses",))
class LongestOf:
    """Row by row, the longest chain of guesses that any of several proposers has; of equally long ones the first.

    All are asked in every round. With `sample`, `greedy` and `mask` the text is that of plain decoding. `rejection`
    takes it only if every part guesses with certainty (`ngram`, `suffix`, `forced`): a drafter that draws an end of
    text guesses less, so choosing by length would look at what it drew, and the law would be another.

    Args:
        proposers: two or more.

    Raises:
        OptionError: fewer, or something that is no proposer of chains.
    """

    proposers: tuple[Any, ...]

    def __post_init__(self) -> None:
        checked(self.proposers, "longest_of")
        declared(self, self.proposers, certain=True)

    def bind(self, run: BindContext) -> Longest:
        """Bind every part."""
        return Longest(run, self.proposers, "longest_of")


class Longest(Several):
    """The bound proposer."""

    def choose(self, rows: Rows) -> tuple[list[Proposal], Tensor]:
        """All parts, and the longest."""
        asks = [self.ask(part, rows) for part in self._parts]
        return asks, torch.stack([guessed(ask) for ask in asks]).argmax(0)
