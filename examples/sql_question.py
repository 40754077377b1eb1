"""An English question becomes one SELECT over a given database, and sqlite3 runs it."""

import sqlite3

import decodekit as dk

DDL = """
CREATE TABLE owners (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT NOT NULL, species TEXT NOT NULL, age INTEGER NOT NULL,
                   weight REAL NOT NULL, owner_id INTEGER NOT NULL REFERENCES owners(id));
"""


def main() -> None:
    with sqlite3.connect(":memory:") as database:
        database.executescript(DDL)
        database.execute("INSERT INTO owners VALUES (1, 'Ada', 'Oslo')")
        database.execute("INSERT INTO pets VALUES (1, 'Rex', 'dog', 7, 30.5, 1), (2, 'Mia', 'cat', 2, 4.0, 1)")
        question = "How many pets older than 5 are there?"
        out = dk.generate(
            "zoo:base",
            f"{question}\nvet as SQL:\n",
            strategy="greedy",
            constraint=dk.sql(schema=DDL),
        )
        print(out.text)
        print(database.execute(out.text).fetchall())


if __name__ == "__main__":
    main()
