"""Four small sqlite databases and the words in which people ask about them."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

Cell = str | int | float
Rows = tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Database:
    """DDL (several ``CREATE TABLE`` statements) and the rows of each table, in an order that satisfies foreign keys."""

    name: str
    ddl: str
    rows: dict[str, Rows]

    def connect(self, file: str | Path = ":memory:") -> sqlite3.Connection:
        """A new sqlite3 connection to a freshly filled database: in memory, or in a new ``file``."""
        connection = sqlite3.connect(str(file))
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executescript(self.ddl)
        for table, rows in self.rows.items():
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        connection.commit()
        return connection


_VET = Database(
    "vet",
    """CREATE TABLE owners (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT NOT NULL, species TEXT NOT NULL, age INTEGER NOT NULL,
  weight REAL NOT NULL, owner_id INTEGER NOT NULL REFERENCES owners (id));
""",
    {
        "owners": (
            (1, "Ada", "Oslo"),
            (2, "Bruno", "Lima"),
            (3, "Carla", "Cairo"),
            (4, "Dario", "Oslo"),
            (5, "Elena", "Paris"),
            (6, "Farid", "Lima"),
            (7, "Greta", "Turin"),
            (8, "Hugo", "Paris"),
        ),
        "pets": (
            (1, "Rex", "dog", 7, 24.5, 1),
            (2, "Mia", "cat", 3, 4.2, 1),
            (3, "Kiki", "parrot", 12, 0.4, 2),
            (4, "Bello", "dog", 2, 11.0, 3),
            (5, "Luna", "cat", 9, 5.1, 4),
            (6, "Hopper", "rabbit", 4, 2.3, 5),
            (7, "Max", "dog", 10, 31.2, 5),
            (8, "Nala", "cat", 1, 3.0, 6),
            (9, "Snow", "rabbit", 6, 1.9, 6),
            (10, "Polly", "parrot", 20, 0.5, 7),
            (11, "Bruno", "dog", 5, 18.7, 8),
            (12, "Simba", "cat", 14, 6.4, 8),
            (13, "Flash", "dog", 3, 9.6, 2),
            (14, "Clover", "rabbit", 2, 2.8, 3),
        ),
    },
)

_LIBRARY = Database(
    "library",
    """CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL, born INTEGER NOT NULL);
CREATE TABLE books (id INTEGER PRIMARY KEY, title TEXT NOT NULL, genre TEXT NOT NULL, year INTEGER NOT NULL,
  pages INTEGER NOT NULL, author_id INTEGER NOT NULL REFERENCES authors (id));
""",
    {
        "authors": (
            (1, "Ines", "Spain", 1931),
            (2, "Jonas", "Norway", 1948),
            (3, "Kenji", "Japan", 1955),
            (4, "Lucia", "Italy", 1962),
            (5, "Marco", "Italy", 1970),
            (6, "Nadia", "Egypt", 1944),
            (7, "Otto", "Norway", 1981),
            (8, "Petra", "Spain", 1975),
        ),
        "books": (
            (1, "Embers", "novel", 1968, 312, 1),
            (2, "Tides", "poetry", 1972, 96, 1),
            (3, "Glacier", "travel", 1985, 240, 2),
            (4, "Fjord", "novel", 1990, 410, 2),
            (5, "Lantern", "crime", 1992, 288, 3),
            (6, "Bamboo", "poetry", 1988, 120, 3),
            (7, "Vesper", "crime", 2001, 350, 4),
            (8, "Marble", "history", 2007, 520, 4),
            (9, "Piazza", "travel", 2010, 198, 5),
            (10, "Ledger", "crime", 2015, 301, 5),
            (11, "Delta", "history", 1979, 460, 6),
            (12, "Dunes", "novel", 1983, 275, 6),
            (13, "Static", "novel", 2012, 330, 7),
            (14, "Aurora", "poetry", 2018, 88, 7),
            (15, "Harbor", "travel", 2005, 224, 8),
            (16, "Siesta", "novel", 2020, 265, 8),
        ),
    },
)

_SHOP = Database(
    "shop",
    """CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, price REAL NOT NULL,
  stock INTEGER NOT NULL);
