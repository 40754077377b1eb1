"""What a SQL statement expects at a place, in words: names, functions, literals, key words and signs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from .keywords import AGGREGATES
from .literals import DTEXT, GAP, NUMBER, QUOTED, TEXT, VALUE, WORD, State

SHOWN: Final = 8
"""So many names of a kind are listed."""
_KINDS: Final = {
    "num": "a number",
    "int": "a whole number",
    "str": "a text in quotes",
    "dstr": "a text in double quotes",
}


def said(machine: Any, state: State) -> str:
    """What may follow at a state of a :class:`decodekit.constraints.sql.lexer.Lexer`."""
    place, mode, begun, _ = state
    found = list[str]()
    if mode in (TEXT, DTEXT, VALUE):
        found.append("the rest of the text and its closing quote")
    elif mode == QUOTED:
        found.append("the rest of the name and its closing quote")
    elif mode == NUMBER:
        found.append("more of the number")
    elif mode == WORD:
        found += _offered(machine, place, begun)
    after = place if mode == GAP else machine.settled(state)
    if after is not None:
        found += _offered(machine, after, "")
    if machine.final(state):
        found.append("the end")
    return "expected " + ", ".join(dict.fromkeys(found)) if found else ""


def _offered(machine: Any, place: Any, begun: str) -> list[str]:
    """What begins with `begun` there."""
    offer, shift, begun = place.offer(machine.names), machine.parser.shift, begun.lower()
    words = {word for word in offer.words if word.startswith(begun) and shift(place, ("w", word)) is not None}
    owners = {word for word in offer.qualifiers if word.startswith(begun) and shift(place, ("q", word)) is not None}
    functions = {word for word in words if word in machine.names.functions or word in AGGREGATES}
    out = _listed("a name", words - functions) + _listed("a function", functions)
    out += _listed("a column of", owners)
    out += ["a new name"] if offer.loose else []
    terminals = sorted(term for term in offer.terminals if shift(place, term) is not None)
    if not begun:
        out += [_KINDS[term] for term in terminals if term in _KINDS]
    out += [term for term in terminals if term.isupper() and term.lower().startswith(begun)]
    signs = [term for term in terminals if not term[0].isalpha()] if not begun else []
    return out + [f"one of {' '.join(signs)}" if len(signs) > 1 else sign for sign in signs[:1]]


def _listed(what: str, names: Iterable[str]) -> list[str]:
    some = sorted(names)
    more = [f"{len(some) - SHOWN} more"] if len(some) > SHOWN else []
    return [f"{what} ({', '.join(some[:SHOWN] + more)})"] if some else []
