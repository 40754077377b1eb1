"""Masks of the SQL machine: a walk over the trie of the vocabulary that does not spell out what nothing depends on.

Where any new name may stand, or inside a text, most of the vocabulary is allowed, and what follows does not depend on
the letters. There the tokens below a node of the trie are split once into a *head* (the letters that belong to the name
or text) and a *rest*; the rests are walked once for all heads, and only heads that mean something, such as key words
and known names, are looked at one by one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ..automata.byte_machine import Node, States, trie
from ..core.steering import FAR, fewest
from ..core.vocabulary import Vocabulary
from .closing import SqlMachine
from .database import KEYWORDS
from .lexer import NOBODY, Lexer
from .literals import DTEXT, GAP, QUOTED, TEXT, WORD, State
from .open_symbols import chain
from .token_split import FIRST, Split, Tail, divided

SMALL: Final = 12
"""Nodes with fewer tokens below are walked plainly."""
_NAMED: Final = re.compile(rb"[ \n]*([A-Za-z0-9_]+)[^A-Za-z0-9_]")
"""A word and what follows it."""
FEW: Final = 4
"""So few tokens are read one by one."""


class Loose(NamedTuple):
    """A state in which letters do not matter. kind: of the heads. after: stands for the state after any head. room:
    how many more characters fit. special: heads that mean something, in lower case.
    """

    kind: str
    after: State
    room: int
    special: frozenset[bytes]


class NewQuoted(NamedTuple):
    """A new name in quotes. begun: of it so far, `size` tokens. after: stands for the state after any more of it.
    longest: characters it may have. starts: what names that mean something begin with, in lower case.
    """

    begun: bytes
    after: State
    size: int
    longest: int
    starts: frozenset[bytes]

    def reads(self, text: bytes) -> bool:
        """Whether an allowed token goes on with it, or ends it, and it means nothing that is known."""
        name = self.begun + text.partition(b'"')[0]
        plain = name.isascii() and len(name) < self.longest
        return plain and name.lower() not in self.starts and name != self.begun


class SqlStates(States):
    """The SQL machine compiled for one vocabulary."""

    machine: SqlMachine

    def __init__(self, machine: SqlMachine, vocabulary: Vocabulary) -> None:
        super().__init__(machine, vocabulary)
        self._splits: dict[tuple[int, str], Split | None] = vocabulary.engines.setdefault("sql", {})

    def ways(self, state: State) -> Iterator[bytes]:
        """Texts that complete a state; along each of them the rest of it, or a shorter one, stays known."""
        return self.machine.endings(state)

    @cached_property
    def jump(self) -> int:
        """Tokens by which one token may move the end away: it may name two columns, whose tables then have to come."""
        names, most = self.machine.names, 0
        for table in names.tables.values():
            column = max(table.columns, key=len, default="")
            join = f" JOIN {table.name} AS {table.name} ON {table.name}.{column} = {table.name}.{column}"
            most = max(most, fewest(join.encode(), self.vocabulary))
        return 16 + most * (2 if names.keys is None else max(2, len(names.tables)))

    def twins(self, state: State, ids: Iterable[int]) -> Iterator[tuple[int, State | None, int]]:
        """Allowed tokens, each with a state, and how much further at most the end is from where the token leads.

        Letters do not move the end within a text, nor in a new name that means nothing yet, but for what it takes to
        repeat the name where its table comes. Tokens that write a new name and what follows it lead to as many places
        as there are names: None, unless they begin a known way.
        """
        place, tokens = state[0], self.vocabulary.tokens
        ways = list(self.ways(state))
        offer = place.offer(self.machine.names)
        loose = state[1] in (GAP, WORD) and (offer.loose or offer.loose_qualifier)
        begun = state[2] if state[1] == WORD else ""
        known = dict[int, int]()  # by the tokens of a name
        quoted = self._new_in_quotes(state)
        for token in ids:
            text = tokens[token]
            if quoted is not None and quoted.reads(text) and not any(way.startswith(text) for way in ways):
                size = quoted.size + self._spelled(text) if b'"' not in text else -1
                if size not in known:
                    known[size] = self._repeated(quoted.after, size)
                yield token, quoted.after if size >= 0 else None, known[size]
                continue
            after = self.machine.leap(state, text) if text else None
            if after is None or any(way.startswith(text) for way in ways):
                yield token, after, 0
                continue
            found = _NAMED.match(text) if loose else None
            if found is not None and (begun + found[1].decode()).lower() not in offer.plain:
                yield token, None, 0
                continue
            twin, more = _typical(self.machine, after), 0
            if twin[2] == NOBODY != after[2]:
                size = self._spelled(begun.encode()) + self._spelled(after[2][len(begun) :].encode())
                if size not in known:
                    known[size] = self._repeated(twin, size)
                more = known[size]
            yield token, twin, more

    def _new_in_quotes(self, state: State) -> NewQuoted | None:
        """A name in quotes that is being read, where it may be new."""
        place, mode, a, closed = state
        offer = place.offer(self.machine.names)
        if mode != QUOTED or closed or not offer.loose:
            return None
        names = {name.encode() for name in (*offer.words, *offer.qualifiers, *meant(self.machine, state))}
        starts = frozenset(name[:size] for name in names.union(offer.quoted) for size in range(1, len(name) + 1))
        after = (place, QUOTED, NOBODY.encode(), 0)
        return NewQuoted(a, after, self._spelled(a) if a else 0, self.machine.name, starts)

    def _spelled(self, text: bytes) -> int:
        """Tokens that spell some letters; of one token most often, which is not worth remembering."""
        return 1 if text in self.vocabulary.by_bytes else fewest(text, self.vocabulary)

    def _repeated(self, twin: State, size: int) -> int:
        """How much longer ways from a state become where :data:`NOBODY` is a name of `size` tokens."""
        ways = list(self.ways(twin))
        least = min((fewest(way, self.vocabulary) for way in ways), default=FAR)
        parts = [way.split(NOBODY.encode()) for way in ways]
        sizes = (sum(fewest(part, self.vocabulary) for part in way) + size * (len(way) - 1) for way in parts)
        return max(0, min(sizes, default=FAR) - least)

    def mark(self, state: Any, flags: npt.NDArray[np.bool_]) -> None:
        """Set the `flags` of what is allowed, by a walk that splits what nothing depends on."""
        self._walk(flags, trie(self.vocabulary), state)

    def _walk(self, flags: npt.NDArray[np.bool_], root: Node, first: State) -> None:
        ids, open_, of, leap = list[int](), [(root, first)], self.vocabulary.by_bytes, self.machine.leap
        while open_:
            node, state = open_.pop()
            skipped = self._at_once(flags, node, state) if node.many >= SMALL else frozenset[int]()
            for child, after in self._steps(node, state, skipped):
                ids.extend(child.ids)
                if child.many > FEW:
                    open_.append((child, after))
                elif child.many:
                    words, depth = child.below()
                    for word in words:
                        if leap(after, word[depth:]) is not None:
                            ids.extend(of[word])
        flags[ids] = True

    def _at_once(self, flags: npt.NDArray[np.bool_], node: Node, state: State) -> frozenset[int]:
        """Allow what words lead to from a node; the first bytes of these. None where that is no quicker than a walk."""
        loose = loosely(self.machine, state)
        words = strictly(self.machine, state) if loose is None else None
        if loose is None and words is None:
            return frozenset()
        kind = loose.kind if loose is not None else "begin" if state[1] == GAP else "inner"
        split = self._split(node, kind)
        if split is None:
            return frozenset()
        if loose is not None:
            self._mark(flags, split, loose, state)
        else:
            self._known(flags, split, words or [], state)
        return FIRST[kind]

    def _known(self, flags: npt.NDArray[np.bool_], split: Split, words: list[bytes], state: State) -> None:
        """Allow the tokens of a split that begin one of `words`, or go on after a whole one."""
        ids, leap = list[int](), self.machine.leap
        starts = split.starts if self.machine.folds else split.exact
        for start in {word[:size] for word in words for size in range(1, len(word) + 1)}:
            ids.extend(starts.get(start, ()))
        for word in words:
            for text, same in split.heads.get(word.lower(), ()):
                if leap(state, text) is not None:
                    ids.extend(same)
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
            words = [word for word in words if word[depth] in FIRST[kind]]
            many = len(words) >= SMALL
            self._splits[key] = divided(words, self.vocabulary.by_bytes, depth, kind) if many else None
        return self._splits[key]


def _typical(machine: Lexer, state: State) -> State:
    """A state whose end is as far: the length of a text, or the letters of a name that is new, do not matter."""
    place, mode, a, b = state
    if mode in (TEXT, DTEXT):
        return (place, mode, 0, b)
    if mode == WORD:
        offer = place.offer(machine.names)
        known = any(word.startswith(a) for word, _ in offer.begins.get(a[0], ()))
        if (offer.loose or offer.loose_qualifier) and not known and not _means(machine, state, a):
            return (place, WORD, NOBODY, 0)
    return state


def _means(machine: Lexer, state: State, word: str) -> bool:
    """Whether a whole word has a meaning where new names may stand, so that none of them may be the same."""
    special, whole = _special(machine, state), word.lower().encode()
    at = bisect_left(special, whole)
    return at < len(special) and special[at] == whole


def _special(machine: Lexer, state: State) -> list[bytes]:
    """The words that mean something where new names may stand: in lower case, sorted, made once."""
    place = state[0]
    if place.special is None:
        offer = place.offer(machine.names)
        known = KEYWORDS.union(offer.words, offer.qualifiers, meant(machine, state))
        place.special = sorted(word.encode() for word in known)
    return place.special


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
    special = _special(machine, state)
    start = begun.lower().encode()
    low, high = bisect_left(special, start), bisect_left(special, start + b"\xff") if start else len(special)
    rests = frozenset(word[len(start) :] for word in special[low:high])
    kind = "begin" if mode == GAP else "inner"
    return Loose(kind, (place, WORD, NOBODY, 0), machine.name - len(begun), rests)


def strictly(machine: Lexer, state: State) -> list[bytes] | None:
    """What is left of the words that may be written here, where only known ones may; None where others may too."""
    place, mode, a, _ = state
    if mode not in (GAP, WORD):
        return None
    offer = place.offer(machine.names)
    if offer.loose or offer.loose_qualifier:
        return None
    special = place.special
    if special is None:
        shift = machine.parser.shift
        ways = (way for some in offer.begins.values() for way in some)
        special = place.special = sorted({word.encode() for word, end in ways if shift(place, end) is not None})
    start = a.encode() if mode == WORD else b""
    low, high = bisect_left(special, start), bisect_left(special, start + b"\xff")
    return [word[len(start) :] for word in special[low:high]]


def _in_quotes(machine: Lexer, state: State) -> Loose | None:
    """Inside a name in quotes: any new name, or a text."""
    place, _, a, _ = state
    offer = place.offer(machine.names)
    known = offer.words | offer.qualifiers | frozenset(meant(machine, state))
    special = frozenset(name.encode()[len(a) :] for name in known if name.encode().startswith(a.lower()))
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
