"""Two plugins in a package of their own: a warper with an option, and a selector with a need."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core import noise, selection
from decodekit.core.bound import BindContext
from decodekit.core.protocols import Constraint, Proposal, Selection
from decodekit.core.rows import Rows
from decodekit.registry.declaration import plugin


@plugin(
    role="warper",
    exactness="exact",
    requires=("distribution",),  # the best token stays: it changes nothing where no other is looked at
    paper="Hewitt, Manning, Liang 2022, arXiv 2210.15191",
)
class Epsilon:
    """Keep the tokens that are at least `epsilon` probable, and always the most probable one.

    Args:
        epsilon: probability below which a token is dropped.
    """

    epsilon: Annotated[float, Field(ge=0, lt=1)] = 0.01

    def bind(self, run: BindContext) -> Epsilon:
        """Nothing to prepare: the options are all that the answer needs."""
        return self

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V] -> [R, K, V], -inf where a token is dropped."""
        likely = logits.softmax(-1) >= self.epsilon  # [R, K, V]
        best = logits == logits.amax(-1, keepdim=True)
        return logits.masked_fill(~(likely | best), -torch.inf)


@plugin(role="selector", exactness="approximate", requires=("constraint",), provides=("randomness", "distribution"))
class Blind:
    """Draw each token uniformly from what the constraint allows, whatever the model says: what a grammar alone gives.

    A baseline: a task that this solves is solved by its constraint. A row in which nothing is allowed is dead.
    """

    def bind(self, run: BindContext) -> Blind:
        """Nothing to prepare."""
        return self

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        """Guesses are taken as far as this selector would have drawn them itself, and one token more."""
        flat = selection.allowed(rows, ask, torch.zeros_like(logits), constraint)  # [R, K, V]
        return selection.chain(noise.argmax(flat, rows.stream, ask.at), ask, flat)
