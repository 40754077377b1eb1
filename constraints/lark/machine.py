"""A stock Lark grammar as a machine over bytes: what Lark's LALR parser would read, one byte at a time.

A spot is a parser stack, a place inside the lexeme that has begun, and the spot that holds if that lexeme ends where it
matched last. The second runs along in parallel, so nothing is ever read twice; it takes over when the first dies.
"""

from __future__ import annotations

from typing import Any, Final

from .dead_ends import Future
from .expected import said
from .layers import Indented, Plain
from .scanner import Place
from .search import ended, searched
from .tables import Stack, Tables

SPOTS: Final = 200_000
"""How many spots are made before all are forgotten but those that somebody holds, so that memory stays bounded."""


class Spot:
    """A place in a text; compared by identity, since equal spots are one object.

    stack, layer: what all lexemes before have led to. place: inside the open lexeme. begun: whether it has a byte.
    other: the spot if the lexeme ends at its last match; None where it has none, or the parser refuses that.
    recent: the last bytes, where a terminal looks at them. count: :meth:`Layer.count`.
    """

    __slots__ = ("begun", "count", "fate", "layer", "next", "other", "place", "recent", "stack")

    def __init__(
        self, stack: Stack, layer: Any, place: Place, begun: bool, other: Spot | None, recent: bytes, count: int
    ) -> None:
        self.stack, self.layer, self.place, self.begun = stack, layer, place, begun
        self.other, self.recent, self.count = other, recent, count
        self.next: dict[int, Spot | None] = {}
        self.fate: bool | None = None


