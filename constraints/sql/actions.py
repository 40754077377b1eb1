"""What reading a symbol of the SQL grammar does to the scope: one small function per action of the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .join_keys import reachable
from .joins import attached, fits, lone, mergeable, reaches
from .scope import OPEN, Names, Out, Scope, Source, close, count, result_columns

STACK: Final = 72
"""How much of the parser stack of SQLite (100 entries by default) may be in use when something is opened."""

Action = Callable[[Names, Scope, Any], "Scope | None"]


def _enter(names: Names, scope: Scope, purpose: str) -> Scope | None:
    """Begin a nested SELECT."""
    load = scope.load + 12 + 2 * scope.ops.bit_count()
    if load > STACK:
        return None
    width = {"one": 1, "cte": len(scope.outs), "into": _filled(names, scope)}.get(purpose, 0)
    blind = purpose not in ("one", "any")
    return Scope(parent=scope, blind=blind, ctes=scope.ctes, width=width, load=load)


def _filled(names: Names, scope: Scope) -> int:
    """How many columns INSERT fills."""
    return len(scope.outs) or len(names.writable.get(scope.cur.table, ()) if scope.cur is not None else ())


def _filling(names: Names, scope: Scope, _: object) -> Scope:
    return scope._replace(width=_filled(names, scope))


def _tied(names: Names, scope: Scope, _: object) -> Scope:
    return _value(names, scope, None)._replace(how="tied")


def _another(names: Names, scope: Scope, _: object) -> Scope | None:
    """Whether a column is left that may be set."""
    taken = {out.name for out in scope.outs}
    columns = names.writable.get(scope.cur.table, ()) if scope.cur is not None else ()
    return scope if any(column not in taken for column in columns) else None


def _writing(names: Names, scope: Scope, _: object) -> Scope | None:
    """Statements that write have to be asked for."""
    return scope if names.writable else None


def _sqlite(names: Names, scope: Scope, _: object) -> Scope | None:
    """What only SQLite reads."""
    return None if names.without else scope


def _leave(names: Names, scope: Scope, _: object) -> Scope | None:
    assert scope.parent is not None
    return scope.parent._replace(result=scope.first or scope.outs)


def _open(names: Names, scope: Scope, cost: int) -> Scope | None:
    """A bracket of some kind: the expression in it is parsed on top of what is open."""
    load = scope.load + cost + 2 * scope.ops.bit_count()
    saved = (*scope.saved, (scope.load, scope.ops, scope.against))
    return scope._replace(load=load, ops=0, saved=saved, bare=_dulled(scope)) if load <= STACK else None


def _back(names: Names, scope: Scope, _: object) -> Scope:
    load, ops, against = scope.saved[-1]
    return scope._replace(load=load, ops=ops, against=against, saved=scope.saved[:-1])


def _dulled(scope: Scope) -> tuple[str, str] | str | None:
    """An item that began with a bracket may still be one column, and no star."""
    return "(" if scope.bare in (None, "(") else scope.bare


def _level(names: Names, scope: Scope, level: int) -> Scope:
    """An operator: those that bind no less than it are done."""
    return scope._replace(ops=scope.ops & ((1 << level) - 1) | 1 << level, bare="")


def _binary(names: Names, scope: Scope, level: int) -> Scope:
    scope = _level(names, scope, level)
    if level < 4:
        return scope._replace(last=None, against=None)
    return scope._replace(against=scope.last, last=None) if level < 6 else scope._replace(last=None)


def _fresh(names: Names, scope: Scope, _: object) -> Scope:
    return scope._replace(ops=0, last=None)


def _value(names: Names, scope: Scope, _: object) -> Scope:
    return scope._replace(bare="", last=None)


def _result(names: Names, scope: Scope, _: object) -> Scope:
    return scope._replace(result=(), bare="", last=None)


def _single(names: Names, scope: Scope, _: object) -> Scope | None:
    """A subquery that is a value: not inside an aggregate, whose columns must be of its own SELECT."""
    return None if scope.gathers else scope._replace(bare="")


def _item(names: Names, scope: Scope, _: object) -> Scope:
    return scope._replace(bare=None, word="", gathered=False, ops=0, last=None)


def _itemdone(names: Names, scope: Scope, _: object) -> Scope:
    if isinstance(scope.bare, tuple) and scope.bare[0] == "*":
        out = Out(scope.bare[1], "*")
    elif scope.word:
        out = Out(scope.word, "as", scope.gathered)
    elif isinstance(scope.bare, tuple):
        out = Out(scope.bare[1], "column", False)
    else:
        out = Out("", "", scope.gathered)
    grouped = scope.grouped or scope.gathered
    return _done(scope)._replace(outs=(*scope.outs, out), grouped=grouped)


def _done(scope: Scope) -> Scope:
    """Nothing is being read."""
    return scope._replace(bare="", word="", gathered=False, ops=0, last=None, against=None)


def _star(names: Names, scope: Scope, _: object) -> Scope | None:
    if scope.width and (scope.outs or not reaches(names, scope, scope.width, frozenset())):
        return None
    after = _done(scope)._replace(outs=(*scope.outs, Out("", "*")))
    return after if reachable(names, after) else None


def _more(names: Names, scope: Scope, _: object) -> Scope | None:
    if scope.width and (lone(scope) or len(scope.outs) >= scope.width):
        return None
    return scope


def _listed(names: Names, scope: Scope, _: object) -> Scope | None:
    """The select list is whole."""
    return scope if not scope.width or lone(scope) or len(scope.outs) == scope.width else None


def _from(names: Names, scope: Scope, _: object) -> Scope:
    return scope._replace(phase=OPEN, how="first")


def _closed(names: Names, scope: Scope, _: object) -> Scope | None:
    """FROM is whole, or there is none."""
    if not scope.sources and any(out.how == "*" for out in scope.outs):
        return None
    after = close(names, scope)
    return after if reachable(names, after) else None


def _room(names: Names, scope: Scope, how: str) -> Scope | None:
    """Whether some table can be joined in this way."""
    scope = scope._replace(how=how)
    if names.keys is not None and how in ("comma", "cross"):
        return None
    if any(fits(names, scope, source) for source in (*scope.ctes, *names.tables.values())):
        return scope
    return None


def _add(names: Names, scope: Scope, _: object) -> Scope | None:
    assert scope.cur is not None
    return attached(names, scope, scope.cur)


def _derived(names: Names, scope: Scope, _: object) -> Scope:
    return scope._replace(cur=Source("", result_columns(scope.result)), result=())


def _plain(names: Names, scope: Scope, _: object) -> Scope | None:
    """ON cannot make two columns one."""
    return None if scope.must else scope._replace(ops=0, bare="", last=None)


def _common(names: Names, scope: Scope, _: object) -> Scope | None:
    return scope if mergeable(names, scope) else None


def _joined(names: Names, scope: Scope, _: object) -> Scope | None:
    if not scope.must <= scope.sources[-1].hidden:
        return None
    if names.keys is not None and scope.how != "tied" and not scope.sources[-1].hidden:
        return None
    return _done(scope)._replace(must=frozenset(), context="on")


def _context(names: Names, scope: Scope, context: str) -> Scope:
    return _done(scope)._replace(context=context)


def _grouped(names: Names, scope: Scope, _: object) -> Scope:
    return _done(scope)._replace(grouped=True)


def _set(names: Names, scope: Scope, _: object) -> Scope:
    """UNION and its like: another SELECT with as many columns."""
    first = scope.first or tuple(_sortable(scope, out) for out in scope.outs)
    return Scope(scope.parent, scope.blind, scope.ctes, len(first), first=first, load=scope.load)


def _sortable(scope: Scope, out: Out) -> Out:
    """A column's own name sorts a compound only where it is one column's."""
    return out._replace(how="own") if out.how == "column" and count(scope, out.name) != 1 else out


def _gather(names: Names, scope: Scope, _: object) -> Scope:
    return scope._replace(gathers=True, gathered=True, last=None)


def _gathered(names: Names, scope: Scope, _: object) -> Scope:
    return scope._replace(gathers=False, last=None)


def _cte(names: Names, scope: Scope, _: object) -> Scope:
    columns = tuple(out.name for out in scope.outs) or result_columns(scope.result)
    ctes = (*scope.ctes, Source(scope.word, columns))
    return scope._replace(ctes=ctes, word="", outs=(), result=())


ACTIONS: Final[Mapping[str, Action]] = {
    "@enter": _enter,
    "@filling": _filling,
    "@writing": _writing,
    "@another": _another,
    "@tied": _tied,
    "@sqlite": _sqlite,
    "@leave": _leave,
    "@open": _open,
    "@back": _back,
    "@level": _level,
    "@binary": _binary,
    "@fresh": _fresh,
    "@value": _value,
    "@result": _result,
    "@single": _single,
    "@item": _item,
    "@itemdone": _itemdone,
    "@star": _star,
    "@more": _more,
    "@listed": _listed,
    "@from": _from,
    "@closed": _closed,
    "@room": _room,
    "@add": _add,
    "@derived": _derived,
    "@plain": _plain,
    "@common": _common,
    "@joined": _joined,
    "@context": _context,
    "@grouped": _grouped,
    "@set": _set,
    "@gather": _gather,
    "@gathered": _gathered,
    "@paren": lambda names, scope, _: scope,
    "@cte": _cte,
}
