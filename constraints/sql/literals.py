"""Numbers and texts of the SQL dialect, byte by byte."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from ..automata.byte_machine import utf8
from .parser import Parser, Place
from .rules import COMPARED
from .scope import Names

GAP, WORD, NUMBER, TEXT, QUOTED, SIGN, VALUE, DTEXT = range(8)
State: TypeAlias = "tuple[Place, int, Any, Any]"
WHOLE, POINT, FRACTION, COUNT, ORDINAL = range(5)
"""Kinds of numbers being read."""

INDENT: Final = 8
"""The most blanks after a line break, where white space is bounded to one break."""
LETTERS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
DIGITS: Final = frozenset(b"0123456789")


class Literals:
    """The part of the machine that reads literals.

    space: most white space in a row, None for one blank, or one line break and up to `INDENT` blanks. text:
    most characters of a text; digits: of a number, before and after the point.
    name: most letters of a new name.
    """

    def __init__(self, names: Names, space: int | None, text: int, digits: int, name: int) -> None:
        self.names, self.parser = names, Parser(names)
        self.folds = names.spelt is None
        self.letters = tuple(chr(i) if i < 128 else "" for i in range(256))
        self.letters = tuple(map(str.lower, self.letters)) if self.folds else self.letters
        self.free = space is not None
        space = 1 + INDENT if space is None else space
        self.space, self.text, self.digits, self.name = space, text, digits, name

    def _gap(self, place: Place | None, spaces: int, byte: int) -> State | None:
        """A lexeme begins, or white space."""
        raise NotImplementedError

    def _digit(self, place: Place, byte: int) -> State | None:
        offer = place.offer(self.names)
        if offer.numbers:
            return self._number(place, ORDINAL, "", byte)
        for terminal, kind in (("num", WHOLE), ("int", COUNT)):
            if terminal in offer.terminals and self.parser.shift(place, terminal) is not None:
                return (place, NUMBER, kind, 1)
        return None

    def _number(self, place: Place, kind: int, seen: Any, byte: int) -> State | None:
        if byte in DIGITS:
            if kind == ORDINAL:
                text = seen + chr(byte)
                known = any(number.startswith(text) for number in place.offer(self.names).numbers)
                return (place, NUMBER, ORDINAL, text) if known else None
            most = 9 if kind == COUNT else self.digits
            if kind == POINT:
                return (place, NUMBER, FRACTION, 1)
            return (place, NUMBER, kind, seen + 1) if seen < most else None
        if byte == 46:
            return (place, NUMBER, POINT, 0) if kind == WHOLE else None
        return None if byte in LETTERS else self._gap(self._counted(place, kind, seen), 0, byte)

    def _counted(self, place: Place, kind: int, seen: Any) -> Place | None:
        if kind == POINT:
            return None
        terminal = ("i", seen) if kind == ORDINAL else "int" if kind == COUNT else "num"
        return self.parser.shift(place, terminal)

    def _begun(self, place: Place) -> State | None:
        """A quote begins a text."""
        if "str" not in place.offer(self.names).terminals or self.parser.shift(place, "str") is None:
            return None
        if self.values_of(place) is not None:
            return (place, VALUE, b"", 0) if self.values_of(place) else None
        return (place, TEXT, 0, 0)

    def _text(self, place: Place, mode: int, length: int, part: int, byte: int) -> State | None:
        quote = 39 if mode == TEXT else 34
        if part == -1:
            if byte == quote:
                return (place, mode, length + 1, 0) if length < self.text else None
            return self._gap(self.parser.shift(place, "str" if mode == TEXT else "dstr"), 0, byte)
        if part == 0:
            if byte == quote:
                return (place, mode, length, -1)
            if byte < 32 or byte == 127 or length >= self.text:
                return None
            length += 1
        after = utf8(part, byte)
        return (place, mode, length, after) if after is not None else None

    def values_of(self, place: Place) -> Any:
        """The texts that may stand here; None for any."""
        against, stack = place.scope.against, place.stack
        if self.names.values is None or against is None or stack is None:
            return None
        if stack[0] == "isnot":
            stack = stack[1]
        compared = stack is not None and stack[0] in (COMPARED, "isvalue", "member", "members")
        return self.names.values.get(against) if compared else None

    def moved(self, state: State) -> bool:
        """Whether white space may come next."""
        return not (state[1] == GAP and state[2] >= self.space)

    def _value(self, place: Place, text: bytes, closed: int, byte: int) -> State | None:
        """One byte of a text that must be one of those that occur."""
        if closed:
            if byte != 39:
                after = self.parser.shift(place, "str") if text in self.values_of(place) else None
                return self._gap(after, 0, byte)
            text += b"'"
        elif byte == 39:
            begun = self._begun_value(place, text + b"'")
            return (place, VALUE, text, 1) if begun or text in self.values_of(place) else None
        else:
            text += bytes([byte])
        return (place, VALUE, text, 0) if self._begun_value(place, text) else None

    def _begun_value(self, place: Place, text: bytes) -> bool:
        key = (VALUE, text)
        found = place.prefixes.get(key)
        if found is None:
            found = place.prefixes[key] = any(value.startswith(text) for value in self.values_of(place))
        return found
