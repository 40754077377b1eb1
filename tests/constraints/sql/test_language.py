"""The default language of SQL: names as the schema writes them, one case, declared aliases; and texts whole in time."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import decodekit as dk
from decodekit.constraints.core.cursor import Cursor, tokens_of
from decodekit.constraints.core.steering import FAR, Steering, fewest
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.sql.closing import SqlMachine
from decodekit.constraints.sql.constraint import Sql
from decodekit.constraints.sql.masks import SqlStates
from decodekit.zoo import data as zoo_data

DDL = """
CREATE TABLE Singer (ID INTEGER PRIMARY KEY, Name TEXT, "group" TEXT, Age INTEGER);
CREATE TABLE concert (id INTEGER PRIMARY KEY, singer_id INTEGER REFERENCES Singer (ID), year INTEGER);
"""
SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE products (product_id INTEGER PRIMARY KEY, name TEXT, price REAL);
CREATE TABLE orders (order_id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers,
  product_id INTEGER REFERENCES products, day TEXT);
CREATE TABLE notes (note TEXT, day TEXT);
"""
FULL: dict[str, Any] = {"aliases": "any", "case": "any", "space": "any", "max_space": 9}


def whole(machine: SqlMachine, text: str) -> bool:
    """Whether the text is a statement."""
    state = machine.leap(machine.first(), text.encode())
    return state is not None and machine.final(state)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT Name FROM Singer",
        "select Name from Singer where Age > 3 order by Age desc",
        "SELECT count(*), MAX(Age) FROM Singer",
        "SELECT Singer.Name, concert.year FROM Singer JOIN concert ON Singer.ID = concert.singer_id",
        "SELECT year FROM Singer AS s JOIN concert AS c ON s.ID = c.singer_id WHERE s.Age > 3",
        "SELECT Name AS n FROM Singer AS T1 WHERE T1.Age > 1 ORDER BY n",
        'SELECT "group" FROM Singer',
        "SELECT Name,Age FROM Singer\nWHERE Age > 1\n  AND (\n    Age < 9)",
        "WITH Old AS (SELECT Name FROM Singer) SELECT Name FROM Old",
        "SELECT count (*) FROM Singer;",
    ],
)
def test_the_default_language_holds(text: str) -> None:
    sql = Sql(DDL)
    assert whole(sql.machine(), text)
    assert whole(Sql(DDL, **FULL).machine(), text)
    assert sql.judge(text)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("SELECT name FROM Singer", {"case": "any"}),
        ("SELECT Name FROM singer", {"case": "any"}),
        ("SELECT Name from Singer", {"case": "any"}),
        ("SeLecT Name FROM Singer", {"case": "any"}),
        ("SELECT Count(*) FROM Singer", {"case": "any"}),
        ('SELECT "Name" FROM Singer', {"case": "any"}),
        ('SELECT "Group" FROM Singer', {"case": "any"}),
        ("SELECT year FROM Singer AS T1 JOIN concert AS c ON t1.ID = singer_id", {"case": "any"}),
        ("SELECT s.Name FROM Singer AS s", {"aliases": "as"}),
        ("SELECT Name FROM Singer s", {"aliases": "any"}),
        ("SELECT Name n FROM Singer", {"aliases": "any"}),
        ("SELECT Name FROM Singer AS concert", {"aliases": "as"}),
        ("SELECT  Name FROM Singer", {"space": "any"}),
        ("SELECT Name\n\nFROM Singer", {"space": "any"}),
        ("SELECT Name \nFROM Singer", {"space": "any"}),
        ("SELECT\tName FROM Singer", {"space": "any"}),
    ],
)
def test_the_large_language_is_by_option(text: str, options: dict[str, str]) -> None:
    assert not whole(Sql(DDL).machine(), text)
    assert whole(Sql(DDL, **options).machine(), text)  # type: ignore[arg-type]
    assert Sql(DDL).judge(text)


