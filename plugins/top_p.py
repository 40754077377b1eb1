"""Top-p (nucleus) truncation."""

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
    paper="Holtzman et al. 2020, arXiv 1904.09751, section 3.1",
)
class TopP:
    """Keep the smallest set of most probable tokens whose mass is at least `p` (the nucleus).

    Same as `TopPLogitsWarper` of transformers: of the tokens from the least probable on, those whose summed mass is at
    most 1 - p go. The most probable token always stays.

    Args:
        p: mass to keep, above 0, at most 1.
        within: what is looked at: with a constraint the tokens that it allows, so something always stays; or all tokens
            of the "model", which may cut away all that the constraint allows: a dead end.
    """

    p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    within: Within = "constraint"

    @property
    def before_constraint(self) -> bool:
        """Whether it acts before the constraint."""
        return self.within == "model"

    def bind(self, run: BindContext) -> TopP:
        """Nothing to prepare."""
        return self

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V] -> [R, K, V], -inf where cut."""
        if self.p == 1:
            return logits
        ascending, token = logits.sort(-1)
        cut = ascending.softmax(-1).cumsum(-1) <= 1 - self.p
        cut[..., -1] = False
        return logits.masked_fill(torch.zeros_like(cut).scatter_(-1, token, cut), -torch.inf)
