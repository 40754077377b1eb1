"""Min-p truncation."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import Rows
from decodekit.core.warping import Within
from decodekit.registry.declaration import plugin


@plugin(
    role="warper",
    exactness="exact",
    requires=("distribution",),
    paper="Nguyen et al. 2024, arXiv 2407.01082, section 3",
)
class MinP:
    """Keep the tokens that are at least `p` times as probable as the most probable one.

    Same as `MinPLogitsWarper` of transformers, up to tokens whose ratio is within rounding of `p`: the comparison
    is done on logits here, which saves the softmax.

    Args:
        p: least ratio, between 0 (nothing is cut) and 1 (only the most probable stay).
        within: what is looked at: with a constraint the tokens that it allows, so something always stays; or all tokens
            of the "model", which may cut away all that the constraint allows: a dead end.
    """

    p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    within: Within = "constraint"

    @property
    def before_constraint(self) -> bool:
        """Whether it acts before the constraint."""
        return self.within == "model"

    def bind(self, run: BindContext) -> MinP:
        """Nothing to prepare."""
        return self

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V] -> [R, K, V], -inf where cut."""
        if self.p == 0:
            return logits
        least = logits.amax(-1, keepdim=True) + math.log(self.p)  # [R, K, 1]
        return logits.masked_fill(logits < least, -torch.inf)
