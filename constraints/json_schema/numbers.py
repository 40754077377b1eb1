"""What a number may be: whether what was written of it can still become a number that satisfies a thread."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any, Final

from .formula import Arena, Thread

FEW: Final = 64
"""So many numbers of an interval are tried one by one; where there are more, one of them is taken to fit."""
EXPONENT: Final = 300
"""The largest exponent: what is beyond is no finite number for most readers."""

LARGE: Final = 2**53
"""Whole numbers below are binary numbers of 64 bits, exactly."""

PREFIX: Final = re.compile(rb"-?(?:(?:0|[1-9][0-9]*)(?:\.(?:[0-9]+(?:[eE](?:[+-]?[0-9]*)?)?)?|[eE](?:[+-]?[0-9]*)?)?)?")
WHOLE: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class NumberRules:
    """The literals of one thread about a number."""

    def __init__(self, arena: Arena, thread: Thread, digits: int) -> None:
        self.low: Fraction | None = None
        self.high: Fraction | None = None
        self.low_open = self.high_open = False
        self.int: set[bool] = set()
        self.mult = list[tuple[Fraction, Any, bool]]()
        self.allowed: frozenset[Fraction] | None = None
        self.banned = frozenset[Fraction]()
        for node in (arena.nodes[part] for part in thread):
            self._take(node)
        self._settle(digits)
        self._viable: dict[bytes, bool] = {}

    def _settle(self, digits: int) -> None:
        """What follows from all of them."""
        self.step: Fraction | None = Fraction(1) if True in self.int else None
        for given, _, sign in self.mult:
            if sign:
                self.step = given if self.step is None else _common(self.step, given)
        ends = [abs(end) for end in (self.low, self.high) if end is not None] + [abs(v) for v in self.allowed or ()]
        self.digits = max([digits, *(len(str(int(end))) + 2 for end in ends)])
        self.low, self.high = _small(self.low), _small(self.high)
        self._whole = all(end is None or _rounded(end) == end for end in (self.low, self.high))  # as binary numbers
        self.free = self.low is None and self.high is None and not (self.mult or self.banned)
        self.free = self.free and self.allowed is None and False not in self.int

    def _take(self, node: tuple[Any, ...]) -> None:
        match node:
            case ("int", sign):
                self.int.add(sign)
            case ("mult", (given, written), sign):
                self.mult.append((given, int(written) if given.denominator == 1 and "." not in written
                                  and "e" not in written else float(given), sign))  # fmt: skip
            case ("in", values, sign):
                found = frozenset(value[1] for value in values if value[0] == "number")
                if not sign:
                    self.banned |= found
                else:
                    self.allowed = found if self.allowed is None else self.allowed & found
            case ("range", low, low_open, high, high_open):
                if low is not None and (self.low is None or (low, low_open) > (self.low, self.low_open)):
                    self.low, self.low_open = low, low_open
                if high is not None and (self.high is None or (high, not high_open) < (self.high, not self.high_open)):
                    self.high, self.high_open = high, high_open

    # --- whole numbers -----------------------------------------------------------------------------------------------

    def holds(self, value: Fraction, plain: float | int | None = None) -> bool:
        """Whether a number satisfies everything; `plain`: as a program reads it, which must agree."""
        if (self.allowed is not None and value not in self.allowed) or value in self.banned:
            return False
        if not self._inside(value) or any((value.denominator == 1) != sign for sign in self.int):
            return False
        sure = plain is None or (self._whole and isinstance(plain, int) and abs(plain) < LARGE)
        if not sure and not (math.isfinite(plain) and self._inside(Fraction(plain), loose=True)):  # type: ignore[arg-type]
            return False
        return all(self._multiple(value, plain, *one) for one in self.mult)

    def _inside(self, value: Fraction, loose: bool = False) -> bool:
        """Within the bounds. loose: a number that was rounded may stand on one, as the bound was rounded alike."""
        low, high = self.low, self.high
        if loose:
            rounded = _rounded(value)
            low = None if low is None else min(low, _rounded(low))
            high = None if high is None else max(high, _rounded(high))
            if (self.low_open and low is not None and rounded == _rounded(low)) or (
                self.high_open and high is not None and rounded == _rounded(high)
            ):
                return False
        if low is not None and (value < low or (value == low and self.low_open)):
            return False
        return high is None or not (value > high or (value == high and self.high_open))

    def _multiple(self, value: Fraction, plain: float | int | None, given: Fraction, raw: Any, sign: bool) -> bool:
        if ((value / given).denominator == 1) != sign:
            return False
        if plain is None:
            return True
        try:  # the arithmetic of validators in binary numbers must come to the same
            quotient = plain / raw
            rest = int(quotient) != quotient if isinstance(raw, float) else bool(plain % raw)
        except OverflowError:
            return True
        return rest != sign

    def accepts(self, text: bytes) -> bool:
        """Whether `text` is a whole number that satisfies the thread."""
        if not WHOLE.fullmatch(text):
            return False
        if self.free:
            return not self.int or _value(text).denominator == 1
        return self.holds(_value(text), _plain(text))

    def satisfiable(self) -> bool:
        """Whether some number satisfies the thread."""
        if self.allowed is not None:
            return any(self.holds(value) for value in self.allowed)
        return self.free or self._between(None, None) or self._between(Fraction(0), Fraction(1))

    # --- prefixes ----------------------------------------------------------------------------------------------------

    def viable(self, text: bytes) -> bool:
        """Whether what was written can become a number of the thread."""
        found = self._viable.get(text)
        if found is None:
            if len(self._viable) > 100_000:
                self._viable.clear()
            found = self._viable[text] = self._search(text)
        return found

    def _search(self, text: bytes) -> bool:
        if not PREFIX.fullmatch(text) or len(text) > self.digits + 8:
            return False
        head, _, tail = text.replace(b"E", b"e").partition(b"e")
        written = sum(0x30 <= byte <= 0x39 for byte in head)
        if written > self.digits:
            return False
        if b"e" in text or b"E" in text:
            return self._exponent(head, tail)
        if head in (b"-", b""):
            return any(self.viable(head + bytes([digit])) for digit in b"0123456789")
        if self.accepts(head):
            return True
        low, sign = abs(_value(head.rstrip(b"."))), -1 if head.startswith(b"-") else 1
        left = self.digits - written
        if b"." in head:
            width = Fraction(1, 10 ** (len(head) - head.index(b".") - 1))
            whole = self.int == {True} and self.free
            return left > 0 and (low.denominator == 1 if whole else self._stretch(low, width, sign))
        if self._stretch(low, 1, sign):
            return True
        if low == 0:
            return False
        return any(self._stretch(low * 10**k, 10**k, sign) for k in range(1, left + 1))

    def _stretch(self, low: Fraction, width: Fraction | int, sign: int) -> bool:
        """Whether a number of [low, low + width), or its negative, satisfies the thread."""
        if self.allowed is not None:
            return any(low <= value * sign < low + width and self.holds(value) for value in self.allowed)
        return self._between(low, low + width) if sign > 0 else self._between(-low - width, -low, True)

    def _between(self, low: Fraction | None, high: Fraction | None, upper: bool = False) -> bool:
        """Whether [low, high) holds such a number; upper: (low, high]."""
        start = low if self.low is None else self.low if low is None else max(low, self.low)
        stop = high if self.high is None else self.high if high is None else min(high, self.high)
        if start is not None and stop is not None and start > stop:
            return False
        if self.step is not None:
            return self._steps(low, high, start, stop, upper)
        if start is not None and start == stop:
            inside = (low is None or start > low or not upper) and (high is None or start < high or upper)
            return inside and self.holds(start)
        return True

    def _steps(
        self, low: Fraction | None, high: Fraction | None, start: Fraction | None, stop: Fraction | None, upper: bool
    ) -> bool:
        step = self.step or Fraction(1)
        if start is None and stop is None:
            start = Fraction(0)
        if start is not None:
            first, way = math.ceil(start / step), 1
        else:
            first, way = math.floor((stop or Fraction(0)) / step), -1
        for i in range(FEW):
            value = (first + way * i) * step
            if (stop is not None and value > stop) or (start is not None and value < start):
                return False
            if (value == high and not upper) or (value == low and upper):
                continue
            plain: float | int = int(value) if value.denominator == 1 else float(value)
            if self.holds(value, plain):
                return True
        return not any(sign is False for _, _, sign in self.mult) and False not in self.int

    def _exponent(self, head: bytes, tail: bytes) -> bool:
        """Whether some exponent that begins with `tail` does."""
        sign, digits = (-1, tail[1:]) if tail.startswith(b"-") else (1, tail.lstrip(b"+"))
        if not tail:
            return any(self._exponent(head, one) for one in (b"+", b"-"))
        if len(digits) > 3:
            return False
        spelled = [digits] if digits else []
        spelled += [b"%s%d" % (digits, i) for i in range(10)] if len(digits) < 3 else []
        spelled += [b"%s%02d" % (digits, i) for i in range(100)] if len(digits) < 2 else []
        for one in spelled:
            if int(one) <= EXPONENT and self._reads(head + b"e" + (b"-" if sign < 0 else b"") + one):
                return True
        return False

    def _reads(self, text: bytes) -> bool:
        return abs(_value(text)) < 10**EXPONENT and self.accepts(text)


def _rounded(value: Fraction) -> Fraction:
    exact = value.denominator == 1 and abs(value) <= LARGE
    return value if exact or abs(value) >= 10**EXPONENT else Fraction(float(value))


def _value(text: bytes) -> Fraction:
    plain = text[1:] if text.startswith(b"-") else text
    return int(text) if plain.isdigit() and len(text) < 4000 else Fraction(text.decode())  # type: ignore[return-value]


def _small(value: Fraction | None) -> Fraction | None:
    """A whole number as an int, with which Python is quicker."""
    return int(value) if value is not None and value.denominator == 1 else value  # type: ignore[return-value]


def _plain(text: bytes) -> float | int:
    """As a JSON reader of Python takes it."""
    return int(text) if text.lstrip(b"-").isdigit() and len(text) < 4000 else float(text)


def _common(one: Fraction, other: Fraction) -> Fraction:
    """The least common multiple."""
    top = math.lcm(one.numerator * other.denominator, other.numerator * one.denominator)
    return Fraction(top, one.denominator * other.denominator)
