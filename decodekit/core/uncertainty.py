"""One bus for uncertainty: what routers, selectors, warpers, exits and the trace ask of a law, computed once.

A :class:`Reading` belongs to one tensor of logits; whatever is asked of it is computed at most once, in float64, and
whoever has it can pass it on. Natural logarithms throughout.
Tokens that are forbidden (-inf) count for nothing; where all are, every signal is NaN, and no threshold is met.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Final, Literal, get_args

import torch
from torch import Tensor

Signal = Literal["entropy", "top1", "gap", "varentropy"]
SIGNALS: Final[tuple[str, ...]] = get_args(Signal)
RISING: Final = {"entropy": True, "top1": False, "gap": False, "varentropy": True}
"""Whether more of a signal means more uncertainty."""


class Reading:
    """Signals of the laws that `logits` [..., V] stand for; each signal is [...]."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @cached_property
    def logp(self) -> Tensor:
        """[..., V] float64 log-probabilities."""
        return self.logits.double().log_softmax(-1)

    @cached_property
    def p(self) -> Tensor:
        """[..., V] float64 probabilities."""
        return self.logp.exp()

    @cached_property
    def entropy(self) -> Tensor:
        """-sum p ln p, in nats."""
        total: Tensor = torch.special.entr(self.p).sum(-1)
        return total

    @cached_property
    def varentropy(self) -> Tensor:
        """Variance of -ln p, in nats squared."""
        surprise = torch.where(self.p > 0, self.logp, 0.0)  # 0 x inf is NaN
        return ((self.p * surprise.square()).sum(-1) - self.entropy.square()).clamp(min=0.0)

    @cached_property
    def _best(self) -> Tensor:
        return self.logp.topk(min(2, self.logp.shape[-1]), -1).values.exp()  # [..., 2], or 1 of one token

    @cached_property
    def top1(self) -> Tensor:
        """Probability of the most probable token."""
        return self._best[..., 0]

    @cached_property
    def gap(self) -> Tensor:
        """Probability of the most probable token minus that of the second."""
        return self._best[..., 0] - self._best[..., 1:].sum(-1)

    def signal(self, name: str) -> Tensor:
        """[...] by name, one of :data:`SIGNALS`."""
        ask: Callable[[Reading], Tensor] = _ASK[name]
        return ask(self)

    def features(self) -> Tensor:
        """[..., 4] all signals, in the order of :data:`SIGNALS`."""
        return torch.stack([self.signal(name) for name in SIGNALS], -1)


_ASK: Final[dict[str, Callable[[Reading], Tensor]]] = {
    "entropy": lambda reading: reading.entropy,
    "top1": lambda reading: reading.top1,
    "gap": lambda reading: reading.gap,
    "varentropy": lambda reading: reading.varentropy,
}


ANSWER: Final = ("sum", "mean", "q0", "q10", "q25", "q50", "q75", "q90", "q100")
"""What is known of a whole answer from the log-probabilities of its tokens (cascades, arXiv 2404.10136, section 3)."""


class Answers:
    """Running sums, means and quantiles of token log-probabilities, row by row.

    values: [R, T] log-probabilities in the order of the tokens, NaN where there is none (yet).
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def feature(self, name: str) -> Tensor:
        """[R] by name, one of :data:`ANSWER`; NaN for rows without tokens, except for the sum."""
        if name == "sum":
            return self.values.nansum(-1)
        return self.values.nanmean(-1) if name == "mean" else self.quantile(int(name[1:]) / 100)

    def quantile(self, q: float) -> Tensor:
        """[R] the q-quantile; 0 is the least probable token."""
        return self.values.nanquantile(q, -1)

    @property
    def lengths(self) -> Tensor:
        """[R] how many tokens there are."""
        return (~self.values.isnan()).sum(-1)
