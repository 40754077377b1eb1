"""Where a SQL constraint gets its names from: a schema as text, a file, an engine; in SQLite's dialect or another."""

from __future__ import annotations

import importlib
import os
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import sqlglot

from decodekit.errors import ConstraintError

from .database import Database, from_ddl, from_file, written
from .keywords import folded, functions, lenient_quotes, plain
from .scope import Names, Source

DIALECTS: Final[Mapping[str, frozenset[str]]] = {
    "sqlite": frozenset(),
    "postgres": frozenset({"GLOB", "ISNULL", "NOTNULL", "==", "COLLATE", "total", "group_concat"}),
    "duckdb": frozenset({"GLOB", "ISNULL", "NOTNULL", "==", "COLLATE", "total", "group_concat"}),
    "mysql": frozenset(
        {"GLOB", "ISNULL", "NOTNULL", "==", "COLLATE", "total", "group_concat", "||", "NULLS", "CAST", "EXCEPT"}
        | {"INTERSECT"}
    ),
}
"""What each dialect lacks of SQLite's."""
_SHARED: Final = ("abs", "coalesce", "length", "lower", "nullif", "replace", "round", "trim", "upper")
_VALUES: Final = 20_000
"""The most texts of a column that are remembered."""
_ENGINES: Final = {"postgresql": "postgres", "mariadb": "mysql"}


def is_engine(given: object) -> bool:
    """Whether this is an engine of SQLAlchemy, or behaves like one."""
    return callable(getattr(given, "connect", None)) and hasattr(getattr(given, "dialect", None), "name")


def dialect_of(dialect: str | None, database: Any) -> str:
    """The dialect that is meant. Raises ConstraintError for one that is not known."""
    named = dialect or (str(database.dialect.name) if is_engine(database) else "sqlite")
    named = _ENGINES.get(named.lower(), named.lower())
    if named not in DIALECTS:
        raise ConstraintError(f"sql does not know the dialect {named!r}; it is one of {', '.join(sorted(DIALECTS))}")
    return named


def shape_of(schema: str | None, database: Any, dialect: str) -> Database:
    """The tables and columns of what was given. Raises ConstraintError where it cannot be read."""
    if schema is not None:
        return from_ddl(schema if dialect == "sqlite" else _translated(schema, dialect))
    if is_engine(database):
        return _from_engine(database)
    if not isinstance(database, str | os.PathLike):
        raise ConstraintError(
            f"sql(database=) is the path of a SQLite file, or an engine of SQLAlchemy, and this is of type "
            f"{type(database).__name__}"
        )
    return from_file(os.fspath(database))


def _translated(schema: str, dialect: str) -> str:
    """A schema in SQLite's words."""
    try:
        parsed = sqlglot.parse(schema, read=dialect)
    except sqlglot.errors.ParseError as error:
        reason = " ".join(str(error).split())[:120]
        raise ConstraintError(f"the schema is not SQL in the dialect {dialect} ({reason})") from None
    for statement in parsed:
        for one in statement.find_all(sqlglot.exp.Identifier) if statement is not None else ():
            if dialect == "postgres" and one.quoted and one.name != one.name.lower():
                raise ConstraintError(
                    f"the name {one.name!r} keeps its capital letters in {dialect}, which is not supported; rename it"
                )
    return ";\n".join(statement.sql(dialect="sqlite") for statement in parsed if statement is not None)


def _from_engine(engine: Any) -> Database:
    """Reflected by SQLAlchemy; tables are made anew in memory, so that statements can be compiled there."""
    try:
        inspect = importlib.import_module("sqlalchemy").inspect
    except ImportError:
        raise ConstraintError("an engine needs the package sqlalchemy; install it, or give schema=") from None
    inspector, statements = inspect(engine), list[str]()
    views = set(inspector.get_view_names())
    for table in [*inspector.get_table_names(), *sorted(views)]:
        parts = [f"{written(c['name'])} {_type(str(c['type']))}" for c in inspector.get_columns(table)]
        for key in () if table in views else inspector.get_foreign_keys(table):
            mine, theirs = key["constrained_columns"], key["referred_columns"]
            if len(mine) == 1 and len(theirs) == 1:
                target = f"{written(key['referred_table'])} ({written(theirs[0])})"
                parts.append(f"FOREIGN KEY ({written(mine[0])}) REFERENCES {target}")
        statements.append(f"CREATE TABLE {written(table)} ({', '.join(parts)})")
    found = from_ddl(";\n".join(statements))
    tables = tuple(replace(t, writable=() if t.name in views else t.writable) for t in found.tables)
    return replace(found, tables=tables)