class Reader:
    """The machine (:class:`decodekit.constraints.automata.byte_machine.Machine`) of a grammar.

    unknown: how often the bound of a search for a completion was met.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.layer = Indented(tables) if tables.indenter is not None else Plain(tables)
        self.counts = tables.indenter is not None
        self.future = Future(tables)
        self.unknown = 0
        self._made = 0
        self._spots: dict[Any, Spot] = {}
        self._names: dict[Any, frozenset[str]] = {}
        self._taken: dict[Any, bool] = {}
        self._direct = not self.counts and not tables.reach
        self._root = Stack(tables.first_state, None, 0)

    def first(self) -> Spot:
        """Before the text."""
        return self.fresh(self._root, self.layer.first(), b"")

    def fresh(self, stack: Stack, layer: Any, recent: bytes) -> Spot:
        """Before a lexeme."""
        key = (layer, recent)
        found: Spot | None = stack.spots.get(key)
        if found is None:
            reach = self.tables.reach
            place = self.tables.scanners[stack.state].first(recent, len(recent) < reach)
            found = stack.spots[key] = self._new(stack, layer, place, False, None, recent, -1)
        return found

    def step(self, state: Spot, byte: int) -> Spot | None:
        """After one more byte; None where no text of the grammar goes on like that."""
        after = self.read(state, byte)
        return after if after is not None and self.alive(after) else None

    def leap(self, state: Spot, text: bytes) -> Spot | None:
        """After all bytes of a token."""
        after = self.run(state, text)
        return after if after is not None and self.alive(after) else None

    def run(self, spot: Spot, text: bytes) -> Spot | None:
        """As the lexer and the parser would go, whether or not the text can be completed."""
        here: Spot | None = spot
        for byte in text:
            assert here is not None
            here = here.next[byte] if byte in here.next else self.read(here, byte)
            if here is None:
                return None
        return here

    def read(self, spot: Spot, byte: int) -> Spot | None:
        """One byte of :meth:`run`."""
        if byte not in spot.next:
            spot.next[byte] = self._read(spot, byte)
        return spot.next[byte]

    def _read(self, spot: Spot, byte: int) -> Spot | None:
        place = spot.place.step(byte)
        if place is None:  # the lexeme is over, where it matched last
            return None if spot.other is None else self.read(spot.other, byte)
        if self._direct and not place.keep and (place.hit is None or not place.hit[0]):
            return self._plainly(spot, place, byte)
        count = self.layer.count(place, spot.count, byte) if self.counts else -1
        recent = spot.recent + bytes([byte]) if self.tables.reach or place.keep or place.hit else b""
        if place.hit is not None:
            other = self._committed(spot, place.hit, recent, count)
        else:
            other = None if spot.other is None else self.read(spot.other, byte)
        if place.dead:
            return other
        kept = self.tables.reach + place.keep
        return self._spot(spot.stack, spot.layer, place, other, recent[-kept:] if kept else b"", count)

    def _plainly(self, spot: Spot, place: Place, byte: int) -> Spot | None:
        """:meth:`_read` where only stack and place matter, as mostly."""
        stack = spot.stack
        if place.hit is None:
            other = None if spot.other is None else self.read(spot.other, byte)
        else:
            name = place.hit[1]
            if name not in stack.ended:
                stack.ended[name] = self._committed(spot, place.hit, b"", -1)
            other = stack.ended[name]
        if place.dead:
            return other
        if other is not None and other.begun:
            other = self._without(other, place.entries)
        found: Spot | None = stack.spots.get((place, other))
        if found is None:
            found = stack.spots[place, other] = self._new(stack, None, place, True, other, b"", -1)
        return found

    def _committed(self, spot: Spot, hit: tuple[int, str], recent: bytes, count: int) -> Spot | None:
        """The spot if the lexeme ends with the match `hit`, after the bytes read since."""
        age, name = hit
        found = self.layer.take(spot.stack, spot.layer, name, count)
        if found is None:
            return None
        upto = len(recent) - age
        reach = self.tables.reach
        fresh = self.fresh(*found, recent[max(0, upto - reach) : upto] if reach else b"")
        return self.run(fresh, recent[upto:]) if age else fresh

    def _spot(self, stack: Stack, layer: Any, place: Place, other: Spot | None, recent: bytes, count: int) -> Spot:
        if other is not None and other.begun:
            other = self._without(other, place.entries)
        key = (id(stack), layer, place, id(other), recent, count)
        found = self._spots.get(key)
        if found is None:
            found = self._spots[key] = self._new(stack, layer, place, True, other, recent, count)
        return found

    def _new(self, *given: Any) -> Spot:
        """A spot, and every now and then none of those before: equal ones are then made once more."""
        self._made += 1
        if self._made > SPOTS:
            self.forget()
        return Spot(*given)

    def forget(self) -> None:
        """Let go of all spots and stacks but those that somebody holds."""
        self._made, old = 0, [self._root]
        self._root = Stack(self.tables.first_state, None, 0)
        while old:
            stack = old.pop()
            old.extend(stack.above.values())
            for spot in stack.spots.values():
                spot.next.clear()
            for memory in (stack.above, stack.fed, stack.spots, stack.ended):
                memory.clear()
        for spot in self._spots.values():
            spot.next.clear()
        for known in (self._spots, self._names):
            known.clear()

    def _without(self, spot: Spot | None, entries: Any) -> Spot | None:
        """`spot` less the readings whose open lexeme is `entries`: one before has the same, so theirs never win."""
        if spot is None or not spot.begun:
            return spot
        other = self._without(spot.other, entries)
        if spot.place.entries == entries:
            return other
        if other is spot.other:
            return spot
        return self._spot(spot.stack, spot.layer, spot.place, other, spot.recent, spot.count)

    def alive(self, spot: Spot) -> bool:
        """Whether some text completes what was read."""
        if spot.fate is None:
            spot.fate = self._alive(spot)
        return spot.fate

    def onward(self, spot: Spot) -> frozenset[str] | None:
        """The names by which an open lexeme is taken and leads to an end, newlines aside; None where texts decide."""
        if not self.future.clear:
            return None
        tables, layer = self.tables, self.layer
        if self.future.plain and not self.counts:
            return tables.accepted(spot.stack) | tables.ignored
        key = (spot.stack, spot.layer)
        found = self._names.get(key)
        if found is None:
            good, alike = set[str](), dict[Any, bool]()
            for name in tables.accepted(spot.stack):
                after = layer.take(spot.stack, spot.layer, name, 0)
                if after is not None:
                    like = (after[0].below, self.future.kind(after[0].state))
                    if like not in alike:
                        alike[like] = self._onward(after[0])
                    if alike[like]:
                        good.add(name)
            if self._onward(spot.stack):
                good |= tables.ignored
            found = self._names[key] = frozenset(good)
        return found

    def takes(self, stack: Stack, layer: Any, place: Place, count: int) -> bool:
        """Whether some text completes an open lexeme that has not matched before, and that nothing waits for."""
        if self.future.clear and self.future.plain and not self.counts:  # then all that counts is what is accepted
            key = (self.tables.accepted(stack), place)
            found = self._taken.get(key)
            if found is None:
                found = self._taken[key] = self.layer.finds(stack, layer, place, count, self._onward)
            return found
        if self.future.clear:
            return self.layer.finds(stack, layer, place, count, self._onward)
        return self.alive(self._spot(stack, layer, place, None, b"", count))

    def _alive(self, spot: Spot) -> bool:
        if not self.future.clear:
            return self.hopeful(spot) and self._searched(spot)
        if not spot.begun:
            return self._onward(spot.stack)
        if self.takes(spot.stack, spot.layer, spot.place, spot.count):
            return True
        other = spot.other
        if other is None or not self.alive(other):
            return False
        simple = not other.begun and self.future.follows(spot.place, other.stack)
        return simple or self._searched(spot)

    def hopeful(self, spot: Spot) -> bool:
        """Whether the open lexemes could be taken by a parser that comes to an end, whatever is read after them."""
        if not spot.begun:
            return self._onward(spot.stack)
        onward = None if self.future.plain else self._onward
        if self.layer.finds(spot.stack, spot.layer, spot.place, spot.count, onward):
            return True
        return spot.other is not None and self.hopeful(spot.other)

    def _onward(self, stack: Stack) -> bool:
        """Whether the parser can come to an end."""
        if stack.completed is None:
            stack.completed = self.future.plain or self.future.completed(stack)
        return stack.completed

    def _searched(self, spot: Spot) -> bool:
        """Whether some text leads to the end, byte by byte. True too where the bound is met."""
        return searched(self, spot)

    def ending(self, state: Spot) -> bytes | None:
        """A text that completes a spot; None where none is near."""
        return ended(self, state)

    def bytes_of(self, spot: Spot) -> list[int]:
        """One byte of each class that the spot tells apart."""
        out, here = set[int](), spot
        while True:
            out.update(here.place.scanner.bytes_of(here.place))
            if here.place.waits:  # bytes of a look-ahead are read again by what comes next
                out.update(self.tables.classes)
            if self.counts:
                out.update((9, 10, 32))
            if here.other is None:
                return sorted(out)
            here = here.other

    def final(self, state: Spot) -> bool:
        """Whether the text may end here."""
        here: Spot | None = state
        while here is not None and here.begun:
            ended = here.place.end()
            here = self._committed(here, ended, here.recent, here.count) if ended else here.other
        return here is not None and self.layer.ends(here.stack, here.layer)

    def said(self, state: Spot) -> str:
        """The terminals that may come next, in the grammar's own names."""
        return said(self, state)
