"""Formats of JSON Schema as patterns, so that they can be asked of strings that are still open.

Sources: RFC 3339 (date, time, date-time, and appendix A for duration), RFC 5321 (email, without quoted local parts and
address literals), RFC 1123 (hostname), RFC 3986 (uri, uri-reference), RFC 4122 (uuid), RFC 6901 (json-pointer).
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterator
from typing import Any, Final

import jsonschema
import regex

_DATE: Final = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME: Final = r"(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = rf"{_LABEL}(?:\.{_LABEL})*"
_URI: Final = r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*"
_BYTE: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
PATTERNS: Final = {
    "date": _DATE,
    "time": _TIME,
    "date-time": rf"{_DATE}[Tt]{_TIME}",
    "duration": r"P(?:\d+W|(?=\d|T\d)(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)",
    "email": rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "ipv6": r"[0-9A-Fa-f:.]{2,45}",
    "uri": rf"[A-Za-z][A-Za-z0-9+.-]*:{_URI}",
    "uri-reference": rf"(?:[A-Za-z][A-Za-z0-9+.-]*:{_URI}|(?![^/?#]*:){_URI})",
    "uuid": r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "json-pointer": r"(?:/(?:[^~/]|~[01])*)*",
}
"""Whole strings of each format, or more than these where `_CLOSER` looks closer. ASCII digits alone."""


def anchored(name: str) -> str | None:
    """The pattern of a format, anchored; None for one that is not known."""
    found = PATTERNS.get(name)
    return None if found is None else f"^(?a:{found})$"


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


_CLOSER: Final[dict[str, Callable[[str], bool]]] = {"date": _is_date, "date-time": _is_date, "ipv6": _is_ipv6}


def fits(name: str, text: str) -> bool:
    """Whether `text` is of a format; formats that are not known fit everything."""
    if name == "regex":
        try:
            regex.compile(text)
        except (regex.error, RecursionError, OverflowError):
            return False
    pattern = PATTERNS.get(name)
    if pattern is None:
        return True
    if regex.fullmatch(pattern, text, regex.ASCII) is None:
        return False
    closer = _CLOSER.get(name)
    return closer is None or closer(text)


def format_of(validator: Any, name: Any, value: Any, schema: Any) -> Iterator[Any]:
    """`format` asserted, as validators of the jsonschema library have it."""
    if validator.is_type(value, "string") and isinstance(name, str) and not fits(name, value):
        yield jsonschema.ValidationError(f"{value!r} is no {name}")
