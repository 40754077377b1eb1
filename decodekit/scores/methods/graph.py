"""Scores of several samples from how alike they are: the graph measures of Lin, Trivedi, Sun (UQ-NLG).

Weights: a sample of weight w counts as w m of m equal samples, so copies of a particle change nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from decodekit.registry.declaration import plugin
from decodekit.scores.base import Floats, Samples
from decodekit.scores.needs import Needs
from decodekit.scores.tools import Tools

Affinity = Literal["similarity", "entail", "contradict"]


def affinity(samples: Samples, kind: Affinity, tools: Tools) -> Floats:
    """[m, m] symmetric, 1 on the diagonal: the similarity, the probability of entailment, or 1 - contradiction."""
    said = samples.said
    pairs = [(a, b) for a in said for b in said]
    if kind == "similarity":
        found = tools.similar(pairs)
    else:
        law = tools.entailment(pairs)
        found = law[:, 0] if kind == "entail" else 1.0 - law[:, 2]
    square = found.reshape(len(said), len(said))
    square = (square + square.T) / 2
    np.fill_diagonal(square, 1.0)
    return square


def spectrum(alike: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues [m] and eigenvectors [m, m] (columns) of the normalised adjacency of a weighted graph: 1 minus those
    of its Laplacian.
    """
    degree = alike @ weights  # [m]
    root = np.sqrt(weights / degree)
    values, vectors = np.linalg.eigh(root[:, None] * alike * root[None, :])
    return values, vectors


class _Graph:
    """Options and needs that the three measures share."""

    affinity: Any
    similarity: Any
    nli: Any

    def needs(self) -> Needs:
        """Two samples, and one callable."""
        tool = "similarity" if self.affinity == "similarity" else "nli"
        return Needs(text=True, samples=2, tools=(tool,))

    def graph(self, samples: Samples, tools: Tools) -> Floats:
        """[m, m] affinities, by this score's own callables if it has any."""
        return affinity(samples, self.affinity, tools.having({"similarity": self.similarity, "nli": self.nli}))


@plugin(role="score", paper="Lin, Trivedi, Sun 2023, arXiv 2305.19187 (U_EigV)")
class Eigv(_Graph):
    """Sum of the eigenvalues max(0, 1 - lambda) of the graph's Laplacian: a continuous number of meanings.

    Args:
        affinity: "similarity", "entail" (probability of entailment) or "contradict" (1 - that of contradiction).
        similarity: callable for this score alone. nli: likewise.
    """

    rising: ClassVar[bool] = True
    affinity: Affinity = "similarity"
    similarity: Any = None
    nli: Any = None

    def of_samples(self, samples: Samples, tools: Tools) -> float:
        """The sum."""
        values, _ = spectrum(self.graph(samples, tools), samples.weights)
        return float(values.clip(min=0.0).sum())


@plugin(role="score", paper="Lin, Trivedi, Sun 2023, arXiv 2305.19187 (U_Deg)")
class Deg(_Graph):
    """Mean distance of two samples, 1 - affinity (the authors' code divides by m instead of m squared).

    Args:
        affinity: as of `eigv`.
        similarity: callable for this score alone. nli: likewise.
    """

    rising: ClassVar[bool] = True
    affinity: Affinity = "similarity"
    similarity: Any = None
    nli: Any = None

    def of_samples(self, samples: Samples, tools: Tools) -> float:
        """The mean under the weights."""
        weights = samples.weights
        return float(weights @ (1.0 - self.graph(samples, tools)) @ weights)


@plugin(role="score", paper="Lin, Trivedi, Sun 2023, arXiv 2305.19187 (U_Ecc)")
class Ecc(_Graph):
    """Spread of the samples in the space of the Laplacian's eigenvectors with eigenvalues below `threshold`.

    Args:
        affinity: as of `eigv`.
        threshold: of the eigenvalues.
        similarity: callable for this score alone. nli: likewise.
    """

    rising: ClassVar[bool] = True
    affinity: Affinity = "similarity"
    threshold: Annotated[float, Field(gt=0.0, le=2.0)] = 0.9
    similarity: Any = None
    nli: Any = None

    def of_samples(self, samples: Samples, tools: Tools) -> float:
        """Norm of the centred eigenvectors: of each, 1 - (sum sqrt(w) v)^2 is left of its length after centring."""
        weights = samples.weights
        values, vectors = spectrum(self.graph(samples, tools), weights)
        kept = vectors[:, 1.0 - values < self.threshold]
        return float(np.sqrt((1.0 - (np.sqrt(weights) @ kept) ** 2).clip(min=0.0).sum()))
