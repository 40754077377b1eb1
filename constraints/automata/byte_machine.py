"""Places as values: a byte-level machine written in Python as an engine.

A machine reads a text byte by byte. Its state is an immutable value, so that forks and rollbacks are free and masks
are shared by all rows in equal states. Masks walk the vocabulary as a trie and never look behind a refused prefix.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..core.cursor import Bits, Trail, explained, single
from ..core.vocabulary import Vocabulary
from .distances import Distances, Measured

MASKS: Final = 256
"""How many masks a compiled constraint remembers."""
SEARCH: Final = 4_000
"""How many states :func:`closing` looks at before it says that it does not know."""
RUN: Final = 256
"""The longest forced text that is looked for at once, in bytes."""


class Machine(Protocol):
    """What reads a text. States are immutable and hashable; None is no state.

    A machine may have `leap(state, text)`, which reads the bytes of a token in one go, to the state that `step` leads
    to byte by byte; `closing(state)`, the shortest text that completes a state, of equally short ones the first in
    order (:class:`decodekit.constraints.automata.distances.Measured`), or `ending(state)`, a short one; and `dear`,
    True where it calls code of the user's, so that a check costs more than a round.
    """

    def first(self) -> Hashable:
        """The state before the first byte."""

    def step(self, state: Any, byte: int) -> Hashable | None:
        """The state after one more byte; None where no text of the constraint goes on like that."""

    def final(self, state: Any) -> bool:
        """Whether the bytes read are a whole text."""

    def said(self, state: Any) -> str:
        """What was expected in this state, in a few words; empty to have allowed tokens listed instead."""


class Node:
    """The tokens of a vocabulary that begin alike. ids: those that end here. Children are made when first asked for.

    words: all tokens in order, of which `low` to `high` begin with the first `depth` bytes of the first of them.
    """

    __slots__ = ("_depth", "_high", "_low", "_next", "_of", "_words", "ids")

    def __init__(self, words: list[bytes], of: dict[bytes, tuple[int, ...]], low: int, high: int, depth: int) -> None:
        self._words, self._of, self._high, self._depth = words, of, high, depth
        ends = low < high and len(words[low]) == depth
        self.ids: tuple[int, ...] = of[words[low]] if ends else ()
        self._low = low + ends
        self._next: dict[int, Node] | None = None

    @property
    def next(self) -> dict[int, Node]:
        """The children, by the byte that leads to them."""
        if self._next is None:
            self._next, at, words, depth = {}, self._low, self._words, self._depth
            while at < self._high:
                head = words[at][: depth + 1]
                above = (
                    bisect_left(words, head[:-1] + bytes([head[-1] + 1]), at, self._high) if head[-1] < 255 else None
                )
                end = self._high if above is None else above
                self._next[head[-1]] = Node(words, self._of, at, end, depth + 1)
                at = end
        return self._next

    @property
    def many(self) -> int:
        """How many different tokens go on from here."""
        return self._high - self._low

    def below(self) -> tuple[list[bytes], int]:
        """The tokens that go on from here, in order and whole, and how many of their bytes lead here."""
        return self._words[self._low : self._high], self._depth


def trie(vocabulary: Vocabulary) -> Node:
    """The vocabulary as a trie, made once."""
    if "trie" not in vocabulary.engines:
        of = vocabulary.by_bytes
        vocabulary.engines["trie"] = Node(sorted(of), of, 0, len(of), 0)
    found: Node = vocabulary.engines["trie"]
    return found


class States:
    """A machine compiled for one vocabulary. Immutable but for its memory of masks."""

    def __init__(self, machine: Machine, vocabulary: Vocabulary) -> None:
        self.machine, self.vocabulary = machine, vocabulary
        self.built = 0
        self.dear = bool(getattr(machine, "dear", False))
        self._leap: Any = getattr(machine, "leap", None)
        self._masks: OrderedDict[Hashable, Bits] = OrderedDict()
        self._ends: OrderedDict[Hashable, bytes | None] = OrderedDict()
        self.distances = Distances(cast("Measured", machine)) if hasattr(machine, "closing") else None

    def start(self) -> StatesCursor:
        """A cursor before the first token."""
        return StatesCursor(self, Trail([self.machine.first()]))

    def next(self, state: Hashable, token: int) -> Hashable | None:
        """The state after `token`, or None where it is not allowed."""
        text = self.vocabulary.tokens[token] if 0 <= token < len(self.vocabulary) else b""
        if not text:
            return None
        if self._leap is not None:
            after: Hashable | None = self._leap(state, text)
            return after
        here: Hashable | None = state
        for byte in text:
            here = self.machine.step(here, byte)
            if here is None:
                return None
        return here

    def reached(self, state: Hashable) -> Iterator[tuple[int, ...]]:
        """The ids of every token that is allowed, in the order of the trie."""
        step, open_ = self.machine.step, [(trie(self.vocabulary), state)]
        while open_:
            node, here = open_.pop()
            for byte, child in node.next.items():
                after = step(here, byte)
                if after is not None:
                    if child.ids:
                        yield child.ids
                    open_.append((child, after))

    def mark(self, state: Any, flags: npt.NDArray[np.bool_]) -> None:
        """Set the `flags` [32 W] of every token that is allowed; a quicker way than the walk goes here."""
        for ids in self.reached(state):
            flags[list(ids)] = True

    def bits_of(self, state: Hashable) -> Bits:
        """[ceil(V / 32)] the mask of a state, worked out; read-only."""
        flags = np.zeros(32 * (len(self.vocabulary) // 32 + 1), dtype=np.bool_)
        self.mark(state, flags)
        found = np.packbits(flags, bitorder="little").view(np.uint32)
        found.flags.writeable = False
        return found

    def end_of(self, state: Hashable) -> bytes | None:
        """A text that completes a state, None where none was found; remembered, for a search in vain is long."""
        if state not in self._ends:
            ask = getattr(self.machine, "ending", None)
            self._ends[state] = closing(self.machine, state) if ask is None else ask(state)
            if len(self._ends) > MASKS:
                self._ends.popitem(last=False)
        return self._ends[state]

    def mask_of(self, state: Hashable) -> Bits:
        """The mask of a state, from memory or by a walk over the trie."""
        found = self._masks.get(state)
        if found is None:
            found = self._masks[state] = self.bits_of(state)
            self.built += 1
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return found


class StatesCursor:
    """A place in a text: the states passed so far (:class:`decodekit.constraints.core.cursor.Cursor`)."""

    __slots__ = ("_home", "_states")

    def __init__(self, home: States, states: Trail[Hashable]) -> None:
        self._home, self._states = home, states

    def mask(self) -> Bits:
        """[ceil(V / 32)] uint32, read-only; shared by all cursors in equal states."""
        return self._home.mask_of(self._states.last())

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return self._home.next(self._states.last(), token) is not None

    def allows_many(self, tokens: Sequence[int]) -> list[bool]:
        """For each of `tokens`, whether it may come next."""
        return [self._home.next(self._states.last(), token) is not None for token in tokens]

    def advance(self, token: int) -> None:
        """Read `token`. Raises ValueError if it is not allowed."""
        state = self._home.next(self._states.last(), token)
        if state is None:
            raise ValueError(f"token {token} is not allowed here")
        self._states.push(state)

    def fork(self) -> StatesCursor:
        """An independent cursor at the same place."""
        return StatesCursor(self._home, self._states.fork())

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens."""
        self._states.drop(n)

    def is_complete(self) -> bool:
        """Whether what was read is a whole text."""
        return self._home.machine.final(self._states.last())

    def stuck(self) -> bool:
        """Whether no token at all may come next; far cheaper than an empty mask."""
        return next(self._home.reached(self._states.last()), None) is None

    def forced(self) -> list[int]:
        """The tokens that must come next, as long as each is the only one allowed."""
        return [] if len(self.forced_text()) == 0 else single(self)

    def place(self) -> Hashable | None:
        """Equal places have equal futures."""
        return self._states.last()

    def forced_text(self) -> bytes:
        """The bytes that every whole text has next; empty where there is a choice, or the text may end."""
        out, here, machine = bytearray(), self._states.last(), self._home.machine
        while len(out) < RUN and not machine.final(here):
            ways = list[tuple[int, Hashable]]()
            for byte in range(256):
                after = machine.step(here, byte)
                if after is not None:
                    ways.append((byte, after))
                    if len(ways) > 1:
                        return bytes(out)
            if not ways:
                break
            out.append(ways[0][0])
            here = ways[0][1]
        return bytes(out)

    def closing(self) -> bytes | None:
        """A shortest text that completes this one; None where none was found among the nearest states."""
        exact = self._home.distances
        if exact is not None:
            return exact.closing(self._states.last())
        return self._home.end_of(self._states.last())

    def explain(self) -> str:
        """What was expected here, in a few words."""
        return self._home.machine.said(self._states.last()) or explained(self, self._home.vocabulary)