CREATE TABLE sales (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id),
  product_id INTEGER NOT NULL REFERENCES products (id), quantity INTEGER NOT NULL);
""",
    {
        "customers": (
            (1, "Quinn", "Leeds"),
            (2, "Rosa", "Milan"),
            (3, "Stefan", "Vienna"),
            (4, "Tara", "Leeds"),
            (5, "Umar", "Seoul"),
            (6, "Vera", "Milan"),
            (7, "Walter", "Vienna"),
            (8, "Ximena", "Seoul"),
        ),
        "products": (
            (1, "lamp", "home", 39.5, 12),
            (2, "kettle", "kitchen", 24.0, 30),
            (3, "chair", "home", 75.0, 8),
            (4, "blender", "kitchen", 58.5, 5),
            (5, "tent", "outdoor", 120.0, 4),
            (6, "bottle", "outdoor", 9.5, 80),
            (7, "notebook", "office", 4.5, 150),
            (8, "stapler", "office", 12.0, 45),
            (9, "desk", "home", 210.0, 3),
            (10, "toaster", "kitchen", 33.0, 17),
            (11, "backpack", "outdoor", 64.0, 21),
            (12, "pencil", "office", 1.5, 400),
        ),
        "sales": (
            (1, 1, 2, 1),
            (2, 1, 7, 6),
            (3, 2, 1, 2),
            (4, 2, 9, 1),
            (5, 3, 5, 1),
            (6, 3, 6, 4),
            (7, 4, 12, 20),
            (8, 4, 8, 2),
            (9, 5, 4, 1),
            (10, 5, 10, 2),
            (11, 6, 3, 4),
            (12, 6, 11, 1),
            (13, 7, 6, 10),
            (14, 7, 2, 3),
            (15, 8, 7, 12),
            (16, 8, 1, 1),
        ),
    },
)

_SCHOOL = Database(
    "school",
    """CREATE TABLE teachers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, subject TEXT NOT NULL,
  salary INTEGER NOT NULL);
CREATE TABLE students (id INTEGER PRIMARY KEY, name TEXT NOT NULL, grade TEXT NOT NULL, score INTEGER NOT NULL,
  absences INTEGER NOT NULL, teacher_id INTEGER NOT NULL REFERENCES teachers (id));
""",
    {
        "teachers": (
            (1, "Yara", "music", 3100),
            (2, "Zeno", "physics", 3900),
            (3, "Alma", "history", 3400),
            (4, "Boris", "physics", 4200),
            (5, "Celia", "art", 2900),
            (6, "David", "music", 3300),
            (7, "Edith", "history", 3700),
            (8, "Felix", "art", 3000),
        ),
        "students": (
            (1, "Gina", "first", 71, 3, 1),
            (2, "Henri", "second", 64, 8, 1),
            (3, "Iris", "third", 92, 0, 2),
            (4, "Jakob", "first", 55, 12, 2),
            (5, "Klara", "second", 83, 2, 3),
            (6, "Luis", "third", 77, 5, 3),
            (7, "Mona", "first", 88, 1, 4),
            (8, "Nils", "second", 49, 15, 4),
            (9, "Olga", "third", 95, 0, 5),
            (10, "Paul", "first", 61, 7, 5),
            (11, "Rita", "second", 79, 4, 6),
            (12, "Sven", "third", 68, 9, 6),
            (13, "Tilda", "first", 90, 2, 7),
            (14, "Ugo", "second", 58, 11, 7),
            (15, "Vito", "third", 73, 6, 8),
            (16, "Wanda", "first", 86, 3, 8),
        ),
    },
)

#: The databases of the SQL task by name.
DATABASES: dict[str, Database] = {d.name: d for d in (_VET, _LIBRARY, _SHOP, _SCHOOL)}
