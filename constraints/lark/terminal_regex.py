"""Terminals of a Lark grammar as byte programs with the meaning that Python's `re` gives them.

Python's own parse tree is compiled to instructions for ordered threads (Pike's virtual machine): the first thread of
the list is the alternative that a backtracking matcher would try first, so that greedy, lazy and alternation order are
kept. Classes are split into UTF-8 byte ranges. Look-ahead starts threads beside the main one; look-behind and anchors
are trackers that run along with the text.
"""

from __future__ import annotations

import functools
import importlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from decodekit.errors import ConstraintError

from ..automata.patterns import LAST, Ranges, _category, _folded, _inverse, _tidy, ranges_of, short

_parser: Any = importlib.import_module("re._parser")

CHAR, SPLIT, LOOP, LOOK, BEHIND, END, MATCH = range(7)
"""Instructions. CHAR arcs; SPLIT ways, in order; LOOP body, exit; LOOK positive, inside, next; BEHIND positive,
tracker, next; END next (passes only where the text ends); MATCH."""

LIMIT: Final = 60_000
"""The largest program, in instructions."""

Arcs = tuple[tuple[int, int, int], ...]
"""(first byte, last byte, instruction to go on with); disjoint, in increasing order."""


class Beyond(ConstraintError):
    """A terminal that no thread program can follow; the message names the construct."""


@dataclass
class Program:
    """Instructions of one terminal. start: where its main thread begins.

    trackers: where each look-behind begins and ends; begin -1 stands for the start of the text. reach: how many bytes
    before its own first one the terminal may look at. looks: whether threads may die without a byte that kills them.
    """

    code: list[tuple[Any, ...]] = field(default_factory=list)
    start: int = 0
    trackers: list[tuple[int, int]] = field(default_factory=list)
    reach: int = 0
    looks: bool = False


def program(pattern: str, flags: int) -> Program:
    """`pattern`, as `re.compile(pattern, flags).match` reads it.

    Raises:
        Beyond: it holds a back-reference, an atomic group, or another construct without a thread program.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            tree = _parser.parse(pattern, flags)
        except (re.error, RecursionError, OverflowError) as error:
            raise Beyond(f"{short(pattern)} cannot be read as a regular expression of Python: {error}") from None
    writer = _Writer(pattern)
    writer.out.start = writer.sequence(list(tree), tree.state.flags, writer.put((MATCH,)), 0)
    return writer.out


class _Writer:
    """One pattern, back to front: each node is given the instruction that follows it, and returns its own."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.out = pattern, Program()
        self.inside = 0  # look-arounds that the node stands in
        self._classes: dict[tuple[Ranges, int], int] = {}

    def put(self, instruction: tuple[Any, ...]) -> int:
        self.out.code.append(instruction)
        if len(self.out.code) > LIMIT:
            raise Beyond(f"{short(self.pattern)} is too large (over {LIMIT} steps); repeat less")
        return len(self.out.code) - 1

    def sequence(self, nodes: list[Any], flags: int, then: int, before: int) -> int:
        """before: the least number of characters that were read before `nodes`."""
        starts = [before]
        for op, given in nodes:
            starts.append(starts[-1] + _least(str(op), given))
        for (op, given), at in zip(reversed(nodes), reversed(starts[:-1]), strict=True):
            then = self.node(str(op), given, flags, then, at)
        return then

    def node(self, op: str, given: Any, flags: int, then: int, before: int) -> int:
        match op:
            case "LITERAL" | "NOT_LITERAL":
                found = _folded(((given, given),), flags)
                return self.letters(_inverse(found) if op == "NOT_LITERAL" else _tidy(found), then)
            case "ANY":
                return self.letters(((0, LAST),) if flags & re.DOTALL else _inverse(((10, 10),)), then)
            case "IN":
                return self.letters(ranges_of(given, flags), then)
            case "BRANCH":
                return self.put((SPLIT, tuple(self.sequence(list(w), flags, then, before) for w in given[1])))
            case "SUBPATTERN":
                _, add, remove, inner = given
                return self.sequence(list(inner), (flags | add) & ~remove, then, before)
            case "MAX_REPEAT" | "MIN_REPEAT":
                return self.repeat(given, flags, then, before, op == "MAX_REPEAT")
            case "ASSERT" | "ASSERT_NOT":
                return self.look(given, flags, then, before, op == "ASSERT")
            case "AT":
                return self.edge(str(given), flags, then, before)
        names = {"GROUPREF": "a back-reference", "GROUPREF_EXISTS": "a conditional group"}
        names |= {"ATOMIC_GROUP": "an atomic group", "POSSESSIVE_REPEAT": "a possessive repetition"}
        raise Beyond(f"{short(self.pattern)} holds {names.get(op, op.lower())}, which cannot be followed byte by byte")

    def repeat(self, given: Any, flags: int, then: int, before: int, greedy: bool) -> int:
        low, high, inner = given
        nodes = list(inner)
        if high == _parser.MAXREPEAT:
            at = self.put((LOOP,))
            body = self.sequence(nodes, flags, at, before)
            self.out.code[at] = (LOOP, body, then, greedy)
            then = at
        else:
            exit_ = then
            for _ in range(high - low):
                body = self.sequence(nodes, flags, then, before)
                then = self.put((SPLIT, (body, exit_) if greedy else (exit_, body)))
        for _ in range(low):
            then = self.sequence(nodes, flags, then, before)
        return then

    def look(self, given: Any, flags: int, then: int, before: int, positive: bool) -> int:
        direction, inner = given
        nodes = list(inner)
        if direction < 0:
            width = sum(_least(str(op), each) for op, each in nodes)
            return self.behind(lambda last: self.sequence(nodes, flags, last, 0), width, before, then, positive)
        return self.ahead(lambda last: self.sequence(nodes, flags, last, before), then, positive)

    def ahead(self, inner: Any, then: int, positive: bool) -> int:
        if self.inside:
            raise Beyond(f"{short(self.pattern)} holds a look-ahead inside a look-behind; write it without")
        self.out.looks = True
        return self.put((LOOK, positive, inner(self.put((MATCH,))), then))

    def behind(self, inner: Any, width: int, before: int, then: int, positive: bool) -> int:
        if self.inside:
            raise Beyond(f"{short(self.pattern)} holds a look-around inside a look-behind; write it without")
        self.inside += 1
        last = self.put((MATCH,))
        self.out.trackers.append((inner(last) if inner is not None else -1, last))
        self.inside -= 1
        if before < width:
            self.out.reach = max(self.out.reach, 4 * (width - before))
        return self.put((BEHIND, positive, len(self.out.trackers) - 1, then))

    def edge(self, name: str, flags: int, then: int, before: int) -> int:
        if "BOUNDARY" in name:
            word = _category("CATEGORY_WORD", bool(flags & re.ASCII))
            after = {ok: self.ahead(lambda last: self.letters(word, last), then, ok) for ok in (True, False)}
            same = "NON" in name
            ways = [
                self.behind(lambda last: self.letters(word, last), 1, before, after[ok == same], ok)
                for ok in (True, False)
            ]
            return self.put((SPLIT, tuple(ways)))
        lines = bool(flags & re.MULTILINE)
        if "BEGINNING" in name:
            first = self.behind(None, 1, before, then, True)
            if name != "AT_BEGINNING" or not lines:
                return first
            broken = self.behind(lambda last: self.letters(((10, 10),), last), 1, before, then, True)
            return self.put((SPLIT, (first, broken)))

        def ends(last: int) -> int:
            end = self.put((END, last))
            if name != "AT_END":
                return end
            return self.put((SPLIT, (end, self.letters(((10, 10),), last if lines else end))))

        return self.ahead(ends, then, True)

    def letters(self, ranges: Ranges, then: int) -> int:
        """A class of characters, as a small acyclic automaton over bytes."""
        self.out.looks |= not ranges
        known = self._classes.get((ranges, then))
        if known is None:
            known = self._classes[ranges, then] = self.spread(_sequences(ranges), then, {})
        return known

    def spread(self, ways: _Ways, then: int, made: dict[_Ways, int]) -> int:
        if ways in made:
            return made[ways]
        arcs = list[tuple[int, int, int]]()
        for (low, high), rest in _grouped(ways):
            target = then if rest == ((),) else self.spread(rest, then, made)
            if arcs and arcs[-1][1] + 1 == low and arcs[-1][2] == target:
                arcs[-1] = (arcs[-1][0], high, target)
            else:
                arcs.append((low, high, target))
        made[ways] = self.put((CHAR, tuple(arcs)))
        return made[ways]


