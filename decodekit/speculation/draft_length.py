"""How many tokens to guess: as many as pay, given how often guesses stood before."""

from __future__ import annotations

import itertools
from typing import Any, Final

import torch
from torch import Tensor

from decodekit.core.bound import Model
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.speculation.model_free import shortened

FORGET: Final = 0.9
"""What an observation counts for after one more round."""

PRIOR: Final = (3.0, 0.7)
"""Guesses that are believed to have been tried before the first, and the share of them that stood."""

UNKNOWN: Final = 0.1
"""Cost of a draft step over that of a target pass where the models do not say."""

_COLUMNS: Final = ("n", "guess", "tried", "stood")
_NUMBER: Final = itertools.count()


class Pace:
    """Draft length row by row: the k that maximises expected tokens over expected cost.

    With a guess standing with probability a, each for itself, a round of k guesses brings (1 - a^(k+1)) / (1 - a)
    tokens and costs 1 + c k target passes (Leviathan et al. 2023, arXiv 2211.17192, theorem 3.8). a is estimated for
    each row from its own past rounds: its guesses up to the first that the text did not follow, each round counting 0.9
    of the next, on top of three guesses of which 0.7 stood. So k depends on nothing but what earlier rounds made of
    the text, and acceptance-rejection stays exact: a length that looked at the drawn guesses would not be.

    Args:
        most: guesses at most. cost: c, of one draft step over one target pass.
    """

    def __init__(self, most: int, cost: float) -> None:
        k = torch.arange(1, most + 1, dtype=torch.float64)
        rate = torch.linspace(0.0, 0.995, 200, dtype=torch.float64)[:, None]  # [200, 1]
        worth = (1.0 - rate ** (k + 1)) / (1.0 - rate) / (1.0 + cost * k)  # [200, most]
        self._best = worth.argmax(1) + 1  # [200] by rate
        self._most, self._name = most, f"pace.{next(_NUMBER)}."

    def length(self, rows: Rows) -> Tensor:
        """[R] how many tokens to guess now; learns from what became of the last guesses."""
        n, guess, tried, stood = (self._column(rows, name) for name in _COLUMNS)
        asked = (guess != NONE).sum(1)
        place = n[:, None] + torch.arange(guess.shape[1], device=rows.device)  # [R, most]
        there = rows.tokens.gather(1, place.clamp(max=rows.tokens.shape[1] - 1))
        known = (guess != NONE) & (place < rows.n[:, None])  # the text has come so far
        # Compared with the text, not counted from how far it came: that may be another proposer's work, or rounds in
        # which this one was not asked. A refused draw never stands in the text, so no more is learned of it than that.
        kept = (known & (guess == there)).to(torch.int64).cumprod(1).sum(1)
        seen = torch.minimum(kept + 1, known.sum(1))
        new = (asked > 0) & (rows.n > n)
        tried = torch.where(new, FORGET * tried + seen, tried)
        stood = torch.where(new, FORGET * stood + kept, stood)
        rows.columns[self._name + "tried"], rows.columns[self._name + "stood"] = tried, stood
        rate = (stood + PRIOR[0] * PRIOR[1]) / (tried + PRIOR[0])
        found: Tensor = self._best.to(rows.device)[(rate * 200).long().clamp(0, 199)]
        return found

    def cut(self, rows: Rows, ask: Proposal) -> Proposal:
        """`ask` with as many guesses as pay; what is left of it is remembered."""
        ask = shortened(ask, self.length(rows))
        self.asked(rows, ask)
        return ask

    def asked(self, rows: Rows, ask: Proposal) -> None:
        """Remember what was guessed, to compare it with what becomes of it."""
        guess = ask.guess[:, : self._most]
        short = self._most - guess.shape[1]
        rows.columns[self._name + "n"] = rows.n.clone()
        rows.columns[self._name + "guess"] = torch.nn.functional.pad(guess, (0, short), value=NONE)

    def _column(self, rows: Rows, name: str) -> Tensor:
        """A column of the rows, so it follows every fork; one set for each pace, for several may guess in turn."""
        fill = {
            "n": torch.zeros_like(rows.n),
            "guess": torch.full((len(rows), self._most), NONE, device=rows.device),
        }.get(name, torch.zeros_like(rows.logw))
        return rows.column(self._name + name, fill)


def cost_ratio(draft: Model, target: Model) -> float:
    """Of one draft step over one target pass: parameters, which decide it where memory does; a guess if unknown."""
    mine, its = (_read(hf) if (hf := getattr(one, "hf", None)) is not None else 0 for one in (draft, target))
    return mine / its if mine and its else UNKNOWN


def share(head: Any, target: Any) -> float:
    """The same for a `head` (a module) that guesses through the output layer of the transformers model `target`."""
    out = target.get_output_embeddings().weight.numel()
    return float((sum(one.numel() for one in head.parameters()) + out) / _read(target))


def _read(hf: Any) -> int:
    """Parameters that a pass reads: all but input embeddings of their own, of which it reads one line a token."""
    total = sum(one.numel() for one in hf.parameters())
    tied = getattr(hf.config, "tie_word_embeddings", False)
    return int(total if tied else total - hf.get_input_embeddings().weight.numel())
