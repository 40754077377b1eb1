"""Shifting attention to relevance (SAR): tokens and samples count as much as they matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from decodekit.registry.declaration import plugin
from decodekit.scores.base import Floats, Samples, Text
from decodekit.scores.needs import Needs
from decodekit.scores.tools import Tools


def relevance(text: Text, tools: Tools) -> Floats:
    """[T] shares of the tokens: 1 - similarity of prompt and text with and without the token, over their sum.

    The token is left out at its position (the authors' script deletes every occurrence). Special tokens have none;
    where no token has any, all have the same.
    """
    return relevances([text], tools)[0]


def relevances(texts: Sequence[Text], tools: Tools) -> list[Floats]:
    """The same of several texts, in one call of the similarity."""
    pairs = [pair for text in texts for pair in _pairs(text)]
    found = 1.0 - tools.similar(pairs)
    out, at = [], 0
    for text in texts:
        share = np.zeros(len(text))
        said = [i for i, piece in enumerate(text.pieces) if piece]
        share[said] = found[at : at + len(said)]
        at += len(said)
        total = share.sum()
        out.append(share / total if total > 1e-12 else np.full(len(text), 1 / max(1, len(text))))
    return out


def _pairs(text: Text) -> list[tuple[str, str]]:
    """(whole, without it) for every token that says something."""
    whole = text.prompt + b"".join(text.pieces).decode("utf-8", "replace")
    pairs = []
    for i, piece in enumerate(text.pieces):
        if piece:
            rest = b"".join([*text.pieces[:i], *text.pieces[i + 1 :]]).decode("utf-8", "replace")
            pairs.append((whole, text.prompt + rest))
    return pairs


@plugin(role="score", paper="Duan et al. 2023, arXiv 2307.01379 (token SAR)")
class TokenSar:
    """Negative log-likelihood with every token weighed by its relevance, in nats per token.

    Args:
        similarity: callable for this score alone.
    """

    rising: ClassVar[bool] = True
    similarity: Any = None

    def needs(self) -> Needs:
        """What the text says, and a similarity."""
        return Needs(("logp",), text=True, tools=("similarity",))

    def of_text(self, text: Text, tools: Tools) -> float:
        """The sum."""
        return float(self.of_tokens(text, tools).sum())

    def of_tokens(self, text: Text, tools: Tools) -> Floats:
        """[T] what each token adds."""
        return relevance(text, tools.having({"similarity": self.similarity})) * -text.logp


@plugin(role="score", paper="Duan et al. 2023, arXiv 2307.01379 (SAR)")
class Sar:
    """Mean of - log(p_j + (1/t) sum_k g(s_j, s_k) p_k): samples that others resemble are trusted more.

    p_j = exp(- token SAR of sample j). With t = 0.001 the neighbours outweigh the sample itself a thousand to one, so
    values may be negative, and depend on the number of samples: compare only runs with equally many.

    Args:
        t: temperature of the neighbours. tokens: whether tokens are weighed by relevance; else all the same.
        similarity: callable for this score alone.
    """

    rising: ClassVar[bool] = True
    t: Annotated[float, Field(gt=0.0)] = 0.001
    tokens: bool = True
    similarity: Any = None

    def needs(self) -> Needs:
        """Two samples, and a similarity."""
        return Needs(("logp",), text=True, samples=2, tools=("similarity",))

    def of_samples(self, samples: Samples, tools: Tools) -> float:
        """The mean under the weights; a neighbour of weight w counts as w m of m equal ones."""
        tools = tools.having({"similarity": self.similarity})
        even = [np.full(len(text), 1 / max(1, len(text))) for text in samples.texts]
        shares = relevances(samples.texts, tools) if self.tokens else even
        energy = np.array([share @ -text.logp for share, text in zip(shares, samples.texts, strict=True)])
        said, count = samples.said, len(samples.texts)
        alike = tools.similar([(a, b) for a in said for b in said]).reshape(count, count)
        return shifted(energy, (alike + alike.T) / 2, samples.weights, self.t)


def shifted(energy: Floats, alike: Floats, weights: Floats, t: float) -> float:
    """Sentence SAR from energies [m], similarities [m, m] and weights [m]."""
    chance = np.exp(-energy)
    others = alike * (1 - np.eye(len(energy))) @ (len(energy) * weights * chance)
    return float(weights @ -np.log(chance + others / t))
