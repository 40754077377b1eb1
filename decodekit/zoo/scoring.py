"""Whether an answer is right: JSON records field by field, SQL statements by the rows that they return."""

import json
import math
import sqlite3
from collections import Counter
from dataclasses import dataclass

from decodekit.zoo.data import DATABASES, Example


@dataclass(frozen=True)
class Share:
    """A percentage with its 95 % interval (Wilson score) over ``n`` examples."""

    percent: float
    low: float
    high: float
    n: int


def share(hits: float, n: int) -> Share:
    """Share of ``hits`` in ``n``; fractional hits (parts of a record) are counted as they are, ``n`` stays examples."""
    if n == 0:
        return Share(0.0, 0.0, 100.0, 0)
    z, p = 1.959964, hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Share(round(100 * p, 1), round(100 * max(0.0, centre - half), 1), round(100 * min(1.0, centre + half), 1), n)


@dataclass(frozen=True)
class JsonVerdict:
    """``fields`` is the fraction of the gold fields that the answer states with the same type and value."""

    valid: bool
    fields: float
    exact: bool


def judge_json(example: Example, answer: str) -> JsonVerdict:
    """Compare ``answer`` with the gold record; ``exact`` asks for the same keys in the same order and nothing else."""
    try:
        found = json.loads(answer)
    except json.JSONDecodeError:
        return JsonVerdict(False, 0.0, False)
    if not isinstance(found, dict):
        return JsonVerdict(True, 0.0, False)
    same = sum(type(found.get(k)) is type(v) and found[k] == v for k, v in example.record.items())
    return JsonVerdict(True, same / len(example.record), list(found.items()) == list(example.record.items()))


@dataclass(frozen=True)
class SqlVerdict:
    """``rows`` says that gold and answer return the same rows, ``telling`` that the gold rows are not empty."""

    runs: bool
    rows: bool
    telling: bool
    exact: bool


def execute(database: str, statement: str) -> list[tuple[object, ...]]:
    """Rows of ``statement`` over a fresh in-memory copy of ``database``; errors of sqlite3 are passed on."""
    connection = DATABASES[database].connect()
    try:
        connection.execute("PRAGMA query_only = ON")
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def judge_sql(example: Example, answer: str) -> SqlVerdict:
    """Execution match: same rows, in order where the gold statement orders them, as a multiset elsewhere."""
    gold = execute(example.kind, example.answer)
    telling = any(cell not in (None, 0) for row in gold for cell in row)
    try:
        found = execute(example.kind, answer)
    except (sqlite3.Error, sqlite3.Warning):
        return SqlVerdict(False, False, telling, False)
    same = found == gold if "ORDER BY" in example.answer else Counter(found) == Counter(gold)
    return SqlVerdict(True, same, telling, answer == example.answer)
