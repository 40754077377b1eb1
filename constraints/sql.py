"""SELECT statements over the tables and columns of one SQLite database."""

from __future__ import annotations

import os
from typing import Any

from decodekit.constraints.base import Bound, vocabulary_for
from decodekit.constraints.cursor import Compiled
from decodekit.constraints.database import Database, from_ddl, from_file
from decodekit.constraints.engines.llguidance import Grammar, GrammarError
from decodekit.constraints.sql_grammar import grammar
from decodekit.constraints.vocabulary import Vocabulary
from decodekit.errors import ConstraintError
from decodekit.kit import Run
from decodekit.registry import plugin


@plugin(role="constraint", keeps="exact", gives=("mask", "admits"))
class Sql:
    """One SELECT statement that SQLite can compile for the database given by its DDL or its file; never anything else.

    schema: CREATE TABLE statements as text. database: path of a SQLite file, opened read-only. One of the two.

    Select list with columns, `*`, count, sum, avg, min, max, DISTINCT and AS; FROM with [INNER|LEFT] JOIN ... ON;
    WHERE and HAVING with comparisons, LIKE, IN, BETWEEN, IS NULL, AND, OR, NOT, parentheses and simple subqueries;
    GROUP BY, ORDER BY, LIMIT, OFFSET. Only columns of the tables that are read can be named. Not offered: aliases of
    tables, a result's alias in ORDER BY, set operations, arithmetic, comments, a closing semicolon. Joins take two
    tables, or three along foreign keys (in large schemas only linked tables).
    """

    schema: str | None = None
    database: Any = None

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

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where the schema is too large for the engine."""
        try:
            return Grammar(grammar(self.shape()), vocabulary)
        except GrammarError as error:
            reason = " ".join(str(error).split())[:160]
            raise ConstraintError(f"the schema cannot be made a grammar: {reason}; give fewer tables") from None

    def bind(self, run: Run) -> Bound:
        """Compiled for the run's model, following its rows."""
        return Bound(self.compile(vocabulary_for(run)), run)

    def judge(self, text: str) -> bool:
        """Whether `text` is one SELECT statement that SQLite can compile for the database (by EXPLAIN, in memory)."""
        return self.shape().explains(text)

    def value(self, text: str) -> str | None:
        """The statement itself, or None while it is not complete."""
        return text if self.judge(text) else None
