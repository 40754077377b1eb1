"""The entropy-bounded sampler: as many cells as their joint dependence can be bounded for."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.diffusion.canvas import Filler, Pick, View
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without


@plugin(
    role=("proposer", "selector"),
    exactness="approximate",
    requires=("masked_lm",),
    provides=("weights", "randomness", "distribution"),
    paper="Ben-Hamu et al. 2025 (EB-sampler), arXiv 2505.24857, equation 6",
)
class EntropyBounded:
    """Each round the longest run of cells in order of entropy with sum H - max H <= gamma.

    The left side bounds the mutual information of the cells, which is what is lost by filling them independently. The
    first cell always qualifies.

    Args:
        gamma: the bound, in nats (transformers and diffusers use 0.1).
        block: cells per block, None for one block. window: blocks that may be committed into.
        sample: draw each value instead of taking the most probable one.

    Raises:
        CompositionError: when bound, if the model has no mask token.
    """

    gamma: Annotated[float, Field(ge=0.0)] = 0.1
    block: Annotated[int, Field(ge=1)] | None = 32
    window: Annotated[int, Field(ge=1)] = 1
    sample: bool = False

    def __post_init__(self) -> None:
        if not self.sample:
            without(self, "weights", "randomness")

    def bind(self, run: BindContext) -> Bounded:
        """Remember the ids that matter; runs no model."""
        return Bounded(self, run)


class Bounded(Filler):
    """The rule."""

    def __init__(self, options: EntropyBounded, run: BindContext) -> None:
        super().__init__(run, "entropy_bounded", block=options.block, window=options.window, sample=options.sample)
        self._gamma = options.gamma

    def choose(self, view: View) -> Pick:
        """The longest run of low entropies: all but the last of it, which is the largest, must fit the bound."""
        entropy, place = view.entropy.masked_fill(~view.scope, torch.inf).sort(dim=1, stable=True)
        finite = entropy < torch.inf
        entropy = entropy.masked_fill(~finite, 0.0)
        good = (entropy.cumsum(1) - entropy <= self._gamma) & finite
        return Pick(torch.zeros_like(view.scope).scatter(1, place, good), torch.full_like(view.ask.at, 1))
