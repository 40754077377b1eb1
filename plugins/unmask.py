"""LLaDA's unmasking: a fixed number of cells a round, in the order of a score."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.cells import FAR
from decodekit.core.rows import Rows
from decodekit.diffusion.canvas import Filler, Pick, View, first
from decodekit.errors import CompositionError
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without

Order = Literal["confidence", "random", "margin", "entropy"]


@plugin(
    role=("proposer", "selector"),
    exactness="approximate",
    requires=("masked_lm",),
    provides=("weights", "randomness", "distribution"),
    paper="Nie et al. 2025 (LLaDA), arXiv 2502.09992, section 2.4 and algorithm 5; margin: Kim et al. 2025, 2502.06768",
)
class Unmask:
    """Fill a canvas by rounds of a fixed size: of the current block the cells with the highest score are committed.

    Blocks are filled from left to right; what is committed stays (the authors' "remasking" means cells not chosen).
    Neither the canvas nor the number of steps need be a multiple of anything.

    Args:
        order: what comes first. `confidence`: the probability of the value that the cell would get, before any noise;
            `random`; `margin`: the probability of the first token less that of the second; `entropy`: the lowest.
        per_round: cells a round. steps: rounds for the whole canvas instead, split evenly over blocks; a block with n
            cells and s rounds commits floor(n / s) of them a round, and one more in the first n mod s rounds.
        block: cells per block, None for one block.
        sample: draw each value instead of taking the most probable one (LLaDA at a temperature).
        eos: what is done about models that flood a canvas with end tokens. `free`: nothing; `last`: a cell whose value
            is an end token is chosen last; `never`: no end token is ever written.

    Raises:
        OptionError: both per_round and steps are given.
        CompositionError: when bound, if the model has no mask token.
    """

    order: Order = "confidence"
    per_round: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    block: Annotated[int, Field(ge=1)] | None = None
    sample: bool = False
    eos: Literal["free", "last", "never"] = "free"

    @model_validator(mode="after")
    def _one_of_both(self) -> Unmask:
        if self.per_round is not None and self.steps is not None:
            raise ValueError("per_round and steps both say how many cells a round commits; give one of them")
        if not _weighs(self):
            without(self, "weights")
        if not self.sample:
            by_chance = self.order == "random" or self.eos == "never"  # which cells, or what stands for an end
            without(self, "weights", *(() if by_chance else ("randomness",)))
        return self

    def bind(self, run: BindContext) -> Scheduled:
        """Remember the ids that matter; runs no model."""
        return Scheduled(self, run)


def _weighs(options: Unmask) -> bool:
    """Where it depends on the drawn values which cells come next, weights would have to know the others' as well."""
    return options.order != "confidence" and options.eos == "free"


class Scheduled(Filler):
    """The rule: so many a round, best first."""

    def __init__(self, options: Unmask, run: BindContext) -> None:
        super().__init__(run, "unmask", block=options.block, sample=options.sample)
        self._options = options
        self.weighs = _weighs(options)
        if self.held is not None and options.eos == "never":
            raise CompositionError(
                "unmask(eos='never') forbids ends of text cell by cell, and the constraint says where a text may end; "
                "drop eos='never'"
            )

    def choose(self, view: View) -> Pick:
        """The cells with the highest score."""
        rows, options = view.rows, self._options
        if options.eos == "never" and len(self.eos):
            view = _without(view, self.eos)
        score = {
            "confidence": lambda: -view.nats,
            "random": lambda: noise.uniform(rows.stream, view.ask.at, noise.Salt.ORDER),
            "margin": lambda: view.margin,
            "entropy": lambda: -view.entropy,
        }[options.order]()
        if options.eos == "last":
            late = torch.isin(view.value, self.eos)
            score = torch.where(late, score - 1e6, score)
        return Pick(first(score, view.scope, self._count(rows, view)), tokens=view.value)

    def _count(self, rows: Rows, view: View) -> Tensor:
        """[R] how many cells this round commits."""
        if self._options.steps is None:
            return torch.full_like(rows.n, self._options.per_round or 1)
        steps, block = self._options.steps, self.blocks(rows, rows.n[:, None])[:, 0]  # [R] current block
        size = rows.limit - rows.start
        blocks = (size + self.block - 1) // self.block if self.block < FAR else torch.ones_like(size)
        here = (steps // blocks + (block < steps % blocks)).clamp(min=1)  # [R] rounds of this block
        seen = rows.column("unmask.block", torch.full_like(rows.n, -1))
        left = torch.where(seen == block, rows.column("unmask.left", torch.zeros_like(rows.n)), here).clamp(min=1)
        rows.columns["unmask.block"], rows.columns["unmask.left"] = block, left - 1
        many = view.scope.sum(1)
        return (many + left - 1) // left


def _without(view: View, ids: Tensor) -> View:
    """The view with the tokens `ids` forbidden."""
    logp = view.logp.index_fill(2, ids, -torch.inf).log_softmax(-1)
    sampled = noise.argmax(logp, view.rows.stream, view.ask.at)
    value = torch.where(torch.isin(view.value, ids), sampled, view.value)
    return View(view.rows, view.ask, view.scope, logp, value, logp)
