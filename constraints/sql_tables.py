"""Names that a SQL statement gives or joins: tables, aliases, CTEs; and where each open symbol is found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from decodekit.constraints.sql_actions import NOBODY, attached, called, common, derivable, fits
from decodekit.constraints.sql_open import Open, Read, Terminal, name_of
from decodekit.constraints.sql_operand import COLUMN, OPERANDS, More, Named, Term
from decodekit.constraints.sql_rules import BACK, Symbol
from decodekit.constraints.sql_scope import Names, Out, Scope, Source
from decodekit.constraints.sql_words import COLLATIONS, TYPES


class Table(Open):
    """What FROM reads. symbol: ("source", how it is joined)."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """A bracket with a subquery."""
        return ("(",) if derivable(scope) else ()

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Tables and CTEs."""
        return (*names.tables, *(cte.name for cte in scope.ctes))

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """A table that fits what the select list waits for, or a subquery."""
        scope = scope._replace(how=str(symbol[1]))
        if terminal == "(" and derivable(scope):
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
            fitting = scope.cur is not None and self._fits(names, scope, name)
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
        return common(scope)

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """It is one column from now on."""
        name = name_of(terminal)
        if name is None or name not in common(scope):
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
    "type": Word(TYPES),
    "collation": Word(COLLATIONS),
}
