"""Scores of one text from the whole laws that its tokens were taken from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin
from decodekit.scores.fitted_rules import balanced
from decodekit.scores.folds import Running, Seen, Tokens
from decodekit.scores.needs import Needs

VERSION: Final = 1


@plugin(role="score", paper="mean token entropy, e.g. Malinin and Gales 2021, arXiv 2002.07650")
class MeanEntropy(Running):
    """Mean entropy of the laws, in nats, exact."""

    rising: ClassVar[bool] = True

    def needs(self) -> Needs:
        """The entropies."""
        return Needs(("entropy",))

    def each(self, tokens: Tokens) -> Tensor:
        """[N, 1] entropy."""
        return tokens["entropy"][:, None]

    def made(self, seen: Seen) -> Tensor:
        """[R] the mean."""
        return seen.mean[:, 0]


@plugin(role="score", paper="maximum token entropy, e.g. Malinin and Gales 2021, arXiv 2002.07650")
class MaxEntropy(Running):
    """Largest entropy of the laws, in nats, exact."""

    rising: ClassVar[bool] = True

    def needs(self) -> Needs:
        """The entropies."""
        return Needs(("entropy",))

    def each(self, tokens: Tokens) -> Tensor:
        """[N, 1] entropy."""
        return tokens["entropy"][:, None]

    def made(self, seen: Seen) -> Tensor:
        """[R] the largest."""
        return seen.most[:, 0].masked_fill(seen.count == 0, torch.nan)


@plugin(role="score", paper="visualizing the uncertainty of generated text (geometric and arithmetic mean, kurtosis)")
class Kurtosis(Running):
    """Mean excess kurtosis of the laws' probabilities over the vocabulary: high where one token stands out.

    From the power sums S_n = sum p^n and mu = 1/V: m2 = S2/V - mu^2, m4 = S4/V - 4 mu S3/V + 6 mu^2 S2/V - 3 mu^4,
    excess m4 / m2^2 - 3. A law that is uniform has none, and counts as -3; so does one so flat that the differences of
    the sums are rounding alone (they lose eps (S2 / V m2)^2 of the figure: 1 % where it is cut).
    """

    rising: ClassVar[bool] = False

    def needs(self) -> Needs:
        """The power sums."""
        return Needs(("s2", "s3", "s4"))

    def each(self, tokens: Tokens) -> Tensor:
        """[N, 1] excess kurtosis."""
        mean = 1.0 / tokens.vocab
        s2, s3, s4 = (tokens[name] * mean for name in ("s2", "s3", "s4"))
        spread = s2 - mean**2
        fourth = s4 - 4 * mean * s3 + 6 * mean**2 * s2 - 3 * mean**4
        flat = spread <= 10 * torch.finfo(s2.dtype).eps ** 0.5 * s2
        return torch.where(flat, 0.0, fourth / spread.masked_fill(flat, 1.0).square())[:, None] - 3.0

    def made(self, seen: Seen) -> Tensor:
        """[R] the mean."""
        return seen.mean[:, 0]


def _parts(tokens: Tokens, k: int) -> Tensor:
    """[N, k] entropic contributions - p log p of the k likeliest tokens, likeliest first."""
    logp = tokens["top_logps"][:, :k]
    return -logp.exp() * torch.where(logp > -torch.inf, logp, 0.0)


@plugin(role="score", paper="Learned hallucination detection (EPR, WEPR), arXiv 2509.04492")
class Epr(Running):
    """Entropy production rate: mean of - sum p log p over the `k` likeliest tokens, in nats, not renormalised.

    At most the mean entropy, and far below it where laws are flat, so numbers for different `k` do not compare.

    Args:
        k: how many.
    """

    rising: ClassVar[bool] = True
    k: Annotated[int, Field(ge=1)] = 15

    def needs(self) -> Needs:
        """The likeliest tokens."""
        return Needs(top=self.k)

    def each(self, tokens: Tokens) -> Tensor:
        """[N, 1] truncated entropy."""
        return _parts(tokens, self.k).sum(1, keepdim=True)

    def made(self, seen: Seen) -> Tensor:
        """[R] the mean."""
        return seen.mean[:, 0]


@dataclass(frozen=True)
class Coefficients:
    """What :class:`Wepr` was fitted to. With s_tj = - p log p of the j-th likeliest token at token t, a text is wrong
    with probability sigmoid(mean_t(bias + sum_j rate_j s_tj) + sum_j peak_j max_t s_tj).

    k: how many. model, temperature: of the texts. made: what made it.
    """

    k: int
    model: str
    temperature: float
    bias: float
    rate: tuple[float, ...]
    peak: tuple[float, ...]
    made: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | PathLike[str]) -> None:
        """One JSON file."""
        said = {"version": VERSION, "kind": "wepr", **asdict(self)}
        Path(path).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Coefficients:
        """Read a file of :meth:`save`.

        Raises:
            OptionError: no such file, or one of another kind.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            said = getattr(problem, "strerror", None) or str(problem)
            raise OptionError(
                f"wepr: the fitted file {str(path)!r} cannot be read ({said}); write one by `decodekit fit wepr`"
            ) from None
        if not isinstance(found, dict) or found.pop("version", None) != VERSION or found.pop("kind", "") != "wepr":
            raise OptionError(f"wepr: {str(path)!r} is no fitted file of version {VERSION}; fit one")
        try:
            made = cls(**{**found, "rate": tuple(found["rate"]), "peak": tuple(found["peak"])})
        except (KeyError, TypeError):
            made = cls(0, "", 0.0, 0.0, (), ())
        if not len(made.rate) == len(made.peak) == made.k > 0:
            raise OptionError(
                f"wepr: {str(path)!r} is damaged: its coefficients are not of {made.k} tokens; fit another"
            )
        return made


