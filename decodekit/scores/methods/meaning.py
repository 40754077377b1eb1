"""Scores of several samples from what they mean: clusters of equal meaning, and the volume that embeddings span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from decodekit.registry.declaration import plugin
from decodekit.scores.base import Floats, Samples
from decodekit.scores.needs import Needs
from decodekit.scores.tools import Tools


def clusters(samples: Samples, tools: Tools, threshold: float) -> list[int]:
    """[m] number of the cluster of each sample: it joins the first whose first member it entails both ways.

    `threshold`: probability of entailment that counts; 0: where entailment is the likeliest of the three.
    """
    said = list(dict.fromkeys(samples.said))
    first: list[str] = []
    of: dict[str, int] = {}
    for text in said:
        pairs = [pair for one in first for pair in ((one, text), (text, one))]
        law = tools.entailment(pairs).reshape(-1, 2, 3)
        yes = law[..., 0] > threshold if threshold > 0 else law.argmax(-1) == 0
        joins = np.flatnonzero(yes.all(1))
        of[text] = int(joins[0]) if len(joins) else len(first)
        if not len(joins):
            first.append(text)
    return [of[text] for text in samples.said]


def cluster_masses(samples: Samples, number: Sequence[int], mass: str) -> Floats:
    """[C] probability of each cluster."""
    out = np.zeros(max(number) + 1)
    if mass == "weight":
        np.add.at(out, list(number), samples.weights)
        return out
    logp = np.array([text.logp.sum() for text in samples.texts])
    seen: dict[tuple[int, ...], int] = {}
    for i, text in enumerate(samples.texts):  # the same tokens count once: they are one outcome
        seen.setdefault(tuple(np.asarray(text.columns["token"]).tolist()), i)
    for i in seen.values():
        out[number[i]] += np.exp(logp[i] - logp.max())
    total: Floats = out / out.sum()
    return total


@plugin(role="score", paper="Kuhn, Gal, Farquhar 2023, arXiv 2302.09664; Farquhar et al. 2024 (discrete)")
class SemanticEntropy:
    """Entropy of the clusters of equal meaning, in nats: 0 where all samples say the same.

    Under the weights of particles this estimates the entropy of meanings under the constrained model.

    Args:
        mass: of a cluster: the "weight" of its samples (frequency for plain samples), or the "probability" of its
            distinct samples under the plain model, normalised.
        threshold: probability of entailment that counts, both ways; 0 for where it is the likeliest of the three.
        nli: callable for this score alone.
    """

    rising: ClassVar[bool] = True
    mass: Literal["weight", "probability"] = "weight"
    threshold: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    nli: Any = None

    def needs(self) -> Needs:
        """Two samples, and a judge of entailment."""
        return Needs(text=True, samples=2, tools=("nli",))

    def of_samples(self, samples: Samples, tools: Tools) -> float:
        """The entropy."""
        number = clusters(samples, tools.having({"nli": self.nli}), self.threshold)
        law = cluster_masses(samples, number, self.mass)
        law = law[law > 0]
        return max(0.0, float(-(law * np.log(law)).sum()))


@plugin(role="score", paper="Semantic Volume, arXiv 2502.21239")
class SemanticVolume:
    """Log-determinant of the Gram matrix of the samples' embeddings, plus `eps` on the diagonal: how far they spread.

    It depends on the number of samples: compare only runs with equally many.

    Args:
        eps: keeps equal samples finite.
        dimensions: of a principal component analysis of the embeddings before it; None for none.
        embed: callable for this score alone.
    """

    rising: ClassVar[bool] = True
    eps: Annotated[float, Field(gt=0.0)] = 1e-6
    dimensions: Annotated[int, Field(ge=1)] | None = None
    embed: Any = None

    def needs(self) -> Needs:
        """Two samples, and an embedder."""
        return Needs(text=True, samples=2, tools=("embed",))

    def of_samples(self, samples: Samples, tools: Tools) -> float:
        """The log-determinant; weights count as in `eigv`."""
        unit = tools.having({"embed": self.embed}).embedded(samples.said)  # [m, d]
        if self.dimensions is not None:
            unit = _projected(unit, samples.weights, self.dimensions)
        scaled = unit * np.sqrt(len(unit) * samples.weights)[:, None]
        lower = np.linalg.cholesky(scaled @ scaled.T + self.eps * np.eye(len(unit)))
        return float(2 * np.log(np.diag(lower)).sum())


def _projected(unit: Floats, weights: Floats, dimensions: int) -> Floats:
    """[m, dimensions] along the principal components, each of length 1 again."""
    centred = unit - weights @ unit
    _, _, axes = np.linalg.svd(np.sqrt(weights)[:, None] * centred, full_matrices=False)
    found = unit @ axes[:dimensions].T
    norm = np.linalg.norm(found, axis=1, keepdims=True)
    out: Floats = found / np.where(norm > 0, norm, 1.0)
    return out


@plugin(role="score", paper="Inv-Entropy, arXiv 2506.09684")
class InvEntropy:
    """How diverse the questions are that an answer goes back to: of the answers to several phrasings of one question.

    Each bootstrap draws an answer per phrasing. With P_x, P_y the row-normalised |cosines| of phrasings and answers:
    p(y) = u P_y, p(x|y) = P_y P_x, p(x) = p(y) p(x|y), p(y|x) by Bayes; the score is the mean of
    - sum_i p(x_i|y_i) log p(x_i|y_i).

    Args:
        bootstraps: how many. seed: of the draws.
        embed: callable for this score alone.
    """

    rising: ClassVar[bool] = True
    bootstraps: Annotated[int, Field(ge=1)] = 20
    seed: int = 0
    embed: Any = None

    def needs(self) -> Needs:
        """Answers to two phrasings, and an embedder."""
        return Needs(text=True, results=2, tools=("embed",))

    def of_results(self, results: Sequence[Samples], tools: Tools) -> float:
        """The mean over bootstraps."""
        asked = tools.having({"embed": self.embed})
        phrasings = _cosines(asked.embedded([one.texts[0].prompt for one in results]))
        answers = asked.embedded([text.text for one in results for text in one.texts])
        begin = np.cumsum([0, *(len(one.texts) for one in results)])
        random = np.random.default_rng(self.seed)
        found = []
        for _ in range(self.bootstraps):
            drawn = [b + random.choice(len(one.texts), p=one.weights) for b, one in zip(begin, results, strict=False)]
            found.append(inverse(phrasings, _cosines(answers[drawn])))
        return float(np.mean(found))


def inverse(phrasings: Floats, answers: Floats) -> float:
    """The score of one bootstrap from affinities [n, n] of phrasings and answers."""
    back = joint(phrasings, answers)[1]
    own = np.diag(back).clip(min=1e-300)
    return float(-(own * np.log(own)).sum())


def joint(phrasings: Floats, answers: Floats) -> tuple[Floats, Floats]:
    """(p(x) [n], p(x|y) [n, n] with y in the rows)."""
    px, py = (one / one.sum(1, keepdims=True) for one in (phrasings, answers))
    prior = np.full(len(px), 1 / len(px)) @ py  # p(y)
    back = py @ px
    return prior @ back, back


def _cosines(unit: Floats) -> Floats:
    found: Floats = np.abs(unit @ unit.T)
    np.fill_diagonal(found, 1.0)
    return found
