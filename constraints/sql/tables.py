"""Names that a SQL statement gives or joins: tables, aliases, CTEs; and where each open symbol is found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .joins import NOBODY, attached, called, derivable, fits, key_pairs, mergeable
from .keywords import COLLATIONS, TYPES
from .open_symbols import Open, Read, Terminal, name_of
from .operand import COLUMN, OPERANDS, More, Named, Term
from .rules import BACK, Symbol
from .scope import CLOSED, Names, Out, Scope, Source


class Table(Open):
    """What FROM reads. symbol: ("source", how it is joined)."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """A bracket with a subquery."""
        return ("(",) if self._derives(names, scope) else ()

    def _derives(self, names: Names, scope: Scope) -> bool:
        return derivable(scope) and (names.keys is None or not (scope.sources or scope.pend))

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Tables and CTEs."""
        return (*names.tables, *(cte.name for cte in scope.ctes))

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """A table that fits what the select list waits for, or a subquery."""
        scope = scope._replace(how=str(symbol[1]))
        if terminal == "(" and self._derives(names, scope):
            return Read((("@open", 4), ("@enter", "derived"), "query", "@derived", ")", BACK), scope)
        name = name_of(terminal)
        source = names.source(scope, name) if name is not None else None
        fitting = source is not None and fits(names, scope, source)
        return Read((), scope._replace(cur=source)) if fitting else None


class TableAlias(Open):
    """How a table is called in its statement, with AS or without."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """AS, if some alias can follow."""
        return ("AS",) if names.aliases != "none" and (self._free(names, scope) or self._asked(names, scope)) else ()

    def _free(self, names: Names, scope: Scope) -> bool:
        return self._fits(names, scope, NOBODY)

    def _fits(self, names: Names, scope: Scope, name: str) -> bool:
        return scope.cur is not None and attached(names, scope, scope.cur._replace(name=name)) is not None

    def _asked(self, names: Names, scope: Scope) -> tuple[str, ...]:
        asked = called(names, scope, scope.cur or Source("", ()))[2:]
        return tuple(name for name in asked if self._fits(names, scope, name))

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """What the select list waits for."""
        return self._asked(names, scope) if names.aliases == "any" or symbol == "tablename" else ()

    def loose(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """Any name."""
        return (names.aliases == "any" or symbol == "tablename") and self._free(names, scope)

    def optional(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """If the table can keep its own name; AS is followed by one."""
        return symbol != "tablename" and scope.cur is not None and self._fits(names, scope, scope.cur.name)

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """The alias, or none."""
        if terminal == "AS" and symbol != "tablename":
            return Read(("tablename",), scope) if self.terminals(names, scope, symbol) else None
        name = name_of(terminal)
        if name is not None and (names.aliases == "any" or symbol == "tablename"):
            other = names.aliases == "declared" and name in names.tables  # else one table would be called as another
            fitting = scope.cur is not None and not other and self._fits(names, scope, name)
            return Read((), scope._replace(cur=scope.cur._replace(name=name))) if fitting and scope.cur else None
        return Read((), scope, False) if self.optional(names, scope, symbol) else None


class Alias(Open):
    """How a result column is called. symbol: "alias" where it may be missing, "newname" after AS."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """AS."""
        return ("AS",) if symbol == "alias" else ()

    def loose(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """Any name."""
        return symbol != "alias" or names.aliases == "any"

    def optional(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """Unless AS was read."""
        return symbol == "alias"

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """The alias, or none."""
        name = name_of(terminal)
        if terminal == "AS" and symbol == "alias":
            return Read(("newname",), scope)
        if name is not None and self.loose(names, scope, symbol):
            return Read((), scope._replace(word=name))
        return Read((), scope, False) if symbol == "alias" else None


class Using(Open):
    """A column that both sides of a join have."""

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Those in both."""
        return mergeable(names, scope)

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """It is one column from now on."""
        name = name_of(terminal)
        if name is None or name not in mergeable(names, scope):
            return None
        new = scope.sources[-1]
        new = new._replace(hidden=new.hidden | {name})
        return Read((), scope._replace(sources=(*scope.sources[:-1], new)))


