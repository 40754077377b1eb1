"""JSON under a schema, byte by byte: immutable places with everything that may still hold (a pushdown machine).

A place remembers where each byte led, so that a text read before costs a look into a table. The memory is emptied when
it has grown to :data:`PLACES` places.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from ..automata.byte_machine import closing
from .completion import ended, tight
from .formula import canonical
from .layout import Layout
from .satisfiability import Space
from .tracks import Track, alive, begin, came_true
from .white_space import BLANK, Exact, Flexible, Spot

PLACES: Final = 100_000
DEPTH: Final = 200
NEAR: Final = 6
"""An end of so few bytes is not looked for again, to find a shorter one."""

LITERALS: Final = {
    ord("n"): (b"null", "null", None), ord("t"): (b"true", "boolean", True), ord("f"): (b"false", "boolean", False),
}  # fmt: skip


class Place:
    """A place in a text: what a byte leads to. Compared by identity."""

    __slots__ = ("_next", "gap", "machine")
    spaced = False
    """Whether it is between two tokens."""

    def __init__(self, machine: JsonMachine) -> None:
        self.machine = machine
        self.gap = b""
        self._next: dict[int, Place | None] = {}
        machine.count()

    def step(self, byte: int) -> Place | None:
        """The place after one more byte; None where no text goes on like that."""
        known = self._next
        if byte in known:
            return known[byte]
        if not self.spaced:
            found = self.read(byte)
        elif byte in BLANK:
            found = self._blank(byte)
        else:
            found = self.read(byte) if self.machine.blanks.enough(self, byte) else None
        known[byte] = found
        return found

    def _blank(self, byte: int) -> Place | None:
        gap = self.gap + bytes([byte])
        if not self.machine.blanks.begins(self, gap):
            return None
        after = copy.copy(self)
        after._next, after.gap = {}, gap
        self.machine.count()
        return after

    def read(self, byte: int) -> Place | None:
        """`step` without the memory and without white space."""
        raise NotImplementedError

    def final(self) -> bool:
        """Whether the text may end here."""
        return False

    def between(self) -> Place | None:
        """The place between two tokens that it is, or that it is as well: after a number. None where it is none."""
        return self if self.spaced else None

    @property
    def spot(self) -> Spot:
        """Where it is between two tokens: after what."""
        raise NotImplementedError

    @property
    def level(self) -> int:
        """Where it is between two tokens: how many brackets are open."""
        raise NotImplementedError

    def goes_on(self) -> bool:
        """After an opening bracket: whether anything but its closing can follow."""
        return True

    def closes(self) -> bool:
        """Whether a closing bracket can follow."""
        return self.read(0x7D) is not None or self.read(0x5D) is not None


class End(Place):
    """After the whole text."""

    __slots__ = ()

    def read(self, byte: int) -> Place | None:
        """Nothing follows."""
        return None

    def final(self) -> bool:
        """The text is whole."""
        return True


class Holder:
    """What a value stands in: told which formulas came true when the value is closed.

    main: one of them must; others: those that are followed beside. keep: whether the value itself is asked for.
    places: the places inside the value, by what they hold, so that texts that come to the same share what follows.
    """

    __slots__ = ("_known", "close", "depth", "keep", "main", "others", "places")

    def __init__(
        self,
        main: frozenset[int],
        others: frozenset[int],
        keep: bool,
        depth: int,
        close: Callable[[frozenset[int], Any], Place | None],
    ) -> None:
        self.main, self.others, self.keep, self.depth, self.close = main, others, keep, depth, close
        self._known: dict[Any, Place | None] = {}
        self.places: dict[Any, Place] = {}

    def forget(self) -> None:
        """Empty the memory."""
        self._known.clear()
        self.places.clear()

    def closed(self, true: frozenset[int], value: Any) -> Place | None:
        """The place after the value; None where its holder cannot go on with it."""
        if not (true & self.main):
            return None
        key = (true, value)
        if key not in self._known:
            self._known[key] = self.close(true, value)
        return self._known[key]


Opener = Callable[["JsonMachine", "Holder", int], "Place | None"]
"""How a value begins with its first byte: a string, a number, an object or an array."""


class Value(Place):
    """Before a value. spot: after what; at the beginning of a text there is no white space."""

    __slots__ = ("_spot", "holder")
    spaced = True

    def __init__(self, machine: JsonMachine, holder: Holder, spot: Spot) -> None:
        super().__init__(machine)
        self.holder, self._spot = holder, spot

    @property
    def spot(self) -> Spot:
        """A colon, or a comma."""
        return self._spot

    @property
    def level(self) -> int:
        """How deep the value is."""
        return self.holder.depth

    def read(self, byte: int) -> Place | None:
        """The first byte tells the type."""
        holder, machine = self.holder, self.machine
        if byte in LITERALS:
            return self._literal(*LITERALS[byte])
        begin = machine.openers.get(byte)
        return None if begin is None else begin(machine, holder, byte)

    def _literal(self, text: bytes, kind: str, value: Any) -> Place | None:
        holder, found = self.holder, canonical(value)
        tracks = [track for track in self.machine.begin(holder, kind) if track.rules.holds(found)]
        after = holder.closed(came_true(tracks), found if holder.keep else None)
        return None if after is None else Letters(self.machine, text[1:], after)


class First(Value):
    """Before the text: no white space."""

    __slots__ = ()
    spaced = False


class Letters(Place):
    """Within null, true or false."""

    __slots__ = ("after", "text")

    def __init__(self, machine: JsonMachine, text: bytes, after: Place) -> None:
        super().__init__(machine)
        self.text, self.after = text, after

    def read(self, byte: int) -> Place | None:
        """The next letter."""
        if byte != self.text[0]:
            return None
        return Letters(self.machine, self.text[1:], self.after) if len(self.text) > 1 else self.after


class JsonMachine:
    """All texts of JSON that a formula allows (:class:`decodekit.constraints.automata.byte_machine.Machine`)."""

    def __init__(self, space: Space, layout: Layout, openers: Mapping[int, Opener]) -> None:
        self.openers = openers
        self.space, self.layout = space, layout
        self.blanks = Flexible(layout) if layout.flexible else Exact(layout)
        self.made = 0
        self._begun: dict[Any, tuple[Track, ...]] = {}
        self.end = End(self)
        holder = Holder(frozenset({space.terms.root}), frozenset(), False, 0, lambda true, value: self.end)
        self.holder = holder
        self._first = First(self, holder, "comma")

    def count(self) -> None:
        """One more place was made; empties the memory when there are too many."""
        self.made += 1
        if self.made > PLACES and hasattr(self, "_first"):
            self.made = 0
            self._first._next.clear()
            self.holder.forget()

    def begin(self, holder: Holder, kind: str) -> tuple[Track, ...]:
        """The threads of a value; empty where it cannot be of this type."""
        key = (holder.main, holder.others, kind)
        found = self._begun.get(key)
        if found is None:
            found = begin(self.space, holder.main, kind, holder.others)
            found = found if alive(found, holder.main) else ()
            if len(self._begun) > 10_000:
                self._begun.clear()
            self._begun[key] = found
        return found

    # --- the interface -----------------------------------------------------------------------------------------------

    def first(self) -> Hashable:
        """Before the text."""
        return self._first

    def step(self, state: Place, byte: int) -> Place | None:
        """The place after one more byte."""
        return state.step(byte)

    def leap(self, state: Place, text: bytes) -> Place | None:
        """The place after a token."""
        here: Place | None = state
        for byte in text:
            here = here.step(byte)  # type: ignore[union-attr]  # left as soon as it is None
            if here is None:
                return None
        return here

    def final(self, state: Place) -> bool:
        """Whether the text is whole."""
        return state.final()

    def ending(self, state: Place) -> bytes | None:
        """A text that completes a place, mostly a shortest one; None where none is near."""
        found = ended(state)
        if found is not None and len(found) <= NEAR:
            return found
        short = closing(Tight(self), state)
        return short if found is None or (short is not None and len(short) < len(found)) else found

    def said(self, state: Place) -> str:
        """Left to the list of allowed tokens."""
        return ""


class Tight:
    """A machine without optional white space, for shortest ends."""

    def __init__(self, machine: JsonMachine) -> None:
        self.first, self.final, self.said = machine.first, machine.final, machine.said

    def step(self, state: Place, byte: int) -> Place | None:
        """The place after one more byte."""
        return tight(state, byte)
