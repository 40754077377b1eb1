"""Fast-dLLM's factor rule: as many cells as the least sure of them still allows."""

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
    paper="Wu et al. 2025 (Fast-dLLM), arXiv 2505.22618, section 3.3 and theorem 1",
)
class Factor:
    """Each round the n surest cells of the block, for the largest n with (n + 1)(1 - c) < factor; at least one.

    c is the probability of the n-th. For `factor` 1 the tokens together are the ones that one cell a round would give,
    if cells depend on each other as the theorem assumes; and then a round never carries more than log2 e = 1.44 bits.

    Args:
        factor: how much may be left uncertain. block: cells per block, None for one block.
        window: blocks, from the first unfinished one, that may be committed into.
        sample: draw each value instead of taking the most probable one.

    Raises:
        CompositionError: when bound, if the model has no mask token.
    """

    factor: Annotated[float, Field(gt=0.0)] = 1.0
    block: Annotated[int, Field(ge=1)] | None = 32
    window: Annotated[int, Field(ge=1)] = 1
    sample: bool = False

    def __post_init__(self) -> None:
        if not self.sample:
            without(self, "weights", "randomness")

    def bind(self, run: BindContext) -> Factored:
        """Remember the ids that matter; runs no model."""
        return Factored(self, run)


class Factored(Filler):
    """The rule."""

    def __init__(self, options: Factor, run: BindContext) -> None:
        super().__init__(run, "factor", block=options.block, window=options.window, sample=options.sample)
        self._factor = options.factor

    def choose(self, view: View) -> Pick:
        """The longest run of the surest cells that the factor allows."""
        top, place = view.top.sort(dim=1, descending=True, stable=True)
        n = torch.arange(1, top.shape[1] + 1, device=top.device)
        good = ((n + 1) * (1 - top) < self._factor) & (top >= 0)  # [R, K]
        # The condition need not be monotone in n: the largest n counts, and all before it go along.
        good = good.flip(1).cummax(1).values.flip(1) if good.shape[1] else good
        ruled = torch.zeros_like(view.scope).scatter(1, place, good) & view.scope
        cap = information.factor_cap(ruled.sum(1), self._factor)
        return Pick(ruled | view.best, torch.where(ruled, 1, 3), cap=cap)
