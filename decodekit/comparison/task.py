"""What strategies are compared on: a task gives items (a prompt, what its answer must satisfy) and scores texts."""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from decodekit.errors import DataWarning, OptionError
from decodekit.registry import discovery


@dataclass(frozen=True)
class Item:
    """One question of a task.

    id: unique within the task and the same in every run. prompt: as `generate` takes it. constraint: what the answer
    must satisfy, as `generate` takes it, or None. gold: what :meth:`Task.score` compares with. most: tokens that an
    answer may have. kind: a word that results can be grouped by.
    """

    id: str
    prompt: str
    constraint: Any = field(default=None, repr=False, compare=False)
    gold: Any = field(default=None, repr=False)
    most: int = 128
    kind: str = ""


@runtime_checkable
class Task(Protocol):
    """A class decorated with `plugin(role="task")` and registered in the entry-point group `decodekit.tasks`."""

    def items(self) -> Sequence[Item]:
        """All items, in an order that never changes."""

    def score(self, item: Item, text: str) -> float | None:
        """How good `text` is as the answer, from 0 to 1; None where there is nothing to compare with."""

    # Optional: aggregate(rows) -> {name: figure}, what all answers of a strategy (rows of the result file) are worth
    # together where no mean over items says it. The report gives it below the table.


LARGE_SQL: Final[Mapping[str, Any]] = {"aliases": "any", "case": "any", "space": "any"}
"""The large language of `sql`, in which tasks have been measured from the start: results stay comparable."""


def constraint(kind: str, /, *args: Any, **options: Any) -> Any:
    """The registered constraint `kind`: tasks name constraints as users do."""
    return discovery.load(kind)(*args, **options)


def first(items: Iterable[Item], limit: int | None) -> list[Item]:
    """The first `limit` of `items`, or all."""
    found = list(items)
    return found if limit is None else found[:limit]


def lines(
    path: str | Path, what: str, lacks: Callable[[dict[str, Any]], str | None] = lambda row: None
) -> list[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of each usable line of a JSONL file; empty lines do not count.

    A line that is no JSON object, or of which `lacks` names what is missing, is left out with a
    :class:`~decodekit.errors.DataWarning` that has its number.

    Raises:
        OptionError: the file cannot be read, or has no usable line; the message says what the first one lacks.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(f"{what}: {str(path)!r} cannot be read ({reason}); give the path of a JSONL file") from None
    found, odd = [], list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        row, problem = _object(line)
        problem = problem or lacks(row)
        if problem:
            odd.append(f"line {number} of {str(path)!r} {problem}")
        else:
            found.append((number, row))
    if not found:
        raise OptionError(f"{what}: {odd[0] if odd else f'{str(path)!r} is empty'}, and no other line can be used")
    for one in odd:
        warnings.warn(f"{what}: {one}; it is left out", DataWarning, stacklevel=2)
    return found


def _object(line: str) -> tuple[dict[str, Any], str | None]:
    """The object, or what is wrong with the line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"is not JSON: {error}"
    return (row, None) if isinstance(row, dict) else ({}, "is no JSON object")


def texts(*keys: str) -> Callable[[dict[str, Any]], str | None]:
    """For :func:`lines`: rows must have a text under each of `keys`."""

    def lacks(row: dict[str, Any]) -> str | None:
        missing = next((key for key in keys if not isinstance(row.get(key), str)), None)
        return f"has no text under {missing!r}" if missing else None

    return lacks


def same_rows(connection: sqlite3.Connection, gold: str, answer: str) -> bool:
    """Execution match: both statements return the same rows, in order where `gold` orders them, else as a multiset.

    An answer that sqlite3 refuses does not match. Nothing is ever written.
    """
    connection.execute("PRAGMA query_only = ON")
    want = connection.execute(gold).fetchall()
    try:
        have = connection.execute(answer).fetchmany(len(want) + 1)
    except (sqlite3.Error, sqlite3.Warning, OverflowError):
        return False
    if "order by" in gold.lower():
        return want == have
    return sorted(map(repr, want)) == sorted(map(repr, have))
