"""Masks of the JSON machine: within a string the vocabulary is walked as arrays, and shared wherever strings are alike.

What may stand within a string depends on the string's own rules only, not on what the string stands in. So the tokens
that stay inside are found once for each state of those rules (for a string of which nothing is asked: once for the
vocabulary); only those that close it, a few hundred of any vocabulary, are followed into what surrounds it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..automata.byte_machine import Node, States, trie
from ..core.steering import JUMP
from ..core.vocabulary import Vocabulary
from ..core.vocabulary_trie import flat_trie
from .machine import Holder, JsonMachine, Place
from .scalars import QUOTE, String
from .strings import StringRules
from .tracks import Track

Flags = npt.NDArray[np.bool_]
DEAD, UNKNOWN = -1, -2
KEPT: Final = 512
"""How many sets of tokens that stay inside are remembered."""


class Spelling(String):
    """A string that stands nowhere: only whether it goes on, not where its end leads."""

    __slots__ = ()

    @classmethod
    def of(cls, string: String) -> Spelling:
        """Apart from its text and its holder."""
        machine, tracks, loose = string.machine, string.tracks, string.any
        endless = all(
            rules.allowed is None and not rules.parts and rules.high is None for _, rules, _, _ in tracks
        )  # it can always go on, whatever is banned: only how escapes are spelled counts
        holder = Holder(string.holder.main, string.holder.others, False, 0, lambda true, value: None)
        if endless:
            goal = next(iter(string.holder.main))
            holder = Holder(frozenset({goal}), frozenset(), False, 0, lambda true, value: None)
            tracks = (Track(goal, FREE, None, ()),)
        found = cls(machine, holder, tracks, string.escape, string.place, None)
        found.any = loose
        return found

    def at(self, tracks: tuple[Track, ...], escape: bytes, place: int, text: bytes | None) -> String:
        """The same without the text."""
        found = super().at(tracks, escape, place, None)
        found.any = self.any
        return found

    def key(self) -> Hashable:
        """Equal for strings that go on alike."""
        free = self.tracks[0].rules is FREE
        return (None if free else (self.tracks, self.holder.main), self.any, self.escape, self.place)


class _Free(StringRules):
    def __init__(self) -> None:
        super().__init__(None, ())  # type: ignore[arg-type]  # no literal, so nothing is looked up


FREE: Final = _Free()


class Walk:
    """The states of one string as numbers, their moves as a table, and what it lets through of a vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._states: list[Place] = []
        self._number: dict[int, int] = {}
        self._table: npt.NDArray[np.int32] = np.full((16, 256), UNKNOWN, dtype=np.int32)

    def _state(self, place: Place | None) -> int:
        if place is None:
            return DEAD
        found = self._number.get(id(place))
        if found is None:
            found = self._number[id(place)] = len(self._states)
            self._states.append(place)
            if found >= len(self._table):
                self._table = np.concatenate([self._table, np.full_like(self._table, UNKNOWN)])
            if not place.escape:  # type: ignore[attr-defined]  # all are strings
                self._table[found, QUOTE] = DEAD
        return found

    def _moved(self, states: npt.NDArray[np.int32], byte: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        moved = self._table[states, byte]
        missing = np.flatnonzero(moved == UNKNOWN)
        if len(missing):
            for pair in np.unique(states[missing].astype(np.int64) * 256 + byte[missing]).tolist():
                after = self._state(self._states[pair // 256].step(pair % 256))
                self._table[pair // 256, pair % 256] = after
            moved[missing] = self._table[states[missing], byte[missing]]
        return moved

    def inside(self, string: Spelling) -> Flags:
        """[32 W], the tokens after which the string is still open."""
        flags = np.zeros(32 * (len(self.vocabulary) // 32 + 1), dtype=np.bool_)
        words = flat_trie(self.vocabulary)
        nodes = np.zeros(1, dtype=np.int64)  # the root
        states = np.array([self._state(string)], dtype=np.int32)
        while len(nodes):
            nodes, owner = words.expand(nodes)
            states = self._moved(states[owner], words.edge[nodes].astype(np.uint8))
            alive = np.flatnonzero(states >= 0)
            nodes, states = nodes[alive], states[alive]
            flags[words.ending(nodes)] = True
        return flags


class Closers:
    """The tokens with a quotation mark: what stands before it, and a trie of what follows."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        found: dict[bytes, dict[bytes, tuple[int, ...]]] = {}
        for word, ids in vocabulary.by_bytes.items():
            at = word.find(b'"')
            while at >= 0:
                found.setdefault(word[:at], {})[word[at + 1 :]] = ids
                at = word.find(b'"', at + 1)
        self.rests = list[tuple[int, bytes, dict[bytes, tuple[int, ...]]]]()
        """(bytes shared with the beginning before, the beginning, what follows the mark with its tokens), in order."""
        last = b""
        for before in sorted(found):
            shared = next((i for i, (a, b) in enumerate(zip(last, before, strict=False)) if a != b), len(last))
            self.rests.append((min(shared, len(before)), before, found[before]))
            last = before

    def follow(self, string: String, flags: Flags) -> None:
        """Set the `flags` of the tokens that close `string`."""
        ends: dict[int, tuple[Place, dict[bytes, list[int]]]] = {}
        path: list[Place | None] = [string]  # after each byte of the latest beginning; None: it is not this string
        for shared, before, rests in self.rests:
            del path[shared + 1 :]
            for byte in before[len(path) - 1 :]:
                here = path[-1]
                after = None if here is None else here.step(byte)
                inside = isinstance(after, String) and after.holder is string.holder
                path.append(after if inside else None)
            here = path[-1]
            after = None if here is None or here.escape else here.step(QUOTE)  # type: ignore[attr-defined]
            if after is not None:
                _, gathered = ends.setdefault(id(after), (after, {}))
                for rest, ids in rests.items():
                    gathered.setdefault(rest, []).extend(ids)
        found = list[int]()
        for place, gathered in ends.values():
            _follow(place, sorted(gathered.items()), 0, found)
        flags[found] = True


def _follow(place: Place, words: list[tuple[bytes, list[int]]], depth: int, found: list[int]) -> None:
    """Add the ids of the `words`, which agree in their first `depth` bytes and have led to `place` with them."""
    at = 0
    while at < len(words):
        word, ids = words[at]
        if len(word) == depth:
            found += ids
            at += 1
            continue
        end = at + 1
        while end < len(words) and words[end][0][depth] == word[depth]:
            end += 1
        after = place.step(word[depth])
        if after is not None:
            _follow(after, words[at:end], depth + 1, found)
        at = end


def _closers(vocabulary: Vocabulary) -> Closers:
    if "closers" not in vocabulary.engines:
        vocabulary.engines["closers"] = Closers(vocabulary)
    found: Closers = vocabulary.engines["closers"]
    return found


class JsonStates(States):
    """The JSON machine for one vocabulary."""

    machine: JsonMachine

    def __init__(self, machine: JsonMachine, vocabulary: Vocabulary) -> None:
        super().__init__(machine, vocabulary)
        self.jump = JUMP + machine.layout.jump if machine.layout.jump else 0
        self._inside: OrderedDict[Hashable, Flags] = OrderedDict()

    def mark(self, state: Any, flags: Flags) -> None:
        """Set the `flags` [32 W] of every token that is allowed."""
        if isinstance(state, String):
            flags |= self._stays(Spelling.of(state))
            _closers(self.vocabulary).follow(state, flags)
            return
        open_: list[tuple[Node, Place]] = [(trie(self.vocabulary), state)]
        found = list[int]()
        while open_:
            node, here = open_.pop()
            for byte, child in node.next.items():
                after = here.step(byte)
                if after is not None:
                    found.extend(child.ids)
                    open_.append((child, after))
        flags[found] = True

    def _stays(self, string: Spelling) -> Flags:
        key = string.key()
        shared: dict[Hashable, Flags] = self.vocabulary.engines.setdefault("free strings", {})
        found = shared.get(key) if key[0] is None else self._inside.get(key)  # type: ignore[index]
        if found is None:
            found = Walk(self.vocabulary).inside(string)
            if key[0] is None:  # type: ignore[index]
                shared[key] = found
            else:
                self._inside[key] = found
                if len(self._inside) > KEPT:
                    self._inside.popitem(last=False)
        return found
