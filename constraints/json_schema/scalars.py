"""The inside of strings and numbers: places of the JSON machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..automata.byte_machine import utf8
from .formula import exact
from .machine import Holder, JsonMachine, Opener, Place
from .tracks import Track, alive, came_true

QUOTE: Final = 0x22
BACKSLASH: Final = 0x5C
ESCAPES: Final = {0x22: 0x22, 0x5C: 0x5C, 0x2F: 0x2F, 0x62: 8, 0x66: 12, 0x6E: 10, 0x72: 13, 0x74: 9}
HEX: Final = frozenset(b"0123456789abcdefABCDEF")
CONTROL: Final = tuple(b"\\u%04x" % code for code in range(32)) + tuple(b"\\u%04X" % code for code in range(32))


class String(Place):
    """Within a string. escape: what of an escape was read; place: within a character of UTF-8; text: what was read,
    where it is asked for. Equal ones in one holder are one (:meth:`at`).
    """

    __slots__ = ("any", "escape", "holder", "place", "text", "tracks")

    def __init__(
        self, machine: JsonMachine, holder: Holder, tracks: tuple[Track, ...], escape: bytes, place: int,
        text: bytes | None,
    ) -> None:  # fmt: skip
        super().__init__(machine)
        self.holder, self.tracks, self.escape, self.place, self.text = holder, tracks, escape, place, text
        self.any = all(
            not (rules.parts or rules.banned or rules.allowed is not None) for _, rules, _, _ in tracks
        )  # every character counts alike

    @classmethod
    def started(cls, machine: JsonMachine, holder: Holder, tracks: tuple[Track, ...]) -> String:
        """After the opening quote."""
        keep = holder.keep or any(track.rules.checks for track in tracks)
        return cls(machine, holder, tracks, b"", 0, b"" if keep else None)

    def at(self, tracks: tuple[Track, ...], escape: bytes, place: int, text: bytes | None) -> String:
        """The place in the same string that holds all this."""
        key = (tracks, escape, place, text)
        found = self.holder.places.get(key)
        if found is None:
            found = self.holder.places[key] = type(self)(self.machine, self.holder, tracks, escape, place, text)
        return found  # type: ignore[return-value]  # tuples of four are strings

    def read(self, byte: int) -> Place | None:
        """One more byte of its spelling."""
        if self.escape:
            return self._escaped(byte)
        if byte == QUOTE:
            return self._closed() if not self.place else None
        if byte == BACKSLASH:
            after = self.at(self.tracks, b"\\", 0, self.text)
            return after if not self.place and any(after._escaped(one) for one in (*ESCAPES, 0x75)) else None
        return None if byte < 0x20 else self._fed(bytes([byte]))

    def _fed(self, data: bytes) -> Place | None:
        """After some bytes of the text itself."""
        place, tracks, same = self.place, self.tracks, True
        for byte in data:
            after = utf8(place, byte)
            if after is None:
                return None
            place = after
            moved = list[Track]()
            for track in tracks:
                if track.rules.free:
                    moved.append(track)
                    continue
                state = track.rules.step(track.state, byte)
                if state is not None:
                    same = same and state == track.state
                    moved.append(track if state == track.state else track.at(state))
            same = same and len(moved) == len(tracks)
            tracks = tuple(moved)
            if not same and not alive(tracks, self.holder.main):
                return None
        text = None if self.text is None else self.text + data
        if same and place == self.place and text is None and not self.escape:
            return self
        return self.at(tuple(dict.fromkeys(tracks)), b"", place, text)

    def _escaped(self, byte: int) -> Place | None:
        escape = self.escape + bytes([byte])
        if len(escape) == 2 and byte in ESCAPES:
            return self._fed(bytes([ESCAPES[byte]]))
        at = (len(escape) - 1) % 6
        if at == 0:
            return self._at(escape) if byte == BACKSLASH else None
        if at == 1:
            return self._at(escape) if byte == 0x75 else None
        if byte not in HEX:
            return None
        code = int(escape[-at + 1 :], 16) << 4 * (5 - at)  # the least code point that begins like that
        last = code + (1 << 4 * (5 - at)) - 1
        if len(escape) > 6:  # the second half of a pair
            if last < 0xDC00 or code > 0xDFFF:
                return None
            if at < 5:
                return self._at(escape)
            high = int(escape[2:6], 16)
            return self._fed(chr(0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)).encode())
        if 0xDC00 <= code <= last <= 0xDFFF:
            return None
        if at < 5 or 0xD800 <= code <= 0xDBFF:
            return self._at(escape)
        return self._fed(chr(code).encode())

    def _at(self, escape: bytes) -> Place | None:
        """Within an escape. Where characters count, only control characters are spelled in hexadecimal."""
        if not self.any:
            ways = [one for one in CONTROL if one.startswith(escape)]
            if not any(self._fed(bytes([int(one[2:], 16)])) for one in ways):
                return None
        elif len(escape) == 2 and self._fed(b"a") is None:
            return None
        return self.at(self.tracks, escape, 0, self.text)

    def _closed(self) -> Place | None:
        final = [track for track in self.tracks if track.rules.free or track.rules.final(track.state, self.text)]
        value = ("string", (self.text or b"").decode()) if self.holder.keep else None
        return self.holder.closed(came_true(final), value)


class Number(Place):
    """Within a number; it has no closing mark, so what cannot belong to it belongs to its holder.

    alike: nothing asks for more than where its digits are zero, so that one digit stands for all others.
    """

    __slots__ = ("_after", "alike", "holder", "text", "tracks")

    def __init__(self, machine: JsonMachine, holder: Holder, tracks: tuple[Track, ...], text: bytes) -> None:
        super().__init__(machine)
        self.holder, self.tracks, self.text = holder, tracks, text
        self.alike = not holder.keep and all(track.rules.free for track in tracks)
        self._after: Place | bool | None = False

    @classmethod
    def started(cls, machine: JsonMachine, holder: Holder, tracks: tuple[Track, ...], byte: int) -> Place | None:
        """With its first byte."""
        return cls(machine, holder, tracks, b"").step(byte)

    def read(self, byte: int) -> Place | None:
        """One more byte, or what follows the number."""
        if byte in b"0123456789+-.eE":
            if self.alike and 0x32 <= byte <= 0x39:
                return self.step(0x31)
            text = self.text + bytes([byte])
            found = self.holder.places.get(text)
            if found is not None:
                return found
            kept = tuple(track for track in self.tracks if track.rules.viable(text))
            if not alive(kept, self.holder.main):
                return None
            found = self.holder.places[text] = Number(self.machine, self.holder, kept, text)
            return found
        after = self._ended()
        return None if after is None else after.step(byte)

    def _ended(self) -> Place | None:
        if self._after is False:
            final = [track for track in self.tracks if track.rules.accepts(self.text)]
            value = ("number", exact_text(self.text)) if self.holder.keep and final else None
            self._after = self.holder.closed(came_true(final), value)
        return self._after  # type: ignore[return-value]

    def between(self) -> Place | None:
        """What follows, if the number may end here."""
        after = self._ended()
        return None if after is None else after.between()

    def final(self) -> bool:
        """Whether the whole text is this number."""
        after = self._ended()
        return after is not None and after.final()


def exact_text(text: bytes) -> Any:
    """The value of a number as equal values compare: by what a program reads."""
    return exact(int(text) if text.lstrip(b"-").isdigit() else float(text))


def _string(machine: JsonMachine, holder: Holder, byte: int) -> Place | None:
    tracks = machine.begin(holder, "string")
    return String.started(machine, holder, tracks) if tracks else None


def _number(machine: JsonMachine, holder: Holder, byte: int) -> Place | None:
    tracks = machine.begin(holder, "number")
    return Number.started(machine, holder, tracks, byte) if tracks else None


OPENERS: Final[Mapping[int, Opener]] = {ord('"'): _string, **dict.fromkeys(b"-0123456789", _number)}
"""By the first byte of a value."""
