"""Instances of real JSON Schemas, from a folder in JSONSchemaBench's layout."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import jsonschema
from pydantic import Field

from decodekit.comparison.task import Item, constraint, first
from decodekit.errors import ConstraintError, OptionError
from decodekit.registry.declaration import plugin


@plugin(role="task", paper="arXiv 2501.10868 (JSONSchemaBench); arXiv 2504.05410, JSON")
class JsonSchemaTask:
    """An instance of a schema; score: 1 where the `jsonschema` library accepts it.

    Args:
        path: a folder with files `*.jsonl` or `*.jsonl.gz`, a schema a line under `schema` (JSONSchemaBench's rows).
        groups: names of files without ending, or all.
        limit: how many items of each file, or all.
        most: tokens that an answer may have.
        lenient: leave out schemas that cannot be enforced; else they are refused by name.
    """

    path: str
    groups: tuple[str, ...] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    most: Annotated[int, Field(ge=1)] = 450
    lenient: bool = True

    def items(self) -> list[Item]:
        """The schemas of all files, in order of name and line."""
        return [item for file in self._files() for item in first(self._items(file), self.limit)]

    def _files(self) -> list[Path]:
        folder = Path(self.path)
        found = sorted(file for file in folder.glob("*.jsonl*") if self.groups is None or _stem(file) in self.groups)
        if not found:
            there = ", ".join(sorted(_stem(file) for file in folder.glob("*.jsonl*"))) or "no *.jsonl file at all"
            raise OptionError(
                f"json_schema: {self.path!r} has none of the groups {self.groups}; there is {there}"
                if self.groups
                else f"json_schema: {self.path!r} holds no *.jsonl file; give a folder in JSONSchemaBench's layout"
            )
        return found

    def _items(self, file: Path) -> Iterator[Item]:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as text:
            for number, line in enumerate(text, 1):
                try:
                    schema = json.loads(line)["schema"]
                except (ValueError, KeyError, TypeError) as error:
                    raise OptionError(
                        f"json_schema: line {number} of {str(file)!r} is no JSON object with a key 'schema' ({error}); "
                        "correct it"
                    ) from None
                made = self._item(f"{_stem(file)}/{number}", _stem(file), schema)
                if made is not None:
                    yield made

    def _item(self, name: str, group: str, schema: Any) -> Item | None:
        try:
            limit = constraint("json_schema", schema)
        except ConstraintError:
            if self.lenient:
                return None
            raise
        prompt = f"JSON that satisfies the schema {json.dumps(schema, ensure_ascii=False)}\n"
        return Item(name, prompt, limit, schema, self.most, group)

    def score(self, item: Item, text: str) -> float:
        """Validity by the jsonschema library (formats are not looked at)."""
        kind = jsonschema.validators.validator_for(item.gold, default=jsonschema.Draft202012Validator)
        try:
            return float(kind(item.gold).is_valid(json.loads(text)))
        except (ValueError, RecursionError):
            return 0.0


def _stem(file: Path) -> str:
    return file.name.split(".")[0]
