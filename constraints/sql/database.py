"""What a SQL constraint knows of a database: its tables, their columns, and which of them are linked."""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from decodekit.errors import ConstraintError

_READING: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})
_WRITING: Final = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_OUTSIDE: Final = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_WORDS: Final = """
    abort action add after all alter always analyze and as asc attach autoincrement before begin between by cascade
    case cast check collate column commit conflict constraint create cross current current_date current_time
    current_timestamp database default deferrable deferred delete desc detach distinct do drop each else end escape
    except exclude exclusive exists explain fail filter first following for foreign from full generated glob group
    groups having if ignore immediate in index indexed initially inner insert instead intersect into is isnull join
    key last left like limit match materialized natural no not nothing notnull null nulls of offset on or order others
    outer over partition plan pragma preceding primary query raise range recursive references regexp reindex release
    rename replace restrict returning right rollback row rows savepoint select set table temp temporary then ties to
    transaction trigger unbounded union unique update using vacuum values view virtual when where window with without
    true false rowid"""
KEYWORDS: Final = frozenset(_WORDS.split())
"""The key words of SQLite, and three words that mean something in its expressions."""


@dataclass(frozen=True)
class Table:
    """A table or view: its columns in order, their declared types in upper case ("" for none).

    writable: it is a table, and these are the columns that a statement may set.
    """

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Database:
    """The shape of a database.

    ddl: statements that make it anew, empty. links: pairs of tables with a foreign key. keys: (table, column, table,
    column) of each foreign key of one column.
    """

    ddl: tuple[str, ...]
    tables: tuple[Table, ...]
    links: frozenset[frozenset[str]]
    keys: tuple[tuple[str, str, str, str], ...] = ()

    def explains(self, text: str, write: bool = False) -> bool:
        """Whether `text` is one SELECT that SQLite can compile for this database; with `write`, or a statement that
        inserts, updates or deletes rows.
        """
        begins = r"\s*(select|with|insert|update|delete)\b" if write else r"\s*(select|with)\b"
        if not re.match(begins, text, re.IGNORECASE) or "\0" in text:
            return False
        allowed = _READING | _WRITING if write else _READING
        connection = sqlite3.connect(":memory:")
        try:
            for statement in self.ddl:
                connection.execute(statement)
            connection.set_authorizer(
                lambda action, *_: sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY
            )
            connection.execute("EXPLAIN " + text)
            return True
        except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError):
            return False
        finally:
            connection.close()


def from_ddl(ddl: str) -> Database:
    """Read a schema given as SQL text: run in memory, where nothing outside can be reached.

    Raises:
        ConstraintError: it is not SQL that SQLite understands, or it makes no table.
    """
    connection = sqlite3.connect(":memory:")
    try:
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_DENY if action in _OUTSIDE else sqlite3.SQLITE_OK)
        connection.executescript(ddl)
        return _shape(connection, "the schema")
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        if isinstance(error, ConstraintError):
            raise
        raise ConstraintError(
            f"the schema is not SQL that SQLite understands ({error}); give CREATE TABLE statements"
        ) from None
    finally:
        connection.close()


def from_file(path: str | Path) -> Database:
    """Read the shape of a SQLite file, which is opened read-only.

    Raises:
        ConstraintError: there is no such file, it is no SQLite database, or it holds no table.
    """
    file = Path(path)
    if not file.is_file():
        raise ConstraintError(f"there is no database file {str(path)!r}; give the path of a SQLite file, or schema=")
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return _shape(connection, f"the database {str(path)!r}")
    except sqlite3.Error as error:
        raise ConstraintError(f"{str(path)!r} cannot be read as a SQLite database ({error})") from None
    finally:
        connection.close()


def _shape(connection: sqlite3.Connection, what: str) -> Database:
    made = connection.execute(
        "SELECT name, sql, type FROM sqlite_master WHERE type IN ('table', 'view') AND substr(name, 1, 7) <> 'sqlite_' "
        "AND sql IS NOT NULL ORDER BY rowid"
    ).fetchall()
    tables = [table for name, _, kind in made if (table := _table(connection, name, kind)) is not None]
    if not tables:
        raise ConstraintError(f"{what} holds no table, so there is nothing to ask about")
    names = {table.name.lower(): table.name for table in tables}
    pairs = connection.execute(
        'SELECT m.name, f."table" FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS f '
        "WHERE m.type = 'table'"
    ).fetchall()
    links = {
        frozenset((names[one.lower()], names[other.lower()]))
        for one, other in pairs
        if {one.lower(), other.lower()} <= set(names)
    }
    pairs_only = frozenset(link for link in links if len(link) == 2)
    return Database(tuple(sql for _, sql, _ in made), tuple(tables), pairs_only, tuple(_keys(connection, tables)))


def _table(connection: sqlite3.Connection, name: str, kind: str) -> Table | None:
    """A table or view; None for one that SQLite cannot read itself."""
    try:
        connection.execute(f"EXPLAIN SELECT * FROM {written(name)}")
    except sqlite3.Error:
        return None
    found = connection.execute("SELECT name, type, hidden FROM pragma_table_xinfo(?)", (name,)).fetchall()
    seen = [(column, (declared or "").upper(), hidden) for column, declared, hidden in found if hidden != 1]
    names, types = tuple(column for column, _, _ in seen), tuple(declared for _, declared, _ in seen)
    return Table(name, names, types, tuple(c for c, _, hidden in seen if not hidden) if kind == "table" else ())


def _keys(connection: sqlite3.Connection, tables: list[Table]) -> Iterator[tuple[str, str, str, str]]:
    """Foreign keys of one column; where the other column is not named it is the primary key."""
    known = {table.name.lower(): table for table in tables}
    for table in tables:
        rows = connection.execute('SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?)', (table.name,))
        found = rows.fetchall()
        for number, other, one, to in found:
            target = known.get(other.lower())
            if target is None or sum(row[0] == number for row in found) > 1:
                continue
            if to is None:
                query = "SELECT name FROM pragma_table_info(?) WHERE pk = 1"
                to = next((name for (name,) in connection.execute(query, (target.name,))), None)
            match = next((column for column in target.columns if to and column.lower() == to.lower()), None)
            if match is not None:
                yield table.name, one, target.name, match


@functools.cache
def reserved() -> frozenset[str]:
    """The key words that the SQLite of this process does not take as a plain name everywhere."""
    connection = sqlite3.connect(":memory:")
    found = set[str]()
    for word in KEYWORDS:
        try:
            connection.execute(
                f"EXPLAIN SELECT {word}, count({word}) AS {word} FROM (SELECT 1 AS {word}) AS t "
                f"WHERE {word} = 1 AND t.{word} = 1 GROUP BY {word} ORDER BY {word}"
            )
        except sqlite3.Error:
            found.add(word)
    connection.close()
    return frozenset(found | {"true", "false", "rowid", "current_date", "current_time", "current_timestamp", "not"})


def written(name: str) -> str:
    """A table or column name as a statement writes it: quoted where it has to be."""
    if _PLAIN.fullmatch(name) and name.lower() not in reserved():
        return name
    return '"' + name.replace('"', '""') + '"'


def alike(names: Iterable[str]) -> set[str]:
    """Names in lower case (SQLite does not tell ASCII letters of different case apart)."""
    return {"".join(letter.lower() if letter.isascii() else letter for letter in name) for name in names}
