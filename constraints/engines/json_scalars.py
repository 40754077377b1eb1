"""Keywords about values as a whole, strings and numbers, asked of open values (:mod:`json_judge`)."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from decodekit.constraints.engines.json_judge import BOTH, FAIL, HOLD, Node, Says, may
from decodekit.constraints.engines.json_keywords import is_wide, may_occur
from decodekit.constraints.engines.json_values import Arr, Num, Obj, Open, Str, extends
from decodekit.constraints.json_formats import FORMATS

_LOW: Final = ("minimum", "exclusiveMinimum")
_HIGH: Final = ("maximum", "exclusiveMaximum")
NEAR: Final = 64
"""A string that is so much shorter than its limit cannot pass it by one token: nobody has to count."""


def _type(node: Node, given: Any, value: Open, depth: int) -> int:
    names = [given] if isinstance(given, str) else given
    if any(not isinstance(name, str) for name in names):
        return BOTH
    own = {Str: "string", Arr: "array", Obj: "object", Num: "number"}[type(value)]
    if own in names or "any" in names:
        return HOLD
    if own != "number" or "integer" not in names:
        return FAIL
    _, dot, rest = value.text.partition(".") if isinstance(value, Num) else ("", "", "")
    return may(not rest.strip("0")) if dot else BOTH  # 1.0 is an integer


def _enum(node: Node, given: Any, value: Open, depth: int) -> int:
    return may(any(extends(value, one) for one in given))


def _const(node: Node, given: Any, value: Open, depth: int) -> int:
    return may(extends(value, given))


def _least_length(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Str):
        return HOLD
    if node.schema.get("maxLength", given) < given:
        return FAIL
    return HOLD if len(value) >= given else BOTH


def _most_length(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Str):
        return HOLD
    if len(value) + NEAR > given:
        value.read = True
    return may(len(value) <= given)


def _pattern(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Str):
        return HOLD
    found = any(may_occur(given, prefix) for prefix in value.beginnings())
    return may(found and (not value.wide or is_wide(given)))


def _within(node: Node, given: Any, value: Open, depth: int) -> int:
    """All limits of a number together: whether some completion of an open one lies between them."""
    if not isinstance(value, Num):
        return HOLD
    schema = node.schema
    lows = [
        (schema[name], name != "minimum" or schema.get("exclusiveMinimum") is True) for name in _LOW if name in schema
    ]
    highs = [
        (schema[name], name != "maximum" or schema.get("exclusiveMaximum") is True) for name in _HIGH if name in schema
    ]
    lows = [(Fraction(Decimal(repr(limit))), strict) for limit, strict in lows if not isinstance(limit, bool)]
    highs = [(Fraction(Decimal(repr(limit))), strict) for limit, strict in highs if not isinstance(limit, bool)]
    for least, most, closed in completions(value.text):
        above = all(most > limit or (closed and most == limit and not strict) for limit, strict in lows)
        below = all(least < limit or (least == limit and not strict) for limit, strict in highs)
        if above and below and _meet(lows, highs):
            return BOTH
    return FAIL


def _format(node: Node, given: Any, value: Open, depth: int) -> int:
    pattern = FORMATS.get(given) if isinstance(given, str) else None
    return HOLD if pattern is None else _pattern(node, pattern, value, depth)


def _limits(schema: dict[str, Any], weak: str, strict: str) -> list[tuple[Fraction, bool]]:
    """(limit, whether it is excluded); in draft 4 the strict keyword is a bool."""
    found = [(schema[name], name == strict or schema.get(strict) is True) for name in (weak, strict) if name in schema]
    return [(Fraction(Decimal(repr(limit))), hard) for limit, hard in found if not isinstance(limit, bool)]


def _meet(lows: list[tuple[Fraction, bool]], highs: list[tuple[Fraction, bool]]) -> bool:
    return all(low < high or (low == high and not a and not b) for low, a in lows for high, b in highs)


def completions(text: str, digits: int = 40) -> Iterator[tuple[Fraction, Fraction, bool]]:
    """(least, most, whether most is reached) of the numbers that begin with `text`, in parts; without exponents."""
    if text in ("", "-"):
        far = Fraction(10**digits)
        yield (-far, Fraction(0), True) if text else (-far, far, True)
        return
    negative, body = text[0] == "-", text.lstrip("-")
    whole, dot, rest = body.partition(".")
    at = Fraction(int(whole + rest), 10 ** len(rest))
    step = Fraction(1, 10 ** len(rest))
    more = range(1) if dot or whole == "0" else range(max(1, digits - len(whole)))
    for zeros in more:
        low, high = at * 10**zeros, (at + step) * 10**zeros
        yield (-high, -low, True) if negative else (low, high, False)


def _number(node: Node, given: Any, value: Open, depth: int) -> int:
    return BOTH if isinstance(value, Num) else HOLD


TABLE: Final[dict[str, Says]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "minLength": _least_length,
    "maxLength": _most_length,
    "pattern": _pattern,
    "format": _format,
    **dict.fromkeys((*_LOW, *_HIGH), _within),
    "multipleOf": _number,
}
