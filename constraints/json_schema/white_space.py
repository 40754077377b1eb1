"""White space in the JSON machine: which of it may stand at a place, and what must have stood there before a token."""

from __future__ import annotations

import re
from typing import Final, Literal, Protocol, TypeAlias

from .layout import Layout

BLANK: Final = frozenset(b" \t\r\n")
CLOSING: Final = frozenset(b"]}")

Spot: TypeAlias = Literal["open", "comma", "key", "colon", "value"]
"""After what a place is: an opening bracket, a comma, a key, a colon, or a value."""


class Between(Protocol):
    """A place between two tokens. gap: the white space read since the first of them; level: brackets open there."""

    gap: bytes

    @property
    def spot(self) -> Spot:
        """After what it is."""

    @property
    def level(self) -> int:
        """How many brackets are open."""

    def goes_on(self) -> bool:
        """After an opening bracket: whether anything but its closing can follow."""

    def closes(self) -> bool:
        """Whether the closing bracket can follow."""


class Flexible:
    """Nothing, a space, or a line break with bounded indentation; a carriage return begins a line break."""

    def __init__(self, layout: Layout) -> None:
        self._begun = re.compile(rf"\r|{layout.pattern}".encode())

    def begins(self, place: Between, gap: bytes) -> bool:
        """Whether white space at `place` may begin with `gap`."""
        return self._begun.fullmatch(gap) is not None

    def enough(self, place: Between, byte: int) -> bool:
        """Whether `byte`, which is no white space, may follow what was read of it."""
        return place.gap != b"\r"

    def needed(self, place: Between) -> int | None:
        """The byte of white space that a shortest text has next, if it has one."""
        return 0x0A if place.gap == b"\r" else None


class Exact:
    """One way to write each value."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def begins(self, place: Between, gap: bytes) -> bool:
        """Whether white space at `place` may begin with `gap`."""
        if not self._due(place).startswith(gap):
            return False
        match place.spot:
            case "open":  # an empty object or array has none
                return len(gap) > 1 or place.goes_on()
            case "value":  # a comma has none before it
                return len(gap) > 1 or place.closes()
            case _:
                return True

    def enough(self, place: Between, byte: int) -> bool:
        """Whether `byte`, which is no white space, may follow what was read of it."""
        bare = (place.spot == "open") if byte in CLOSING else (place.spot == "value")
        return place.gap == (b"" if bare else self._due(place))

    def needed(self, place: Between) -> int | None:
        """The byte of white space that a shortest text has next, if it has one."""
        due, read = self._due(place), len(place.gap)
        return due[read] if read < len(due) else None

    def _due(self, place: Between) -> bytes:
        layout, level = self._layout, place.level
        match place.spot:
            case "open":
                return layout.line(level).encode()
            case "comma":
                return layout.comma(level).encode()
            case "key":
                return b""
            case "colon":
                return layout.colon.encode()
            case "value":
                return layout.line(level - 1).encode()
