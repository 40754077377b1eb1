"""Text-to-SQL over databases that are given as files, in Spider's layout."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import sqlglot
from pydantic import Field

from decodekit.comparison.task import LARGE_SQL, Item, constraint, first, lines, same_rows, texts
from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin


@plugin(role="task", paper="Yu et al. 2018 (Spider); arXiv 2504.05410, text-to-SQL")
class TextToSql:
    """Questions over databases; score: execution match where the database's file is there, else exact-set match.

    Exact-set match compares the sets of parts of the two statements as sqlglot reads them, values included: the order
    of select items and of conditions does not matter, aliases are resolved as far as they are written alike.

    Args:
        path: a folder with `dev.jsonl` (keys question, query, db_id), `schemas.sql.json` (db_id -> CREATE TABLE text),
            and, where there are any, `database/DB/DB.sqlite`.
        databases: db_ids, or all.
        limit: how many items, or all.
        most: tokens that an answer may have.
    """

    path: str
    databases: tuple[str, ...] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    most: Annotated[int, Field(ge=1)] = 100

    def items(self) -> list[Item]:
        """Questions in the order of the file, each with the constraint of its own database."""
        schemas = self._schemas()
        limits: dict[str, Any] = {}
        found = []

        def lacks(row: dict[str, Any]) -> str | None:
            known = row.get("db_id") in schemas
            return texts("question", "query")(row) or (None if known else "has no db_id of schemas.sql.json")

        for number, row in lines(Path(self.path) / "dev.jsonl", "text_to_sql", lacks):
            name = row["db_id"]
            if self.databases is not None and name not in self.databases:
                continue
            if name not in limits:
                limits[name] = constraint("sql", schemas[name], **LARGE_SQL)
            prompt = f"{schemas[name].strip()}\n-- {row['question']}\n"
            found.append(Item(str(row.get("id", number)), prompt, limits[name], row, self.most, name))
        return first(found, self.limit)

    def _schemas(self) -> dict[str, str]:
        file = Path(self.path) / "schemas.sql.json"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OptionError(f"text_to_sql: {str(file)!r} cannot be read ({error}); give Spider's folder") from None
        return dict(found)

    def score(self, item: Item, text: str) -> float:
        """Execution match, or exact-set match without a database file."""
        file = Path(self.path) / "database" / item.kind / f"{item.kind}.sqlite"
        if not file.exists():
            return float(parts(item.gold["query"]) == parts(text))
        connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return float(same_rows(connection, item.gold["query"], text))
        finally:
            connection.close()


def parts(statement: str) -> Counter[tuple[str, str]] | None:
    """The parts of a statement as a multiset of (clause, text), lower case; None where sqlglot cannot read it."""
    try:
        tree = sqlglot.parse_one(statement, read="sqlite")
    except sqlglot.errors.SqlglotError:
        return None
    found: Counter[tuple[str, str]] = Counter()
    for clause, value in tree.args.items():
        for one in value if isinstance(value, list) else [value]:
            if one is None or one is False:
                continue
            pieces = _conjuncts(one) if clause in ("where", "having") else getattr(one, "expressions", None) or [one]
            for piece in pieces:
                text = piece.sql(dialect="sqlite") if isinstance(piece, sqlglot.exp.Expression) else str(piece)
                found[clause, text.lower()] += 1
    return found


def _conjuncts(clause: Any) -> list[Any]:
    inside = clause.this
    return list(inside.flatten()) if isinstance(inside, sqlglot.exp.And) else [inside]
