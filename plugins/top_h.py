"""Top-H: keep the most probable tokens as long as their entropy stays within a share of the whole law's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import Rows
from decodekit.core.warping import Within
from decodekit.registry.declaration import plugin

_CAP: Final = 100  # candidates of transformers' rule


@plugin(
    role="warper",
    exactness="exact",
    requires=("distribution",),
    paper="Top-H, arXiv 2509.02510, Algorithm 1 (ECMM, greedy)",
)
class TopH:
    """Keep the longest run S of most probable tokens with H(q_S) <= alpha H(p), q_S being p restricted to S.

    The most probable token always stays. With m the mass of S and h = -sum_S p ln p, H(q_S) = h / m + ln m, which grows
    with every token that is added, so one cumulative sum decides. Tokens that are forbidden already (-inf) count for
    nothing. H is that of the law that comes in: put `temperature` before, not after.

    `mode="hf"` is the rule that transformers ships (as does the authors' code): it compares h with alpha H without
    renormalising, over the 100 most probable tokens only, so the stated bound may be exceeded, and at alpha = 1 at
    most 100 tokens stay.

    Args:
        alpha: share of the entropy, between 0 (greedy) and 1 (nothing is cut, in "paper" mode).
        mode: "paper" or "hf".
        within: what is looked at: with a constraint the tokens that it allows, so something always stays; or all tokens
            of the "model", which may cut away all that the constraint allows: a dead end.
    """

    alpha: Annotated[float, Field(gt=0.0, le=1.0)] = 0.4
    mode: Literal["paper", "hf"] = "paper"
    within: Within = "constraint"

    def bind(self, run: BindContext) -> BoundTopH:
        """Nothing to prepare."""
        return BoundTopH(self.alpha, self.mode, self.within == "model")


@dataclass(frozen=True)
class BoundTopH:
    """The bound warper."""

    alpha: float
    mode: Literal["paper", "hf"]
    before_constraint: bool

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V] -> [R, K, V], -inf where cut."""
        keep = self._paper(logits) if self.mode == "paper" else self._hf(logits)
        return logits.masked_fill(~keep, -torch.inf)

    def _paper(self, logits: Tensor) -> Tensor:
        if self.alpha == 1.0:
            return torch.ones_like(logits, dtype=torch.bool)
        best, order = logits.double().log_softmax(-1).sort(stable=True, dim=-1, descending=True)  # [R, K, V]
        p = best.exp()
        mass = p.cumsum(-1)
        sums = torch.special.entr(p).cumsum(-1)
        within = sums / mass + mass.log() <= self.alpha * sums[..., -1:]
        # Rounding must not reopen a run that ended, nor close the first.
        within = within.long().cumprod(-1).bool()
        within[..., 0] = True
        return torch.zeros_like(within).scatter_(-1, order, within)

    def _hf(self, logits: Tensor) -> Tensor:
        best, order = logits.topk(min(_CAP, logits.shape[-1]), -1)
        # The very operations of transformers, for ties are decided by the last bit.
        law = best - best.logsumexp(-1, keepdim=True)
        p = law.softmax(-1)
        terms = torch.where(p > 0, -p * p.log(), 0.0)  # there 0 ln 0 is NaN, which also cuts
        total = -(law.clamp(min=torch.finfo(law.dtype).min) * p).sum(-1, keepdim=True)
        within = (terms.cumsum(-1) <= total * self.alpha) & (p > 0)
        within[..., 0] = True
        return torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, order, within)
