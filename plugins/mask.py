"""Masked sampling: compute everything that is allowed, draw from it, and account for what was cut off."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from decodekit.candidates import check_first
from decodekit.core import noise, selection
from decodekit.core.bound import BindContext
from decodekit.core.protocols import Constraint, Proposal, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without


@plugin(
    role="selector",
    exactness="weighted",
    requires=("constraint",),
    provides=("weights", "randomness", "distribution"),
    paper="arXiv 2504.05410, locally constrained decoding; its per-step weight as in arXiv 2306.03081, section 3",
)
class Mask:
    """Draw each token from the model's law restricted to what the constraint allows (locally constrained decoding).

    Token by token this is the same distribution as the plain model under the same constraint. Over whole texts it is
    not: a text that runs into a corner, where all that is allowed is improbable, comes out more often than the model
    given the constraint would write it. So each step adds log Z to the row's weight, Z being the mass that the
    (warped) law p gives to the allowed tokens. A draw x from p restricted, with weight Z, is properly weighted: its
    expected weight at x is p(x) / Z * Z = p(x) for each allowed x. Over texts, expectations under weights that are
    normalised, and populations such as `smc`, are right for the model given the constraint; hence `weighted`. Where
    warpers truncate what is allowed, Z is the mass before that (`decodekit.core.warping`).

    Args:
        greedy: take the most probable allowed token instead of a draw. This gives no weights (a certain choice cannot
            be properly weighted), and is then approximate.

    A row in which nothing is allowed is dead, with weight zero. Guesses are verified as by `sample`.
    """

    greedy: bool = False

    def __post_init__(self) -> None:
        if self.greedy:
            without(self, "weights", "randomness", "distribution", exactness="approximate")

    def bind(self, run: BindContext) -> _Mask:
        """Nothing to prepare."""
        return _Mask(self.greedy)


@dataclass(frozen=True)
class _Mask:
    greedy: bool

    @property
    def masks(self) -> bool:
        """Whether every round asks for masks, which may then be begun while the model reads."""
        return not self.greedy

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        if self.greedy and constraint is not None and check_first.prefers_checks(constraint, ask):
            return check_first.choose(rows, ask, logits, constraint, noisy=False)
        masked = selection.allowed(rows, ask, logits, constraint)  # [R, K, V]
        if self.greedy:
            best, tokens = masked.max(-1)  # [R, K]
            return selection.chain(tokens.masked_fill(best == -torch.inf, NONE), ask, masked)
        tokens = noise.argmax(masked, rows.stream, ask.at)  # [R, K]
        logw = masked.logsumexp(-1).double() - logits.logsumexp(-1).double()  # [R, K] log Z
        return selection.chain(tokens, ask, masked, logw)
