"""Contrast at decoding time: tokens that a stronger model does not want more than a weaker one are held back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Scorer
from decodekit.core.rows import NONE, Rows
from decodekit.core.vocabulary_checks import fitted, same_tokens
from decodekit.errors import CompositionError
from decodekit.registry.declaration import plugin


@plugin(
    role="warper",
    exactness="approximate",
    requires=("causal_lm",),
    provides=("distribution",),
    paper="cDPO, arXiv 2411.19943",
)
class Contrast:
    """The law softmax((1 + beta) log p - beta log p_against): with beta = 1 the contrast that cDPO weighs tokens by.

    Of a stronger and a weaker model (or a model before and after tuning) tokens with little of it are "critical": the
    text turns wrong there. Only tokens with at least `keep` times the best probability of the run's model remain, for
    the contrast of what neither model believes in is noise. With a constraint, of what it allows.

    Args:
        against: the weaker model, with the tokens of the run's model. beta: how much it counts.
        keep: 0 keeps every token.

    Raises:
        CompositionError: when bound, a model with other tokens.
    """

    against: Any
    beta: Annotated[float, Field(ge=0.0)] = 1.0
    keep: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1

    def bind(self, run: BindContext) -> _Contrast:
        """Open the other model; runs none."""
        other = run.open(self.against)
        if "causal_lm" not in other.provides or not same_tokens(other, run.model):
            raise CompositionError(
                f"contrast: {other.name!r} is no causal language model with the tokens of {run.model.name!r}; "
                "choose models with one tokenizer"
            )
        return _Contrast(self, lambda: other.reader(run.cost, "against"))


class _Contrast:
    def __init__(self, options: Contrast, reader: Callable[[], Scorer]) -> None:
        self._options, self._new = options, reader
        self.pointwise = options.keep == 0  # else it compares tokens with the best one
        self._readers: WeakKeyDictionary[Rows, Scorer] = WeakKeyDictionary()  # look-ahead has rows of its own

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V]; see :class:`decodekit.core.protocols.Warper`."""
        options = self._options
        asked = (ask.at != NONE).any(1)
        if rows not in self._readers:
            self._readers[rows] = self._new()
        weak = fitted(self._readers[rows].read(rows, ask.at, asked), logits.shape[-1]).to(logits)
        own, other = logits.log_softmax(-1), weak.log_softmax(-1)
        kept = own > -torch.inf
        if options.keep > 0:
            kept = kept & (own >= own.amax(-1, keepdim=True) + torch.log(torch.tensor(options.keep)))
        mixed = (1 + options.beta) * own - options.beta * other.clamp(min=-1e4)
        return mixed.masked_fill(~kept, -torch.inf)
