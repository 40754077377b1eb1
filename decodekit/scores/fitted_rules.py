"""Thresholds and routers that were fitted on data: small JSON files that say what made them.

What is fitted on: positions of texts that a dearer model wrote, with the signals of the cheap model there and whether
the two models disagree about the next token (:func:`observe`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from decodekit.core.bound import Model
from decodekit.core.cost import Cost
from decodekit.core.rows import Rows
from decodekit.core.uncertainty import ANSWER, RISING, SIGNALS, Reading
from decodekit.core.vocabulary_checks import fitted as widened
from decodekit.errors import CompositionError

VERSION: Final = 1
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """A rule: ask where the score is above `threshold`.

    The score is `bias` + sum of `weights` times the signals of the same names (minus `mean`, over `scale`).
    made: what made it: models, texts, seed, figures on the data.
    """

    weights: dict[str, float]
    threshold: float
    bias: float = 0.0
    mean: dict[str, float] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    def score(self, signals: Mapping[str, Any]) -> Any:
        """Of tensors or arrays by signal name."""
        total: Any = self.bias
        for name, weight in self.weights.items():
            total = total + weight * (signals[name] - self.mean.get(name, 0.0)) / self.scale.get(name, 1.0)
        return total

    def asks(self, reading: Reading) -> Tensor:
        """[...] bool for a reading [...]."""
        found: Tensor = self.score({name: reading.signal(name) for name in self.weights}) > self.threshold
        return found

    def save(self, path: str | PathLike[str]) -> None:
        """One JSON file."""
        Path(path).write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str], who: str) -> Fitted:
        """Read a file of :meth:`save`; `who` is named in errors.

        Raises:
            CompositionError: no such file, or one of another kind.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CompositionError(
                f"{who}: there is no fitted file {str(path)!r}; make one with `decodekit fit`, or give a threshold"
            ) from None
        except (OSError, ValueError) as problem:
            raise CompositionError(f"{who}: the fitted file {str(path)!r} cannot be read: {problem}") from problem
        known = isinstance(found, dict) and found.pop("version", None) == VERSION
        if not known or not set(found.get("weights", "?")) <= {*SIGNALS, *ANSWER}:
            raise CompositionError(
                f"{who}: {str(path)!r} is no fitted file of version {VERSION}; make one with `decodekit fit`"
            )
        return cls(**found)


@dataclass(frozen=True)
class Observed:
    """Positions [N]: the signals of the fast model by name, and whether the slow model's best token is another."""

    signals: dict[str, Floats]
    mismatch: npt.NDArray[np.bool_]


@torch.inference_mode()
def observe(fast: Model, slow: Model, texts: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Observed:
    """Read both models along texts (prompt ids, answer ids) and compare them at every position of the answers."""
    signals: dict[str, list[Floats]] = {name: [] for name in SIGNALS}
    mismatch: list[npt.NDArray[np.bool_]] = []
    for prompt, answer in texts:
        one = torch.zeros(1, dtype=torch.int64, device=fast.device)
        rows = Rows([[*prompt, *answer]], one + len(prompt) + len(answer), one, one, one)
        at = torch.arange(len(prompt), len(prompt) + len(answer), device=fast.device)[None]  # [1, N]
        if at.shape[1] == 0:
            continue
        quick, sure = (model.reader(Cost(), "fit").read(rows, at) for model in (fast, slow))
        reading = Reading(quick)
        for name in SIGNALS:
            signals[name].append(reading.signal(name)[0].cpu().numpy())
        mismatch.append((quick.argmax(-1) != widened(sure, quick.shape[-1]).argmax(-1))[0].cpu().numpy())
    if not mismatch:
        raise CompositionError("fit: the texts have no answers to read; give longer ones")
    return Observed({name: np.concatenate(found) for name, found in signals.items()}, np.concatenate(mismatch))


def by_rate(seen: Observed, signal: str, rate: float) -> Fitted:
    """Ask at the `rate` most uncertain positions, by one signal (a quantile of it)."""
    sign = 1.0 if RISING[signal] else -1.0
    values = sign * seen.signals[signal]
    threshold = float(np.quantile(values, 1.0 - rate)) if 0.0 < rate < 1.0 else math.inf if rate <= 0.0 else -1e300
    rule = Fitted({signal: sign}, threshold)
    return _described(rule, seen, {"method": "rate", "signal": signal, "asked for": rate})


def logistic(seen: Observed, rate: float | None = None) -> Fitted:
    """Logistic regression of disagreement on all signals; asks at p > 1/2, or at a share of `rate` of the positions."""
    weights, bias, mean, scale = balanced(seen.signals, seen.mismatch)
    rule = Fitted(weights, 0.0, bias, mean, scale)
    if rate is not None:
        rule = Fitted(weights, float(np.quantile(rule.score(seen.signals), 1 - rate)), bias, mean, scale)
    return _described(rule, seen, {"method": "logistic", "asked for": rate})


def balanced(
    features: Mapping[str, Floats], labels: npt.NDArray[np.bool_], decay: float = 1e-3, steps: int = 200
) -> tuple[dict[str, float], float, dict[str, float], dict[str, float]]:
    """(weights, bias, mean, scale) of a logistic regression, both classes weighing the same.

    Newton's method on all data with an L2 penalty `decay` on the weights: deterministic, without a seed.
    """
    raw = np.stack(list(features.values()), 1)  # [N, F]
    mean, scale = raw.mean(0), raw.std(0) + 1e-12
    x = np.concatenate([(raw - mean) / scale, np.ones((len(raw), 1))], 1)  # [N, F + 1]
    share = min(max(float(labels.mean()), 1e-9), 1 - 1e-9)
    weight = np.where(labels, 0.5 / share, 0.5 / (1 - share)) / len(raw)
    ridge = np.diag([decay] * raw.shape[1] + [1e-9])
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -50, 50)))
        gradient = x.T @ (weight * (p - labels)) + ridge @ w
        move = np.linalg.solve(x.T @ (x * (weight * p * (1 - p))[:, None]) + ridge, gradient)
        w = w - np.clip(move, -5.0, 5.0)
        if np.abs(move).max() < 1e-10:
            break
    named = [dict(zip(features, map(float, v), strict=True)) for v in (w[:-1], mean, scale)]
    return named[0], float(w[-1]), named[1], named[2]


def _described(rule: Fitted, seen: Observed, made: dict[str, Any]) -> Fitted:
    """With its figures on the data that it was fitted on."""
    asks = rule.score(seen.signals) > rule.threshold
    figures = {
        "positions": len(asks),
        "mismatches": float(seen.mismatch.mean()),
        "call rate": float(asks.mean()),
        "mismatches caught": float(asks[seen.mismatch].mean()) if seen.mismatch.any() else None,
        "accuracy": float((asks == seen.mismatch).mean()),
    }
    return Fitted(rule.weights, rule.threshold, rule.bias, rule.mean, rule.scale, {**made, **figures})
