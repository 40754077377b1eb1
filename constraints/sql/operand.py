"""Operands of SQL expressions: what a column, a function, a literal may be at a place of a statement."""

from __future__ import annotations

from typing import Final

from .actions import STACK
from .join_keys import reachable
from .keywords import AGGREGATES, NUMERIC
from .open_symbols import Open, Read, Terminal, chain, name_of
from .rules import BACK, SUBQUERY, TERM, Symbol
from .scope import CLOSED, OPEN, PENDING, Names, Out, Scope, count, refer


def gathers(scope: Scope) -> bool:
    """Whether an aggregate may stand here."""
    allowed = scope.context in ("item", "having") or (scope.context == "order" and scope.grouped)
    return allowed and not scope.gathers and scope.phase != OPEN


def committed(names: Names, scope: Scope, qualifier: str, column: str) -> Scope | None:
    """The scope after an operand that is a column, or the alias of a result."""
    after = scope if _is_alias(scope, qualifier, column) else None
    after = after or refer(names, scope, qualifier, column, scope.gathers)
    if after is None or not reachable(names, after):
        return None
    bare = (qualifier, column) if scope.bare in (None, "(") else ""
    last = _which(names, scope, qualifier, column) if names.values is not None or names.texts else None
    return after._replace(bare=bare, word="", last=last)


def _called(names: Names, scope: Scope, name: str) -> bool:
    """Whether it is a function that may stand here."""
    return name in names.functions or (name in AGGREGATES and name not in names.without and gathers(scope))


def _is_alias(scope: Scope, qualifier: str, column: str) -> bool:
    if qualifier or scope.phase != CLOSED or scope.gathers or count(scope, column):
        return False
    if scope.context not in ("group", "having", "order"):
        return False
    found = next((out for out in scope.outs if out.how == "as" and out.name == column), None)
    return found is not None and not (found.aggregate and scope.context == "group")


def _which(names: Names, scope: Scope, qualifier: str, column: str) -> tuple[str, str] | None:
    """The column of the database that is meant; where FROM is still to come, the only one of its name."""
    for here in chain(scope):
        for source in here.sources:
            if column in source.columns and qualifier in ("", source.name):
                return (source.table, column) if source.table else None
        if here.phase == PENDING and len(names.columns.get(column, ())) == 1:
            return (names.columns[column][0], column)
    return None


