"""How many tokens to guess: as many as pay, given how often guesses stood before."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from decodekit.kit import Model
from decodekit.roles import Proposal
from decodekit.rows import NONE, Rows

FORGET: Final = 0.9
"""What an observation counts for after one more round."""

PRIOR: Final = (3.0, 0.7)
"""Guesses that are believed to have been tried before the first, and the share of them that stood."""

UNKNOWN: Final = 0.1
"""Cost of a draft step over that of a target pass where the models do not say."""


class Pace:
    """Draft length row by row: the k that maximises expected tokens over expected cost.

    With a guess standing with probability a, each for itself, a round of k guesses brings (1 - a^(k+1)) / (1 - a)
    tokens and costs 1 + c k target passes (Leviathan et al. 2023, arXiv 2211.17192, theorem 3.8). a is estimated for
    each row from its own past rounds: tried guesses up to the first that fell, each round counting 0.9 of the next, on
    top of three guesses of which 0.7 stood. So k depends on nothing but what earlier rounds made of the text, and
    acceptance-rejection stays exact: a length that looked at the drawn guesses would not be.

    Args:
        most: guesses at most. cost: c, of one draft step over one target pass.
    """

    def __init__(self, most: int, cost: float) -> None:
        k = torch.arange(1, most + 1, dtype=torch.float64)
        rate = torch.linspace(0.0, 0.995, 200, dtype=torch.float64)[:, None]  # [200, 1]
        worth = (1.0 - rate ** (k + 1)) / (1.0 - rate) / (1.0 + cost * k)  # [200, most]
        self._best = worth.argmax(1) + 1  # [200] by rate

    def length(self, rows: Rows) -> Tensor:
        """[R] how many tokens to guess now; learns from what became of the last guesses."""
        n, asked, tried, stood = self._columns(rows)
        new = rows.n - n  # [R] tokens since
        known = (asked > 0) & (new > 0)
        kept = torch.minimum(asked, (new - 1).clamp(min=0))
        seen = torch.where(kept < asked, kept + 1, kept)
        tried = torch.where(known, FORGET * tried + seen, tried)
        stood = torch.where(known, FORGET * stood + kept, stood)
        rows.columns["pace.tried"], rows.columns["pace.stood"] = tried, stood
        rate = (stood + PRIOR[0] * PRIOR[1]) / (tried + PRIOR[0])
        found: Tensor = self._best.to(rows.device)[(rate * 200).long().clamp(0, 199)]
        return found

    def asked(self, rows: Rows, ask: Proposal) -> None:
        """Remember how much was guessed, to compare it with what becomes of it."""
        self._columns(rows)
        rows.columns["pace.n"] = rows.n.clone()
        rows.columns["pace.asked"] = (ask.guess != NONE).sum(1)

    def _columns(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Columns of the rows, so they follow every fork."""
        none, nothing = torch.zeros_like(rows.n), torch.zeros_like(rows.logw)
        whole = (rows.column("pace.n", none), rows.column("pace.asked", none))
        return *whole, rows.column("pace.tried", nothing), rows.column("pace.stood", nothing)


def cost_ratio(draft: Model, target: Model) -> float:
    """Of one draft step over one target pass: parameters, which decide it where memory does; a guess if unknown."""
    mine, its = _parameters(draft), _parameters(target)
    return mine / its if mine and its else UNKNOWN


def _parameters(model: Any) -> int:
    """Without input embeddings, of which a pass reads one line a token."""
    hf = getattr(model, "hf", None)
    if hf is None:
        return 0
    total = sum(one.numel() for one in hf.parameters())
    tied = getattr(hf.config, "tie_word_embeddings", False)
    return int(total if tied else total - hf.get_input_embeddings().weight.numel())
