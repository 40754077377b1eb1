"""The SQL task: an English question over one of the databases and the SELECT statement that answers it."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from decodekit.zoo.filters import Filter, any_filter, by_measure, own_filter
from decodekit.zoo.words import proper
from decodekit.zoo.worlds import TABLES, Category, Measure, Table


@dataclass(frozen=True)
class Question:
    """An English question, the database that it is about and the gold statement (one SELECT, no semicolon)."""

    database: str
    text: str
    sql: str


_EVERYTHING = Filter("", "")
_AGGREGATES = {
    "AVG": ("average", "mean"),
    "MAX": ("highest", "maximum", "largest"),
    "MIN": ("lowest", "minimum", "smallest"),
    "SUM": ("total", "summed"),
}


def _noun(table: Table, found: Filter) -> str:
    return f"{table.noun} {found.text}" if found.text else table.noun


def _statement(table: Table, what: str, found: Filter, tail: str = "") -> str:
    """``SELECT what FROM table ... tail``; ``{t}`` becomes the qualifier that a join makes necessary, or nothing."""
    where = f" WHERE {found.condition}" if found.condition else ""
    statement = f"SELECT {what} FROM {table.name}{found.join}{where}{tail}"
    return statement.replace("{t}", f"{table.name}." if found.join else "")


def _list(table: Table, rng: Random) -> tuple[str, str]:
    found = any_filter(table, rng)
    frames = (
        "List all {n}.",
        "Which {n} are there?",
        "Show the {l} of {n}.",
        "Give me the {l} of all {n}.",
        "Find {n}.",
    )
    text = rng.choice(frames).format(n=_noun(table, found), l=table.label)
    return text, _statement(table, "{t}" + table.label, found)


def _pair(table: Table, rng: Random) -> tuple[str, str]:
    found, asked = any_filter(table, rng), rng.choice(table.categories + table.measures)
    frames = ("Show the {l} and {m} of {n}.", "List {l} and {m} for {n}.", "What are the {l} and {m} of {n}?")
    text = rng.choice(frames).format(n=_noun(table, found), l=table.label, m=asked.noun)
    return text, _statement(table, f"{{t}}{table.label}, {{t}}{asked.column}", found)


def _count(table: Table, rng: Random) -> tuple[str, str]:
    found = any_filter(table, rng)
    frames = (
        "How many {n} are there?",
        "Count the {n}.",
        "What is the number of {n}?",
        "Tell me how many {n} we have.",
    )
    return rng.choice(frames).format(n=_noun(table, found)), _statement(table, "COUNT(*)", found)


def _aggregate(table: Table, rng: Random) -> tuple[str, str]:
    measure, function = rng.choice(table.measures), rng.choice(tuple(_AGGREGATES))
    found = any_filter(table, rng) if rng.random() < 0.8 else _EVERYTHING
    frames = ("What is the {a} {m} of {n}?", "Find the {a} {m} of all {n}.", "Give the {a} {m} for {n}.")
    text = rng.choice(frames).format(a=rng.choice(_AGGREGATES[function]), m=measure.noun, n=_noun(table, found))
    return text, _statement(table, f"{function}({{t}}{measure.column})", found)


def _top(table: Table, rng: Random) -> tuple[str, str]:
    measure, number = rng.choice(table.measures), rng.randint(1, 9)
    word, order = rng.choice((("highest", "DESC"), ("largest", "DESC"), ("lowest", "ASC"), ("smallest", "ASC")))
    found = any_filter(table, rng) if rng.random() < 0.5 else _EVERYTHING
    frames = ("Which {k} {n} have the {w} {m}?", "List the {k} {n} with the {w} {m}.", "Top {k} {n} by {w} {m}?")
    text = rng.choice(frames).format(k=number, n=_noun(table, found), w=word, m=measure.noun)
    return text, _statement(
        table, "{t}" + table.label, found, f" ORDER BY {{t}}{measure.column} {order} LIMIT {number}"
    )


def _sort(table: Table, rng: Random) -> tuple[str, str]:
    measure, found = rng.choice(table.measures), any_filter(table, rng)
    word, order = rng.choice((("lowest", "ASC"), ("highest", "DESC")))
    frames = ("List {n} by {m}, {w} first.", "Sort the {n} by {m} with the {w} first.")
    text = rng.choice(frames).format(n=_noun(table, found), m=measure.noun, w=word)
    return text, _statement(table, "{t}" + table.label, found, f" ORDER BY {{t}}{measure.column} {order}")


def _group(table: Table, rng: Random) -> tuple[str, str]:
    category = rng.choice(table.categories)
    found = by_measure(rng.choice(table.measures), rng) if table.measures and rng.random() < 0.7 else _EVERYTHING
    if table.measures and rng.random() < 0.5:
        measure, function = rng.choice(table.measures), rng.choice(tuple(_AGGREGATES))
        what = f"{function}({measure.column})"
        text = f"{rng.choice(_AGGREGATES[function])} {measure.noun} of {_noun(table, found)}"
        frame = rng.choice(("What is the {t} per {c}?", "Show the {t} for each {c}."))
    else:
        what, text = "COUNT(*)", _noun(table, found)
        frame = rng.choice(("How many {t} are there per {c}?", "Count the {t} for each {c}."))
    tail = f" GROUP BY {category.column}"
    return frame.format(t=text, c=category.noun), _statement(table, f"{category.column}, {what}", found, tail)


def _having(table: Table, rng: Random) -> tuple[str, str]:
    category, number = rng.choice(table.categories), rng.randint(1, 9)
    word, sign = rng.choice((("more", ">"), ("fewer", "<")))
    frames = ("Which {c} has {w} than {k} {n}?", "Find each {c} that has {w} than {k} {n}.")
    tail = f" GROUP BY {category.column} HAVING COUNT(*) {sign} {number}"
    text = rng.choice(frames).format(c=category.noun, w=word, k=number, n=table.noun)
    return text, _statement(table, category.column, _EVERYTHING, tail)


def _distinct(table: Table, rng: Random) -> tuple[str, str]:
    category, found = rng.choice(table.categories), own_filter(table, rng)
    frames = ("Which different {c} values do the {n} have?", "List every distinct {c} of {n}.")
    text = rng.choice(frames).format(c=category.noun, n=_noun(table, found))
    return text, _statement(table, f"DISTINCT {category.column}", found)


def _lookup(table: Table, rng: Random) -> tuple[str, str]:
    label = rng.choice(table.labels)
    if label[0].isupper() and rng.random() < 0.5:
        label = proper(rng, 1, 1)
    asked: Category | Measure = rng.choice(table.categories + table.measures)
    frames = ("What is the {m} of {v}?", "Find the {m} of {v}.", "Tell me the {m} of {v}.", "Which {m} does {v} have?")
    found = Filter("", f"{table.label} = '{label}'")
    return rng.choice(frames).format(m=asked.noun, v=label), _statement(table, asked.column, found)


_Intent = Callable[[Table, Random], tuple[str, str]]


def _intents(table: Table) -> tuple[_Intent, ...]:
    intents: list[_Intent] = [_list, _list, _count, _count]
    if table.measures:
        intents += [_pair, _aggregate, _aggregate, _top, _top, _sort]
    if table.categories:
        intents += [_group, _having, _distinct, _lookup]
    return tuple(intents)


# Tables with numbers carry most of the variety, so they are asked about more often.
_WEIGHTS = tuple(1 + 2 * len(table.measures) for table in TABLES)


def ask(rng: Random) -> Question:
    """Draw a question and its gold statement."""
    table = rng.choices(TABLES, _WEIGHTS)[0]
    text, sql = rng.choice(_intents(table))(table, rng)
    return Question(table.database, text, sql)
