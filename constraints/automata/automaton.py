"""Regular languages as finite automata over bytes, made while they are read: exact distances, products, forced text.

A pattern's tree becomes a non-deterministic automaton over the bytes of UTF-8 (Thompson 1968); its sets of places are
the states of a deterministic one, made when first reached and numbered, so a state is one integer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from decodekit.errors import ConstraintError

from .patterns import LAST, Again, Either, Letters, Ranges, Row, Tree

PLACES: Final = 50_000
"""The largest non-deterministic automaton: a repetition {m,n} is written out."""
STATES: Final = 20_000
"""The most states of the deterministic one that are ever made."""

_WIDTHS: Final = ((0x00, 0x7F, 1), (0x80, 0x7FF, 2), (0x800, 0xFFFF, 3), (0x10000, LAST, 4))


def letters(text: str) -> Tree:
    """The tree of exactly `text`."""
    return Row(tuple(Letters(((ord(letter), ord(letter)),)) for letter in text))


def byte_ranges(low: int, high: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Sequences of byte ranges that together are the UTF-8 of the code points `low` to `high` (inclusive)."""
    for first, last, width in _WIDTHS:
        if low <= last and high >= first:
            yield from _split(max(low, first), min(high, last), width)


def _split(low: int, high: int, width: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Cut where a continuation byte does not run through all of its 64 values."""
    for i in range(1, width):
        span = (1 << 6 * i) - 1
        if low & ~span != high & ~span:
            if low & span:
                yield from _split(low, low | span, width)
                yield from _split((low | span) + 1, high, width)
                return
            if high & span != span:
                yield from _split(low, (high & ~span) - 1, width)
                yield from _split(high & ~span, high, width)
                return
    yield tuple(zip(chr(low).encode(), chr(high).encode(), strict=True))


class Automaton:
    """The language of a tree as a machine (:class:`decodekit.constraints.automata.byte_machine.Machine`); states are
    ints.

    Every state leads to a whole text. Raises ConstraintError where the tree, or what is made of it, is too large.
    """

    def __init__(self, tree: Tree, what: str = "the pattern") -> None:
        self._what = what
        self._empty: list[list[int]] = [[]]  # of each place: the places that are reached without a byte
        self._moves: list[list[tuple[int, int, int]]] = [[]]  # ... and those that a byte from, to leads to
        self._end = self._build(tree, 0)
        self._number: dict[frozenset[int], int] = {}
        self._sets: list[frozenset[int]] = []
        self._next: list[dict[int, int | None]] = []
        self._left: dict[int, bytes | None] = {}  # a shortest text that completes a state
        self._first = self._state(self._closed({0}))

    # --- the machine -------------------------------------------------------------------------------------------------

    def first(self) -> int:
        """The state before the first byte."""
        return self._first

    def step(self, state: int, byte: int) -> int | None:
        """The state after one more byte; None where no text goes on like that."""
        known = self._next[state]
        if byte in known:
            return known[byte]
        reached = {to for place in self._sets[state] for low, high, to in self._moves[place] if low <= byte <= high}
        found = self._state(self._closed(reached)) if reached else None
        known[byte] = found
        return found

    def leap(self, state: int, text: bytes) -> int | None:
        """The state after all of `text`."""
        here: int | None = state
        for byte in text:
            known = self._next[here]  # type: ignore[index]  # left as soon as it is None
            here = known[byte] if byte in known else self.step(here, byte)  # type: ignore[arg-type]
            if here is None:
                return None
        return here

    def final(self, state: int) -> bool:
        """Whether the bytes read are a whole text."""
        return self._end in self._sets[state]

    def said(self, state: int) -> str:
        """Left to the list of allowed tokens."""
        return ""

    def closing(self, state: int) -> bytes | None:
        """The shortest text that completes a state, of equally short ones the first in order; exact."""
        if state not in self._left:
            self._left[state] = self._search(state)
        return self._left[state]

    def _search(self, state: int) -> bytes | None:
        seen, open_ = {state}, deque([(state, b"")])
        while open_:
            here, text = open_.popleft()
            if self.final(here):
                return text
            for byte in self.bytes_of(here):
                after = self.step(here, byte)
                if after is not None and after not in seen:
                    seen.add(after)
                    open_.append((after, text + bytes([byte])))
        return None

    def bytes_of(self, state: int) -> list[int]:
        """The bytes that may come next: of those that all lead to the same places the least one only."""
        return sorted(byte for byte in self.cuts(state) if self.step(state, byte) is not None)

    def cuts(self, state: int) -> set[int]:
        """The bytes at which it changes where a byte leads to; also such as lead nowhere."""
        starts = {low for place in self._sets[state] for low, _, _ in self._moves[place]}
        return starts | {high + 1 for place in self._sets[state] for _, high, _ in self._moves[place] if high < 255}

    # --- how it is made ----------------------------------------------------------------------------------------------

    def _place(self) -> int:
        if len(self._empty) >= PLACES:
            raise ConstraintError(
                f"{self._what} needs an automaton of more than {PLACES} places; use smaller repetitions"
            )
        self._empty.append([])
        self._moves.append([])
        return len(self._empty) - 1

    def _build(self, tree: Tree, start: int) -> int:
        """Add `tree` from the place `start` on; the place where it ends."""
        match tree:
            case Letters(ranges):
                return self._letters(ranges, start)
            case Row(parts):
                for part in parts:
                    start = self._build(part, start)
                return start
            case Either(parts):
                end = self._place()
                for part in parts:
                    begin = self._place()
                    self._empty[start].append(begin)
                    self._empty[self._build(part, begin)].append(end)
                return end
            case Again(inner, low, high):
                return self._again(inner, low, high, start)

    def _again(self, inner: Tree, low: int, high: int | None, start: int) -> int:
        for _ in range(low):
            start = self._build(inner, start)
        if high is None:
            loop, end = self._place(), self._place()
            self._empty[start].append(loop)
            self._empty[self._build(inner, loop)].append(loop)
            self._empty[loop].append(end)
            return end
        end = self._place()
        for _ in range(high - low):
            self._empty[start].append(end)
            begin = self._place()
            self._empty[start].append(begin)
            start = self._build(inner, begin)
        self._empty[start].append(end)
        return end

    def _letters(self, ranges: Ranges, start: int) -> int:
        end = self._place()
        tails: dict[tuple[tuple[int, int], ...], int] = {(): end}  # equal endings of characters share their places
        for low, high in ranges:
            for row in byte_ranges(low, high):
                self._chain(row, start, tails)
        return end

    def _chain(
        self, row: tuple[tuple[int, int], ...], start: int, tails: dict[tuple[tuple[int, int], ...], int]
    ) -> None:
        for cut in range(len(row) - 1, 0, -1):
            if row[cut:] not in tails:
                place = self._place()
                self._moves[place].append((*row[cut], tails[row[cut + 1 :]]))
                tails[row[cut:]] = place
        self._moves[start].append((*row[0], tails[row[1:]]))

    def _closed(self, places: Iterable[int]) -> frozenset[int]:
        seen, open_ = set(places), list(places)
        while open_:
            for after in self._empty[open_.pop()]:
                if after not in seen:
                    seen.add(after)
                    open_.append(after)
        return frozenset(place for place in seen if self._moves[place] or place == self._end)

    def _state(self, places: frozenset[int]) -> int:
        found = self._number.get(places)
        if found is None:
            if len(self._sets) >= STATES:
                raise ConstraintError(
                    f"{self._what} needs an automaton of more than {STATES} states; write it more simply"
                )
            found = self._number[places] = len(self._sets)
            self._sets.append(places)
            self._next.append({})
        return found


class Both:
    """The texts of all of several machines: states are rows of their states, and dead ones are never entered.

    A state from which no text completes all parts is refused as soon as it is reached: the search for a completion is
    exact as long as the product has no more than `STATES` states; beyond that it is taken to be alive.
    """

    def __init__(self, parts: Sequence[Automaton]) -> None:
        self.parts = tuple(parts)
        self._left: dict[tuple[int, ...], bytes | None] = {}
        self._alive: dict[tuple[int, ...], bool] = {}

    def first(self) -> tuple[int, ...]:
        """The state before the first byte."""
        return tuple(part.first() for part in self.parts)

    def step(self, state: tuple[int, ...], byte: int) -> tuple[int, ...] | None:
        """The state after one more byte; None where no text goes on like that."""
        after = self.after(state, byte)
        return after if after is not None and self.alive(after) else None

    def after(self, state: tuple[int, ...], byte: int) -> tuple[int, ...] | None:
        """The same, but also states from which no text completes all parts."""
        out = list[int]()
        for part, here in zip(self.parts, state, strict=True):
            found = part.step(here, byte)
            if found is None:
                return None
            out.append(found)
        return tuple(out)

    def final(self, state: tuple[int, ...]) -> bool:
        """Whether the bytes read are a whole text of all parts."""
        return all(part.final(here) for part, here in zip(self.parts, state, strict=True))

    def said(self, state: tuple[int, ...]) -> str:
        """Left to the list of allowed tokens."""
        return ""

    def alive(self, state: tuple[int, ...]) -> bool:
        """Whether a text completes the state."""
        if state not in self._alive:
            self._alive[state] = self.closing(state) is not None
        return self._alive[state]

    def closing(self, state: tuple[int, ...]) -> bytes | None:
        """The shortest text that completes a state, of equally short ones the first in order; None if there is none."""
        if state not in self._left:
            self._left[state] = self._search(state)
        return self._left[state]

    def _search(self, state: tuple[int, ...]) -> bytes | None:
        seen, open_ = {state}, deque([(state, b"")])
        while open_:
            here, text = open_.popleft()
            if self.final(here):
                return text
            every = sorted({byte for part, one in zip(self.parts, here, strict=True) for byte in part.bytes_of(one)})
            for byte in every:
                after = self.after(here, byte)
                if after is not None and after not in seen:
                    if len(seen) >= STATES:
                        raise ConstraintError(
                            f"the patterns together need an automaton of more than {STATES} states; write them simpler"
                        )
                    seen.add(after)
                    open_.append((after, text + bytes([byte])))
        return None
