"""What a grammar expects at a place of a text, in words."""

from __future__ import annotations

from typing import Any, Final

from .tables import Tables

SHOWN: Final = 12
"""So many terminals are named."""


def said(reader: Any, spot: Any) -> str:
    """The terminals that may come next at a spot of a :class:`decodekit.constraints.lark.machine.Reader`."""
    shown = list(dict.fromkeys(_shown(reader.tables, name) for name in expected(reader, spot)))
    if reader.final(spot):
        shown.append("the end of the text")
    more = [f"or one of {len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
    return "expected " + ", ".join(shown[:SHOWN] + more) if shown else ""


def expected(reader: Any, spot: Any) -> list[str]:
    """Names of the terminals that the open lexeme may become or, at its end, that may come next."""
    out, here = list[str](), spot
    while here is not None:
        names = reader.layer.names(here.stack, here.place)
        out += [n for n in names if n not in reader.tables.ignored and here.place.can(n)]
        here = here.other
    return sorted(set(out))


def _shown(tables: Tables, name: str) -> str:
    terminal = tables.lark.parser.lexer_conf.terminals_by_name.get(name)
    if terminal is not None and terminal.pattern.type == "str":
        return repr(terminal.pattern.value)
    return name