def _type(declared: str) -> str:
    """A type as a word or two of letters."""
    found = re.match(r"[A-Za-z ]+", declared)
    return found[0].strip() if found else ""


def names_of(shape: Database, options: Any) -> Names:
    """What the machine must know of a database."""
    dialect = dialect_of(options.dialect, options.database)
    without, tables, columns = DIALECTS[dialect], dict[str, Source](), dict[str, list[str]]()
    for table in shape.tables:
        name = folded(table.name)
        tables[name] = Source(name, tuple(folded(column) for column in table.columns), name)
        for column in dict.fromkeys(tables[name].columns):
            columns.setdefault(column, []).append(name)
    if dialect == "mysql":
        _plainly(tables)
    known = functions() if not without else {word: functions()[word] for word in _SHARED}
    writable = {folded(t.name): tuple(map(folded, t.writable)) for t in shape.tables if t.writable}
    return Names(
        tables,
        {column: tuple(where) for column, where in columns.items()},
        aliases=options.aliases,
        spelt=_spelt(shape) if options.case == "schema" else None,
        quotes=options.double_quotes and dialect == "sqlite" and lenient_quotes(),
        quoting=dialect != "mysql",
        writable=writable if options.write else {},
        without=without,
        functions=known,
        values=occurring(shape, options) if options.values == "occurring" else None,
        keys=_keyed(shape) if options.joins == "keys" else None,
        texts=_texts(shape) if options.types == "sensible" else frozenset(),
    )


def _spelt(shape: Database) -> dict[str, tuple[str, ...]]:
    """How tables and columns are written, by name in lower case."""
    found: dict[str, tuple[str, ...]] = {}
    for table in shape.tables:
        for name in (table.name, *table.columns):
            found[folded(name)] = tuple(dict.fromkeys((*found.get(folded(name), ()), name)))
    return found


def _plainly(tables: Mapping[str, Source]) -> None:
    for name in [*tables, *(column for source in tables.values() for column in source.columns)]:
        if not plain(name):
            raise ConstraintError(f"the name {name!r} needs quotes, which are not supported for mysql; rename it")


def _keyed(shape: Database) -> frozenset[tuple[tuple[str, str], tuple[str, str]]]:
    """Foreign keys, folded."""
    return frozenset(((folded(a), folded(b)), (folded(c), folded(d))) for a, b, c, d in shape.keys)


def _texts(shape: Database) -> frozenset[tuple[str, str]]:
    """Columns that hold text, by SQLite's rules of affinity."""
    return frozenset(
        (folded(table.name), folded(column))
        for table in shape.tables
        for column, declared in zip(table.columns, table.types, strict=True)
        if "INT" not in declared and any(word in declared for word in ("CHAR", "CLOB", "TEXT"))
    )


def occurring(shape: Database, options: Any) -> dict[tuple[str, str], tuple[bytes, ...]]:
    """The texts that occur, by table and column; at most :data:`_VALUES` of a column, none longer than allowed."""
    out: dict[tuple[str, str], tuple[bytes, ...]] = {}
    for table in shape.tables:
        for column in table.columns:
            query = f"SELECT DISTINCT {written(column)} FROM {written(table.name)} LIMIT {_VALUES}"
            found = [row[0] for row in _rows(options, query)]
            kept = {v for v in found if isinstance(v, str) and len(v) <= options.max_string and v.isprintable()}
            out[folded(table.name), folded(column)] = tuple(sorted(value.encode() for value in kept))
    return out


def _rows(options: Any, query: str) -> list[Any]:
    if options.schema is None and is_engine(options.database):
        text = importlib.import_module("sqlalchemy").text
        with options.database.connect() as open_:
            return list(open_.execute(text(query)))
    if options.schema is not None:
        connection = sqlite3.connect(":memory:")
        connection.executescript(options.schema)
    else:
        connection = sqlite3.connect(f"file:{os.fspath(options.database)}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()