def test_the_default_language_is_a_part_of_the_large_one(tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 400, (1,))
    for ddl in (DDL, SHOP):
        sql, large = Sql(ddl), Sql(ddl, **FULL).machine()
        compiled, shape = sql.compile(vocabulary), sql.shape()
        for seed in range(60):
            cursor, ids = tools.walk(compiled, seed, vocabulary, 10 + seed // 2, 0.1)
            rest = cursor.closing()
            assert rest is not None
            text = (vocabulary.text(ids) + rest).decode()
            assert shape.explains(text), text
            assert whole(large, text), text


def test_the_small_grammar_has_the_case_that_is_asked_for() -> None:
    letters = vocabulary_of_bytes()
    for options, text, fits in (
        ({}, "SELECT Name FROM Singer", True),
        ({}, "SELECT name FROM Singer", False),
        ({}, "SELECT Name From Singer", False),
        ({"case": "any"}, "SELECT name From Singer", True),
    ):
        cursor = Sql(DDL, engine="llguidance", **options).compile(letters).start()  # type: ignore[arg-type]
        assert (reads(cursor, text) and cursor.is_complete()) is fits, text


def reads(cursor: Cursor, text: str) -> bool:
    """Whether `cursor`, over a token for each byte, can be led along all of `text`."""
    for byte in text.encode():
        if not cursor.allows(byte):
            return False
        cursor.advance(byte)
    return True


def vocabulary_of_bytes() -> Any:
    """A token for each byte."""
    return Vocabulary(tuple(bytes([i]) for i in range(256)))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("SELECT price FROM orders NATURAL JOIN products", True),
        ("SELECT price FROM orders JOIN products USING (product_id)", True),
        ("SELECT price FROM orders NATURAL LEFT JOIN products", True),
        ("SELECT city FROM orders NATURAL JOIN customers", False),  # nothing is shared, so every row meets every row
        ("SELECT city FROM orders NATURAL LEFT JOIN customers", False),
        ("SELECT note FROM orders NATURAL JOIN notes", False),  # both have a day, and no key
        ("SELECT price FROM orders NATURAL LEFT JOIN notes", False),
        ("SELECT note FROM orders JOIN notes USING (day)", False),
        ("SELECT city FROM customers NATURAL JOIN products", False),
        ("SELECT price, note", False),  # no chain of keys brings both
        (
            "SELECT city, price FROM orders NATURAL JOIN products JOIN customers ON customers.id = orders.customer_id",
            True,
        ),
        (
            "SELECT city FROM customers JOIN orders ON customers.id = customer_id NATURAL JOIN products",
            False,
        ),  # and name
    ],
)
def test_joins_by_keys_look_at_what_is_joined(text: str, fits: bool) -> None:
    machine = Sql(SHOP, joins="keys").machine()
    assert whole(machine, text) is fits
    if not fits:
        assert machine.leap(machine.first(), text.encode()) is None or " FROM " in text