def features(top_logps: Sequence[npt.NDArray[Any]], k: int) -> npt.NDArray[np.float64]:
    """[N, 2 k] of N texts, each [T, >= k] log-probabilities: means over the tokens, then maxima."""
    rows = []
    for logps in top_logps:
        logp = np.asarray(logps, dtype=np.float64)[:, :k]
        parts = -np.exp(logp) * np.where(np.isfinite(logp), logp, 0.0)
        rows.append(np.concatenate([parts.mean(0), parts.max(0)]))
    return np.stack(rows)


def fit_wepr(
    top_logps: Sequence[npt.NDArray[Any]],
    wrong: Sequence[bool],
    *,
    k: int = 10,
    model: str = "",
    temperature: float = 1.0,
    decay: float = 1e-2,
    **made: Any,
) -> Coefficients:
    """Fit the coefficients by logistic regression (both classes weigh the same) on texts and whether each is wrong.

    Raises:
        OptionError: texts of one class only, or fewer than `k` tokens recorded.
    """
    labels = np.asarray(wrong, dtype=np.bool_)
    if labels.all() or not labels.any():
        raise OptionError("wepr needs texts that are wrong and texts that are right; give more")
    if min(logps.shape[1] for logps in top_logps) < k:
        raise OptionError(f"wepr(k={k}) needs the {k} likeliest tokens of every event; generate with top_k={k}")
    found = features(top_logps, k)
    names = [str(i) for i in range(2 * k)]
    weights, bias, mean, scale = balanced(dict(zip(names, found.T, strict=True)), labels, decay)
    flat = {name: weights[name] / scale[name] for name in names}
    bias -= sum(flat[name] * mean[name] for name in names)
    values = [flat[name] for name in names]
    told = {"texts": len(labels), "wrong": float(labels.mean()), **made}
    return Coefficients(k, model, temperature, bias, tuple(values[:k]), tuple(values[k:]), told)


@plugin(role="score", paper="Learned hallucination detection (EPR, WEPR), arXiv 2509.04492")
class Wepr(Running):
    """Weighted entropy production rate: the fitted probability that the text is wrong.

    Args:
        fitted: file that `decodekit fit wepr` wrote, or :meth:`Coefficients.save` after :func:`fit_wepr`. It holds for
            one number of tokens `k`, one model and one temperature.
    """

    rising: ClassVar[bool] = True
    fitted: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "_told", Coefficients.load(self.fitted))

    @property
    def told(self) -> Coefficients:
        """The coefficients."""
        found: Coefficients = self._told  # type: ignore[attr-defined]
        return found

    def needs(self) -> Needs:
        """The likeliest tokens."""
        return Needs(top=self.told.k)

    def width(self) -> int:
        """As many as the likeliest tokens."""
        return self.told.k

    def each(self, tokens: Tokens) -> Tensor:
        """[N, k] parts of the truncated entropy."""
        return _parts(tokens, self.told.k)

    def made(self, seen: Seen) -> Tensor:
        """[R] probability."""
        told = self.told
        rate, peak = (
            torch.tensor(one, dtype=torch.float64, device=seen.total.device) for one in (told.rate, told.peak)
        )
        return torch.sigmoid(told.bias + seen.mean @ rate + seen.most.masked_fill(seen.count[:, None] == 0, 0.0) @ peak)

    def trouble(self, text: Any) -> str:
        """What is wrong with a text, as the end of a sentence."""
        model = text.trace.header.get("model") if text.trace is not None else None
        if model and self.told.model and model != self.told.model:
            return f"was fitted for {self.told.model}, and this text is of {model}; fit it for this model"
        return ""
