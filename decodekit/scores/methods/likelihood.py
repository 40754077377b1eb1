"""Scores of one text from the log-probabilities of its tokens."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from decodekit.registry.declaration import plugin
from decodekit.scores.base import Text
from decodekit.scores.folds import Running, Seen, Tokens
from decodekit.scores.needs import Needs

_TIE: Final = 1e-5
"""Nats by which a token may miss the most probable one and still count as it: float32 in the trace."""


class Likelihood(Running):
    """What scores of the tokens' log-probabilities share; by itself it is no score."""

    def needs(self) -> Needs:
        """The log-probabilities."""
        return Needs(("logp",))

    def each(self, tokens: Tokens) -> Tensor:
        """[N, 1] log p."""
        return tokens["logp"][:, None]


@plugin(role="score", paper="Aichberger et al. 2024, arXiv 2412.15176")
class Nll(Likelihood):
    """Negative log-likelihood of the text under the plain model, in nats: - sum log p. Not divided by its length."""

    rising: ClassVar[bool] = True

    def made(self, seen: Seen) -> Tensor:
        """[R] the sum; NaN for rows without tokens."""
        return -seen.total[:, 0].masked_fill(seen.count == 0, torch.nan)


@plugin(role="score", paper="Aichberger et al. 2024, arXiv 2412.15176")
class Gnll(Running):
    """G-NLL: the negative log-likelihood of the greedy text, in nats; its exponential with a minus is the confidence.

    Defined for texts of which every token is the most probable one; others are refused (use `nll`). Neither division
    by the length nor a sampled text do as well in the paper's comparison.
    """

    rising: ClassVar[bool] = True

    def needs(self) -> Needs:
        """The log-probabilities, also of the most probable tokens."""
        return Needs(("logp",), top=1)

    def each(self, tokens: Tokens) -> Tensor:
        """[N, 2] - log p, and whether the token is not the most probable one."""
        worse = tokens["top_logps"][:, 0] - tokens["logp"] > _TIE
        return torch.stack([-tokens["logp"], worse.double()], 1)

    def width(self) -> int:
        """2."""
        return 2

    def made(self, seen: Seen) -> Tensor:
        """[R] the sum; NaN for rows that are not greedy, or without tokens."""
        return seen.total[:, 0].masked_fill((seen.count == 0) | (seen.total[:, 1] > 0), torch.nan)

    def trouble(self, text: Text) -> str:
        """What is wrong with a text, as the end of a sentence."""
        worse = text.columns["top_logps"][:, 0] - text.columns["logp"] > _TIE
        if not worse.any():
            return ""
        return (
            f"is of greedy texts, and token {int(worse.argmax()) + 1} of this one is not the most probable; use nll, "
            "or decode greedily without a constraint"
        )


@plugin(role="score", paper="Fomicheva et al. 2020, arXiv 2005.10608")
class Perplexity(Likelihood):
    """Mean negative log-likelihood of a token, in nats: the logarithm of the perplexity."""

    rising: ClassVar[bool] = True

    def made(self, seen: Seen) -> Tensor:
        """[R] the mean."""
        return -seen.mean[:, 0]


@plugin(role="score", paper="visualizing the uncertainty of generated text (geometric and arithmetic mean, kurtosis)")
class GeometricMean(Likelihood):
    """Geometric mean of the probabilities of the tokens, 0 to 1: a confidence."""

    rising: ClassVar[bool] = False

    def made(self, seen: Seen) -> Tensor:
        """[R] exp of the mean."""
        return seen.mean[:, 0].exp()


@plugin(role="score", paper="visualizing the uncertainty of generated text (geometric and arithmetic mean, kurtosis)")
class ArithmeticMean(Likelihood):
    """Arithmetic mean of the probabilities of the tokens, 0 to 1: a confidence."""

    rising: ClassVar[bool] = False

    def each(self, tokens: Tokens) -> Tensor:
        """[N, 1] p."""
        return tokens["logp"].exp()[:, None]

    def made(self, seen: Seen) -> Tensor:
        """[R] the mean."""
        return seen.mean[:, 0]


@plugin(role="score", paper="Language Model Cascades, arXiv 2404.10136")
class Quantile(Likelihood):
    """A quantile of the tokens' log-probabilities: q = 0 is the least probable token. Low means unsure.

    Args:
        q: which, 0 to 1.
    """

    rising: ClassVar[bool] = False
    whole: ClassVar[bool] = True

    q: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0

    def made(self, seen: Seen) -> Tensor:
        """[R] the quantile."""
        assert seen.values is not None
        if not seen.values.shape[1]:
            return torch.full_like(seen.count, torch.nan)
        return seen.values[..., 0].nanquantile(self.q, 1)