class Operand(Open):
    """A column, a literal, a function, a bracket. symbol: ("operand", sign, compared, literal)."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """By what may stand here."""
        out = ["(", "CASE", "CAST", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP"]
        if symbol[1]:
            out += ["-", "+"]
        if symbol[3]:
            out += ["NULL", "num"] if symbol[-1] == "number" and names.texts else ["NULL", "num", "str"]
        if not scope.gathers:
            out.append("EXISTS")
        if symbol[2] and names.quotes:
            out.append("dstr")
        return tuple(out)

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Columns of this scope and those around it, aliases of results, functions."""
        found = set(names.functions) | set(AGGREGATES) - names.without
        for here in chain(scope):
            if here.phase == PENDING:
                found.update(names.columns)
                found.update(column for cte in here.ctes for column in cte.columns)
            found.update(column for source in here.sources for column in source.columns)
            found.update(out.name for out in here.outs if out.how == "as")
        return tuple(found - {""})

    def qualifiers(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Tables in scope; any table or alias while FROM is to come."""
        found = set[str]()
        for here in chain(scope):
            found.update(source.name for source in here.sources)
            if here.phase == PENDING:
                found.update(names.tables, (cte.name for cte in here.ctes), (one for one, _, _ in here.pend))
        return tuple(found - {""})

    def loose_qualifier(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """While a FROM is to come."""
        return names.forward and any(here.phase == PENDING for here in chain(scope))

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """Read the beginning of an operand."""
        if isinstance(terminal, str):
            return self._sign(scope, symbol, terminal) if terminal in self.terminals(names, scope, symbol) else None
        kind, name = terminal
        if kind in "qe":
            return _qualified(names, scope, name, symbol)
        after = committed(names, scope, "", name)
        if after is not None and symbol[-1] == "number" and after.last in names.texts:
            after = None
        if kind == "d":
            return Read((), after) if after is not None else None
        callable_ = self._callable(names, scope, name)
        named: Symbol = "named" if after is not None else "called"
        return Read((named,), scope._replace(word=name)) if callable_ or after is not None else None

    def _callable(self, names: Names, scope: Scope, name: str) -> bool:
        roomy = scope.load + 6 + 2 * scope.ops.bit_count() <= STACK
        return roomy and (
            name in names.functions or (name in AGGREGATES and name not in names.without and gathers(scope))
        )

    def _sign(self, scope: Scope, symbol: Symbol, terminal: str) -> Read | None:
        plain = scope._replace(bare="", last=None)
        if terminal in "-+":
            return Read((("@level", 9), ("operand", False, *symbol[2:])), plain)
        if terminal == "(":
            inner = "paren" if symbol[3] else "termparen"
            return Read((("@open", 2), inner), scope)
        if terminal == "CASE":
            return Read((("@open", 6), "casehead", "whens", "else", "END", BACK, "@value"), plain)
        if terminal == "CAST":
            return Read((("@open", 5), "(", "expr", "AS", "type", ")", BACK, "@value"), plain)
        if terminal == "EXISTS":
            return Read((("@open", 4), ("@enter", "any"), "(", *SUBQUERY), plain)
        return Read((), plain)


def _qualified(names: Names, scope: Scope, name: str, symbol: Symbol) -> Read | None:
    """A name and a dot: some column must be able to follow."""
    inner: Symbol = ("column", name, symbol[-1])
    if any(COLUMN.take(names, scope, inner, ("w", one)) for one in COLUMN.words(names, scope, inner)):
        return Read((inner,), scope)
    return None


class Column(Open):
    """What follows a qualifier and its dot. symbol: ("column", qualifier)."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """All columns of the table, where an item begins."""
        return ("*",) if self._star(scope) else ()

    def _star(self, scope: Scope) -> bool:
        return scope.context == "item" and scope.bare is None and not scope.width and not scope.gathers

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Columns of that table; of any, while FROM is to come."""
        qualifier, found = symbol[1], set[str]()
        for here in chain(scope):
            if here.phase == PENDING:
                own = names.source(here, str(qualifier)) if not names.forward else None
                found.update(names.columns if own is None else own.columns)
                found.update(column for cte in here.ctes for column in cte.columns)
            found.update(c for source in here.sources if source.name == qualifier for c in source.columns)
        return tuple(found - {""})

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """Read the column."""
        qualifier = str(symbol[1])
        if terminal == "*" and self._star(scope):
            after = refer(names, scope, qualifier, "*")
            whole = after is not None and reachable(names, after)
            return Read((), after._replace(bare=("*", qualifier))) if after is not None and whole else None
        name = name_of(terminal)
        after = None if name is None else committed(names, scope, qualifier, name)
        if after is not None and symbol[-1] == "number" and after.last in names.texts:
            return None
        return Read((), after) if after is not None else None


class Named(Open):
    """A word that is a column, or a function if a bracket follows."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """A bracket."""
        name = scope.word
        return ("(",) if _called(names, scope, name) else ()

    def optional(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """If it is a column."""
        if symbol == "called":
            return False
        return committed(names, scope._replace(word=""), "", scope.word) is not None

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """A call, or the column and what follows it."""
        name, plain = scope.word, scope._replace(word="")
        if terminal != "(":
            if symbol == "called":
                return None
            after = committed(names, plain, "", name)
            return Read((), after, False) if after is not None else None
        if not self.terminals(names, scope, symbol):
            return None
        plain = plain._replace(bare="", last=None)
        if name in names.functions:
            first = "number" if name in NUMERIC else "expr"
            return Read((("@open", 6), first, ("more", 1, *names.functions[name]), ")", BACK, "@value"), plain)
        inner = {"count": "counted", "group_concat": "gathered"}.get(name, "summed" if name in NUMERIC else "unique")
        return Read((("@open", 6), "@gather", inner, ")", "@gathered", BACK, "@value"), plain)


class More(Open):
    """Further arguments. symbol: ("more", how many there are, least, most)."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """A comma while there may be more."""
        return (",",) if int(str(symbol[1])) < int(str(symbol[3])) else ()

    def optional(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """Once there are enough."""
        return int(str(symbol[1])) >= int(str(symbol[2]))

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """Another one, or none."""
        if terminal == "," and self.terminals(names, scope, symbol):
            return Read(("@fresh", "expr", ("more", int(str(symbol[1])) + 1, *symbol[2:])), scope)
        return Read((), scope, False) if self.optional(names, scope, symbol) else None


def compound(scope: Scope) -> tuple[Out, ...]:
    """The result columns of a compound that is being sorted, which are all that may be named there."""
    return scope.first if scope.context == "order" else ()


class Term(Open):
    """What GROUP BY and ORDER BY go by: a value, the number of a result column; in a compound a result column only."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """As an operand; numbers of columns."""
        return () if compound(scope) else OPERANDS.terminals(names, scope, TERM)

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Names, and digits."""
        outs = compound(scope) or scope.outs
        digits = tuple(
            str(i) for i, out in enumerate(outs, 1) if not (out.aggregate and scope.context == "group") and i < 100
        )
        if compound(scope):
            return digits + tuple(out.name for out in outs if out.how in ("as", "column"))
        return digits + OPERANDS.words(names, scope, TERM)

    def qualifiers(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """As an operand."""
        return () if compound(scope) else OPERANDS.qualifiers(names, scope, TERM)

    def loose_qualifier(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """As an operand."""
        return not compound(scope) and OPERANDS.loose_qualifier(names, scope, TERM)

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """Read the beginning of a term."""
        name = name_of(terminal)
        if isinstance(terminal, tuple) and terminal[0] == "i":
            return Read((), scope) if terminal[1] in self.words(names, scope, symbol) else None
        if compound(scope):
            known = name is not None and any(
                out.how in ("as", "column") and out.name == name for out in compound(scope)
            )
            return Read((), scope) if known else None
        if name is not None and scope.context == "order" and count(scope, name) > 1:
            known = any(out.how == "as" and out.name == name for out in scope.outs)
            return Read((), scope) if known else None
        read = OPERANDS.take(names, scope, TERM, terminal)
        return read._replace(symbols=(*read.symbols, "tail")) if read is not None else None


COLUMN: Final = Column()
OPERANDS: Final = Operand()
