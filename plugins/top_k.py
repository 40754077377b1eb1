"""Top-k truncation."""

from __future__ import annotations

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
    paper="Fan, Lewis, Dauphin 2018, arXiv 1805.04833, section 5.2",
)
class TopK:
    """Keep the `k` most probable tokens, and all that are as probable as the last of them.

    Same as `TopKLogitsWarper` of transformers.

    Args:
        k: how many, at least 1. At or above the vocabulary's width nothing is cut.
        within: what is looked at: with a constraint the tokens that it allows, so something always stays; or all tokens
            of the "model", which may cut away all that the constraint allows: a dead end.
    """

    k: Annotated[int, Field(ge=1)] = 50
    within: Within = "constraint"

    @property
    def before_constraint(self) -> bool:
        """Whether it acts before the constraint."""
        return self.within == "model"

    def bind(self, run: BindContext) -> TopK:
        """Nothing to prepare."""
        return self

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V] -> [R, K, V], -inf where cut."""
        if self.k >= logits.shape[-1]:
            return logits
        least = logits.topk(self.k).values[..., -1:]  # [R, K, 1]
        return logits.masked_fill(logits < least, -torch.inf)