_Ways = tuple[tuple[tuple[int, int], ...], ...]


def _grouped(ways: _Ways) -> Iterator[tuple[tuple[int, int], _Ways]]:
    rest: dict[tuple[int, int], list[tuple[tuple[int, int], ...]]] = {}
    for way in ways:
        rest.setdefault(way[0], []).append(way[1:])
    for first, tails in rest.items():
        yield first, tuple(tails)


@functools.lru_cache(maxsize=512)
def _sequences(ranges: Ranges) -> _Ways:
    """UTF-8 byte ranges, one sequence a line, in increasing order (RFC 3629)."""
    return tuple(way for low, high in ranges for way in _split(low, high))


def _split(low: int, high: int) -> Iterator[tuple[tuple[int, int], ...]]:
    for first, last in ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, LAST)):
        if low <= last and high >= first:
            yield from _even(max(low, first), min(high, last))


def _even(low: int, high: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Code points of one length: cut until every byte runs over a range of its own."""
    size = len(chr(low).encode())
    for tail in range(1, size):
        block = (1 << 6 * tail) - 1
        if low | block != high | block:
            if low & block:
                yield from _even(low, low | block)
                yield from _even((low | block) + 1, high)
                return
            if high & block != block:
                yield from _even(low, (high & ~block) - 1)
                yield from _even(high & ~block, high)
                return
    yield tuple(zip(chr(low).encode(), chr(high).encode(), strict=True))


def _least(op: str, given: Any) -> int:
    """The least number of characters that a node reads."""
    match op:
        case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
            return 1
        case "BRANCH":
            return min(sum(_least(str(o), g) for o, g in way) for way in given[1])
        case "SUBPATTERN":
            return sum(_least(str(o), g) for o, g in given[3])
        case "MAX_REPEAT" | "MIN_REPEAT":
            return int(given[0]) * sum(_least(str(o), g) for o, g in given[2])
    return 0
