"""The SQL constraint against SQLite itself: every walk compiles, legal statements pass, others cannot be written."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from decodekit.constraints.core.cursor import Compiled
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.sql.constraint import Sql
from decodekit.constraints.sql.database import from_ddl
from decodekit.errors import ConstraintError

DDL = """
CREATE TABLE owners (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT NOT NULL, species TEXT NOT NULL, age INTEGER NOT NULL,
  weight REAL NOT NULL, owner_id INTEGER NOT NULL REFERENCES owners (id));
CREATE TABLE visits (pet_id INTEGER REFERENCES pets (id), day TEXT, date_paid TEXT, cost REAL);
"""
ODD = """
CREATE TABLE "order" ("group" INTEGER, "unit price" REAL, "it""s" TEXT, key TEXT, distinct_id INTEGER, "größe" TEXT);
CREATE TABLE T_1 (count INTEGER, not_done TEXT, "1st" TEXT, T_1 TEXT);
CREATE VIEW cheap AS SELECT count AS c FROM T_1;
"""
FULL: dict[str, Any] = {"aliases": "any", "case": "any", "space": "any"}
"""The large language."""
LEGAL = """
SELECT * FROM pets
SELECT name FROM owners
select name, age from pets where age >= 3
SELECT DISTINCT species FROM pets
SELECT COUNT(*) FROM pets WHERE species = 'dog'
SELECT AVG(age), min(weight), max(weight), sum(age) FROM pets
SELECT count(DISTINCT species) AS kinds FROM pets
SELECT pets.name, owners.city FROM pets JOIN owners ON pets.owner_id = owners.id
SELECT species, city FROM owners INNER JOIN pets ON owners.id = pets.owner_id WHERE age < 4 AND owners.city = 'Oslo'
SELECT owners.name FROM owners LEFT JOIN pets ON pets.owner_id = owners.id WHERE pets.id IS NULL
SELECT pets.* FROM pets LEFT OUTER JOIN owners ON pets.owner_id=owners.id
SELECT city FROM owners JOIN pets ON owners.id = pets.owner_id JOIN visits ON visits.pet_id = pets.id WHERE cost > 10
SELECT name FROM pets WHERE weight < (SELECT AVG(weight) FROM pets)
SELECT name FROM owners WHERE id IN (SELECT owner_id FROM pets WHERE species = 'cat')
SELECT name FROM pets WHERE species IN ('dog', 'cat') OR NOT (age > 3 AND weight <= 2.5)
SELECT name FROM pets WHERE name LIKE 'M%' AND age BETWEEN 2 AND 9 ORDER BY age DESC LIMIT 3
SELECT name FROM pets WHERE name NOT LIKE '%a' AND species NOT IN ('dog') AND age NOT BETWEEN 1 AND 2
SELECT name FROM pets WHERE age IS NOT NULL ORDER BY species ASC, age DESC
SELECT species, COUNT(*) FROM pets GROUP BY species
SELECT species, AVG(weight) AS mean FROM pets GROUP BY species HAVING COUNT(*) > 2 ORDER BY AVG(weight) DESC
SELECT city FROM owners GROUP BY city HAVING COUNT(*) < 8 LIMIT 5 OFFSET 2
SELECT name FROM pets WHERE name = 'O''Brien'
SELECT name FROM pets WHERE age != -3 AND weight <> 0.5
SELECT name FROM pets WHERE age=3 AND weight>=id
SELECT NAME FROM Pets WHERE PETS.AGE = 1
SELECT day, date_paid FROM visits WHERE date_paid IS NULL
SELECT max(age) FROM pets WHERE species = '日本 é'
SELECT id FROM pets WHERE ((age > 1))
SELECT name,age FROM pets ORDER BY pets.age
SELECT name , age FROM pets WHERE species IN ('a' , 'b')
SELECT weight, count(*) FROM pets GROUP BY weight, age HAVING max(age) IN (1, 2) AND NOT weight IS NULL
SELECT  name FROM pets;
SELECT upper(name) FROM pets
SELECT name FROM pets WHERE name = "dog"
SELECT name FROM pets UNION SELECT name FROM owners
WITH a AS (SELECT 1 AS one) SELECT one FROM a
WITH old (who, age) AS (SELECT name, age FROM pets), o AS (SELECT * FROM old) SELECT who FROM o ORDER BY age
SELECT t2.name, count(*) FROM owners AS t1 JOIN pets AS t2 ON t1.id = t2.owner_id GROUP BY t2.id ORDER BY count(*) DESC
SELECT p.name pet, o.name AS owner FROM pets p, owners o WHERE p.owner_id = o.id ORDER BY owner
SELECT name FROM owners o WHERE EXISTS (SELECT 1 FROM pets WHERE pets.owner_id = o.id AND species = 'cat')
SELECT (SELECT count(*) FROM pets WHERE pets.owner_id = owners.id) AS n, name FROM owners ORDER BY n DESC NULLS LAST
SELECT o.name, (SELECT max(age) FROM pets p WHERE p.owner_id = o.id) FROM owners o
SELECT avg(age) FROM (SELECT age FROM pets WHERE weight > 2) AS t
SELECT age FROM (SELECT species, avg(age) AS age FROM pets GROUP BY species) WHERE age > 3
SELECT id FROM pets JOIN owners USING (id)
SELECT name, id FROM pets NATURAL JOIN owners
SELECT pets.name FROM pets CROSS JOIN owners LEFT JOIN visits ON pet_id = pets.id
SELECT CASE WHEN age > 3 THEN 'old' ELSE 'young' END AS kind, count(*) FROM pets GROUP BY kind HAVING count(*) > 1
SELECT CASE species WHEN 'dog' THEN 1 WHEN 'cat' THEN 2 END FROM pets
SELECT CAST(age AS REAL) / 2 + 1, name || ' (' || species || ')', -age FROM pets
SELECT name FROM pets EXCEPT SELECT name FROM owners INTERSECT SELECT day FROM visits ORDER BY 1 LIMIT 3
SELECT name FROM pets UNION ALL SELECT city FROM owners ORDER BY name
SELECT * FROM owners UNION SELECT id, name, species FROM pets
SELECT id, name, city FROM owners EXCEPT SELECT * FROM owners
SELECT coalesce(day, 'never'), round(cost, 2), strftime('%Y', day) FROM visits
SELECT name FROM pets WHERE age = (SELECT max(age) FROM pets AS b WHERE b.species = pets.species)
SELECT name FROM pets WHERE id NOT IN (SELECT pet_id FROM visits WHERE pet_id IS NOT NULL) ORDER BY 1
SELECT t.* FROM pets AS t LIMIT 5, 10
SELECT count (*) FROM pets WHERE name GLOB 'M*' AND age IS 3 OR age NOTNULL
SELECT name COLLATE NOCASE FROM pets ORDER BY name COLLATE NOCASE ASC NULLS FIRST
SELECT group_concat(name, ', ') FROM pets WHERE NOT EXISTS (SELECT * FROM visits WHERE pet_id = pets.id)
SELECT "name" FROM "pets" AS "My Pets" WHERE "My Pets"."age" > 1
SELECT 1
"""
ILLEGAL = """
SELECT * FROM cats
SELECT city FROM pets
SELECT weight FROM owners
SELECT owners.age FROM owners JOIN pets ON owners.id = pets.owner_id
SELECT owners.name FROM pets
SELECT name FROM pets JOIN owners ON pets.owner_id = owners.id
SELECT species FROM visits
SELECT name FROM pets WHERE city = 'Oslo'
SELECT name FROM pets ORDER BY city
SELECT species FROM pets GROUP BY city
SELECT name FROM pets; DELETE FROM pets
SELECT name FROM pets WHERE age > 3; DROP TABLE pets
DELETE FROM pets
UPDATE pets SET age = 1
INSERT INTO pets VALUES (1)
DROP TABLE pets
PRAGMA writable_schema = 1
ATTACH 'x' AS y
EXPLAIN SELECT name FROM pets
SELECT load_extension('x') FROM pets
SELECT randomblob(age) FROM pets
SELECT name FROM pets WHERE count(*) > 1
SELECT name FROM pets HAVING count(*) > 1
SELECT name FROM pets ORDER BY count(*)
SELECT sum(*) FROM pets
SELECT count(avg(age)) FROM pets
SELECT name AS select FROM pets
SELECT name FROM pets WHERE name = 'open
SELECT "dog" FROM pets
SELECT name FROM pets WHERE "dog" = name
SELECT name FROM pets -- comment
SELECT name FROM pets /* comment */
SELECT name, age FROM pets UNION SELECT name FROM owners
SELECT t.name FROM pets
SELECT t.city FROM pets AS t
SELECT t.name FROM pets AS t, owners AS t
SELECT name FROM pets, owners
SELECT pets.name FROM pets JOIN pets ON pets.id = pets.id
SELECT a.name FROM pets AS a, pets AS b WHERE age > 1
SELECT name FROM pets WHERE id IN (SELECT * FROM owners)
SELECT name FROM pets WHERE id = (SELECT id, name FROM owners)
SELECT name FROM pets WHERE id IN (SELECT city FROM visits)
SELECT name FROM (SELECT age FROM pets)
SELECT count(*) AS n FROM pets GROUP BY n
SELECT count(*) FROM pets GROUP BY 1
SELECT name FROM pets ORDER BY 2
SELECT name FROM pets UNION SELECT city FROM owners ORDER BY age
SELECT sum(sum(age)) FROM pets
SELECT name FROM pets WHERE age > 1 AND
SELECT max(name, species) FROM pets
SELECT round(age, 1, 2) FROM pets
SELECT 1 FROM pets WHERE id = 1--1
SELECT name FROM sqlite_master
SELECT     name FROM pets
 SELECT name FROM pets