class Common(Open):
    """The name of a CTE ("ctename") or of one of its columns."""

    def loose(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """Any that is not taken."""
        return True

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """A name that is new."""
        name = name_of(terminal)
        if name is None or name in names.tables or any(cte.name == name for cte in scope.ctes):
            return None
        if symbol == "ctename":
            return Read((), scope._replace(word=name))
        if any(out.name == name for out in scope.outs):
            return None
        return Read((), scope._replace(outs=(*scope.outs, Out(name, "as"))))


class Condition(Open):
    """What follows ON: anything, or one side of a key. symbol: "condition", or ("keyside", name, column)."""

    def _ends(self, names: Names, scope: Scope, symbol: Symbol) -> set[tuple[str, str]]:
        """The (name, column) that may stand here."""
        pairs = key_pairs(names, scope)
        if symbol == "condition":
            return {end for pair in pairs for end in pair}
        done = symbol[1:]
        return {a for a, b in pairs if b == done} | {b for a, b in pairs if a == done}

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """None: a key begins with a name."""
        return ()

    def qualifiers(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """The names of both tables."""
        return tuple(name for name, _ in self._ends(names, scope, symbol))

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """A table, or any condition where no key is asked for."""
        if symbol == "condition" and not key_pairs(names, scope):
            return Read(("expr",), scope, False)
        named = isinstance(terminal, tuple) and terminal[0] in "qe"
        if not named or terminal[1] not in self.qualifiers(names, scope, symbol):
            return None
        done: tuple[object, ...] = () if symbol == "condition" else tuple(symbol[1:])
        return Read((("key", terminal[1], *done),), scope)


class Key(Open):
    """The column of a key after its table. symbol: ("key", table, and the other side where that was read)."""

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Columns of keys."""
        side: Symbol = "condition" if len(symbol) == 2 else ("keyside", *symbol[2:])
        return tuple(column for name, column in CONDITION._ends(names, scope, side) if name == symbol[1])

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """The column; then the other side, or more conditions."""
        name = name_of(terminal)
        if name is None or name not in self.words(names, scope, symbol):
            return None
        if len(symbol) == 2:
            return Read(("=", ("keyside", symbol[1], name)), scope)
        return Read(("@tied", "tied"), scope)


CONDITION: Final = Condition()


class Target(Open):
    """The table that a statement writes. symbol: "filled" for INSERT, whose values see no columns, else "target"."""

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Tables, and no views."""
        return tuple(names.writable)

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """Its columns can be named from now on."""
        name = name_of(terminal)
        if name is None or name not in names.writable:
            return None
        source = names.tables[name]
        sources = () if symbol == "filled" else (source,)
        return Read((), Scope(scope, True, phase=CLOSED, context="where", sources=sources, cur=source, load=8))


class Written(Open):
    """A column that is set. symbol: "setcolumn", or "intocolumn" for the list of INSERT."""

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Columns that are not set yet."""
        taken = {out.name for out in scope.outs}
        return tuple(c for c in names.writable.get(scope.cur.table if scope.cur else "", ()) if c not in taken)

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """Each column once."""
        name = name_of(terminal)
        if name is None or name not in self.words(names, scope, symbol):
            return None
        return Read((), scope._replace(outs=(*scope.outs, Out(name, "as"))))


class Row(Open):
    """One row of VALUES."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """A bracket."""
        return ("(",)

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """As many values as columns."""
        inner: tuple[Symbol, ...] = ("@fresh", "expr", ("more", 1, scope.width, scope.width), ")")
        return Read(inner, scope) if terminal == "(" else None


class Word(Open):
    """One of a few words that are no key words: types, collations."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """These."""
        return self.known

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """One of them."""
        return Read((), scope) if terminal in self.known else None


OPEN_SYMBOLS: Final[Mapping[str, Open]] = {
    "operand": OPERANDS,
    "column": COLUMN,
    "named": Named(),
    "called": Named(),
    "more": More(),
    "term": Term(),
    "source": Table(),
    "salias": TableAlias(),
    "tablename": TableAlias(),
    "alias": Alias(),
    "newname": Alias(),
    "using": Using(),
    "ctename": Common(),
    "ctecolumn": Common(),
    "condition": CONDITION,
    "keyside": CONDITION,
    "key": Key(),
    "target": Target(),
    "filled": Target(),
    "setcolumn": Written(),
    "intocolumn": Written(),
    "row": Row(),
    "type": Word(TYPES),
    "collation": Word(COLLATIONS),
}
