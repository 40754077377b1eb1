"""The SQL dialect byte by byte: lexemes on top of :class:`decodekit.constraints.sql_parser.Parser`.

A state is (place, mode, a, b): the place before the lexeme that is being read, and how much of it was read. White space
may stand between lexemes, at most `space` characters in a row, and never around the dot of a qualified name.
"""

from __future__ import annotations

from typing import Final

from decodekit.constraints.sql_literals import (
    DIGITS,
    DTEXT,
    GAP,
    LETTERS,
    NUMBER,
    QUOTED,
    SIGN,
    TEXT,
    VALUE,
    WORD,
    Literals,
    State,
)
from decodekit.constraints.sql_parser import Place, new_name
from decodekit.constraints.sql_scope import CLOSED, Scope, count, outward

_SPACES: Final = frozenset(b" \t\n\r")
_INNER: Final = LETTERS | DIGITS
_LONG: Final = frozenset(b"<>=!|-")
"""Signs that another may follow."""
_LOWER: Final = tuple(chr(i).lower() if i < 128 else "" for i in range(256))


class Lexer(Literals):
    """The machine (:class:`decodekit.constraints.engines.states.Machine`).

    Words, names in quotes and signs; numbers and texts come from :class:`decodekit.constraints.sql_literals.Literals`.
    """

    def first(self) -> State:
        """Nothing read: no white space at the start."""
        return (self.parser.first, GAP, self.space, 0)

    def final(self, state: State) -> bool:
        """Whether a statement ends here."""
        place = self.settled(state)
        return place is not None and self.parser.ends(place)

    def said(self, state: State) -> str:
        """What may follow, by kind."""
        offer = state[0].offer(self.names)
        known = [term for term in sorted(offer.terminals) if self.parser.shift(state[0], term) is not None]
        known += [f"name {word}" for word in sorted(offer.words) if self.parser.shift(state[0], ("w", word))][:12]
        known += ["a new name"] if offer.loose else []
        known += ["the end"] if self.final(state) else []
        return "expected one of: " + ", ".join(known) if known else ""

    def leap(self, state: State, text: bytes) -> State | None:
        """Read the bytes of a token."""
        here: State | None = state
        for byte in text:
            here = self.step(here, byte)  # type: ignore[arg-type]
            if here is None:
                return None
        return here

    def step(self, state: State, byte: int) -> State | None:
        """Read one byte."""
        place, mode, a, b = state
        if mode == WORD:
            if byte in _INNER:
                word = a + _LOWER[byte]
                return (place, WORD, word, 0) if self._word(place, word) else None
            if byte == 46:
                after = self._qualified(place, a)
                return (after, GAP, self.space, 0) if after is not None else None
            return self._gap(self._named(place, a), 0, byte)
        if mode == GAP:
            return self._gap(place, a, byte)
        if mode in (TEXT, DTEXT):
            return self._text(place, mode, a, b, byte)
        if mode == NUMBER:
            return self._number(place, a, b, byte)
        if mode == QUOTED:
            return self._quoted(place, a, b, byte)
        if mode == SIGN:
            return self._sign(place, a, byte)
        return self._value(place, a, b, byte)

    # --- between lexemes -------------------------------------------------------------------------------------------

    def _gap(self, place: Place | None, spaces: int, byte: int) -> State | None:
        """A lexeme begins, or white space."""
        if place is None:
            return None
        if byte in _SPACES:
            return (place, GAP, spaces + 1, 0) if spaces < self.space else None
        try:
            found: State | None = place.starts[byte]
        except KeyError:
            found = place.starts[byte] = self._start(place, byte)
        return found

    def _start(self, place: Place, byte: int) -> State | None:
        """A lexeme begins."""
        if byte in LETTERS:
            word = _LOWER[byte]
            return (place, WORD, word, 0) if self._word(place, word) else None
        if byte in DIGITS:
            return self._digit(place, byte)
        if byte == 39:
            return self._begun(place)
        if byte == 34:
            return (place, QUOTED, b"", 0) if self._quotable(place, b"") or self.doubly(place) else None
        if byte in _LONG:
            sign, terminals = chr(byte), place.offer(self.names).terminals
            longer = any(t[0] == sign and self.parser.shift(place, t) is not None for t in terminals)
            return (place, SIGN, sign, 0) if longer else None
        if byte > 126 or byte < 33:
            return None
        after = self.parser.shift(place, chr(byte)) if chr(byte) in place.offer(self.names).terminals else None
        return (after, GAP, self.space if byte == 59 else 0, 0) if after is not None else None

    def _sign(self, place: Place, sign: str, byte: int) -> State | None:
        longer = sign + chr(byte)
        if longer in ("<=", "<>", "==", "!=", ">=", "||"):
            after = self.parser.shift(place, longer)
            return (after, GAP, 0, 0) if after is not None else None
        if sign in "!|" or longer == "--":
            return None
        return self._gap(self.parser.shift(place, sign), 0, byte)

    def settled(self, state: State) -> Place | None:
        """The place after the lexeme that is being read, if it may end here."""
        place, mode, a, b = state
        if mode == GAP:
            return place
        if mode == WORD:
            return self._named(place, a)
        if mode in (TEXT, DTEXT):
            return self.parser.shift(place, "str" if mode == TEXT else "dstr") if b == -1 else None
        if mode == NUMBER:
            return self._counted(place, a, b)
        if mode == QUOTED:
            return self._unquoted(place, a) if b else None
        if mode == VALUE:
            return self.parser.shift(place, "str") if b and a in self.values_of(place) else None
        return self.parser.shift(place, a)

    # --- words -----------------------------------------------------------------------------------------------------

    def _word(self, place: Place, word: str) -> bool:
        """Whether some word that begins like this may stand here."""
        found = place.prefixes.get(word)
        if found is None:
            found = place.prefixes[word] = self._begins(place, word)
        return found

    def _begins(self, place: Place, word: str) -> bool:
        offer, shift = place.offer(self.names), self.parser.shift
        if (offer.loose or offer.loose_qualifier) and len(word) <= self.name:
            return True
        for known, terminal in offer.begins.get(word[0], ()):
            if known.startswith(word) and shift(place, terminal) is not None:
                return True
        return False

    def _named(self, place: Place, word: str) -> Place | None:
        """The place after a word: a key word if one fits, else a name."""
        offer, upper = place.offer(self.names), word.upper()
        if upper in offer.terminals:
            after = self.parser.shift(place, upper)
            if after is not None:
                return after
        if word in offer.words and word in offer.plain:
            return self.parser.shift(place, ("w", word))
        new = offer.loose and len(word) <= self.name and new_name(word)
        return self.parser.shift(place, ("w", word)) if new else None

    def _qualified(self, place: Place, word: str) -> Place | None:
        """The place after a word and a dot."""
        offer = place.offer(self.names)
        known = word in offer.qualifiers and word in offer.plain
        if not known and not (offer.loose_qualifier and new_name(word) and len(word) <= self.name):
            return None
        return self.parser.shift(place, ("q", word))

    # --- names and texts in double quotes --------------------------------------------------------------------------

    def _quotable(self, place: Place, text: bytes) -> bool:
        """Whether some name in quotes begins like this."""
        key = (QUOTED, text)
        found = place.prefixes.get(key)
        if found is None:
            offer, shift = place.offer(self.names), self.parser.shift
            found = offer.loose and len(text) < self.name and all(32 <= byte < 127 for byte in text)
            found = found or any(
                name.encode().startswith(text)
                and (shift(place, ("d", name)) is not None or (name in offer.qualifiers and shift(place, ("e", name))))
                for name in offer.words | offer.qualifiers
            )
            place.prefixes[key] = found
        return found

    def doubly(self, place: Place) -> bool:
        """Whether a text may stand in double quotes: where no table is still to come that could give it a meaning."""
        if "dstr" not in place.offer(self.names).terminals or self.parser.shift(place, "dstr") is None:
            return False
        here: Scope | None = place.scope
        while here is not None:
            if here.phase != CLOSED:
                return False
            here = outward(here)
        return True

    def _quoted(self, place: Place, text: bytes, closed: int, byte: int) -> State | None:
        if closed:
            if byte == 46:
                after = self._before_dot(place, text)
                return (after, GAP, self.space, 0) if after is not None else None
            if byte != 34:
                return self._gap(self._unquoted(place, text), 0, byte)
        elif byte == 34:
            ends = self._unquoted(place, text) is not None or self._before_dot(place, text) is not None
            return (place, QUOTED, text, 1) if ends or self._longer(place, text + b'"') else None
        return self._longer(place, text + (bytes([byte]).lower() if byte < 128 else bytes([byte])))

    def _longer(self, place: Place, text: bytes) -> State | None:
        """More of a name in quotes; where it is none, of a text."""
        if self._quotable(place, text):
            return (place, QUOTED, text, 0)
        if not self.doubly(place) or self.names.values is not None:
            return None
        state: State | None = (place, DTEXT, 0, 0)
        for byte in text.replace(b'"', b'""'):
            state = state and self.step(state, byte)
        return state

    def _before_dot(self, place: Place, text: bytes) -> Place | None:
        name = text.decode(errors="replace")
        return self.parser.shift(place, ("e", name)) if name in place.offer(self.names).qualifiers else None

    def _unquoted(self, place: Place, text: bytes) -> Place | None:
        """The place after a name in quotes, or a text."""
        name, offer = text.decode(errors="replace"), place.offer(self.names)
        if name in offer.words or (offer.loose and text):
            after = self.parser.shift(place, ("d", name))
            if after is not None:
                return after
        here: Scope | None = place.scope
        while here is not None:
            if count(here, name):
                return None
            here = outward(here)
        return self.parser.shift(place, "dstr") if self.doubly(place) and self.names.values is None else None
