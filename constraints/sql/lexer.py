"""The SQL dialect byte by byte: lexemes on top of :class:`decodekit.constraints.sql.parser.Parser`.

A state is (place, mode, a, b): the place before the lexeme that is being read, and how much of it was read. White space
may stand between lexemes, at most `space` characters in a row, and never around the dot of a qualified name.
"""

from __future__ import annotations

import re
from typing import Final

from .expected import said
from .literals import DIGITS, DTEXT, GAP, LETTERS, NUMBER, QUOTED, SIGN, TEXT, VALUE, WORD, State
from .parser import Place, new_name
from .quotes import Quotes
from .spelling import lettered

_SPACES: Final = frozenset(b" \t\n\r")
_INNER: Final = LETTERS | DIGITS
_LETTERLIKE: Final = frozenset(range(32, 127)) - {39}
_WORD: Final = re.compile(rb"[A-Za-z0-9_]*")
_TEXT: Final = re.compile(rb"[\x20-\x26\x28-\x7e]*")
_LONG: Final = frozenset(b"<>=!|-")
"""Signs that another may follow."""
NOBODY: Final = "~?~"
"""A name that is no word: what follows it follows any new name."""


class Lexer(Quotes):
    """The machine (:class:`decodekit.constraints.automata.byte_machine.Machine`).

    Words and signs; literals come from :mod:`decodekit.constraints.sql.literals` and `sql_quotes`.
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
        return said(self, state)

    def leap(self, state: State, text: bytes) -> State | None:
        """Read the bytes of a token."""
        at, size = 0, len(text)
        here: State | None = state
        while at < size and here is not None:
            place, mode, a, b = here
            byte = text[at]
            if (mode == WORD and byte in _INNER) or (mode == GAP and byte in LETTERS):
                end = _WORD.match(text, at).end()  # type: ignore[union-attr]
                word = (a if mode == WORD else "") + lettered(self.names, text[at:end].decode())
                here, at = (place, WORD, word, 0) if self._word(place, word) else None, end
            elif mode == TEXT and b == 0 and byte in _LETTERLIKE:
                end = _TEXT.match(text, at).end()  # type: ignore[union-attr]
                here, at = (place, TEXT, a + end - at, 0) if a + end - at <= self.text else None, end
            else:
                here = self.step(here, byte)
                at += 1
        return here

    def step(self, state: State, byte: int) -> State | None:
        """Read one byte."""
        place, mode, a, b = state
        if mode == WORD:
            if byte in _INNER:
                word = a + self.letters[byte]
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

    def following(self, state: State) -> list[tuple[int, State]] | None:
        """The bytes that may come next with the states they lead to; None where that is no quicker than asking."""
        place, mode, a, _ = state
        if mode == GAP:
            return self._spaces(place, a) + self._starts(place)
        if mode != WORD:
            return None
        if place.offer(self.names).loose or place.offer(self.names).loose_qualifier:
            return self._ended(place, a) if a == NOBODY else None
        size, out = len(a), list[tuple[int, State]]()
        begun = place.offer(self.names).begins.get(a[0], ())
        for letter in {known[size] for known, _ in begun if len(known) > size and known.startswith(a)}:
            if self._word(place, a + letter):
                after = (place, WORD, a + letter, 0)
                out += [(byte, after) for byte in {ord(letter), ord(letter.upper() if self.folds else letter)}]
        return out + self._ended(place, a)

    def _ended(self, place: Place, word: str) -> list[tuple[int, State]]:
        """What may come after a whole word."""
        out = list[tuple[int, State]]()
        dotted = self._qualified(place, word)
        if dotted is not None:
            out.append((46, (dotted, GAP, self.space, 0)))
        named = self._named(place, word)
        if named is not None:
            out += self._spaces(named, 0)
            out += [(byte, after) for byte, after in self._starts(named) if byte not in _INNER]
        return out

    def _spaces(self, place: Place, seen: int) -> list[tuple[int, State]]:
        found = [(byte, self._spaced(seen, byte)) for byte in _SPACES]
        return [(byte, (place, GAP, after, 0)) for byte, after in found if after is not None]

    def _spaced(self, seen: int, byte: int) -> int | None:
        """How much white space was read, one more character included: `space` where no more may come."""
        if self.free:
            return seen + 1 if seen < self.space else None
        if byte == 32:
            return None if seen >= self.space else seen + 1 if seen else self.space
        return 1 if byte == 10 and not seen else None

    def _starts(self, place: Place) -> list[tuple[int, State]]:
        """What a lexeme may begin with here."""
        if place.open is None:
            found = [(byte, self._gap(place, 0, byte)) for byte in range(33, 127)]
            place.open = [(byte, after) for byte, after in found if after is not None]
        return place.open

    # --- between lexemes -------------------------------------------------------------------------------------------

    def _gap(self, place: Place | None, spaces: int, byte: int) -> State | None:
        """A lexeme begins, or white space."""
        if place is None:
            return None
        if byte in _SPACES:
            after = self._spaced(spaces, byte)
            return (place, GAP, after, 0) if after is not None else None
        try:
            found: State | None = place.starts[byte]
        except KeyError:
            found = place.starts[byte] = self._start(place, byte)
        return found

    def _start(self, place: Place, byte: int) -> State | None:
        """A lexeme begins."""
        if byte in LETTERS:
            word = self.letters[byte]
            return (place, WORD, word, 0) if self._word(place, word) else None
        if byte in DIGITS:
            return self._digit(place, byte)
        if byte == 39:
            return self._begun(place)
        if byte == 34:
            if not self.names.quoting:
                return None
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
        offer = place.offer(self.names)
        if not self.folds:
            return self._spelt(place, word)
        upper = word.upper()
        if upper in offer.terminals:
            after = self.parser.shift(place, upper)
            if after is not None:
                return after
        if word in offer.words and word in offer.plain:
            return self.parser.shift(place, ("w", word))
        new = offer.loose and len(word) <= self.name and new_name(word)
        return self.parser.shift(place, ("w", word)) if new else None

    def _spelt(self, place: Place, word: str) -> Place | None:
        """`_named` where case matters."""
        offer, parser = place.offer(self.names), self.parser
        for known, terminal in offer.begins.get(word[0], ()):
            if known == word and (isinstance(terminal, str) or terminal[0] == "w"):
                after = parser.read(place, terminal, word)
                if after is not None:
                    return after
        new = offer.loose and len(word) <= self.name and new_name(word.lower())
        return parser.read(place, ("w", word.lower()), word) if new else None

    def _qualified(self, place: Place, word: str) -> Place | None:
        """The place after a word and a dot."""
        offer = place.offer(self.names)
        if not self.folds:
            ways = (end for one, end in offer.begins.get(word[0], ()) if one == word and end[0] == "q")
            known_ = next((after for end in ways if (after := self.parser.shift(place, end)) is not None), None)
            new = offer.loose_qualifier and len(word) <= self.name and new_name(word.lower())
            return known_ or (self.parser.read(place, ("q", word.lower()), word) if new else None)
        known = word in offer.qualifiers and word in offer.plain
        if not known and not (offer.loose_qualifier and new_name(word) and len(word) <= self.name):
            return None
        return self.parser.shift(place, ("q", word))
