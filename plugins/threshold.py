"""Confidence-threshold unmasking for masked language models."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.diffusion import information
from decodekit.diffusion.canvas import Filler, Pick, View
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without


@plugin(
    role=("proposer", "selector"),
    exactness="approximate",
    requires=("masked_lm",),
    provides=("weights", "randomness", "distribution"),
    paper="Wu et al. 2025 (Fast-dLLM), arXiv 2505.22618, section 3.3",
)
class Threshold:
    """Fill a canvas of mask tokens: each round every cell of which the model is sure enough, and always the best one.

    The canvas reaches from the prompt to the row's limit and is cut into blocks, which are filled from left to right.
    In the current block a cell is committed if its largest probability is at least `tau`. Cells behind a committed
    end token are left alone: the row is over as soon as everything before that token stands.

    Args:
        tau: how sure is sure enough. 0 fills a block in one round; above 1 every round commits one cell.
        block: cells per block.
        sample: draw each token instead of taking the most probable one. Which cells are committed does not depend on
            what is drawn, so with `tau` above 1 the text is an exact draw from the model's own law in this order.
        window: blocks, from the first unfinished one, that may be committed into.

    Raises:
        CompositionError: when bound, if the model has no mask token.
    """

    tau: Annotated[float, Field(ge=0.0)] = 0.9
    block: Annotated[int, Field(ge=1)] = 32
    sample: bool = False
    window: Annotated[int, Field(ge=1)] = 1

    def __post_init__(self) -> None:
        if not self.sample:
            without(self, "weights", "randomness")

    def bind(self, run: BindContext) -> Sure:
        """Remember the ids that matter; runs no model."""
        return Sure(self, run)


def drawing() -> Threshold:
    """The default of masked models where something asks for randomness or weights."""
    return Threshold(sample=True)


class Sure(Filler):
    """The rule: sure enough, or best."""

    def __init__(self, options: Threshold, run: BindContext) -> None:
        super().__init__(run, "threshold", block=options.block, window=options.window, sample=options.sample)
        self._tau = options.tau

    def choose(self, view: View) -> Pick:
        """Commit what is sure enough, and the best cell of each row."""
        sure = (view.top >= self._tau) & view.scope
        why = torch.where(sure, 1, 3)
        return Pick(sure | view.best, why, cap=information.threshold_cap(sure.sum(1), self._tau))
