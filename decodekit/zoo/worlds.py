"""How people speak about each table of the databases: nouns, and phrases for filters on its columns."""

from dataclasses import dataclass, field

from decodekit.zoo.words import CITIES, spaced


@dataclass(frozen=True)
class Category:
    """A text column with its values; every phrase contains ``{v}`` and follows the plural noun."""

    column: str
    noun: str
    values: tuple[str, ...]
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Measure:
    """A numeric column with the range of literals; ``more`` and ``less`` contain ``{v}`` and follow the plural noun."""

    column: str
    noun: str
    low: int
    high: int
    more: tuple[str, ...]
    less: tuple[str, ...]


@dataclass(frozen=True)
class Parent:
    """A table reached through a foreign key, with a filter on it that can follow the child's plural noun."""

    table: str
    key: str
    category: Category
    label_phrases: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table that can be asked about."""

    database: str
    name: str
    label: str
    noun: str
    labels: tuple[str, ...]
    categories: tuple[Category, ...]
    measures: tuple[Measure, ...] = field(default=())
    parents: tuple[Parent, ...] = field(default=())


_COUNTRIES = spaced("Spain Norway Japan Italy Egypt Chile Kenya")
_SUBJECTS = spaced("music physics history art")
_SECTIONS = spaced("home kitchen outdoor office")
_CITY = Category("city", "city", CITIES[:40], ("from {v}", "who live in {v}", "in {v}"))

_PETS = Table(
    "vet",
    "pets",
    "name",
    "pets",
    spaced("Rex Mia Kiki Bello Luna Hopper Max Nala Snow Polly Simba Flash Clover"),
    (Category("species", "species", spaced("dog cat parrot rabbit"), ("of the species {v}", "whose species is {v}")),),
    (
        Measure(
            "age",
            "age",
            1,
            25,
            ("older than {v}", "above the age of {v}"),
            ("younger than {v}", "below the age of {v}"),
        ),
        Measure(
            "weight",
            "weight",
            1,
            40,
            ("heavier than {v}", "that weigh more than {v}"),
            ("lighter than {v}", "that weigh less than {v}"),
        ),
    ),
    (
        Parent(
            "owners",
            "owner_id",
            Category("city", "city", CITIES[:40], ("with an owner from {v}", "whose owner lives in {v}")),
            ("owned by {v}", "that belong to {v}"),
        ),
    ),
)
_OWNERS = Table("vet", "owners", "name", "owners", spaced("Ada Bruno Carla Dario Elena Farid Greta Hugo"), (_CITY,))
_BOOKS = Table(
    "library",
    "books",
    "title",
    "books",
    spaced("Embers Tides Glacier Fjord Lantern Bamboo Vesper Marble Ledger Delta Dunes Aurora"),
    (
        Category(
            "genre", "genre", spaced("novel poetry travel crime history"), ("of the genre {v}", "whose genre is {v}")
        ),
    ),
    (
        Measure(
            "pages",
            "page count",
            50,
            600,
            ("with more than {v} pages", "longer than {v} pages"),
            ("with fewer than {v} pages", "shorter than {v} pages"),
        ),
        Measure(
            "year",
            "year",
            1960,
            2025,
            ("published after {v}", "newer than {v}"),
            ("published before {v}", "older than {v}"),
        ),
    ),
    (
        Parent(
            "authors",
            "author_id",
            Category("country", "country", _COUNTRIES, ("by authors from {v}", "whose author is from {v}")),
            ("written by {v}", "by {v}"),
        ),
    ),
)
_AUTHORS = Table(
    "library",
    "authors",
    "name",
    "authors",
    spaced("Ines Jonas Kenji Lucia Marco Nadia Otto Petra"),
    (Category("country", "country", _COUNTRIES, ("from {v}", "whose country is {v}")),),
    (Measure("born", "birth year", 1920, 1999, ("born after {v}",), ("born before {v}",)),),
)
_PRODUCTS = Table(
    "shop",
    "products",
    "name",
    "products",
    spaced("lamp kettle chair blender tent bottle notebook stapler desk toaster backpack pencil"),
    (Category("category", "category", _SECTIONS, ("of the category {v}", "whose category is {v}")),),
    (
        Measure(
            "price",
            "price",
            1,
            250,
            ("that cost more than {v}", "with a price above {v}"),
            ("that cost less than {v}", "cheaper than {v}"),
        ),
        Measure(
            "stock",
            "stock",
            2,
            400,
            ("with more than {v} in stock", "with a stock above {v}"),
            ("with fewer than {v} in stock", "with a stock below {v}"),
        ),
    ),
)
_CUSTOMERS = Table(
    "shop", "customers", "name", "customers", spaced("Quinn Rosa Stefan Tara Umar Vera Walter Ximena"), (_CITY,)
)
_SALES = Table(
    "shop",
    "sales",
    "id",
    "sales",
    (),
    (),
    (
        Measure(
            "quantity",
            "quantity",
            1,
            30,
            ("of more than {v} pieces", "with a quantity above {v}"),
            ("of fewer than {v} pieces", "with a quantity below {v}"),
        ),
    ),
    (
        Parent(
            "customers",
            "customer_id",
            Category("city", "city", CITIES[:40], ("to customers from {v}", "whose customer lives in {v}")),
            ("made to {v}", "to {v}"),
        ),
        Parent(
            "products",
            "product_id",
            Category("category", "category", _SECTIONS, ("of {v} products", "whose product category is {v}")),
            ("of product {v}",),
        ),
    ),
)
_STUDENTS = Table(
    "school",
    "students",
    "name",
    "students",
    spaced("Gina Henri Iris Jakob Klara Luis Mona Nils Olga Paul Rita Sven Tilda Ugo"),
    (Category("grade", "grade", spaced("first second third"), ("in the {v} grade", "whose grade is {v}")),),
    (
        Measure(
            "score",
            "score",
            30,
            99,
            ("who scored above {v}", "with a score above {v}"),
            ("who scored below {v}", "with a score below {v}"),
        ),
        Measure(
            "absences",
            "number of absences",
            1,
            20,
            ("with more than {v} absences", "absent more than {v} times"),
            ("with fewer than {v} absences", "absent fewer than {v} times"),
        ),
    ),
    (
        Parent(
            "teachers",
            "teacher_id",
            Category("subject", "subject", _SUBJECTS, ("with a {v} teacher", "whose teacher gives {v}")),
            ("taught by {v}", "whose teacher is {v}"),
        ),
    ),
)
_TEACHERS = Table(
    "school",
    "teachers",
    "name",
    "teachers",
    spaced("Yara Zeno Alma Boris Celia David Edith Felix"),
    (Category("subject", "subject", _SUBJECTS, ("of {v}", "whose subject is {v}")),),
    (
        Measure(
            "salary",
            "salary",
            2500,
            5000,
            ("who earn more than {v}", "with a salary above {v}"),
            ("who earn less than {v}", "with a salary below {v}"),
        ),
    ),
)

#: Every table that can be asked about; the order decides what a seed draws.
TABLES: tuple[Table, ...] = (_PETS, _OWNERS, _BOOKS, _AUTHORS, _PRODUCTS, _CUSTOMERS, _SALES, _STUDENTS, _TEACHERS)

#: Labels of parent tables by table name, for filters such as "owned by Ada".
LABELS = {table.name: table.labels for table in TABLES}
