"""Questions over a small database with rows, answered by a chat model: how many statements run, how many are right.

The recipe of docs/sql.md: the schema in the prompt, two examples as earlier turns, greedy. Arms: the default language
of `dk.sql`, the same with `in_time`, the large language, and no constraint (the first SELECT of what was written, to
its semicolon or an empty line). A statement is right where it returns the rows of the gold statement.
Usage: python -m perf.sql_recipe FOLDER, a folder with a chat model. Writes perf/results/sql_recipe.json.
"""

from __future__ import annotations

import argparse
import re
import sqlite3
from typing import Any, Final

import decodekit as dk
from decodekit.comparison.task import LARGE_SQL, same_rows
from perf.bench import save

DDL: Final = """CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT, country TEXT, born INTEGER);
CREATE TABLE books (id INTEGER PRIMARY KEY, title TEXT, author_id INTEGER REFERENCES authors (id), year INTEGER,
  price REAL, stock INTEGER);
CREATE TABLE orders (id INTEGER PRIMARY KEY, book_id INTEGER REFERENCES books (id), customer TEXT, city TEXT,
  quantity INTEGER, day TEXT);
"""
ROWS: Final = """
INSERT INTO authors VALUES (1, 'Ursula Moor', 'Ireland', 1951), (2, 'Jon Vik', 'Norway', 1964),
  (3, 'Mara Lenz', 'Germany', 1978), (4, 'Per Holm', 'Norway', 1980);
INSERT INTO books VALUES (1, 'The Tide', 1, 1989, 12.5, 4), (2, 'Harbour', 1, 1996, 18.0, 0),
  (3, 'North Light', 2, 2001, 22.0, 7), (4, 'Grey Winter', 2, 2010, 15.0, 12), (5, 'Small Clocks', 3, 2012, 9.5, 30),
  (6, 'The Mill', 4, 2019, 27.0, 3);
INSERT INTO orders VALUES (1, 3, 'Iris', 'Oslo', 2, '2024-01-03'), (2, 5, 'Noah', 'Bonn', 1, '2024-01-07'),
  (3, 1, 'Iris', 'Oslo', 1, '2024-02-11'), (4, 6, 'Tess', 'Cork', 3, '2024-02-20'),
  (5, 5, 'Omar', 'Bonn', 4, '2024-03-02'), (6, 4, 'Tess', 'Cork', 1, '2024-03-15');
"""
EXAMPLES: Final = (
    ("What are the names of authors born after 1970?", "SELECT name FROM authors WHERE born > 1970"),
    ("How many orders came from Oslo?", "SELECT COUNT(*) FROM orders WHERE city = 'Oslo'"),
)
QUESTIONS: Final = (
    ("What are the titles of all books?", "SELECT title FROM books"),
    ("How many books are there?", "SELECT COUNT(*) FROM books"),
    ("Which authors come from Norway?", "SELECT name FROM authors WHERE country = 'Norway'"),
    ("What are the titles of books that cost more than 16?", "SELECT title FROM books WHERE price > 16"),
    ("What is the average price of the books?", "SELECT AVG(price) FROM books"),
    ("How many orders came from Bonn?", "SELECT COUNT(*) FROM orders WHERE city = 'Bonn'"),
    ("What is the title of the most expensive book?", "SELECT title FROM books ORDER BY price DESC LIMIT 1"),
    ("Which different cities do orders come from?", "SELECT DISTINCT city FROM orders"),
    ("How many orders are there for each city?", "SELECT city, COUNT(*) FROM orders GROUP BY city"),
    ("What is the total quantity ordered by Tess?", "SELECT SUM(quantity) FROM orders WHERE customer = 'Tess'"),
    (
        "What are the titles of the books written by Jon Vik?",
        "SELECT title FROM books JOIN authors ON books.author_id = authors.id WHERE name = 'Jon Vik'",
    ),
    ("What are the titles of books that are out of stock?", "SELECT title FROM books WHERE stock = 0"),
)


def asked(question: str) -> list[dict[str, str]]:
    """The prompt: the schema, the examples, the question."""
    system = f"You answer with one SQLite SELECT statement and nothing else. The database:\n\n{DDL}"
    turns = [{"role": "system", "content": system}]
    for one, statement in EXAMPLES:
        turns += [{"role": "user", "content": one}, {"role": "assistant", "content": statement}]
    return [*turns, {"role": "user", "content": question}]


def first_select(text: str) -> str:
    """The first SELECT of a free answer."""
    found = re.search(r"\bselect\b.*?(?=;|\n\n|```|$)", text, re.IGNORECASE | re.DOTALL)
    return found[0].strip() if found else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--room", type=int, default=48)
    options = parser.parse_args()
    model = dk.load(options.model)
    connection = sqlite3.connect(":memory:")
    connection.executescript(DDL + ROWS)
    arms: dict[str, dict[str, Any]] = {
        "default": {"constraint": dk.sql(schema=DDL)},
        "default, in_time": {"constraint": dk.sql(schema=DDL), "in_time": True},
        "large language": {"constraint": dk.sql(schema=DDL, **LARGE_SQL)},
        "no constraint": {},
    }
    table = list[dict[str, object]]()
    for name, how in arms.items():
        runs, right, said = 0, 0, list[str]()
        prompts = [asked(question) for question, _ in QUESTIONS]
        found = dk.generate(model, prompts, strategy="greedy", max_tokens=options.room, trace=False, **how)
        for (_, gold), out in zip(QUESTIONS, found, strict=True):
            text = out.text if "constraint" in how else first_select(out.text)
            try:
                connection.execute("EXPLAIN " + text)
                runs += 1
            except (sqlite3.Error, sqlite3.Warning):
                pass
            right += same_rows(connection, gold, text)
            said.append(text)
        table.append({"arm": name, "questions": len(QUESTIONS), "run": runs, "right": right, "statements": said})
        print(name, runs, right, *said, sep="\n  ", flush=True)
    save("sql_recipe", 0, table, f"a chat model of 135 million parameters; greedy; at most {options.room} tokens")


if __name__ == "__main__":
    main()