@pytest.mark.parametrize("options", [{}, FULL], ids=["default", "large"])
def test_what_waits_for_a_keyed_join_is_always_brought(options: dict[str, Any], tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 400, (1,))
    sql = Sql(SHOP, joins="keys", **options)
    compiled, shape = sql.compile(vocabulary), sql.shape()
    for seed in range(50):
        cursor, ids = tools.walk(compiled, seed, vocabulary, 8 + seed // 3, 0.1)
        rest = cursor.closing()
        assert rest is not None, vocabulary.text(ids)
        text = (vocabulary.text(ids) + rest).decode()
        assert shape.explains(text), text
        assert whole(sql.machine(), text)


VARIANTS: list[dict[str, Any]] = [{}, {"joins": "keys"}, {"values": "occurring", "aliases": "none"}, FULL]


@pytest.mark.parametrize("options", VARIANTS, ids=["default", "keys", "values", "large"])
def test_steered_walks_are_whole_in_time(options: dict[str, Any], tools: ModuleType) -> None:
    """However tokens are drawn and however tight the room, some token fits, until the text may end."""
    vocabulary = vocabulary_of(tools.small_tokenizer(), 400, (1,))
    compiled = Sql(SHOP + "INSERT INTO notes VALUES ('a b', 'Mon');", **options).compile(vocabulary)
    steering, rng = Steering(compiled, 1), random.Random(0)
    for run in range(6 if options == FULL else 14):
        room = steering.least + run * 3
        cursor = compiled.start()
        for left in range(room, 0, -1):
            allowed = tokens_of(steering.mask(cursor, left), len(vocabulary)).tolist()
            some = rng.sample(range(len(vocabulary)), 40)
            assert steering.allows(cursor, some, left) == [token in set(allowed) for token in some]
            if not allowed or (cursor.is_complete() and rng.random() < 0.02):
                break
            cursor.advance(rng.choice(allowed))
        assert cursor.is_complete(), room


def test_a_way_to_the_end_goes_on(tools: ModuleType) -> None:
    """Along each known way the rest is known, or a shorter one: so steering never meets a dead end."""
    vocabulary = vocabulary_of(tools.small_tokenizer(), 400, (1,))
    for options in VARIANTS:
        compiled = Sql(SHOP, **options).compile(vocabulary)
        assert isinstance(compiled, SqlStates)
        for seed in range(8):
            cursor, _ = tools.walk(compiled, seed, vocabulary, 4 + seed, 0.0)
            state: Any = cursor.place()
            for way in islice(compiled.ways(state), 3):
                for at in range(len(way) + 1):
                    here = compiled.machine.leap(state, way[:at])
                    assert here is not None
                    assert min(map(len, compiled.ways(here))) <= len(way) - at, (way, at)


@pytest.mark.parametrize("temperature", [2.5, 1.0])
def test_no_statement_is_cut_off(temperature: float) -> None:
    asked = zoo_data.sql_examples("heldout", 64, 5)
    for name, base in zoo_data.DATABASES.items():
        prompts = [one.prompt for one in asked if one.kind == name]
        made = dk.Decoder("zoo:base", f"temperature({temperature}) | sample", dk.sql(schema=base.ddl), trace=False)
        found = made.generate(prompts, max_tokens=40, in_time=True, seed=1)
        cut = [one.text for one in found if one.finish != "eos" or not dk.sql(schema=base.ddl).judge(one.text)]
        assert not cut


def test_gold_queries_in_the_default_language(data: Path) -> None:
    """Written plainly, with names as the schema has them, most gold queries without forward aliases are inside."""
    folder = data / "spider-dev"
    ddl = json.loads((folder / "schemas.sql.json").read_text(encoding="utf-8"))
    lines = (folder / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    gold = sorted({(one["db_id"], " ".join(one["query"].split())) for one in map(json.loads, lines)})
    held = {
        case: sum(whole(Sql(ddl[name], case=case, aliases=aliases).machine(), query) for name, query in gold)  # type: ignore[arg-type]
        for case, aliases in (("schema", "declared"), ("any", "any"))
    }
    assert held["any"] == len(gold)
    assert 0 < held["schema"] < len(gold)


ODD = 'CREATE TABLE t ("a""b" TEXT, "a b" TEXT, n INTEGER); CREATE TABLE "o""n" (n INTEGER);'


@pytest.mark.parametrize("begun", ['SELECT "a"', 'SELECT n FROM "o"', 'SELECT "o"', 'SELECT "a" ', 'SELECT n AS "x"'])
def test_a_quote_within_a_name_is_a_way_to_its_end(begun: str) -> None:
    """After one quote of a name that has one, the second may be all that can follow."""
    machine = Sql(ODD, aliases="any").machine()
    for size in range(len("SELECT"), len(begun) + 1):
        state = machine.leap(machine.first(), begun[:size].encode())
        if state is None:
            assert begun.endswith('" ')  # no column is called "a"
            continue
        rest = machine.ending(state)
        assert rest is not None, begun[:size]
        assert whole(machine, begun[:size] + rest.decode())


@pytest.mark.parametrize("begun", ["SELECT zqxjkvwzqxjkvw", "SELECT zqxjkv.n FROM (SELECT zqxjkvwzqxjkvw"])
def test_a_name_that_must_come_again_is_weighed(begun: str, tools: ModuleType) -> None:
    """No allowed token leads further from the end than steering takes it to lead."""
    vocabulary = vocabulary_of(tools.small_tokenizer(), 400, (1,))
    compiled = Sql(ODD, aliases="any").compile(vocabulary)
    assert isinstance(compiled, SqlStates)
    steering, cursor = Steering(compiled, 1), compiled.start()
    for token in vocabulary.spell(begun.encode()) or ():
        cursor.advance(token)
    state: Any = cursor.place()
    for token, twin, more in compiled.twins(state, tokens_of(cursor.mask(), len(vocabulary)).tolist()):
        after = cursor.fork()
        after.advance(token)
        if twin is not None:
            bound = min((fewest(way, vocabulary) for way in compiled.ways(twin)), default=FAR) + 1 + more
            assert steering.distance(after) <= bound, vocabulary.tokens[token]


@pytest.mark.parametrize(
    "begun", ['WITH "', 'WITH "ab', 'SELECT n AS "q', 'WITH "zqxjkvwzqxjkvw', "SELECT n FROM t AS a"]
)
def test_new_names_are_weighed_together(begun: str, tools: ModuleType) -> None:
    """Thousands of letters that may follow lead to few states; and none further from the end than taken."""
    vocabulary = vocabulary_of(tools.small_tokenizer(), 400, (1,))
    compiled = Sql(ODD, aliases="any").compile(vocabulary)
    assert isinstance(compiled, SqlStates)
    steering, cursor = Steering(compiled, 1), compiled.start()
    for token in vocabulary.spell(begun.encode()) or ():
        cursor.advance(token)
    state: Any = cursor.place()
    allowed = tokens_of(cursor.mask(), len(vocabulary)).tolist()
    twins = list(compiled.twins(state, allowed))
    assert [token for token, _, _ in twins] == allowed
    assert len({twin for _, twin, _ in twins}) * 4 < len(allowed)
    for token, twin, more in twins:
        after = cursor.fork()
        after.advance(token)
        if twin is not None:
            bound = min((fewest(way, vocabulary) for way in compiled.ways(twin)), default=FAR) + 1 + more
            assert steering.distance(after) <= bound, vocabulary.tokens[token]
