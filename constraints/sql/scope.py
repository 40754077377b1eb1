"""Who may be named where: the scopes of a SQL statement as values.

The select list is written before the FROM that gives it a meaning. A scope is therefore *pending* while its select
list is written: a name is taken if some FROM can still bring it in, and is kept; FROM may end only when everything
kept is found exactly once. Scopes are values; a nested statement has its own, and names not found there go outward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

PENDING: Final = 0
"""The select list is being written; FROM is still to come."""
OPEN: Final = 1
"""FROM is being written."""
CLOSED: Final = 2
"""All tables are known."""
SOURCES: Final = 30
"""The most tables of one FROM (SQLite joins at most 64)."""
ANY: Final = "\0"
"""Stands for an alias that nobody uses."""


class Source(NamedTuple):
    """One table of a FROM. name: what it is called there, "" for nothing. columns: by name, "" for one without a name.
    table: of the database, "" for a subquery. hidden: columns that USING or NATURAL made one with those to the left.
    """

    name: str
    columns: tuple[str, ...]
    table: str = ""
    hidden: frozenset[str] = frozenset()


class Out(NamedTuple):
    """One column of a result. how: "as" for an alias, "column" for a column's own name, "" where it has none."""

    name: str
    how: str = ""
    aggregate: bool = False
    column: tuple[str, str] | None = None


class Scope(NamedTuple):
    """One SELECT, as far as it was read.

    parent: the one around it. blind: names do not go outward from here. ctes: what WITH has named. width: how many
    result columns there must be, 0 for any number. reach: with that width and a lone star, whether FROM may grow.
    pend: (qualifier, column, own) that FROM has to bring; own: not from outside. used: names that must not become
    ambiguous. outs: result columns so far. bare: the item so far is this column alone; None at its start, else "".
    gathers: inside an aggregate. gathered: this item holds one. grouped: aggregates may be ordered by. cur: the table
    just named. how: of the join. must: columns that USING has to name. first: columns of the first SELECT of a
    compound. result: of the subquery just left. load, ops, saved: an upper bound of what SQLite's parser keeps on its
    stack, operators of this expression by precedence, both of those around it. word: a name not yet known to be a
    column or a function, or an alias. last: (table, column) of the operand just read. against: what it meets.
    """

    parent: Scope | None = None
    blind: bool = False
    ctes: tuple[Source, ...] = ()
    width: int = 0
    phase: int = PENDING
    context: str = "item"
    sources: tuple[Source, ...] = ()
    pend: frozenset[tuple[str, str, bool]] = frozenset()
    used: frozenset[str] = frozenset()
    outs: tuple[Out, ...] = ()
    bare: tuple[str, str] | str | None = None
    gathers: bool = False
    gathered: bool = False
    grouped: bool = False
    cur: Source | None = None
    how: str = ""
    must: frozenset[str] = frozenset()
    first: tuple[Out, ...] = ()
    result: tuple[Out, ...] = ()
    load: int = 4
    ops: int = 0
    saved: tuple[tuple[int, int, tuple[str, str] | None], ...] = ()
    word: str = ""
    last: tuple[str, str] | None = None
    against: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Names:
    """What a database offers, and the options of the dialect.

    tables: sources by name, in lower case; columns: column -> the tables that have it. aliases: "any", "as", "declared"
    or "none". spelt: how the schema writes a name, by the name in lower case; None where any case will do.
    quotes: whether a text may stand in double quotes; quoting: whether a name may. writable: the columns that may be
    set, by table; empty where nothing may. without: terminals and aggregates that the dialect does not have. functions:
    least and most arguments. values: the texts that occur, by (table, column); None for any text. texts: columns whose
    type is text, where types matter. keys: pairs of (table, column) that joins have to go by; None for any join.
    """

    tables: Mapping[str, Source]
    columns: Mapping[str, tuple[str, ...]]
    aliases: str = "any"
    spelt: Mapping[str, tuple[str, ...]] | None = None
    quotes: bool = True
    quoting: bool = True
    functions: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    writable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    values: Mapping[tuple[str, str], tuple[bytes, ...]] | None = None
    texts: frozenset[tuple[str, str]] = frozenset()
    keys: frozenset[tuple[tuple[str, str], tuple[str, str]]] | None = None

    @property
    def forward(self) -> bool:
        """Whether a table may be called by an alias before the FROM that declares it."""
        return self.aliases in ("any", "as")

    def source(self, scope: Scope, name: str) -> Source | None:
        """The table or CTE of that name."""
        return next((cte for cte in scope.ctes if cte.name == name), None) or self.tables.get(name)

    def having(self, scope: Scope, column: str) -> bool:
        """Whether some table or CTE has the column."""
        return column in self.columns or any(column in cte.columns for cte in scope.ctes)

    def groups(self, scope: Scope, qualifier: str, wanted: frozenset[str]) -> bool:
        """Whether one table or CTE that can be called `qualifier` has all of the columns."""
        if not self.forward:
            source = self.source(scope, qualifier)
            return source is not None and wanted <= set(source.columns)
        if any(wanted <= set(cte.columns) for cte in scope.ctes):
            return True
        if not wanted:
            return True
        one = next(iter(wanted))
        return any(wanted <= set(self.tables[table].columns) for table in self.columns.get(one, ()))


