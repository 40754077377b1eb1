"""The words of the SQL dialect: key words that must be quoted as names, functions with their numbers of arguments."""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Mapping
from typing import Final

from .database import reserved

PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
AGGREGATES: Final[Mapping[str, tuple[int, int]]] = {
    "avg": (1, 1),
    "count": (1, 1),
    "group_concat": (1, 2),
    "max": (1, 1),
    "min": (1, 1),
    "sum": (1, 1),
    "total": (1, 1),
}
"""Aggregates: least and most arguments."""
_FUNCTIONS: Final[Mapping[str, tuple[int, int]]] = {
    "abs": (1, 1),
    "char": (1, 4),
    "coalesce": (2, 8),
    "date": (1, 4),
    "datetime": (1, 4),
    "format": (1, 6),
    "hex": (1, 1),
    "ifnull": (2, 2),
    "iif": (3, 3),
    "instr": (2, 2),
    "julianday": (1, 4),
    "length": (1, 1),
    "lower": (1, 1),
    "ltrim": (1, 2),
    "nullif": (2, 2),
    "printf": (1, 6),
    "quote": (1, 1),
    "replace": (3, 3),
    "round": (1, 2),
    "rtrim": (1, 2),
    "sign": (1, 1),
    "strftime": (2, 4),
    "substr": (2, 3),
    "substring": (2, 3),
    "time": (1, 4),
    "trim": (1, 2),
    "typeof": (1, 1),
    "unicode": (1, 1),
    "unixepoch": (1, 4),
    "upper": (1, 1),
}
TYPES: Final = ("BLOB", "FLOAT", "INT", "INTEGER", "NUMERIC", "REAL", "TEXT")
"""What CAST may turn a value into."""
COLLATIONS: Final = ("BINARY", "NOCASE", "RTRIM")
STARTS: Final = frozenset(
    [
        "all",
        "case",
        "cast",
        "current_date",
        "current_time",
        "current_timestamp",
        "distinct",
        "exists",
        "not",
        "null",
        "select",
    ]
)
"""Key words that an operand may begin with: never a name without quotes, though SQLite takes some of them."""
NUMERIC: Final = frozenset({"avg", "sum", "total", "abs", "round", "sign"})
"""Functions of a number."""


@functools.cache
def functions() -> Mapping[str, tuple[int, int]]:
    """The scalar functions that the SQLite of this process has, with their least and most numbers of arguments."""
    connection, found = sqlite3.connect(":memory:"), dict[str, tuple[int, int]]()
    for name, (least, most) in _FUNCTIONS.items():
        try:
            for number in {least, most}:
                connection.execute(f"EXPLAIN SELECT {name}({', '.join(['1'] * number)})")
        except sqlite3.Error:
            continue
        found[name] = (least, most)
    connection.close()
    return found


@functools.cache
def lenient_quotes() -> bool:
    """Whether the SQLite of this process reads a text in double quotes that is no name as a text."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute('EXPLAIN SELECT 1 WHERE 1 = "no such name"')
    except sqlite3.Error:
        return False
    finally:
        connection.close()
    return True


@functools.cache
def quoted_words() -> frozenset[str]:
    """Words that are a name only in quotes."""
    return reserved() | STARTS


def plain(name: str) -> bool:
    """Whether a name may be written without quotes."""
    return PLAIN.fullmatch(name) is not None and name.lower() not in quoted_words()


def folded(name: str) -> str:
    """A name in lower case, as SQLite compares names: only ASCII letters of different case are alike."""
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)
