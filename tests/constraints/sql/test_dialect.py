"""The SQL constraint against real questions, SQLite and its own options: what may be named, written and compared."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from decodekit.constraints.core.cursor import tokens_of
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.sql.closing import SqlMachine
from decodekit.constraints.sql.constraint import Sql
from decodekit.constraints.sql.database import from_ddl
from decodekit.constraints.sql.literals import State
from decodekit.constraints.sql.masks import SqlStates
from decodekit.errors import ConstraintError

DDL = """
CREATE TABLE owners (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT, species TEXT, age INTEGER, owner_id INTEGER REFERENCES owners);
CREATE VIEW old AS SELECT name, age FROM pets WHERE age > 9;
"""
ROWS = """
INSERT INTO owners VALUES (1, 'Ada', 'Oslo'), (2, 'O''Brien', 'Rome');
INSERT INTO pets VALUES (1, 'Rex', 'dog', 7, 1), (2, 'Mia', 'cat', 2, 2);
"""

WRITE: dict[str, Any] = {"write": True}
KEYS: dict[str, Any] = {"joins": "keys"}
FULL: dict[str, Any] = {"aliases": "any", "case": "any", "space": "any"}
"""The large language."""


def reach(machine: SqlMachine, text: str) -> State | None:
    """The state after a text, None where it is refused."""
    return machine.leap(machine.first(), text.encode())


def whole(machine: SqlMachine, text: str) -> bool:
    """Whether the text is a statement."""
    state = reach(machine, text)
    return state is not None and machine.final(state)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT t1.age, t1.name, t2.city",
        "SELECT city, spec",
        "SELECT name, t.city FROM pets NATURAL JOIN owners AS ",
        "SELECT name FROM pets JOIN owners USING (",
        "SELECT (SELECT max(age) FROM pets WHERE pets.owner_id = foo.id) FROM owners AS f",
        "SELECT name FROM owners WHERE id IN (SELECT owners.id FROM pets AS owners, pets WHERE owners.ag",
        "WITH young AS (SELECT name AS who FROM pets WHERE age < 2) SELECT wh",
        'SELECT "name" FROM "ow',
        "SELECT name FROM pets WHERE name = \"any 'text",
        "SELECT count(*) n FROM pets GROUP BY species HAVING n",
        "SELECT name FROM pets UNION SELECT city FROM ",
    ],
)
def test_what_can_still_become_a_statement_is_taken_and_completed(text: str) -> None:
    machine, shape = Sql(DDL, **FULL).machine(), from_ddl(DDL)
    state = machine.first()
    for at, byte in enumerate(text.encode()):
        after = machine.step(state, byte)
        assert after is not None, text[: at + 1]
        state = after
        rest = machine.ending(state)
        assert rest is not None, text[: at + 1]
        written = text.encode()[: at + 1] + rest
        assert shape.explains(written.decode()), written
        assert whole(machine, written.decode())


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("SELECT t1.age, t1.", "SELECT t1.age, t1.c"),  # no table has age and a column with c
        ("SELECT t1.city, t1.name FROM owners AS t", "SELECT t1.city, t1.name FROM pets AS t1 "),
        ("SELECT t1.city FROM owners AS t1", "SELECT t1.city FROM owners;"),
        ("SELECT name FROM pets", "SELECT name FROM pets,owners"),
        ("SELECT pets.name FROM pets,owners", "SELECT owners.species FROM pets;"),
        ("SELECT name FROM pets WHERE age", "SELECT name FROM pets WHERE ci"),
        ("SELECT age FROM pets, owners", "SELECT age FROM owners;"),
        ("SELECT age FROM pets AS a JOIN pets AS b USING", "SELECT age FROM pets AS a JOIN pets AS b ON"),
        ("SELECT name FROM old", "SELECT species FROM old;"),
        ("SELECT name FROM pets ORDER BY 1", "SELECT name FROM pets ORDER BY 2"),
        ("SELECT name FROM pets WHERE id IN (SELECT id", "SELECT name FROM pets WHERE id IN (SELECT id,"),
        ("SELECT count(*) FROM pets HAVING"[:25], "SELECT count(*) FROM pets HAVING "),
        ("SELECT max(age)", "SELECT max(max("),
        ("SELECT name FROM pets ORDER BY name", "SELECT name FROM pets ORDER BY count("),
        ("SELECT 'a'", 'SELECT "a" FROM pets'),
        ("SELECT a FROM pets"[:8], "SELECT a FROM"),
        ("SELECT name FROM pets WHERE age = 123456789012345", "SELECT name FROM pets WHERE age = 1234567890123456"),
    ],
)
def test_a_name_needs_a_table(good: str, bad: str) -> None:
    machine = Sql(DDL, **FULL).machine()
    assert reach(machine, good) is not None
    assert reach(machine, bad) is None


def test_lengths_are_bounded() -> None:
    machine = Sql(DDL, space="any", max_string=5, max_space=2, max_name=8).machine()
    assert reach(machine, "SELECT name  FROM pets WHERE name = 'ab''éé") is not None
    assert reach(machine, "SELECT name FROM pets WHERE name = 'abcdef") is None
    assert reach(machine, "SELECT name   ") is None
    assert reach(machine, "SELECT name AS abcdefgh") is not None
    assert reach(machine, "SELECT name AS abcdefghi") is None
    assert reach(machine, "SELECT " + "(" * 60) is None, "SQLite's parser has a stack of 100"


@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        ({"aliases": "as"}, "SELECT name AS n FROM pets AS p;", "SELECT name q"),
        ({"aliases": "none"}, "SELECT pets.name AS n FROM pets;", "SELECT p."),
        ({"double_quotes": False}, "SELECT name FROM pets WHERE name = 'a'", 'SELECT name FROM pets WHERE name = "z'),
        ({"types": "sensible"}, "SELECT sum(age), max(name), sum(pets.age) FROM pets", "SELECT sum(species)"),
        ({"types": "sensible"}, "SELECT avg(DISTINCT id) FROM owners", "SELECT age FROM pets WHERE abs(pets.name)"),
        ({"values": "occurring"}, "SELECT age FROM pets WHERE name = 'Rex'", "SELECT age FROM pets WHERE name = 'Rax"),
        ({"values": "occurring"}, "SELECT 1 FROM owners WHERE name IN ('Ada', 'O''Brien')", "SELECT city = 'Ad"),
        ({"values": "occurring"}, "SELECT id FROM pets WHERE name LIKE '%x%'", 'SELECT id FROM pets WHERE name = "Rex'),
        (KEYS, "SELECT name FROM pets", "SELECT pets.name FROM pets,"),
        (KEYS, "SELECT city FROM pets AS p JOIN owners ON p.owner_id = owners.id", "SELECT age FROM pets CROSS "),
        (KEYS, "SELECT 1 FROM owners LEFT JOIN pets ON owners.id = pets.owner_id AND 1", "SELECT 1 FROM owners JOIN o"),
        (KEYS, "SELECT 1 FROM pets JOIN owners ON owners.id = pets.owner_id", "SELECT 1 FROM old JOIN "),
        (KEYS, "SELECT 1 FROM owners JOIN pets ON pets.owner_id = owners.id", "SELECT city FROM pets JOIN owners;"),
        (KEYS, "SELECT 1 FROM pets JOIN owners ON owners.id = pets.owner_id", "SELECT city, age FROM pets NATURAL"),
        (KEYS, "SELECT city FROM owners", "SELECT city, age FROM pets JOIN owners USING"),
        ({}, "SELECT 1", "DELETE"),
        (WRITE, "DELETE FROM pets WHERE age > 3", "DELETE FROM old"),
        (WRITE, "UPDATE pets SET age = age + 1, name = 'a' WHERE id = 1;", "UPDATE pets SET age = 1, age"),
        (WRITE, "INSERT INTO pets (id, name) VALUES (1, 'a'), (2, 'b')", "INSERT INTO pets (id, name) VALUES (1)"),
        (WRITE, "INSERT INTO owners SELECT id, name, species FROM pets", "INSERT INTO owners SELECT id, name FROM "),
        (WRITE, "SELECT name FROM pets", "DROP"),
    ],
)  # fmt: skip
def test_options(options: dict[str, Any], good: str, bad: str) -> None:
    sql = Sql(DDL + ROWS, **options)
    assert whole(sql.machine(), good)
    assert sql.judge(good)
    assert reach(sql.machine(), bad) is None


def test_a_statement_that_writes_changes_nothing_when_judged(tmp_path: Path) -> None:
    file = tmp_path / "pets.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(DDL + ROWS)
    sql = Sql(database=file, write=True, values="occurring")
    before = file.read_bytes()
    assert sql.judge("DELETE FROM pets")
    assert not Sql(database=file).judge("DELETE FROM pets")
    assert whole(sql.machine(), "DELETE FROM pets WHERE species = 'cat'")
    assert file.read_bytes() == before


def test_walks_with_options(tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 400, (1,))
    variants: list[dict[str, Any]] = [
        WRITE,
        KEYS,
        {"aliases": "none"},
        {"values": "occurring", "types": "sensible"},
    ]
    variants += [{**FULL, **options} for options in variants]
    for options in variants:
        sql = Sql(DDL + ROWS, **options)
        compiled, shape = sql.compile(vocabulary), sql.shape()
        for seed in range(20):
            cursor, ids = tools.walk(compiled, seed, vocabulary, 10 + seed, 0.1)
            rest = cursor.closing()
            text = (vocabulary.text(ids) + (rest or b"")).decode()
            assert rest is not None
            assert shape.explains(text, sql.write), text


@pytest.mark.parametrize("options", [{}, FULL], ids=["default", "large"])
def test_masks_are_checks(options: dict[str, Any], tools: ModuleType) -> None:
    small = vocabulary_of(tools.small_tokenizer(), 400, (1,))
    words = [
        b"select",
        b" SELECT",
        b"name,",
        b"'abc",
        b"'abc' ",
        b'"abc"',
        b" AS x FROM",
        b"foo.",
        b"x).",
        b"\xc3",
        b"SEL",
        b" FR",
        b"\n  ",
    ]
    many = [form % i for form in (b"ab%d(", b"q%d", b"'%d,", b" %d.", b'"%d"', b"\xa9%d'") for i in range(60)]
    tokens = tuple(dict.fromkeys([*small.tokens, *words, *many]))
    vocabulary = Vocabulary(tokens)
    compiled, rng = (
        Sql(DDL + ROWS, write=True, max_string=9, max_name=9, **options).compile(vocabulary),
        random.Random(0),
    )
    for _ in range(12):
        cursor = compiled.start()
        for _ in range(25):
            allowed = tokens_of(cursor.mask(), len(vocabulary)).tolist()
            assert allowed == [i for i in range(len(vocabulary)) if cursor.allows(i)]
            if not allowed:
                break
            cursor.advance(rng.choice(allowed))


@pytest.mark.parametrize("dialect", ["postgres", "mysql", "duckdb"])
def test_other_dialects_are_a_smaller_language(dialect: str) -> None:
    ddl = "CREATE TABLE pets (id SERIAL PRIMARY KEY, name VARCHAR(20), born DATE);"
    sql = Sql(ddl.replace("SERIAL", "INT"), dialect=dialect)
    assert sql.judge("SELECT p.name, count(*) FROM pets AS p WHERE p.name LIKE 'a%' GROUP BY p.name ORDER BY 2 LIMIT 3")
    for text in (
        "SELECT name FROM pets WHERE name GLOB 'a'",
        "SELECT julianday(born) FROM pets",
        "SELECT group_concat(name)",
        'SELECT id FROM pets WHERE name = "a"',
        "SELECT name FROM pets LIMIT 1, 2",
    ):
        assert reach(sql.machine(), text) is None, text
        assert not sql.judge(text)


def test_other_dialects_that_are_refused() -> None:
    with pytest.raises(ConstraintError, match=r"does not know the dialect 'oracle'; it is one of duckdb, mysql"):
        Sql(DDL, dialect="oracle")
    with pytest.raises(ConstraintError, match=r"'Name' keeps its capital letters in postgres"):
        Sql('CREATE TABLE a ("Name" TEXT)', dialect="postgres")
    with pytest.raises(ConstraintError, match=r"not SQL in the dialect mysql"):
        Sql("CREATE TABLE (", dialect="mysql")


def test_the_small_grammar_stays_for_those_who_ask() -> None:
    vocabulary = Vocabulary(tuple(bytes([i]) for i in range(256)))
    cursor = Sql(DDL, engine="llguidance").compile(vocabulary).start()
    for byte in b"SELECT name FROM pets WHERE age > 3":
        cursor.advance(byte)
    assert cursor.is_complete()
    assert not cursor.allows(ord(";"))
    with pytest.raises(ConstraintError, match="knows none of the options aliases, space, values, types, joins"):
        Sql(DDL, engine="llguidance", write=True)


def test_an_engine_of_sqlalchemy(tmp_path: Path) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'pets.db'}")
    with sqlite3.connect(tmp_path / "pets.db") as connection:
        connection.executescript(DDL + ROWS)
    sql = Sql(database=engine, values="occurring", write=True)
    assert sql.spoken() == "sqlite"
    assert [table.name for table in sql.shape().tables] == ["owners", "pets", "old"]
    assert whole(sql.machine(), "SELECT name FROM pets AS p WHERE p.species = 'cat'")
    assert reach(sql.machine(), "DELETE FROM old") is None
    engine.dispose()


def test_gold_queries_of_real_questions(data: Path) -> None:
    folder = data / "spider-dev"
    ddl = json.loads((folder / "schemas.sql.json").read_text(encoding="utf-8"))
    lines = (folder / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    gold = sorted({(one["db_id"], one["query"]) for one in map(json.loads, lines)})
    machines, rng = {name: Sql(text, **FULL).machine() for name, text in ddl.items()}, random.Random(0)
    refused = 0
    for name, query in gold:
        machine = machines[name]
        assert whole(machine, query), query
        words = query.split(" ")
        at = rng.choice([i for i, word in enumerate(words) if word.isidentifier() and word.islower()] or [0])
        wrong = " ".join([*words[:at], "no_such_name", *words[at + 1 :]])
        refused += not whole(machine, wrong)
        assert whole(machine, wrong) <= from_ddl(ddl[name]).explains(wrong), wrong
        cut = query[: rng.randrange(len(query))]
        assert whole(machine, cut) <= from_ddl(ddl[name]).explains(cut), cut
    assert len(gold) == 277
    assert refused > 200


@pytest.mark.parametrize("options", [{}, FULL], ids=["default", "large"])
def test_masks_are_checks_on_a_real_vocabulary(options: dict[str, Any], data: Path, tools: ModuleType) -> None:
    tokenizer = tools.real_tokenizer(data / "tok-gpt2")
    vocabulary = vocabulary_of(tokenizer, len(tokenizer), ())
    compiled = Sql(DDL, **options).compile(vocabulary)
    assert isinstance(compiled, SqlStates)
    for text in (
        "",
        "SELECT name",
        "SELECT name FROM pets WHERE name = '",
        'SELECT name FROM pets AS p WHERE name = "n',
    ):
        state = compiled.machine.leap(compiled.machine.first(), text.encode())
        mask = np.zeros(len(vocabulary), dtype=bool)
        mask[tokens_of(compiled.mask_of(state), len(vocabulary))] = True
        checks = np.array([compiled.next(state, token) is not None for token in range(len(vocabulary))])
        assert (mask == checks).all(), text
