"""Joins that go by foreign keys only: which tables are tied, and whether a FROM can still bring all that was named."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from .scope import CLOSED, Names, Scope, Source, count, missing, named, outward

LOOKED: Final = 2_000
"""Sets of tables that are looked at; what would need more is refused."""
FAR: Final = 1_000
Pair = tuple[tuple[str, str], tuple[str, str]]
Group = tuple[str, frozenset[str]]


def pairs(names: Names, before: tuple[Source, ...], new: Source) -> list[Pair]:
    """How a table may be tied to those before it: pairs of (name, column), its own second."""
    out = list[Pair]()
    for old in before:
        for (one, column), (other, target) in names.keys or ():
            if new.name and old.name and (old.table, new.table) == (one, other):
                out.append(((old.name, column), (new.name, target)))
            if new.name and old.name and (old.table, new.table) == (other, one):
                out.append(((old.name, target), (new.name, column)))
    return out


def shared(names: Names, before: tuple[Source, ...], new: Source) -> frozenset[str]:
    """Columns of one name on both sides of a key: those that USING or NATURAL may make one."""
    return frozenset(column for (_, column), (_, other) in pairs(names, before, new) if column == other)


def lacking(names: Names, scope: Scope) -> int:
    """How many tables FROM still has to bring; with keys, the fewest whose joins bring them, :data:`FAR` for none."""
    if names.keys is None:
        return missing(scope)
    sources = scope.sources
    if sources and scope.must:
        sources = (*sources[:-1], sources[-1]._replace(hidden=sources[-1].hidden | scope.must))
    single = {column: own for qualifier, column, own in sorted(scope.pend) if not qualifier}
    inside = {c for c, own in single.items() if names.having(scope, c) and (own or not _outside(scope, "", {c}))}
    groups = set[Group]()
    for qualifier in {one for one, _, _ in scope.pend if one}:
        mine = [(column, own) for one, column, own in scope.pend if one == qualifier]
        wanted = frozenset(column for column, _ in mine if column != "*")
        bound = any(own or column == "*" for column, own in mine)
        if names.groups(scope, qualifier, wanted) and (bound or not _outside(scope, qualifier, wanted)):
            groups.add((qualifier, wanted))
    width = scope.width if scope.width and any(out.how == "*" for out in scope.outs) else 0
    clear = frozenset(single) | scope.used
    return _fewest(names, sources, scope.ctes, frozenset(inside), clear, frozenset(groups), width)


def reachable(names: Names, scope: Scope | None) -> bool:
    """Whether every FROM that is still to come or being written can bring what was named in it."""
    while scope is not None and names.keys is not None:
        if scope.phase != CLOSED and lacking(names, scope) >= FAR:
            return False
        scope = scope.parent
    return True


def _outside(scope: Scope, qualifier: str, columns: set[str] | frozenset[str]) -> bool:
    """Whether a scope around this one, whose tables are known, has the columns."""
    above = outward(scope)
    while above is not None and above.phase == CLOSED:
        source = named(above, qualifier)
        if source is not None and columns <= set(source.columns):
            return True
        if not qualifier and all(count(above, column) == 1 for column in columns):
            return True
        above = outward(above)
    return False


@lru_cache(8192)
def _fewest(
    names: Names,
    sources: tuple[Source, ...],
    ctes: tuple[Source, ...],
    inside: frozenset[str],
    clear: frozenset[str],
    groups: frozenset[Group],
    width: int,
) -> int:
    """Tables to join until each column of `inside` is found once, none of `clear` twice, each group under its name."""

    def done(have: tuple[Source, ...]) -> bool:
        held = {one.name: set(one.columns) for one in have}
        return (
            all(_times(have, column) == 1 for column in inside)
            and all(qualifier in held and wanted <= held[qualifier] for qualifier, wanted in groups)
            and (not width or sum(len(one.columns) for one in have) == width)
        )

    seen, open_ = {frozenset(sources)}, deque([(sources, 0)])
    while open_:
        have, steps = open_.popleft()
        if done(have):
            return steps
        for more in _joined(names, have, ctes, clear, groups):
            if frozenset(more) not in seen and len(seen) < LOOKED:
                seen.add(frozenset(more))
                open_.append((more, steps + 1))
    return FAR


def _times(have: tuple[Source, ...], column: str) -> int:
    return sum(column in one.columns and column not in one.hidden for one in have)


def _joined(
    names: Names, have: tuple[Source, ...], ctes: tuple[Source, ...], clear: frozenset[str], groups: frozenset[Group]
) -> Iterator[tuple[Source, ...]]:
    """One table more, tied by a key to those before it."""
    taken, asked = {one.name for one in have}, dict(groups)
    for source in (*(() if have else ctes), *names.tables.values()):
        ways = [source.name, *(sorted(asked) if names.forward else ())]
        for way in dict.fromkeys(ways):
            new = source._replace(name=way)
            if way in taken or not asked.get(way, frozenset()) <= set(source.columns):
                continue
            if have and not pairs(names, have, new):
                continue
            clash = frozenset(c for c in clear if c in source.columns and _times(have, c))
            if clash <= shared(names, have, new):
                yield (*have, new._replace(hidden=clash))
