"""Which tables can come into a FROM, and what they have to add up to."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from .join_keys import FAR, Pair, lacking, pairs, shared
from .scope import SOURCES, Names, Scope, Source, attach, count, missing

NOBODY: Final = "\0"
"""An alias that nobody uses."""


def lone(scope: Scope) -> bool:
    """Whether the result is `*` and has a fixed number of columns, so that FROM must add up to it."""
    return bool(scope.width) and any(out.how == "*" for out in scope.outs)


def reaches(names: Names, scope: Scope, width: int, taken: frozenset[str]) -> bool:
    """Whether tables can be joined that have `width` columns together."""
    sources = [*scope.ctes, *names.tables.values()]
    widths = tuple(sorted(len(s.columns) for s in sources if names.aliases != "none" or s.name not in taken))
    return width == 0 or (width > 0 and _sums(width, widths, names.aliases != "none"))


def key_pairs(names: Names, scope: Scope) -> list[Pair]:
    """How the table that came last may be tied to those before it: pairs of (name, column), its own second."""
    return pairs(names, scope.sources[:-1], scope.sources[-1]) if scope.sources else []


def tieable(names: Names, scope: Scope, source: Source) -> bool:
    """Whether joins may be of any kind, or a key links the table to one in FROM: for NATURAL, by all that it joins."""
    if names.keys is None or scope.how == "first":
        return True
    if scope.how == "natural":
        both = {column for column in source.columns if column and any(column in one.columns for one in scope.sources)}
        return bool(both) and both <= shared(names, scope.sources, source._replace(name=NOBODY))
    return scope.how == "join" and bool(pairs(names, scope.sources, source._replace(name=NOBODY)))


@lru_cache(4096)
def _sums(width: int, widths: tuple[int, ...], again: bool) -> bool:
    found = {0}
    for one in widths:
        for total in range(one, width + 1) if again else range(width, one - 1, -1):
            if total - one in found:
                found.add(total)
    return width in found


def fits(names: Names, scope: Scope, source: Source) -> bool:
    """Whether a table can come into FROM, under some name."""
    ways = called(names, scope, source)
    return tieable(names, scope, source) and any(attached(names, scope, source._replace(name=way)) for way in ways)


def called(names: Names, scope: Scope, source: Source) -> tuple[str, ...]:
    """Names to try for a table: its own; any; those that the select list waits for."""
    if names.aliases == "none":
        return (source.name,)
    if names.aliases == "declared":
        return (source.name, NOBODY)
    return (source.name, NOBODY, *sorted({one for one, _, _ in scope.pend if one}))


def attached(names: Names, scope: Scope, source: Source) -> Scope | None:
    """The scope after a table came in; with a lone star of fixed width its columns have to add up."""
    if lone(scope):
        total = sum(len(one.columns) for one in scope.sources) + len(source.columns)
        taken = frozenset(one.name for one in scope.sources) | {source.name}
        if scope.how == "natural" or (names.keys is None and not reaches(names, scope, scope.width - total, taken)):
            return None
    after = attach(scope, source)
    if names.keys is None or after is None:
        return after
    merged = after.must <= shared(names, scope.sources, source)
    return after if merged and lacking(names, after) < FAR else None


def derivable(scope: Scope) -> bool:
    """Whether a subquery may stand in FROM here: its columns are not known yet, so nothing may become ambiguous."""
    plain = {column for one, column, _ in scope.pend if not one} | scope.used
    roomy = missing(scope) + len(scope.sources) < SOURCES
    return roomy and not lone(scope) and not any(count(scope, column) for column in plain)


def mergeable(names: Names, scope: Scope) -> tuple[str, ...]:
    """The columns that USING may name: with keys, those of a key."""
    if names.keys is None or not scope.sources:
        return common(scope)
    return tuple(c for c in common(scope) if c in shared(names, scope.sources[:-1], scope.sources[-1]))


def common(scope: Scope) -> tuple[str, ...]:
    """The columns that are in the table just joined, and in one before it."""
    if lone(scope) or not scope.sources:
        return ()
    new, before = scope.sources[-1], scope._replace(sources=scope.sources[:-1])
    return tuple(c for c in new.columns if c and c not in new.hidden and count(before, c) == 1)
