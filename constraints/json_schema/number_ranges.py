"""Numbers between bounds, as patterns of their digits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

DIGITS: Final = 16
"""The most digits of an integer without an upper bound."""


def integers(schema: Mapping[str, Any]) -> str | None:
    """A pattern for the integers within the bounds of a schema; None where there is none."""
    low, high = _bounds(schema)
    least = None if low is None else math.floor(low[0]) + 1 if low[1] else math.ceil(low[0])
    most = None if high is None else math.ceil(high[0]) - 1 if high[1] else math.floor(high[0])
    parts = []
    if least is None or least < 0:
        begin = 1 if most is None or most >= -1 else -most
        if least is None or -least >= begin:
            parts.append("-(" + between(begin, None if least is None else -least) + ")")
    if most is None or most >= 0:
        begin = max(0, least or 0)
        if most is None or most >= begin:
            parts.append(between(begin, most))
    return "|".join(parts) if parts else None


def numbers(schema: Mapping[str, Any]) -> str | None:
    """A pattern for decimals without exponent within the bounds of a schema; None for bounds that it cannot hold.

    Bounds are integers (a fraction is rounded inwards), the lower one not negative; or there are none.
    """
    low, high = _bounds(schema)
    if low is None and high is None:
        return r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
    least = -1 if low is None else math.ceil(low[0])
    if least < 0:
        return None
    most = None if high is None else math.floor(high[0])
    open_low = low is not None and low[1] and low[0] == least
    open_high = high is not None and high[1] and high[0] == most
    nought, some = r"(\.0+)?", r"\.[0-9]*[1-9][0-9]*"
    parts = [f"({between(least, least)})({some}" + (")" if open_low else f"|{nought})")]
    if most is None:
        parts.append(f"({between(least + 1, None)})(\\.[0-9]+)?")
        return "|".join(parts)
    if most < least or (most == least and (open_low or open_high)):
        return None
    if most == least:
        return f"({between(least, least)}){nought}"
    if most > least + 1:
        parts.append(f"({between(least + 1, most - 1)})(\\.[0-9]+)?")
    if not open_high:
        parts.append(f"({between(most, most)}){nought}")
    return "|".join(parts)


def _bounds(schema: Mapping[str, Any]) -> tuple[tuple[Fraction, bool] | None, tuple[Fraction, bool] | None]:
    """(lower, upper), each with whether the bound itself is left out; the narrower of two."""
    low = [(Fraction(schema[name]), name != "minimum") for name in ("minimum", "exclusiveMinimum") if name in schema]
    high = [(Fraction(schema[name]), name != "maximum") for name in ("maximum", "exclusiveMaximum") if name in schema]
    return max(low, default=None), min(high, key=lambda one: (one[0], not one[1]), default=None)


def between(low: int, high: int | None) -> str:
    """A pattern for the integers from `low` (at least 0) to `high`; without `high` of DIGITS digits at most."""
    if high is None:
        width = len(str(low))
        more = "" if width >= DIGITS else f"|[1-9][0-9]{{{width},{DIGITS - 1}}}"
        return between(low, 10**width - 1) + more
    parts, begin = [], low
    while begin <= high:
        width = len(str(begin))
        end = min(high, 10**width - 1)
        parts += _same(str(begin), str(end))
        begin = end + 1
    return "|".join(parts)


def _same(low: str, high: str) -> list[str]:
    """Patterns for the numbers from `low` to `high`, which have as many digits."""
    if not low:
        return [""]
    rest = len(low) - 1
    if low[0] == high[0]:
        return [low[0] + part for part in _same(low[1:], high[1:])]
    first, last = int(low[0]), int(high[0])
    out = []
    if low[1:].strip("0"):  # not the least of its hundred
        out += [low[0] + part for part in _same(low[1:], "9" * rest)]
        first += 1
    tail = []
    if high[1:].strip("9"):
        tail = [high[0] + part for part in _same("0" * rest, high[1:])]
        last -= 1
    if first <= last:
        digit = str(first) if first == last else f"[{first}-{last}]"
        out.append(digit + (f"[0-9]{{{rest}}}" if rest else ""))
    return out + tail
