"""The two plain ways to choose a token: the most probable one, or a sample. Both verify guesses of any drafter."""

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


@plugin(role="selector", exactness="approximate", paper="the limit of sampling as the temperature goes to 0")
class Greedy:
    """Take the most probable token, of equal ones the first; with a constraint, of those it allows.

    Guesses are taken as far as they are what plain greedy decoding would have written, and one token more: the text
    does not depend on the drafter. It is the mode of each step and no sample of the model, hence not `exact`.
    A row in which nothing is allowed is dead. With a constraint the best token is checked first, and a mask is made
    only where several are refused; the trace then has no log-probability under the processed law (`logt`).
    """

    def bind(self, run: BindContext) -> _Greedy:
        """Nothing to prepare."""
        return _Greedy()


@plugin(
    role="selector",
    exactness="exact",
    provides=("randomness", "distribution"),
    paper="arXiv 2408.07978 (drafter-invariant coupling by shared noise)",
)
class Sample:
    """Draw from the model: argmax of log-probability + Gumbel noise, the noise being a function of seed and place.

    Guesses are taken as far as they are what plain sampling with the same seed would have written, and one token
    more, so the text does not depend on the drafter; a drafter that uses the same noise agrees with probability at
    least (1 - d) / (1 + d) per token, d being the total variation distance of the two laws.

    With a constraint, each token is drawn from the model's law restricted to what is allowed there. `exact` is meant
    token by token: the law of whole texts is then that of locally constrained decoding. For the model's law given
    that the whole text satisfies the constraint, weights are needed: see `mask` and `awrs`. A row in which nothing
    is allowed is dead. Tokens are checked in the order of the draw, and a mask is made only where several are refused:
    the same tokens as those of a mask, but the trace has no log-probability under the processed law (`logt`).
    """

    def bind(self, run: BindContext) -> _Sample:
        """Nothing to prepare."""
        return _Sample()


@dataclass(frozen=True)
class _Greedy:
    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        if constraint is None:  # then something is always allowed
            tokens = logits.argmax(-1)  # [R, K]
            return Selection(tokens, selection.reached(tokens, ask), law=logits)
        if check_first.prefers_checks(constraint, ask):
            return check_first.choose(rows, ask, logits, constraint, noisy=False)
        logits = selection.allowed(rows, ask, logits, constraint)  # [R, K, V]
        best, tokens = logits.max(-1)  # [R, K]
        return selection.chain(tokens.masked_fill(best == -torch.inf, NONE), ask, logits)


@dataclass(frozen=True)
class _Sample:
    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        if constraint is not None and check_first.prefers_checks(constraint, ask):
            return check_first.choose(rows, ask, logits, constraint, noisy=True)
        logits = selection.allowed(rows, ask, logits, constraint)  # [R, K, V]
        return selection.chain(noise.argmax(logits, rows.stream, ask.at), ask, logits)
