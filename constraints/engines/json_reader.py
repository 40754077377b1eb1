"""A byte-level reader of JSON (RFC 8259) with immutable states: what was read so far is a value that is still open.

The reader knows the language alone; what a schema allows is asked of a judge (:mod:`json_judge`) about the open value.
Numbers have no exponent, so that their size can be told from their beginning. A key may stand only once in its object,
and an escaped surrogate only in a pair, so that every text is one that all readers of JSON read alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from decodekit.constraints.engines.json_values import NOTHING, Arr, Closed, Num, Obj, Open, Str

CLOSED: Final = 99
"""State of a string after its closing quote."""
_WHITE: Final = frozenset(b" \n\r\t")
_WORDS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_NUMBER: Final = {
    0: {"-": 1, "0": 2, "1-9": 3},
    1: {"0": 2, "1-9": 3},
    2: {".": 4},
    3: {"0-9": 3, ".": 4},
    4: {"0-9": 5},
    5: {"0-9": 5},
}
"""Numbers without exponents: with one, nothing could be told of a number before its end."""
_WHOLE: Final = frozenset({2, 3, 5})
_SETS: Final = {"1-9": b"123456789", "0-9": b"0123456789"}
_DIGITS: Final = {
    state: {byte: after for name, after in ways.items() for byte in _SETS.get(name, name.encode())}
    for state, ways in _NUMBER.items()
}
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class Frame(NamedTuple):
    """An open array or object. items: closed elements; members: closed members; key: of the member that is open."""

    kind: str
    items: tuple[Any, ...] = ()
    members: dict[str, Any] | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """White space between two tokens of JSON: at most one line break, then at most `spaces` spaces. digits: characters
    of a number at most.
    """

    spaces: int = 0
    breaks: bool = False
    digits: int = 64


class Reading:
    """What was read. Equal texts are equal states.

    phase: V before a value, W before a value or `]`, K before a key, J before a key or `}`, k in a key, C before a
    colon, s in a string, n in a number, l in a word, E after a value, D done. inner: state of the scalar that is open;
    begun: where it begins; white: spaces just read, -1 for none yet.
    """

    __slots__ = ("begun", "inner", "phase", "root", "stack", "text", "white")

    def __init__(
        self,
        text: bytes,
        phase: str,
        stack: tuple[Frame, ...] = (),
        inner: int = 0,
        begun: int = 0,
        white: int = -1,
        root: Any = None,
    ) -> None:
        self.text, self.phase, self.stack, self.inner = text, phase, stack, inner
        self.begun, self.white, self.root = begun, white, root

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reading) and self.text == other.text

    def whole(self) -> bool:
        """Whether this is a whole JSON text."""
        return self.phase == "D" or (self.phase == "n" and not self.stack and self.inner in _WHOLE)

    def value(self) -> Open:
        """The root as far as it was read."""
        found = self._innermost()
        for frame in reversed(self.stack):
            if frame.kind == "[":
                found = Arr(frame.items, found)
            elif self.phase in ("k", "J", "K") and frame is self.stack[-1]:
                typing = found if isinstance(found, Str) else None
                found = Obj(frame.members or {}, None, None, typing, self.phase == "K")
            else:
                found = Obj(frame.members or {}, frame.key, found, None, False)
        return found if found is not None else NOTHING

    def _innermost(self) -> Any:
        if self.phase == "D":
            return Closed(self.root)
        if self.phase in ("s", "k"):
            return Str(self.text[self.begun :], self.inner)
        if self.phase == "n":
            return Num(self.text[self.begun :].decode())
        if self.phase == "l":
            return Closed(json.loads(_WORDS[self.text[self.begun]]))
        if self.phase in ("V", "C"):
            return NOTHING
        return None  # between members or elements


FIRST: Final = Reading(b"", "V")


def read(state: Reading, byte: int, layout: Layout) -> Reading | None:
    """One byte more, or None where no JSON text goes on like that."""
    text, phase = state.text + bytes([byte]), state.phase
    if phase in ("s", "k"):
        return _string(state, byte, text)
    if phase == "n":
        after = _DIGITS[state.inner].get(byte)
        if after is not None:
            short = len(text) - state.begun <= layout.digits
            return Reading(text, "n", state.stack, after, state.begun) if short else None
        if state.inner not in _WHOLE or not state.stack:
            return None
        closed = _close(state, state.text, json.loads(state.text[state.begun :]))
        return read(closed, byte, layout)
    if phase == "l":
        word = _WORDS[state.text[state.begun]]
        done = len(text) - state.begun
        if word[done - 1] != byte:
            return None
        return (
            _close(state, text, json.loads(word))
            if done == len(word)
            else Reading(text, "l", state.stack, 0, state.begun)
        )
    if byte in _WHITE:
        return _white(state, byte, text, layout)
    return _token(state, byte, text)


def _white(state: Reading, byte: int, text: bytes, layout: Layout) -> Reading | None:
    if not state.stack or state.phase == "D":  # nothing before and after the value
        return None
    if byte == 0x0A and layout.breaks and state.white < 0:
        white = 0
    elif byte == 0x20 and max(state.white, 0) < layout.spaces:
        white = max(state.white, 0) + 1
    else:
        return None
    return Reading(text, state.phase, state.stack, 0, 0, white)


def _token(state: Reading, byte: int, text: bytes) -> Reading | None:
    phase, stack = state.phase, state.stack
    if phase in ("V", "W"):
        if byte == 0x5D and phase == "W":
            return _end(state, text)
        return _begin(stack, byte, text)
    if phase in ("K", "J"):
        if byte == 0x22:
            return Reading(text, "k", stack, 0, len(text) - 1)
        return _end(state, text) if byte == 0x7D and phase == "J" else None
    if phase == "C":
        return Reading(text, "V", stack) if byte == 0x3A else None
    if phase != "E":
        return None
    kind = stack[-1].kind
    if byte == 0x2C:
        return Reading(text, "V" if kind == "[" else "K", stack)
    return _end(state, text) if byte == (0x5D if kind == "[" else 0x7D) else None


def _begin(stack: tuple[Frame, ...], byte: int, text: bytes) -> Reading | None:
    at = len(text) - 1
    if byte == 0x22:
        return Reading(text, "s", stack, 0, at)
    if byte == 0x5B:
        return Reading(text, "W", (*stack, Frame("[")))
    if byte == 0x7B:
        return Reading(text, "J", (*stack, Frame("{", (), {})))
    if byte in _WORDS:
        return Reading(text, "l", stack, 0, at)
    after = _DIGITS[0].get(byte)
    return None if after is None else Reading(text, "n", stack, after, at)


def _end(state: Reading, text: bytes) -> Reading:
    """The innermost array or object is closed."""
    frame = state.stack[-1]
    value: Any = list(frame.items) if frame.kind == "[" else frame.members
    outer = Reading(state.text, state.phase, state.stack[:-1])
    return _close(outer, text, value)


def _close(state: Reading, text: bytes, value: Any) -> Reading:
    """`value` is closed and goes into what is open around it."""
    if not state.stack:
        return Reading(text, "D", (), root=value)
    *outer, frame = state.stack
    if frame.kind == "[":
        frame = frame._replace(items=(*frame.items, value))
    else:
        frame = frame._replace(members={**(frame.members or {}), str(frame.key): value}, key=None)
    return Reading(text, "E", (*outer, frame))


def _string(state: Reading, byte: int, text: bytes) -> Reading | None:
    inner = string_step(state.inner, byte)
    if inner is None:
        return None
    if inner != CLOSED:
        return Reading(text, state.phase, state.stack, inner, state.begun)
    value = json.loads(text[state.begun :])
    if state.phase == "s":
        return _close(state, text, value)
    *outer, frame = state.stack
    if value in (frame.members or {}):
        return None
    return Reading(text, "C", (*outer, frame._replace(key=value)))


def string_step(state: int, byte: int) -> int | None:
    """One byte within a string: 0 between characters, 1 after a backslash, 2 to 12 in an escape, 20 to 26 in UTF-8."""
    if state == 0:
        if byte == 0x22:
            return CLOSED
        if byte == 0x5C:
            return 1
        if byte < 0x80:
            return 0 if byte >= 0x20 else None
        return next((after for low, high, after in _LEADS if low <= byte <= high), None)
    if state >= 20:
        low, high, after = _FOLLOW[state]
        return after if low <= byte <= high else None
    if state == 1:
        return 2 if byte == 0x75 else (0 if byte in b'"\\/bfnrt' else None)
    if state in (9, 10):
        return state + 1 if byte == (0x5C if state == 9 else 0x75) else None
    if byte not in _HEX:
        return None
    if state == 2:  # a surrogate begins with D
        return 6 if byte in b"dD" else 3
    if state == 6:
        return 4 if byte in b"01234567" else (7 if byte in b"89abAB" else None)
    if state == 11:
        return 12 if byte in b"dD" else None
    if state == 12:
        return 4 if byte in b"cdefCDEF" else None
    return {3: 4, 4: 5, 5: 0, 7: 8, 8: 9}[state]


_LEADS: Final = (
    (0xC2, 0xDF, 20),
    (0xE0, 0xE0, 21),
    (0xED, 0xED, 23),
    (0xE1, 0xEF, 22),
    (0xF0, 0xF0, 24),
    (0xF4, 0xF4, 26),
    (0xF1, 0xF3, 25),
)
_FOLLOW: Final = {
    20: (0x80, 0xBF, 0),
    21: (0xA0, 0xBF, 20),
    22: (0x80, 0xBF, 20),
    23: (0x80, 0x9F, 20),
    24: (0x90, 0xBF, 22),
    25: (0x80, 0xBF, 22),
    26: (0x80, 0x8F, 22),
}
"""First byte of a character from, to, state; the range of the next one (RFC 3629, section 4)."""
