"""Importance weights of samples: normalising, averaging and drawing by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def normalised(logw: Sequence[float]) -> list[float]:
    """Weights that sum to one; all zero if none is possible."""
    top = max(logw, default=-math.inf)
    if top == -math.inf:
        return [0.0] * len(logw)
    weights = [math.exp(w - top) for w in logw]
    total = sum(weights)
    return [w / total for w in weights]


def log_mean(logw: Sequence[float]) -> float:
    """Log of the mean of exp(logw)."""
    top = max(logw, default=-math.inf)
    if top == -math.inf:
        return -math.inf
    return top + math.log(sum(math.exp(w - top) for w in logw) / len(logw))


def drawn(weights: Sequence[float], uniform: float) -> int:
    """Index drawn with probability `weights` by inversion; `uniform` in (0, 1)."""
    total = 0.0
    last = 0
    for i, weight in enumerate(weights):
        if weight > 0:
            last = i
            total += weight
            if uniform < total:
                return i
    return last
