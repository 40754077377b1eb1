r"""Python's regular expressions in the syntax of the engines, with Python's own meaning.

Two dialects disagree on what `\w`, `\d`, `\s` and `(?i)` stand for, so a pattern is not passed on as text: Python's
parse tree is written anew, with every class spelled out as the ranges that Python's matcher accepts.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
import warnings
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from decodekit.errors import ConstraintError

_parser: Any = importlib.import_module("re._parser")  # typed nowhere; its tree is the same from Python 3.11 on

Ranges = tuple[tuple[int, int], ...]
"""Code points in increasing, disjoint, inclusive ranges, without surrogates (no UTF-8 text holds one)."""


class Letters(NamedTuple):
    """One character of `ranges`."""

    ranges: Ranges


class Row(NamedTuple):
    """`parts` one after the other."""

    parts: tuple[Tree, ...]


class Either(NamedTuple):
    """One of `parts`."""

    parts: tuple[Tree, ...]


class Again(NamedTuple):
    """`inner` from `low` to `high` times; None is no bound."""

    inner: Tree
    low: int
    high: int | None


Tree: TypeAlias = Letters | Row | Either | Again
"""What a finite automaton can do."""

LAST: Final = sys.maxunicode
_SURROGATES: Final = (0xD800, 0xDFFF)
_NAMED: Final = {
    "ASSERT": "a look-ahead or look-behind",
    "ASSERT_NOT": "a look-ahead or look-behind",
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a conditional group",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repetition",
}
_EDGES: Final = {"AT_BEGINNING": 0, "AT_BEGINNING_STRING": 0, "AT_END": 1, "AT_END_STRING": 1}


def translate(pattern: str, flags: int = 0) -> str:
    """`pattern` in the syntax of Rust's regex crate, such that a full match means the same.

    Raises:
        ConstraintError: it is no regular expression, or holds what no automaton can do.
    """
    return written(parsed(pattern, flags))


def _python(pattern: str, flags: int) -> Any:
    """Python's own parse tree."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # [[ and the like may change their meaning
            re.compile(pattern, flags)
            return _parser.parse(pattern, flags)
    except (re.error, ValueError, RecursionError, OverflowError) as error:
        said = " ".join(str(error).split())
        raise ConstraintError(f"the pattern {short(pattern)} is not a regular expression: {said}") from None


def parsed(pattern: str, flags: int = 0) -> Tree:
    """`pattern` as a tree of what automata can do. Raises ConstraintError as :func:`translate` does."""
    try:
        tree = _python(pattern, flags)
        return _Reader(pattern).sequence(list(tree), tree.state.flags, (True, True))
    except RecursionError:
        raise ConstraintError(f"the pattern {short(pattern)} is nested too deeply; simplify it") from None


def written(tree: Tree) -> str:
    """A tree in the syntax of Rust's regex crate."""
    match tree:
        case Letters(ranges):
            return "(?s:.)" if ranges == ANYTHING else _class(ranges)
        case Row(parts):
            return "".join(map(written, parts))
        case Either(parts):
            return "(?:" + "|".join(map(written, parts)) + ")"
        case Again(inner, low, high):
            return f"(?:{written(inner)}){{{low},{'' if high is None else high}}}"


def short(pattern: str) -> str:
    """A pattern as messages show it."""
    return repr(pattern) if len(pattern) <= 60 else repr(pattern[:57]) + "..."


