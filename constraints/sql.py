"""SQL statements over the tables and columns of one database."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field

from decodekit.constraints.base import Bound, vocabulary_for
from decodekit.constraints.cursor import Compiled
from decodekit.constraints.database import Database, from_ddl, from_file
from decodekit.constraints.sql_closing import SqlMachine
from decodekit.constraints.sql_masks import SqlStates
from decodekit.constraints.sql_scope import Names, Source
from decodekit.constraints.sql_words import folded, functions, lenient_quotes
from decodekit.constraints.vocabulary import Vocabulary
from decodekit.errors import ConstraintError
from decodekit.kit import Run
from decodekit.registry import plugin


@plugin(role="constraint", keeps="exact", gives=("mask", "admits"))
class Sql:
    """One SELECT statement that SQLite can compile for the database given by its DDL or its file; never anything else.

    schema: CREATE TABLE statements as text. database: path of a SQLite file, opened read-only. One of the two.
    aliases: of tables and columns with AS or without it ("any"), only with AS ("as"), of tables not at all ("none").
    double_quotes: a text that is compared may stand in double quotes, as SQLite reads a name that does not exist.
    max_space: most white space between two lexemes; max_string: most characters of a text; max_digits: of a number,
    before and after its point; max_name: most letters of an alias.

    The dialect is in docs/sql.md. Every table exists; a column belongs to a table that is read there or around it,
    though the select list comes first; no name is ambiguous; aggregates stand where they may; both sides of UNION have
    equally many columns.
    """

    schema: str | None = None
    database: Any = None
    aliases: Literal["any", "as", "none"] = "any"
    double_quotes: bool = True
    max_space: Annotated[int, Field(ge=1)] = 3
    max_string: Annotated[int, Field(ge=1)] = 120
    max_digits: Annotated[int, Field(ge=1, le=18)] = 15
    max_name: Annotated[int, Field(ge=8)] = 40

    def __post_init__(self) -> None:
        self.shape()

    def shape(self) -> Database:
        """Tables, columns and links of the database."""
        if (self.schema is None) == (self.database is None):
            given = "neither" if self.schema is None else "both"
            raise ConstraintError(
                f"sql needs one of schema= (CREATE TABLE text) and database= (path of a SQLite file), and got {given}"
            )
        if self.schema is not None:
            return from_ddl(self.schema)
        if not isinstance(self.database, str | os.PathLike):
            raise ConstraintError(
                f"sql(database=) is the path of a SQLite file, and this is of type {type(self.database).__name__}"
            )
        return from_file(os.fspath(self.database))

    def machine(self) -> SqlMachine:
        """What reads statements byte by byte."""
        names = _names(self.shape(), self)
        return SqlMachine(names, self.max_space, self.max_string, self.max_digits, self.max_name)

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary."""
        return SqlStates(self.machine(), vocabulary)

    def bind(self, run: Run) -> Bound:
        """Compiled for the run's model, following its rows."""
        return Bound(self.compile(vocabulary_for(run)), run)

    def judge(self, text: str) -> bool:
        """Whether `text` is one SELECT statement that SQLite can compile for the database (by EXPLAIN, in memory)."""
        return self.shape().explains(text)

    def value(self, text: str) -> str | None:
        """The statement itself, or None while it is not complete."""
        return text if self.judge(text) else None


def _names(shape: Database, options: Sql) -> Names:
    """What the machine must know of a database."""
    tables, columns = dict[str, Source](), dict[str, list[str]]()
    for table in shape.tables:
        name = folded(table.name)
        tables[name] = Source(name, tuple(folded(column) for column in table.columns), name)
        for column in dict.fromkeys(tables[name].columns):
            columns.setdefault(column, []).append(name)
    return Names(
        tables,
        {column: tuple(where) for column, where in columns.items()},
        aliases=options.aliases,
        quotes=options.double_quotes and lenient_quotes(),
        functions=functions(),
    )
