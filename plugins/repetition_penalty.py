"""Repetition penalty."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.registry.declaration import plugin


@plugin(
    role="warper",
    exactness="exact",
    provides=("distribution",),  # what a truncation before it leaves decides which token is the best after it
    conflicts_with=("masked_lm",),
    paper="Keskar et al. 2019, arXiv 1909.05858, section 4.1",
)
class RepetitionPenalty:
    """Divide positive logits of tokens that the text holds by `penalty`, and multiply negative ones by it.

    The text of a position is all that stands before it: prompt, final tokens and the guesses in between, so that a
    chain of guesses is judged as if each had been written first. Same as `RepetitionPenaltyLogitsProcessor` of
    transformers for one sequence at a time (padding is never part of a text here).

    Args:
        penalty: above 1 discourages repetition, below 1 encourages it; 1 changes nothing.
    """

    penalty: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.1

    @property
    def pointwise(self) -> bool:
        """It commutes with a constraint."""
        return True

    def bind(self, run: BindContext) -> RepetitionPenalty:
        """Nothing to prepare."""
        return self

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V] -> [R, K, V]."""
        if self.penalty == 1:
            return logits
        first = _first_place(rows, int(ask.at.max()), logits.shape[-1])  # [R, V]
        seen = (first[:, None] < ask.at[..., None]) & (ask.at != NONE)[..., None]  # [R, K, V]
        return torch.where(seen, torch.where(logits < 0, logits * self.penalty, logits / self.penalty), logits)


def _first_place(rows: Rows, end: int, vocab: int) -> Tensor:
    """[R, V] where each token stands first in its row, guesses included; `end` if nowhere before `end`."""
    end = max(end, 0)
    text = rows.tokens[:, :end].clamp(max=vocab - 1)  # [R, end]; what is past a row's own positions is later anyway
    place = torch.arange(end, device=rows.device).expand_as(text)
    nowhere = torch.full((len(rows), vocab), end, device=rows.device)
    return nowhere.scatter_reduce_(1, text, place, "amin")
