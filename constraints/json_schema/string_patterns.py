r"""`pattern` of JSON Schema as an automaton: a search, not a full match, so what has no anchor may stand anywhere.

`\d`, `\w`, `\s` mean ASCII as in ECMA-262, and their opposites leave out what Python's matcher takes for a digit,
letter or space, so that a text is valid by either reading.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final

import regex

from decodekit.errors import ConstraintError

from ..automata.automaton import Automaton
from ..automata.patterns import ANYTHING, Again, Either, Letters, Row, Tree, _category, _python, _Reader, _tidy
from ..automata.patterns import _inverse as inverse

SECONDS: Final = 0.5
"""For one match of a pattern that is no automaton; a text on which it takes longer is refused."""
_ANYWHERE: Final = Again(Letters(ANYTHING), 0, None)


class _Both(_Reader):
    """Classes such that Python's and ECMA's readings agree on every letter that is let through."""

    def members(self, given: list[Any], flags: int) -> Tree:
        if not any(str(op) == "CATEGORY" for op, _ in given):
            return super().members(given, flags)
        negated = any(str(op) == "NEGATE" for op, _ in given)
        found = list[tuple[int, int]]()
        for op, value in given:
            match str(op):
                case "LITERAL":
                    found.append((value, value))
                case "RANGE":
                    found.append(value)
                case "CATEGORY":
                    opposite = "NOT" in str(value)
                    found.extend(_category(str(value), opposite == negated))
        whole = _tidy(found)
        return Letters(inverse(whole) if negated else whole)


def searched(pattern: str) -> Tree:
    """The texts in which `pattern` is found. Raises ConstraintError for what no automaton can do."""
    tree = _python(pattern, 0)
    return _head(_Both(pattern), list(tree), 0)


def _is(node: Any, op: str) -> bool:
    return str(node[0]) == op


def _at(node: Any, *names: str) -> bool:
    return _is(node, "AT") and str(node[1]) in names


def _plain_group(node: Any) -> bool:
    return _is(node, "SUBPATTERN") and not node[1][1] and not node[1][2]


def _head(reader: _Reader, nodes: list[Any], flags: int) -> Tree:
    if nodes and _at(nodes[0], "AT_BEGINNING", "AT_BEGINNING_STRING"):
        return _tail(reader, nodes[1:], flags)
    if nodes and _is(nodes[0], "BRANCH"):
        return Either(tuple(_head(reader, [*one, *nodes[1:]], flags) for one in nodes[0][1][1]))
    if nodes and _plain_group(nodes[0]):
        return _head(reader, [*nodes[0][1][3], *nodes[1:]], flags)
    return Row((_ANYWHERE, _tail(reader, nodes, flags)))


def _tail(reader: _Reader, nodes: list[Any], flags: int) -> Tree:
    if nodes and _at(nodes[0], "AT_BEGINNING", "AT_BEGINNING_STRING"):
        return _tail(reader, nodes[1:], flags)
    if nodes and _at(nodes[-1], "AT_END", "AT_END_STRING"):
        return _body(reader, [n for n in nodes if n is not nodes[-1]], flags)
    if nodes and _is(nodes[-1], "BRANCH"):
        ends = tuple(_tail(reader, list(one), flags) for one in nodes[-1][1][1])
        return Row((_body(reader, nodes[:-1], flags), Either(ends)))
    if nodes and _plain_group(nodes[-1]):
        return Row((_body(reader, nodes[:-1], flags), _tail(reader, list(nodes[-1][1][3]), flags)))
    return Row((_body(reader, nodes, flags), _ANYWHERE))


def _body(reader: _Reader, nodes: list[Any], flags: int) -> Tree:
    while nodes and _at(nodes[-1], "AT_END", "AT_END_STRING"):
        nodes = nodes[:-1]
    return reader.sequence(nodes, flags, (False, False))


@functools.lru_cache(maxsize=4096)
def automaton(pattern: str) -> Automaton | None:
    """The automaton of a search; None where only a matcher can tell (look-around, back-references).

    Raises:
        ConstraintError: it is no regular expression, or too large.
    """
    matcher(pattern)
    try:
        return Automaton(searched(pattern), f"the pattern {pattern[:60]!r}")
    except ConstraintError as error:
        if "places" in str(error):
            raise
        return None


@functools.lru_cache(maxsize=4096)
def matcher(pattern: str) -> Any:
    r"""A compiled search; of the regex library where Python's own does not know the syntax (`\p{Letter}` of ECMA-262).

    Raises:
        ConstraintError: the pattern is no regular expression of either.
    """
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        try:
            return regex.compile(pattern)
        except (regex.error, OverflowError, RecursionError):
            said = " ".join(str(error).split())
            raise ConstraintError(f"the pattern {pattern[:60]!r} is not a regular expression: {said}") from None


@functools.lru_cache(maxsize=4096)
def searching(pattern: str) -> Callable[[str], bool | None]:
    """Whether a pattern is found in a text; None where looking takes longer than :data:`SECONDS`."""
    try:
        found = regex.compile(pattern)
    except regex.error:  # in Python's own syntax only
        plain = matcher(pattern)
        return lambda text: plain.search(text) is not None

    def search(text: str) -> bool | None:
        try:
            return found.search(text, timeout=SECONDS) is not None
        except TimeoutError:
            return None

    return search
