"""SQL statements over the tables and columns of one database."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import sqlglot
from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin

from ..backends.llguidance import Grammar, GrammarError
from ..core.bound import Bound
from ..core.compile_cache import bound
from ..core.cursor import Compiled
from ..core.vocabulary import Vocabulary
from .closing import SqlMachine
from .database import Database
from .masks import SqlStates
from .small_grammar import grammar
from .sources import dialect_of, names_of, shape_of


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class Sql:
    """One SELECT statement that SQLite can compile for the database given by its DDL or its file; never anything else.

    schema: CREATE TABLE statements as text. database: path of a SQLite file, opened read-only, or an engine of
    SQLAlchemy. One of the two. dialect: "sqlite", or a smaller language that "postgres", "duckdb" or "mysql" also read,
    judged by sqlglot. write: INSERT, UPDATE and DELETE too. values: a text that is compared with a column is any, or
    one that occurs in it. types: whether sum, avg and the like may be of a text. joins: of any kind, or
    JOIN ... ON a foreign key ("keys").
    aliases: only with AS, and a table's only after the FROM that declares it ("declared"); only with AS, but before
    its FROM too ("as"); with AS or without ("any"); of tables not at all ("none").
    case: names as the schema writes them, in quotes only where they need them, and key words in one case throughout,
    that of the first ("schema"); or any case anywhere ("any").
    space: one blank, or one line break with up to eight blanks, between two lexemes ("single"); or up to max_space
    characters of white space ("any").
    double_quotes: a text that is compared may stand in double quotes, as SQLite reads a name that does not exist.
    max_space: most white space between two lexemes; max_string: most characters of a text; max_digits: of a number,
    before and after its point; max_name: most letters of an alias.

    engine: "own", or "llguidance", whose masks are quicker and whose language is a small part of this: no aliases of
    tables, no set operations, no arithmetic, no options but schema, database and case (there each key
    word is in upper or in lower case).

    The dialect is in docs/sql.md. Every table exists; a column belongs to a table that is read there or around it,
    though the select list comes first; no name is ambiguous; aggregates stand where they may; both sides of UNION have
    equally many columns.
    """

    schema: str | None = None
    database: Any = None
    dialect: str | None = None
    write: bool = False
    values: Literal["any", "occurring"] = "any"
    types: Literal["any", "sensible"] = "any"
    joins: Literal["any", "keys"] = "any"
    aliases: Literal["declared", "as", "any", "none"] = "declared"
    case: Literal["schema", "any"] = "schema"
    space: Literal["single", "any"] = "single"
    double_quotes: bool = True
    max_space: Annotated[int, Field(ge=1)] = 3
    max_string: Annotated[int, Field(ge=1)] = 120
    max_digits: Annotated[int, Field(ge=1, le=18)] = 15
    max_name: Annotated[int, Field(ge=8)] = 40
    engine: Literal["own", "llguidance"] = "own"

    def __post_init__(self) -> None:
        self.shape()
        plain = {
            "aliases": "declared",
            "space": "single",
            "values": "any",
            "types": "any",
            "joins": "any",
            "write": False,
        }
        if self.engine == "llguidance" and any(getattr(self, name) != usual for name, usual in plain.items()):
            raise ConstraintError(f"engine='llguidance' knows none of the options {', '.join(plain)}; use engine='own'")
        if self.values == "occurring" and self.schema is not None and self.spoken() != "sqlite":
            raise ConstraintError("values='occurring' needs rows: give database=, or a schema for SQLite with INSERTs")

    def spoken(self) -> str:
        """The dialect: the one given, else that of the engine, else SQLite's."""
        return dialect_of(self.dialect, self.database)

    def shape(self) -> Database:
        """Tables, columns and links of the database."""
        if (self.schema is None) == (self.database is None):
            given = "neither" if self.schema is None else "both"
            raise ConstraintError(
                f"sql needs one of schema= (CREATE TABLE text) and database= (path of a SQLite file), and got {given}"
            )
        return shape_of(self.schema, self.database, self.spoken())

    def machine(self) -> SqlMachine:
        """What reads statements byte by byte."""
        names = names_of(self.shape(), self)
        space = self.max_space if self.space == "any" else None
        return SqlMachine(names, space, self.max_string, self.max_digits, self.max_name)

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where the schema is too large for the engine asked for."""
        if self.engine == "llguidance":
            return _small(self.shape(), vocabulary, self.case == "any")
        return SqlStates(self.machine(), vocabulary)

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` is one statement that SQLite can compile for the database (by EXPLAIN, in memory).

        In another dialect: whether the machine reads it to its end and sqlglot parses it.
        """
        dialect = self.spoken()
        if dialect == "sqlite":
            return self.shape().explains(text, self.write)
        machine = replace(self, aliases="any", case="any", space="any").machine()
        state = machine.leap(machine.first(), text.encode())
        if state is None or not machine.final(state):
            return False
        try:
            return len([one for one in sqlglot.parse(text, read=dialect) if one is not None]) == 1
        except sqlglot.errors.SqlglotError:
            return False

    def value(self, text: str) -> str | None:
        """The statement itself, or None while it is not complete."""
        return text if self.judge(text) else None


def _small(shape: Database, vocabulary: Vocabulary, any_case: bool) -> Compiled:
    """A grammar of a part of the dialect, which knows no options."""
    try:
        return Grammar(grammar(shape, any_case), vocabulary)
    except GrammarError as error:
        reason = " ".join(str(error).split())[:160]
        raise ConstraintError(f"the schema cannot be made a grammar: {reason}; give fewer tables") from None
