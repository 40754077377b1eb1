"""Masks of the SQL machine: a walk over the trie of the vocabulary that does not spell out what nothing depends on.

Where any new name may stand, or inside a text, most of the vocabulary is allowed, and what follows does not depend on
the letters. There the tokens below a node of the trie are split once into a *head* (the letters that belong to the name
or text) and a *rest*; the rests are walked once for all heads, and only heads that mean something, such as key words
and known names, are looked at one by one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from decodekit.constraints.database import KEYWORDS
from decodekit.constraints.engines.states import Node, States, trie
from decodekit.constraints.sql_lexer import NOBODY, Lexer
from decodekit.constraints.sql_literals import DTEXT, GAP, QUOTED, TEXT, WORD, State
from decodekit.constraints.sql_open import chain
from decodekit.constraints.vocabulary import Vocabulary

SMALL: Final = 12
"""Nodes with fewer tokens below are walked plainly."""

_CHARACTER: Final = (
    rb"|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_HEADS: Final = {
    "begin": re.compile(rb"[A-Za-z_][A-Za-z0-9_]*"),
    "inner": re.compile(rb"[A-Za-z0-9_]+"),
    "name": re.compile(rb"[\x20\x21\x23-\x7e]+"),
    "text": re.compile(rb"(?:[\x20-\x26\x28-\x7e]" + _CHARACTER + rb")*"),
    "dtext": re.compile(rb"(?:[\x20\x21\x23-\x7e]" + _CHARACTER + rb")*"),
}
"""What belongs to a lexeme whose letters do not matter, by kind."""
_FIRST: Final = {
    "begin": frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"),
    "inner": frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"),
    "name": frozenset(range(32, 127)) - {34},
    "text": frozenset(range(32, 256)) - {39, 127},
    "dtext": frozenset(range(32, 256)) - {34, 127},
}


class Tail(NamedTuple):
    """A node of the trie of rests. ids: the tokens that end here."""

    next: dict[int, Any]
    ids: list[int]


@dataclass(frozen=True)
class Split:
    """The tokens below a node. whole: ids without a rest, lengths: their characters. rests: a trie. heads: by head, in
    lower case, the tokens with a rest. longest: bytes of the longest token. words: all, whole; of: their ids; depth:
    how many of their bytes lead to the node. pattern: of heads.
    """

    whole: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    rests: Tail
    heads: dict[bytes, list[tuple[bytes, tuple[int, ...]]]]
    longest: int
    words: list[bytes]
    of: dict[bytes, tuple[int, ...]]
    depth: int
    pattern: re.Pattern[bytes]

    @cached_property
    def falling(self) -> list[bytes]:
        """All tokens, longest first."""
        return sorted(self.words, key=len, reverse=True)

    def longer(self, room: int) -> Iterator[tuple[bytes, bool, tuple[int, ...]]]:
        """Of the tokens with more bytes than `room`: what of them comes after the node, whether it has a rest, ids."""
        for word in self.falling:
            if len(word) - self.depth <= room:
                break
            found = self.pattern.match(word, self.depth)
            yield word[self.depth :], found is None or found.end() < len(word), self.of[word]


class Loose(NamedTuple):
    """A state in which letters do not matter. kind: of the heads. after: stands for the state after any head. room:
    how many more characters fit. special: heads that mean something, in lower case.
    """

    kind: str
    after: State
    room: int
    special: frozenset[bytes]


class SqlStates(States):
    """The SQL machine compiled for one vocabulary."""

    machine: Lexer

    def __init__(self, machine: Lexer, vocabulary: Vocabulary) -> None:
        super().__init__(machine, vocabulary)
        self._splits: dict[tuple[int, str], Split | None] = vocabulary.engines.setdefault("sql", {})

    def mark(self, state: Any, flags: npt.NDArray[np.bool_]) -> None:
        """Set the `flags` of what is allowed, by a walk that splits what nothing depends on."""
        self._walk(flags, trie(self.vocabulary), state)

    def _walk(self, flags: npt.NDArray[np.bool_], root: Node, first: State) -> None:
        ids, open_ = list[int](), [(root, first)]
        while open_:
            node, state = open_.pop()
            loose = loosely(self.machine, state) if len(node.next) > 2 else None
            split = self._split(node, loose.kind) if loose is not None else None
            skipped = frozenset[int]()
            if loose is not None and split is not None:
                self._mark(flags, split, loose, state)
                skipped = _FIRST[loose.kind]
            for child, after in self._steps(node, state, skipped):
                ids.extend(child.ids)
                if child.next:
                    open_.append((child, after))
        flags[ids] = True

    def _steps(self, node: Any, state: State, skipped: frozenset[int]) -> list[tuple[Any, State]]:
        """The children of a node of a trie that may come next, by the shorter of two ways."""
        children, ways = node.next, None
        if len(children) > 8:
            ways = self.machine.following(state)
        if ways is not None:
            return [(children[byte], after) for byte, after in ways if byte in children and byte not in skipped]
        step, out = self.machine.step, list[tuple[Any, State]]()
        for byte, child in children.items():
            if byte not in skipped:
                found = step(state, byte)
                if found is not None:
                    out.append((child, found))
        return out

    def _mark(self, flags: npt.NDArray[np.bool_], split: Split, loose: Loose, state: State) -> None:
        """Allow the tokens of a split."""
        leap = self.machine.leap
        flags[split.whole] = True
        ids = list[int]()
        open_: list[tuple[Tail, State]] = [(split.rests, loose.after)]
        while open_:
            node, here = open_.pop()
            for child, after in self._steps(node, here, frozenset()):
                ids.extend(child.ids)
                if child.next:
                    open_.append((child, after))
        flags[ids] = True
        if split.longest > loose.room:
            long = any(len(head) > loose.room for head in loose.special)
            flags[split.whole[split.lengths > loose.room]] = False
            for text, rest, same in split.longer(loose.room):
                if rest or long:
                    flags[list(same)] = leap(state, text) is not None
        for head in loose.special & split.heads.keys():
            for text, same in split.heads[head]:
                flags[list(same)] = leap(state, text) is not None

    def _split(self, node: Node, kind: str) -> Split | None:
        """The split of the tokens below a node, made once; None where there are few."""
        key = (id(node), kind)
        if key not in self._splits:
            words, depth = node.below()
            words = [word for word in words if word[depth] in _FIRST[kind]]
            many = len(words) >= SMALL
            self._splits[key] = _divided(words, self.vocabulary.by_bytes, depth, kind) if many else None
        return self._splits[key]


def _divided(words: list[bytes], of: dict[bytes, tuple[int, ...]], depth: int, kind: str) -> Split:
    pattern, whole, lengths = _HEADS[kind], list[int](), list[int]()
    ends, heads = dict[bytes, list[int]](), dict[bytes, list[tuple[bytes, tuple[int, ...]]]]()
    match = pattern.match
    for word in words:
        found = match(word, depth)
        end = found.end() if found else depth
        ids = of[word]
        if end == len(word):
            whole += ids
            size = end - depth if word.isascii() else len(word[depth:].decode())
            lengths += [size] * len(ids)
        else:
            ends.setdefault(word[end:], []).extend(ids)
            heads.setdefault(word[depth:end].lower(), []).append((word[depth:], ids))
    rests = Tail({}, [])
    for rest, same in ends.items():
        node = rests
        for byte in rest:
            node = node.next.setdefault(byte, Tail({}, []))
        node.ids.extend(same)
    longest = max(map(len, words)) - depth
    sizes = np.array(lengths, dtype=np.int64)
    return Split(np.array(whole, dtype=np.int64), sizes, rests, heads, longest, words, of, depth, pattern)


def loosely(machine: Lexer, state: State) -> Loose | None:
    """How far the letters that come next do not matter; None where they do."""
    place, mode, a, b = state
    if mode in (TEXT, DTEXT):
        return Loose("text" if mode == TEXT else "dtext", state, machine.text - a, frozenset()) if b == 0 else None
    if mode not in (GAP, WORD, QUOTED) or (mode == QUOTED and b):
        return None
    offer = place.offer(machine.names)
    if mode == QUOTED:
        return _in_quotes(machine, state)
    if not (offer.loose or offer.loose_qualifier):
        return None
    begun = a if mode == WORD else ""
    if len(begun) >= machine.name:
        return None
    special = place.special
    if special is None:
        known = KEYWORDS.union(offer.words, offer.qualifiers, meant(machine, state))
        special = place.special = sorted(word.encode() for word in known)
    start = begun.encode()
    low, high = bisect_left(special, start), bisect_left(special, start + b"\xff") if start else len(special)
    rests = frozenset(word[len(start) :] for word in special[low:high])
    kind = "begin" if mode == GAP else "inner"
    return Loose(kind, (place, WORD, NOBODY, 0), machine.name - len(begun), rests)


def _in_quotes(machine: Lexer, state: State) -> Loose | None:
    """Inside a name in quotes: any new name, or a text."""
    place, _, a, _ = state
    offer = place.offer(machine.names)
    known = offer.words | offer.qualifiers | frozenset(meant(machine, state))
    special = frozenset(name.encode()[len(a) :] for name in known if name.encode().startswith(a))
    if offer.loose and len(a) < machine.name:
        return Loose("name", (place, QUOTED, NOBODY.encode(), 0), machine.name - len(a) - 1, special)
    if machine.doubly(place) and machine.names.values is None and a.isascii():
        return Loose("dtext", (place, DTEXT, len(a), 0), machine.text - len(a), special)
    return None


def meant(machine: Lexer, state: State) -> Iterator[str]:
    """Names that have a meaning already, so that a new one may not be the same."""
    yield from machine.names.tables
    for scope in chain(state[0].scope):
        yield from (source.name for source in scope.sources)
        yield from (cte.name for cte in scope.ctes)
        yield from (one for one, _, _ in scope.pend if one)
        yield from (out.name for out in scope.outs)