class _Reader:
    """One pattern, node by node. `edge` says whether a node stands at the very start, at the very end."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def sequence(self, nodes: list[Any], flags: int, edge: tuple[bool, bool]) -> Tree:
        while nodes and edge[0] and _at(nodes[0]) == 0:  # a full match begins and ends there anyway
            nodes = nodes[1:]
        while nodes and edge[1] and _at(nodes[-1]) == 1:
            nodes = nodes[:-1]
        last = len(nodes) - 1
        parts = (
            self.node(str(op), given, flags, (edge[0] and i == 0, edge[1] and i == last))
            for i, (op, given) in enumerate(nodes)
        )
        return Row(tuple(parts))

    def node(self, op: str, given: Any, flags: int, edge: tuple[bool, bool]) -> Tree:
        match op:
            case "LITERAL" | "NOT_LITERAL":
                found = _folded(((given, given),), flags)
                return Letters(_inverse(found) if op == "NOT_LITERAL" else found)
            case "ANY":
                return Letters(ANYTHING if flags & re.DOTALL else _inverse(((10, 10),)))
            case "IN":
                return self.members(given, flags)
            case "BRANCH":
                return Either(tuple(self.sequence(list(one), flags, edge) for one in given[1]))
            case "SUBPATTERN":
                _, add, remove, inner = given
                return Either((self.sequence(list(inner), (flags | add) & ~remove, edge),))
            case "MAX_REPEAT" | "MIN_REPEAT":
                low, high, inner = given
                most = None if high == _parser.MAXREPEAT else int(high)
                return Again(self.sequence(list(inner), flags, (False, False)), int(low), most)
            case "AT":
                name = "a word boundary" if "BOUNDARY" in str(given) else "an anchor (^ or $) inside the pattern"
                raise self.refusal(name)
        raise self.refusal(_NAMED.get(op, op.lower()))

    def refusal(self, what: str) -> ConstraintError:
        return ConstraintError(
            f"the pattern {short(self.pattern)} cannot constrain a text: it holds {what}; write it without"
        )

    def members(self, given: list[Any], flags: int) -> Tree:
        whole = ranges_of(given, flags)
        if not whole:
            raise self.refusal("a class without characters")
        return Letters(whole)


def _at(node: Any) -> int | None:
    return _EDGES.get(str(node[1])) if str(node[0]) == "AT" else None


def _tidy(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted and merged; surrogates fall out."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    first, final = _SURROGATES
    parts = [part for low, high in out for part in ((low, min(high, first - 1)), (max(low, final + 1), high))]
    return tuple(dict.fromkeys((low, high) for low, high in parts if low <= high))


def _inverse(ranges: Ranges) -> Ranges:
    out, at = list[tuple[int, int]](), 0
    for low, high in ranges:
        if at < low:
            out.append((at, low - 1))
        at = high + 1
    return _tidy([*out, (at, LAST)] if at <= LAST else out)


ANYTHING: Final = _inverse(())
"""Every character."""


def ranges_of(given: list[Any], flags: int) -> Ranges:
    """The characters of a class (`IN` of Python's own parser of patterns)."""
    plain, found, negated = list[tuple[int, int]](), list[tuple[int, int]](), False
    for op, value in given:
        match str(op):
            case "NEGATE":
                negated = True
            case "LITERAL":
                plain.append((value, value))
            case "RANGE":
                plain.append(value)
            case "CATEGORY":
                found.extend(_category(str(value), bool(flags & re.ASCII)))
    whole = _tidy([*found, *_folded(_tidy(plain), flags)])
    return _inverse(whole) if negated else whole


@functools.cache
def _category(name: str, ascii_only: bool) -> Ranges:
    r"""The ranges of `\d`, `\s`, `\w` and their opposites, asked of Python."""
    kind = name.removeprefix("CATEGORY_")
    negated = kind.startswith("NOT_")
    letter = {"DIGIT": r"\d+", "SPACE": r"\s+", "WORD": r"\w+"}[kind.removeprefix("NOT_")]
    runs = re.finditer(letter, _letters(127 if ascii_only else LAST))  # surrogates are in none of the three
    found = _tidy((run.start(), run.end() - 1) for run in runs)
    if ascii_only and kind.endswith("SPACE"):  # bytes.isspace and str.isspace differ on four separators
        found = _tidy((ord(letter), ord(letter)) for letter in " \t\n\r\f\v")
    return _inverse(found) if negated else found


@functools.cache
def _letters(last: int) -> str:
    return "".join(map(chr, range(last + 1)))


@functools.cache
def _cased() -> tuple[str, ...]:
    """Every character that has another case; planes 2 and above hold ideographs only, which have none."""
    letters = map(chr, range(0x20000))
    return tuple(letter for letter in letters if letter.lower() != letter or letter.upper() != letter)


def _folded(ranges: Ranges, flags: int) -> Ranges:
    """With the other cases that Python's matcher accepts where case is ignored."""
    if not flags & re.IGNORECASE or not ranges:
        return ranges
    inside = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)
    matches = re.compile(f"[{inside}]", re.IGNORECASE | (flags & re.ASCII)).match
    return _tidy([*ranges, *((ord(letter), ord(letter)) for letter in _cased() if matches(letter))])


def _class(ranges: Ranges) -> str:
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _letter(ranges[0][0])
    parts = (_letter(low) if low == high else f"{_letter(low)}-{_letter(high)}" for low, high in ranges)
    return "[" + "".join(parts) + "]"


def _letter(code: int) -> str:
    letter = chr(code)
    return letter if letter.isascii() and letter.isalnum() else f"\\x{{{code:X}}}"
