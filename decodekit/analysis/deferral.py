"""What deferring is worth: quality against the share of answers that go to the large model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """rates: [N + 1] share of answers deferred, 0 to 1. quality: [N + 1] mean quality at that rate."""

    rates: Floats
    quality: Floats

    @property
    def area(self) -> float:
        """Under the curve, by the trapezoidal rule: between the worst order and the oracle's."""
        return float(np.trapezoid(self.quality, self.rates))


def curve(unsure: Sequence[float], small: Sequence[float], large: Sequence[float]) -> Curve:
    """Defer in order of `unsure` [N], highest first; `small`, `large` [N] are what each model's answers are worth.

    Answers that are equally unsure are deferred in shares, as a random choice among them would be on average.
    """
    order = np.argsort(-np.asarray(unsure, dtype=np.float64), kind="stable")
    gain = (np.asarray(large, dtype=np.float64) - np.asarray(small, dtype=np.float64))[order]
    level = np.asarray(unsure, dtype=np.float64)[order]
    for value in np.unique(level):
        gain[level == value] = gain[level == value].mean()
    total = np.concatenate([[0.0], np.cumsum(gain)]) / max(1, len(gain))
    return Curve(np.linspace(0.0, 1.0, len(gain) + 1), float(np.mean(small)) + total)


def at_random(small: Sequence[float], large: Sequence[float]) -> Curve:
    """The straight line that deferring at random gives on average."""
    return curve([0.0] * len(small), small, large)


def oracle(small: Sequence[float], large: Sequence[float]) -> Curve:
    """The best order there is: by what deferring gains."""
    return curve([b - a for a, b in zip(small, large, strict=True)], small, large)


def threshold_at(unsure: Sequence[float], rate: float) -> float:
    """Defer above it, and a share of about `rate` of these answers goes to the large model."""
    values = np.asarray(unsure, dtype=np.float64)
    return float(np.quantile(values, 1.0 - rate)) if 0.0 < rate < 1.0 else (np.inf if rate <= 0.0 else -np.inf)