def closing(machine: Machine, state: Hashable) -> bytes | None:
    """A shortest text from `state` to a final one, by breadth-first search over at most :data:`SEARCH` states."""
    seen, open_ = {state}, deque([(state, b"")])
    while open_:
        here, text = open_.popleft()
        if machine.final(here):
            return text
        for byte in range(256):
            after = machine.step(here, byte)
            if after is not None and after not in seen:
                if len(seen) >= SEARCH:
                    return None
                seen.add(after)
                open_.append((after, text + bytes([byte])))
    return None


def utf8(state: int, byte: int) -> int | None:
    """One step of a checker of UTF-8 (RFC 3629). Its state is 0 between characters, else what may follow.

    The state holds how many bytes are missing and, in the higher digits, the range of the next one.
    """
    if state == 0:
        for low, high, missing, least, most in _LEADS:
            if low <= byte <= high:
                return missing and missing + 8 * least + 8 * 256 * most
        return None
    missing, least, most = state % 8, state // 8 % 256, state // 2048
    if not least <= byte <= most:
        return None
    return 0 if missing == 1 else missing - 1 + 8 * 0x80 + 2048 * 0xBF


_LEADS: Final = (
    (0x00, 0x7F, 0, 0, 0),
    (0xC2, 0xDF, 1, 0x80, 0xBF),
    (0xE0, 0xE0, 2, 0xA0, 0xBF),
    (0xE1, 0xEC, 2, 0x80, 0xBF),
    (0xED, 0xED, 2, 0x80, 0x9F),
    (0xEE, 0xEF, 2, 0x80, 0xBF),
    (0xF0, 0xF0, 3, 0x90, 0xBF),
    (0xF1, 0xF3, 3, 0x80, 0xBF),
    (0xF4, 0xF4, 3, 0x80, 0x8F),
)
"""First byte from, to; how many follow; the range of the second (RFC 3629, section 4)."""
