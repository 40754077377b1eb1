"""Which positions a dearer model is asked at: rules on one signal, rules that were fitted, and controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import torch
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.rows import Rows
from decodekit.core.uncertainty import RISING, Reading
from decodekit.errors import CompositionError
from decodekit.scores.fitted_rules import Fitted
from decodekit.scores.running import Live, live

Route = Literal["always", "never", "random", "entropy", "top1", "gap", "varentropy", "fitted", "score"]
Router = Callable[[Rows, Tensor, Reading], Tensor]
"""(rows, at [R, K], the fast model's reading [R, K]) -> [R, K] bool, where the dearer model is asked."""
USUAL: Final = {"random": 0.2, "entropy": 1.0, "top1": 0.5, "gap": 0.4, "varentropy": 2.0}
"""Thresholds that are used where none is given. FS-GEN's code halves the gap: its 0.2 is 0.4 here."""
_SALT: Final = 1 << 17
"""Salt of the random router: outside those that strategies use."""


def router(
    route: str, threshold: float | None, fitted: str | None, who: str, score: Any = None, run: BindContext | None = None
) -> Router:
    """The rule that `route` names; `who` is named in errors. `score`: of route="score", a running score of `run`.

    Raises:
        CompositionError: a threshold out of range or beside a rule that has none, or no fitted file.
    """
    if (fitted is not None) != (route == "fitted"):
        raise CompositionError(f"{who}: route={route!r} and fitted={fitted!r} go together: give both, or neither")
    if (score is not None) != (route == "score"):
        raise CompositionError(f"{who}: route={route!r} and score={score!r} go together: give both, or neither")
    if route == "score":
        assert run is not None
        return _running(live(run, score, who), threshold, who)
    if route == "fitted":
        assert fitted is not None
        rule = Fitted.load(fitted, who)
        return lambda rows, at, reading: rule.asks(reading)
    if route in ("always", "never"):
        if threshold is not None:
            raise CompositionError(f"{who}: route={route!r} has no threshold; drop threshold={threshold}")
        return lambda rows, at, reading: torch.full_like(at, route == "always", dtype=torch.bool)
    limit = USUAL[route] if threshold is None else threshold
    within(route, limit, who)
    if route == "random":
        return lambda rows, at, reading: noise.uniform(rows.stream, at, _SALT) < limit
    return lambda rows, at, reading: beyond(route, reading.signal(route), limit)


def _running(running: Live, threshold: float | None, who: str) -> Router:
    """Asks at every position of a row whose text so far is more uncertain than the threshold."""
    if threshold is None:
        raise CompositionError(f"{who}: the score {running.name} has no usual threshold; give threshold=")
    return lambda rows, at, reading: running.beyond(rows, threshold)[:, None].expand_as(at)


def entropy_limit(route: str, threshold: float | None, fitted: str | None, who: str) -> float | None:
    """The entropy above which such a rule asks, in nats; None where it reads anything else, for plots."""
    if route == "entropy":
        return USUAL[route] if threshold is None else threshold
    rule = None if fitted is None else Fitted.load(fitted, who)
    if rule is None or list(rule.weights) != ["entropy"]:
        return None
    mean, scale = rule.mean.get("entropy", 0.0), rule.scale.get("entropy", 1.0)
    return mean + scale * (rule.threshold - rule.bias) / rule.weights["entropy"]


def beyond(signal: str, value: Tensor, limit: float) -> Tensor:
    """Bool like `value`: more uncertain than `limit`."""
    return value > limit if RISING[signal] else value < limit


def within(signal: str, limit: float, who: str) -> None:
    """Raise CompositionError where a threshold can never be met."""
    highest = 1.0 if signal in ("random", "top1", "gap") else float("inf")
    if not 0.0 <= limit <= highest:
        top = "1" if highest == 1.0 else "infinity"
        raise CompositionError(f"{who}: threshold={limit} of {signal} is out of range; give one between 0 and {top}")