def outward(scope: Scope) -> Scope | None:
    """Where a name that is not found goes next. From GROUP BY and ORDER BY SQLite looks no further."""
    return None if scope.blind or scope.context in ("group", "order") else scope.parent


def count(scope: Scope, column: str) -> int:
    """How many tables of the scope an unqualified name may mean."""
    return sum(column in source.columns and column not in source.hidden for source in scope.sources)


def named(scope: Scope, name: str) -> Source | None:
    """The table of this scope that is called so."""
    return next((source for source in scope.sources if source.name == name), None) if name else None


def refer(names: Names, scope: Scope | None, qualifier: str, column: str, own: bool = False) -> Scope | None:
    """The scope after a column was named in it; None where no statement can go on like that."""
    if scope is None:
        return None
    if scope.phase == PENDING:
        pend = scope.pend | {(qualifier, column, own)}
        if pend == scope.pend:
            return scope
        return scope._replace(pend=pend) if _may(names, scope, pend) else None
    if qualifier:
        found = named(scope, qualifier)
        if found is not None and column in found.columns:
            return scope
    else:
        times = count(scope, column)
        if times > 1:
            return None
        if scope.phase == OPEN:
            scope = scope._replace(used=scope.used | {column})
        if times:
            return scope
    if own:
        return None
    above = refer(names, outward(scope), qualifier, column)
    return scope._replace(parent=above) if above is not None else None


def _may(names: Names, scope: Scope, pend: frozenset[tuple[str, str, bool]]) -> bool:
    """Whether some FROM, with the scopes around it, can bring everything that is pending."""
    above, needs = outward(scope), 0
    for qualifier, column, own in sorted(pend):
        if not qualifier:
            if names.having(scope, column):
                needs += 1
            else:
                above = None if own else refer(names, above, "", column)
                if above is None:
                    return False
    for qualifier in sorted({one for one, _, _ in pend if one}):
        wanted = frozenset(column for one, column, _ in pend if one == qualifier and column != "*")
        if names.groups(scope, qualifier, wanted):
            needs += 1
        elif any(one == qualifier and (own or column == "*") for one, column, own in pend):
            return False
        else:
            for column in sorted(wanted):
                above = refer(names, above, qualifier, column)
                if above is None:
                    return False
    return needs <= SOURCES


def missing(scope: Scope) -> int:
    """At most how many tables FROM still has to bring."""
    single = {column for one, column, _ in scope.pend if not one and not count(scope, column)}
    groups = {one for one, _, _ in scope.pend if one and named(scope, one) is None}
    return len(single) + len(groups)


def attach(scope: Scope, source: Source) -> Scope | None:
    """The scope after a table came into its FROM by `scope.how`; None where a name would get no meaning, or two."""
    if source.name and named(scope, source.name) is not None:
        return None
    wanted = {column for one, column, _ in scope.pend if one and one == source.name and column != "*"}
    if not wanted <= set(source.columns):
        return None
    taken = {column for one, column, _ in scope.pend if not one} | scope.used
    both = frozenset(column for column in source.columns if column and any(column in s.columns for s in scope.sources))
    clash = both & taken & frozenset(column for column in both if count(scope, column))
    must = frozenset[str]()
    if scope.how == "natural":
        source = source._replace(hidden=both)
    elif clash and scope.how == "join":
        must = clash
    elif clash:
        return None
    after = scope._replace(sources=(*scope.sources, source), must=must, cur=None)
    return after if missing(after) + len(after.sources) <= SOURCES else None


def close(names: Names, scope: Scope) -> Scope | None:
    """The scope when its FROM is whole: all that was pending is found here, or handed outward."""
    above = outward(scope)
    for qualifier, column, own in sorted(scope.pend):
        source = named(scope, qualifier)
        times = count(scope, column) if not qualifier else int(source is not None)
        if times > 1:
            return None
        if not times:
            if own or column == "*":
                return None
            above = refer(names, above, qualifier, column)
            if above is None:
                return None
    outs = list[Out]()
    for out in scope.outs:
        outs += _unfolded(scope, out)
    if scope.width and len(outs) != scope.width:
        return None
    none = frozenset[str]()
    after = scope._replace(phase=CLOSED, pend=frozenset(), used=none, outs=tuple(outs))
    return after if above is outward(scope) else after._replace(parent=above)


def _unfolded(scope: Scope, out: Out) -> list[Out]:
    """The columns that a star stands for."""
    if out.how != "*":
        return [out]
    sources = scope.sources if not out.name else [s for s in scope.sources if s.name == out.name]
    kept = [(s, column) for s in sources for column in s.columns if out.name or column not in s.hidden]
    return [Out(column, "column" if column else "", False, (s.table, column)) for s, column in kept]


def result_columns(outs: tuple[Out, ...]) -> tuple[str, ...]:
    """How the columns of a subquery are called from outside: a name twice means the first."""
    seen, out = set[str](), list[str]()
    for one in outs:
        out.append(one.name if one.how and one.name not in seen else "")
        seen.add(one.name)
    return tuple(out)
