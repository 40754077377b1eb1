"""Symbols of the SQL grammar whose terminals depend on the scope: columns, tables, aliases, functions, ordinals.

A terminal that is a name is a tuple: ("w", name) written plainly, ("q", name) before a dot, ("d", text) in double
quotes, ("e", text) the same before a dot, ("i", digits) a whole number where its value matters. Names are in lower
case.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from .rules import Symbol
from .scope import Names, Scope, outward

Terminal: TypeAlias = "str | tuple[str, str]"


class Read(NamedTuple):
    """What a terminal leads to: the symbols that now stand first, and whether it was consumed by them."""

    symbols: tuple[Symbol, ...]
    scope: Scope
    consumed: bool = True


class Open:
    """One such symbol; what is not overridden it does not have."""

    def terminals(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Key words and signs."""
        return ()

    def words(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """Names that may be meant; `take` has the last word."""
        return ()

    def qualifiers(self, names: Names, scope: Scope, symbol: Symbol) -> tuple[str, ...]:
        """The same, before a dot."""
        return ()

    def loose(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """Whether any new name may stand here."""
        return False

    def loose_qualifier(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """Whether any new name may stand here before a dot."""
        return False

    def optional(self, names: Names, scope: Scope, symbol: Symbol) -> bool:
        """Whether it may be left out."""
        return False

    def take(self, names: Names, scope: Scope, symbol: Symbol, terminal: Terminal) -> Read | None:
        """Read a terminal; None where it does not fit."""
        raise NotImplementedError


def name_of(terminal: Terminal) -> str | None:
    """The name that a terminal is, in or without quotes."""
    return terminal[1] if isinstance(terminal, tuple) and terminal[0] in "wd" else None


def chain(scope: Scope) -> Iterator[Scope]:
    """The scopes that a name is looked up in."""
    here: Scope | None = scope
    while here is not None:
        yield here
        here = outward(here)
