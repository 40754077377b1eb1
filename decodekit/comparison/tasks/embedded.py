"""Tasks that need no file: what the embedded models were trained for, on its held-out part, and sums."""

from __future__ import annotations

import random
from typing import Annotated, Literal

from pydantic import Field

from decodekit.comparison.task import LARGE_SQL, Item, constraint
from decodekit.registry.declaration import plugin
from decodekit.zoo import data, scoring

Split = Literal["heldout", "train"]


@plugin(role="task")
class Json:
    """A sentence as a JSON record of a given type; score: the share of fields that are right, with type and value.

    Args:
        split: which part of the generator; models of the zoo have not seen "heldout".
        limit: how many items.
        seed: of the generator.
    """

    split: Split = "heldout"
    limit: Annotated[int, Field(ge=1)] = 100
    seed: int = 0

    def items(self) -> list[Item]:
        """`limit` sentences with the schema of their type."""
        schemas = {
            kind: constraint("json_schema", schema, whitespace="compact") for kind, schema in data.JSON_SCHEMAS.items()
        }
        return [
            Item(f"{number}", one.prompt, schemas[one.kind], one, 120, one.kind)
            for number, one in enumerate(data.json_examples(self.split, self.limit, self.seed))
        ]

    def score(self, item: Item, text: str) -> float:
        """Share of the gold record's fields that `text` states."""
        return scoring.judge_json(item.gold, text).fields


@plugin(role="task")
class Sql:
    """A question over one of four small databases as SQL; score: 1 where it returns the rows of the gold statement.

    Args:
        split: which part of the generator; models of the zoo have not seen "heldout".
        limit: how many items.
        seed: of the generator.
    """

    split: Split = "heldout"
    limit: Annotated[int, Field(ge=1)] = 100
    seed: int = 0

    def items(self) -> list[Item]:
        """`limit` questions with the constraint of their database."""
        limits = {name: constraint("sql", base.ddl, **LARGE_SQL) for name, base in data.DATABASES.items()}
        found = data.sql_examples(self.split, self.limit, self.seed)
        return [Item(f"{n}", one.prompt, limits[one.kind], one, 80, one.kind) for n, one in enumerate(found)]

    def score(self, item: Item, text: str) -> float:
        """Execution match in sqlite3."""
        return float(scoring.judge_sql(item.gold, text).rows)


@plugin(role="task")
class Arithmetic:
    """Sums and differences of `terms` whole numbers; score: 1 where the answer is right.

    Args:
        terms: how many numbers.
        digits: of each number, at most.
        limit: how many items.
        seed: of the generator.
    """

    terms: Annotated[int, Field(ge=2)] = 3
    digits: Annotated[int, Field(ge=1)] = 2
    limit: Annotated[int, Field(ge=1)] = 100
    seed: int = 0

    def items(self) -> list[Item]:
        """`limit` calculations; the answer is one whole number."""
        rng, number = random.Random(self.seed), constraint("regex", r"-?\d{1,12}")
        found = []
        for i in range(self.limit):
            values = [rng.randrange(10**self.digits) for _ in range(self.terms)]
            signs = [1, *rng.choices((1, -1), k=self.terms - 1)]
            said = "".join(f" {'+' if s > 0 else '-'} {v}" for s, v in zip(signs, values, strict=True))[3:]
            gold = sum(s * v for s, v in zip(signs, values, strict=True))
            found.append(Item(f"{i}", f"{said} =\n", number, gold, 14))
        return found

    def score(self, item: Item, text: str) -> float:
        """Whether `text` is the result."""
        return float(text.strip() == str(item.gold))
