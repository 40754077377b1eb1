"""The mean weight of a replay that was stopped before it had all its accepts
(:mod:`decodekit.candidates.estimators`).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

_STEP: Final = 0.25  # of the trapezoid rule below: its error is about exp(-pi^2 / step), 1e-17


def mean(n: float, accepts: int, missing: int, logz: float) -> float:
    """The log of E[(m - 1) / (m - 1 + n + N)], m = `accepts`, N the refusals before `missing` accepts, of chance Z.

    With c = m - 1 + n, 1 / (c + N) is the integral of exp(-(c + N) s) over s > 0, and E[exp(-N s)] is
    (Z / (1 - (1 - Z) exp(-s)))^missing. In y = log s the integrand is analytic in a strip and falls off exponentially
    at both ends: the trapezoid rule is exact to rounding. All in logarithms, for Z down to exp(-1e5).
    """
    c = n + accepts - 1
    if logz >= 0.0 or c == math.inf:
        return math.log(accepts - 1) - math.log(c) if c < math.inf else -math.inf
    refused = math.log(-math.expm1(logz))
    y = np.arange(min(-math.log(c), logz - refused) - 40.0, math.log(800.0 / c), _STEP)
    s = np.exp(np.maximum(y, -690.0))
    odds = refused - logz + y + np.log(-np.expm1(-s) / s)  # log of (1 - Z) (1 - exp(-s)) / Z
    terms = y - c * s - missing * np.logaddexp(0.0, odds)
    return math.log(_STEP * (accepts - 1)) + float(np.logaddexp.reduce(terms))