SELECT name FROMpets
SELECTname FROM pets
SELECT name FROM pets WHERE
SELECT name FROM pets LIMIT -1
"""


def reads(compiled: Compiled, vocabulary: Vocabulary, text: str) -> bool:
    """Whether the text can be written, byte by byte."""
    cursor = compiled.start()
    for byte in text.encode():
        token = vocabulary.by_bytes[bytes([byte])][0]
        if not cursor.allows(token):
            return False
        cursor.advance(token)
    return cursor.is_complete()


LETTERS = Vocabulary(tuple(bytes([i]) for i in range(256)))


@pytest.mark.parametrize("text", LEGAL.strip().split("\n"))
def test_legal_statements_can_be_written(text: str) -> None:
    assert Sql(DDL).judge(text)
    assert reads(Sql(DDL, **FULL).compile(LETTERS), LETTERS, text)
    assert Sql(DDL).value(text) == text


@pytest.mark.parametrize("text", ILLEGAL.strip().split("\n"))
def test_other_statements_cannot_be_written(text: str) -> None:
    assert not reads(Sql(DDL, **FULL).compile(LETTERS), LETTERS, text)


@pytest.mark.parametrize(
    "text", [t for t in ILLEGAL.strip().split("\n") if t.split()[0] not in ("SELECT", "SELECTname")]
)
def test_the_judge_takes_nothing_but_one_select(text: str) -> None:
    assert not Sql(DDL).judge(text)
    assert not Sql(DDL).judge("SELECT name FROM pets; " + text)
    assert Sql(DDL).value("SELECT name FROM") is None


@pytest.mark.parametrize("options", [{}, FULL], ids=["default", "large"])
@pytest.mark.parametrize("ddl", [DDL, ODD])
def test_every_walk_compiles_in_sqlite(ddl: str, options: dict[str, Any], tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 400, (1,))
    compiled, shape = Sql(ddl, **options).compile(vocabulary), from_ddl(ddl)
    for seed in range(120):
        cursor, ids = tools.walk(compiled, seed, vocabulary, 10 + seed // 2, 0.1)
        rest = cursor.closing()
        assert rest is not None, vocabulary.text(ids)
        text = (vocabulary.text(ids) + rest).decode()
        assert shape.explains(text), text


def test_names_that_need_quotes() -> None:
    compiled = Sql(ODD, **FULL).compile(LETTERS)
    for text in (
        'SELECT "group", "unit price" FROM "order" WHERE "it""s" = \'x\' AND "order"."group" > 1',
        "SELECT distinct_id, key FROM \"order\" WHERE größe = 'a'".replace("größe", '"größe"'),
        "SELECT count, count(count), not_done FROM T_1 WHERE NOT not_done = 'a' AND t_1.\"1st\" IS NULL",
        "SELECT T_1, t_1.T_1 FROM T_1",
        "SELECT c FROM cheap",
    ):
        assert Sql(ODD).judge(text)
        assert reads(compiled, LETTERS, text), text
    assert not reads(compiled, LETTERS, 'SELECT group FROM "order"')


def test_the_same_from_a_file_that_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "a b%#?.db"
    connection = sqlite3.connect(file)
    connection.executescript(DDL)
    connection.close()
    before = file.read_bytes()
    assert Sql(database=file).shape().tables == Sql(DDL).shape().tables
    assert Sql(database=str(file)).judge("SELECT name FROM pets")
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_large_schemas() -> None:
    ddl = "".join(f"CREATE TABLE t{i} (a{i} INTEGER REFERENCES t{i + 1}, b INTEGER);" for i in range(40))
    compiled = Sql(ddl).compile(LETTERS)
    assert reads(compiled, LETTERS, "SELECT a0, a1 FROM t0 JOIN t1 ON t0.a0 = t1.b WHERE t1.b = 3")
    assert reads(compiled, LETTERS, "SELECT b FROM t39 WHERE a39 IN (SELECT a3 FROM t3)")
    assert not reads(compiled, LETTERS, "SELECT a38 FROM t39")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"sql needs one of schema= .* and database= .*, and got neither"),
        ({"schema": DDL, "database": "x"}, "and got both"),
        ({"schema": "CREATE TABLE"}, r"not SQL that SQLite understands \(incomplete input\); give CREATE TABLE"),
        ({"schema": "SELECT 1"}, "the schema holds no table"),
        ({"schema": "ATTACH 'x.db' AS y"}, r"not SQL that SQLite understands \(not authorized\)"),
        ({"database": "no/such.db"}, r"there is no database file 'no/such.db'; give the path of a SQLite file"),
        ({"database": 3}, "is the path of a SQLite file, or an engine of SQLAlchemy, and this is of type int"),
    ],
)
def test_bad_databases_are_refused_in_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        Sql(**options)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database at all, but long enough to be one" * 50)
    with pytest.raises(ConstraintError, match=r"cannot be read as a SQLite database \(file is not a database\)"):
        Sql(database=file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SEL", "expected SELECT"),
        ("SELECT na", "expected a name (name)"),
        ("SELECT name FROM ", "expected a name (owners, pets, visits), ("),
        ("SELECT name FROM pets WHERE name = 'a", "expected the rest of the text and its closing quote"),
        ("SELECT name FROM pets LIMIT 1", "expected more of the number, OFFSET, one of , ;, the end"),
    ],
)
def test_what_was_expected_is_said(text: str, said: str) -> None:
    cursor = Sql(DDL).compile(LETTERS).start()
    for byte in text.encode():
        cursor.advance(byte)
    assert cursor.explain() == said
