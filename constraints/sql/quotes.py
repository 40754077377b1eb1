"""Names in double quotes, and the texts that SQLite takes them for where there is no such name."""

from __future__ import annotations

from bisect import bisect_left

from .literals import DTEXT, GAP, QUOTED, Literals, State
from .parser import Place
from .scope import CLOSED, Scope, count, outward
from .spelling import known_as


class Quotes(Literals):
    """The part of the machine that reads them."""

    def step(self, state: State, byte: int) -> State | None:
        """Read one byte."""
        raise NotImplementedError

    def _quotable(self, place: Place, text: bytes) -> bool:
        """Whether some name in quotes begins like this."""
        key = (QUOTED, text)
        found = place.prefixes.get(key)
        if found is None:
            offer, shift = place.offer(self.names), self.parser.shift
            found = offer.loose and len(text) < self.name and all(32 <= byte < 127 for byte in text)
            low, high = bisect_left(offer.quoted, text), bisect_left(offer.quoted, text + b"\xff")
            found = found or any(
                shift(place, ("d", name)) is not None or (name in offer.qualifiers and shift(place, ("e", name)))
                for name in (known_as(self.names, one.decode()) for one in offer.quoted[low:high])
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
        return self._longer(place, text + (self.letters[byte].encode() or bytes([byte])))

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
        written, offer = text.decode(errors="replace"), place.offer(self.names)
        name = known_as(self.names, written)
        if not self.folds and text not in offer.quoted:
            return None
        return self.parser.shift(place, ("e", name)) if name in offer.qualifiers else None

    def _unquoted(self, place: Place, text: bytes) -> Place | None:
        """The place after a name in quotes, or a text."""
        written, offer = text.decode(errors="replace"), place.offer(self.names)
        name = known_as(self.names, written)
        spelt = self.folds or text in offer.quoted
        if (name in offer.words and spelt) or (offer.loose and text):
            after = self.parser.read(place, ("d", name), written)
            if after is not None:
                return after
        here: Scope | None = place.scope
        while here is not None:
            if count(here, name):
                return None
            here = outward(here)
        return self.parser.shift(place, "dstr") if self.doubly(place) and self.names.values is None else None
