"""The zoo's examples: gold answers are right by independent judges, splits cannot overlap, streams are reproducible."""

import json
import re
import sqlite3
from datetime import date, datetime
from hashlib import blake2b
from random import Random

import jsonschema
import pytest

from decodekit.zoo.data import (
    DATABASES,
    JSON_SCHEMAS,
    Split,
    json_examples,
    mixture,
    split_of,
    sql_examples,
    text_examples,
)
from decodekit.zoo.words import number_word, spoken_date

SPLITS: tuple[Split, Split] = ("train", "heldout")


@pytest.mark.parametrize("split", SPLITS)
def test_gold_records_validate_and_keep_the_order_of_their_schema(split: Split) -> None:
    examples = json_examples(split, 400, 5)
    assert {e.kind for e in examples} == set(JSON_SCHEMAS)
    validators = {kind: jsonschema.Draft202012Validator(schema) for kind, schema in JSON_SCHEMAS.items()}
    for example in examples:
        schema = JSON_SCHEMAS[example.kind]
        record = json.loads(example.answer)
        validators[example.kind].validate(record)
        assert record == example.record
        assert list(record) == schema["required"]


@pytest.mark.parametrize("kind", JSON_SCHEMAS)
def test_schemas_refuse_a_missing_and_an_unknown_key(kind: str) -> None:
    record = next(e.record for e in json_examples("train", 50, 1) if e.kind == kind)
    for broken in ({**record, "extra": 1}, dict(list(record.items())[1:])):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, JSON_SCHEMAS[kind])


def test_every_copied_value_stands_in_the_sentence() -> None:
    for example in json_examples("heldout", 300, 8):
        sentence = example.prompt.splitlines()[0]
        for key, value in example.record.items():
            if isinstance(value, bool) or key == "date":
                continue
            for part in value if isinstance(value, list) else [value]:
                said = [str(part)] + ([number_word(part)] if isinstance(part, int) and key == "age" else [])
                assert any(re.search(rf"(?<!\w){re.escape(s)}(?!\w)", sentence) for s in said), (key, example)


def test_dates_in_words_mean_the_date_in_the_record() -> None:
    notations = ("%Y-%m-%d", "%d %B %Y", "%B %d, %Y", "%d.%m.%Y", "the %d of %B %Y")
    seen = set()
    for seed in range(120):
        rng = Random(seed)
        day = date(rng.randint(2024, 2029), rng.randint(1, 12), rng.randint(1, 28))
        text = spoken_date(rng, day.year, day.month, day.day)
        plain = re.sub(r"(?<=\d)(st|nd|rd|th) of", " of", text)
        read = {n for n in notations if _parses(plain, n) == day}
        assert read, text
        seen |= read
    assert seen == set(notations)


def _parses(text: str, notation: str) -> date | None:
    try:
        return datetime.strptime(text, notation).date()
    except ValueError:
        return None


def test_number_words() -> None:
    words = [number_word(n) for n in range(100)]
    assert len(set(words)) == 100
    assert [words[n] for n in (7, 17, 40, 42, 99)] == ["seven", "seventeen", "forty", "forty-two", "ninety-nine"]


@pytest.mark.parametrize("split", SPLITS)
def test_gold_statements_run_and_read_only(split: Split) -> None:
    connections = {name: database.connect() for name, database in DATABASES.items()}
    examples = sql_examples(split, 400, 5)
    assert {e.kind for e in examples} == set(DATABASES)
    told = 0
    for example in examples:
        assert example.answer.startswith("SELECT ")
        assert ";" not in example.answer
        rows = connections[example.kind].execute(example.answer).fetchall()
        told += bool(rows) and rows != [(0,)] and rows != [(None,)]
    assert told > 200, "most questions should have an answer that can be compared"
    assert all(connection.total_changes < 100 for connection in connections.values())


@pytest.mark.parametrize("name", DATABASES)
def test_databases_are_sound(name: str) -> None:
    connection = DATABASES[name].connect()
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert 2 <= len(tables) <= 3
    assert set(tables) == set(DATABASES[name].rows)
    for table in tables:
        assert 8 <= connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] <= 20
    child = next(t for t in tables if connection.execute(f"PRAGMA foreign_key_list({t})").fetchall())
    row = DATABASES[name].rows[child][0]
    keys = {k[3] for k in connection.execute(f"PRAGMA foreign_key_list({child})")}
    columns = [c[1] for c in connection.execute(f"PRAGMA table_info({child})")]
    broken = [999 if c == "id" or c in keys else v for c, v in zip(columns, row, strict=True)]
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(f"INSERT INTO {child} VALUES ({', '.join('?' * len(row))})", broken)


def test_splits_do_not_overlap() -> None:
    for make in (json_examples, sql_examples, text_examples):
        train, held = make("train", 2000, 1), make("heldout", 300, 2)
        assert not {e.key for e in train} & {e.key for e in held}
        assert not {e.prompt for e in train if e.task != "text"} & {e.prompt for e in held}


def test_the_split_is_the_stated_hash_of_the_content() -> None:
    for example in json_examples("heldout", 50, 3):
        field = {"person": "name", "order": "customer", "event": "title"}[example.kind]
        assert example.key == f"{example.kind}:{example.record[field]}"
    for example in sql_examples("heldout", 50, 3):
        assert example.key == f"{example.kind}:{example.answer}"
    keys = [f"person:Name {i}" for i in range(3000)]
    held = [k for k in keys if split_of(k) == "heldout"]
    assert held == [k for k in keys if int.from_bytes(blake2b(k.encode(), digest_size=8).digest(), "big") % 10 == 0]
    assert 0.07 < len(held) / len(keys) < 0.13


def test_streams_are_reproducible_and_seeds_differ() -> None:
    assert json_examples("train", 20, 4) == json_examples("train", 30, 4)[:20]
    assert sql_examples("train", 20, 4) != sql_examples("train", 20, 5)
    first = mixture("train", 1, {"json": 1.0, "sql": 1.0, "text": 1.0})
    assert {next(first).task for _ in range(60)} == {"json", "sql", "text"}
