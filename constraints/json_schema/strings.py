"""What a string may be: one thread of literals as a machine over the UTF-8 of its text, not of its spelling."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from ..automata.automaton import Automaton
from ..automata.byte_machine import utf8
from .formula import Arena, Thread
from .string_patterns import automaton, searching

SEARCH: Final = 2_000
"""States that are looked through for a completion before a string counts as completable."""

State: TypeAlias = tuple[int, int, bytes | None, bytes | None, tuple[int, ...]]
"""Characters so far, place in UTF-8, prefix among the allowed words, among the banned ones, automata (-1: died)."""


class StringRules:
    """The literals of one thread about a string."""

    def __init__(self, arena: Arena, thread: Thread, longest: int | None = None) -> None:
        self.low = 0
        self.high: int | None = None
        self.allowed: frozenset[bytes] | None = None
        self.banned = frozenset[bytes]()
        self.parts = list[tuple[Automaton, bool]]()
        self.checks = list[tuple[Callable[[str], bool | None], bool]]()
        for node in (arena.nodes[part] for part in thread):
            self._take(node)
        self._allowed: list[bytes] = sorted(self.allowed or ())
        self._banned: list[bytes] = sorted(self.banned)
        self._alive: dict[State, bool] = {}
        self._settle(longest)

    def _settle(self, longest: int | None) -> None:
        """What follows from all of them. longest: where they set no bound; free: nothing is asked of the string."""
        if self.allowed is not None:
            self._only_words()
        elif self.high is None and longest is not None:
            self.high = max(longest, self.low)
        self.free = self.allowed is None and not (self.banned or self.parts or self.checks or self.low)
        self.free = self.free and self.high is None

    def _take(self, node: tuple[Any, ...]) -> None:
        match node:
            case ("in", values, sign):
                words = frozenset(value[1].encode("utf-8", "surrogatepass") for value in values if value[0] == "string")
                if not sign:
                    self.banned |= words
                else:
                    self.allowed = words if self.allowed is None else self.allowed & words
            case ("len", low, high):
                self.low = max(self.low, low)
                if high is not None:
                    self.high = high if self.high is None else min(self.high, high)
            case ("pat", pattern, sign):
                found = automaton(pattern)
                if found is None:
                    self.checks.append((searching(pattern), sign))
                else:
                    self.parts.append((found, sign))

    def _only_words(self) -> None:
        """Few texts are left: those that satisfy everything else; nothing but them needs to be followed."""
        words = self.allowed or frozenset()
        self.allowed = None
        kept = frozenset(word for word in words if self.holds(word))
        self.allowed, self.banned, self.parts, self.checks = kept, frozenset(), [], []
        self._allowed, self._banned = sorted(kept), []
        self.low, self.high = 0, None

    def holds(self, text: bytes) -> bool:
        """Whether a whole text satisfies all literals."""
        state: State | None = self.first()
        for byte in text:
            state = self._move(state, byte) if state is not None else None
        return state is not None and self.final(state, text)

    def first(self) -> State:
        """Before the first byte."""
        starts = tuple(part.first() for part, _ in self.parts)
        return (0, 0, None if self.allowed is None else b"", b"" if self.banned else None, starts)

    def satisfiable(self) -> bool:
        """Whether some string satisfies the thread."""
        return self.alive(self.first())

    def step(self, state: State, byte: int) -> State | None:
        """After one more byte; None where no completion is possible."""
        after = self._move(state, byte)
        return after if after is not None and self.alive(after) else None

    def _move(self, state: State, byte: int) -> State | None:
        count, place, word, ban, states = state
        after = utf8(place, byte)
        if after is None:
            return None
        if byte & 0xC0 != 0x80:
            count += 1
            if self.high is not None and count > self.high:
                return None
            if self.high is None and count > self.low:
                count = self.low
        if word is not None:
            word += bytes([byte])
            if not _begun(self._allowed, word):
                return None
        if ban is not None:
            ban += bytes([byte])
            if not _begun(self._banned, ban):
                ban = None
        moved = list[int]()
        for (part, sign), here in zip(self.parts, states, strict=True):
            there = None if here < 0 else part.step(here, byte)
            if there is None and sign:
                return None
            moved.append(-1 if there is None else there)
        return (count, after, word, ban, tuple(moved))

    def final(self, state: State, text: bytes | None) -> bool:
        """Whether the string may end. text: where `checks` need it."""
        count, place, word, ban, states = state
        if place or count < self.low or (word is not None and word not in (self.allowed or ())):
            return False
        if ban is not None and ban in self.banned:
            return False
        for (part, sign), here in zip(self.parts, states, strict=True):
            if (here >= 0 and part.final(here)) != sign:
                return False
        if self.checks and text is not None:
            plain = text.decode("utf-8", "replace")
            return all(found(plain) is sign for found, sign in self.checks)
        return True

    def alive(self, state: State) -> bool:
        """Whether a completion exists; exact but for `checks`, and for very many states."""
        if self.allowed is not None:
            return bool(self.allowed)
        if not self.parts and not (self.banned and self.high is not None):
            return self.high is None or self.low <= self.high
        if state not in self._alive:
            self._alive[state] = self._search(state)
        return self._alive[state]

    def _search(self, state: State) -> bool:
        if any(self._ends(state, part.closing(here)) for part, here in self._positive(state)):
            return True
        seen, open_ = {state}, [state]
        while open_:
            here = open_.pop()
            if self.final(here, None) or self._alive.get(here):
                return True
            if len(seen) > SEARCH:
                return True
            for byte in self._bytes(here):
                after = self._move(here, byte)
                if after is not None and after not in seen and self._alive.get(after) is not False:
                    seen.add(after)
                    open_.append(after)
        return False

    def _positive(self, state: State) -> list[tuple[Automaton, int]]:
        return [(part, here) for (part, sign), here in zip(self.parts, state[4], strict=True) if sign and here >= 0]

    def _ends(self, state: State, text: bytes | None) -> bool:
        """Whether `text`, a shortest end for one of the parts, is one for all."""
        here: State | None = state if text is not None else None
        for byte in text or b"":
            here = None if here is None else self._move(here, byte)
        return here is not None and self.final(here, None)

    def _bytes(self, state: State) -> list[int]:
        """Bytes that stand for all others: where a part changes its mind, and one of each kind."""
        _, place, _, ban, states = state
        out = {0x80, 0xBF, 0xA0} if place else {0x61, 0x20, 0x0A, 0xC3, 0xE4, 0xF0}
        for (part, _), here in zip(self.parts, states, strict=True):
            if here >= 0:
                out.update(part.cuts(here))
        if ban is not None:
            after = {one[len(ban)] for one in self.banned if one.startswith(ban) and len(one) > len(ban)}
            out |= after | {byte + 1 for byte in after if byte < 0xFF}
        return sorted(out)


def _begun(words: list[bytes], head: bytes) -> bool:
    """Whether one of the words, which are in order, begins with `head`."""
    at = bisect_left(words, head)
    return at < len(words) and words[at].startswith(head)
