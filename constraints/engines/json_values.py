"""Values of JSON that are still being written, as a judge sees them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Closed:
    """A whole value."""

    value: Any


class Str:
    """An open string. raw: its bytes from the opening quote on; inner: its state within a character, else 0.

    Where its characters matter, an escape stands only for what needs one: quotes, backslashes, control characters.
    """

    def __init__(self, raw: bytes, inner: int) -> None:
        self._raw, self._inner = raw, inner
        self.read = False
        """Whether anybody looked at the characters: where nobody did, they do not matter."""

    @cached_property
    def _parts(self) -> tuple[str, bytes]:
        """The whole characters so far, and the bytes of the one that is open."""
        raw, cut = self._raw, len(self._raw)
        if self._inner >= 20:  # within a character of several bytes
            cut = next(i for i in range(cut - 1, -1, -1) if raw[i] >= 0xC0)
        elif self._inner:
            cut = _escape(raw)
        found: str = json.loads(raw[:cut] + b'"')
        return found, raw[cut:]

    def __len__(self) -> int:
        whole, rest = self._parts
        return len(whole) + bool(rest)

    @property
    def wide(self) -> bool:
        """Whether a character beyond ASCII is open."""
        return self._inner >= 20

    def beginnings(self) -> list[str]:
        """What the characters so far may be; several within an escape. Without a character of several bytes."""
        self.read = True
        whole, rest = self._parts
        if not rest or self.wide:
            return [whole]
        return [whole + one for spelled, one in _ESCAPES if spelled.startswith(rest)]

    def fits(self, whole: str) -> bool:
        """Whether the string may become `whole`."""
        self.read = True
        have, rest = self._parts
        if not whole.startswith(have):
            return False
        if not self.wide:
            return not rest or any(whole.startswith(one) for one in self.beginnings())
        return len(whole) > len(have) and whole[len(have)].encode(errors="surrogatepass").startswith(rest)


_SHORT: Final = {
    b'\\"': '"',
    b"\\\\": "\\",
    b"\\/": "/",
    b"\\b": "\b",
    b"\\f": "\f",
    b"\\n": "\n",
    b"\\r": "\r",
    b"\\t": "\t",
}
_CONTROL: Final = {b"\\u%04x" % code: chr(code) for code in range(32)} | {
    b"\\u%04X" % code: chr(code) for code in range(32)
}
_ESCAPES: Final = tuple((_SHORT | _CONTROL).items())


def _escape(raw: bytes) -> int:
    """Where the escape that is open begins; a first surrogate belongs to it."""
    at = raw.rindex(b"\\")
    if at >= 6 and raw[at - 6 : at - 4] == b"\\u" and raw[at - 4] in b"dD" and raw[at - 3] in b"89abAB":
        return at - 6
    return at


@dataclass(frozen=True, slots=True)
class Num:
    """An open number, as text; empty before its first character."""

    text: str


@dataclass(frozen=True, slots=True)
class Arr:
    """An open array. items: closed elements; open: the one that is being written, or None between two."""

    items: tuple[Any, ...]
    open: Any


@dataclass(frozen=True, slots=True)
class Obj:
    """An open object.

    members: closed ones; key: of the member `open`; typing: a key that is being written; more: a key must come.
    """

    members: dict[str, Any]
    key: str | None
    open: Any
    typing: Str | None
    more: bool


class Nothing:
    """A value of which nothing is written."""


NOTHING: Final = Nothing()
Open: TypeAlias = "Closed | Str | Num | Arr | Obj | Nothing"


def extends(value: Any, whole: Any) -> bool:
    """Whether `value` may become `whole`."""
    if isinstance(value, Nothing):
        return True
    if isinstance(value, Closed):
        return same(value.value, whole)
    if isinstance(value, Str):
        return isinstance(whole, str) and value.fits(whole)
    if isinstance(value, Num):
        return _number(whole) and any(one.startswith(value.text) for one in _spellings(whole))
    if isinstance(value, Arr):
        if not isinstance(whole, list) or len(value.items) + (value.open is not None) > len(whole):
            return False
        if not all(same(a, b) for a, b in zip(value.items, whole, strict=False)):
            return False
        return value.open is None or extends(value.open, whole[len(value.items)])
    if not isinstance(whole, dict) or any(k not in whole or not same(v, whole[k]) for k, v in value.members.items()):
        return False
    if value.key is not None:
        return value.key in whole and extends(value.open, whole[value.key])
    left = [name for name in whole if name not in value.members]
    if value.typing is not None:
        return any(value.typing.fits(name) for name in left)
    return bool(left) or not value.more


def same(one: Any, other: Any) -> bool:
    """Equality of JSON: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return bool(one == other) and isinstance(one, str) == isinstance(other, str)


def _spellings(whole: float) -> tuple[str, ...]:
    """How a number may be written, without an exponent: whole ones with and without `.0`."""
    exact = Decimal(repr(whole))
    if exact == exact.to_integral_value():
        text = format(exact.quantize(Decimal(1)) if abs(exact) < 10**20 else exact, "f").removesuffix(".0")
        return (text, f"{text}.0")
    return (format(exact, "f"),)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
