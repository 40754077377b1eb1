"""The SQL task: an English question over one of the databases and the SELECT statement that answers it."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .words import proper
from .worlds import LABELS, TABLES, Category, Measure, Parent, Table


@dataclass(frozen=True)
class Question:
    """An English question, the database that it is about and the gold statement (one SELECT, no semicolon)."""

    database: str
    text: str
    sql: str


@dataclass(frozen=True)
class _Filter:
    """English that follows the plural noun, the SQL condition, and the join that the condition needs (or nothing)."""

    text: str
    condition: str
    join: str = ""


def _quote(value: str) -> str:
    return f"'{value}'"


def _by_category(category: Category, rng: Random, prefix: str = "") -> _Filter:
    value = rng.choice(category.values)
    return _Filter(rng.choice(category.phrases).format(v=value), f"{prefix}{category.column} = {_quote(value)}")


def _by_measure(measure: Measure, rng: Random, prefix: str = "") -> _Filter:
    value = rng.randint(measure.low, measure.high)
    if rng.random() < 0.5:
        return _Filter(rng.choice(measure.more).format(v=value), f"{prefix}{measure.column} > {value}")
    return _Filter(rng.choice(measure.less).format(v=value), f"{prefix}{measure.column} < {value}")


def _by_parent(table: Table, parent: Parent, rng: Random) -> _Filter:
    join = f" JOIN {parent.table} ON {table.name}.{parent.key} = {parent.table}.id"
    if rng.random() < 0.6:
        found = _by_category(parent.category, rng, f"{parent.table}.")
        return _Filter(found.text, found.condition, join)
    label = rng.choice(LABELS[parent.table])
    # An invented name now and then: the model must copy what the question says, not recall what the table holds.
    if label[0].isupper() and rng.random() < 0.4:
        label = proper(rng, 1, 1)
    text = rng.choice(parent.label_phrases).format(v=label)
    return _Filter(text, f"{parent.table}.name = {_quote(label)}", join)


def _filter(table: Table, rng: Random) -> _Filter:
    """One filter, two filters on the table itself, or one on its parent."""
    shape = rng.random()
    if table.parents and (shape < 0.3 or (not table.categories and shape < 0.6)):
        return _by_parent(table, rng.choice(table.parents), rng)
    if table.categories and table.measures and shape < 0.55:
        first, second = _by_category(rng.choice(table.categories), rng), _by_measure(rng.choice(table.measures), rng)
        return _Filter(f"{first.text} and {second.text}", f"{first.condition} AND {second.condition}")
    if table.measures and (shape < 0.8 or not table.categories):
        return _by_measure(rng.choice(table.measures), rng)
    return _by_category(rng.choice(table.categories), rng)


def _select(table: Table, what: str, column: str, found: _Filter | None) -> str:
    """``SELECT what FROM table ...``; ``{c}`` in ``what`` is the column, qualified where a join makes it ambiguous."""
    qualified = f"{table.name}.{column}" if found is not None and found.join else column
    statement = f"SELECT {what.format(c=qualified)} FROM {table.name}"
    return statement if found is None else f"{statement}{found.join} WHERE {found.condition}"


def _list(table: Table, rng: Random) -> tuple[str, str]:
    found = _filter(table, rng)
    frame = rng.choice(("List all {n} {f}.", "Which {n} are there {f}?", "Show the {l} of {n} {f}."))
    return frame.format(n=table.noun, f=found.text, l=table.label), _select(table, "{c}", table.label, found)


def _count(table: Table, rng: Random) -> tuple[str, str]:
    found = _filter(table, rng)
    frame = rng.choice(("How many {n} {f} are there?", "Count the {n} {f}.", "What is the number of {n} {f}?"))
    return frame.format(n=table.noun, f=found.text), _select(table, "COUNT(*)", "", found)


_AGGREGATES = {
    "AVG": ("average", "mean"),
    "MAX": ("highest", "maximum"),
    "MIN": ("lowest", "minimum"),
    "SUM": ("total", "summed"),
}


def _aggregate(table: Table, rng: Random) -> tuple[str, str]:
    measure, function = rng.choice(table.measures), rng.choice(tuple(_AGGREGATES))
    found = _filter(table, rng) if rng.random() < 0.8 else None
    frame = rng.choice(("What is the {a} {m} of {n}?", "Find the {a} {m} of all {n}.", "Give the {a} {m} for {n}."))
    noun = table.noun if found is None else f"{table.noun} {found.text}"
    text = frame.format(a=rng.choice(_AGGREGATES[function]), m=measure.noun, n=noun)
    return text, _select(table, function + "({c})", measure.column, found)


def _top(table: Table, rng: Random) -> tuple[str, str]:
    measure, number = rng.choice(table.measures), rng.randint(1, 9)
    word, order = rng.choice((("highest", "DESC"), ("lowest", "ASC")))
    found = _filter(table, rng) if rng.random() < 0.5 else None
    frame = rng.choice(
        ("Which {k} {n} have the {w} {m}?", "List the {k} {n} with the {w} {m}.", "Top {k} {n} by {w} {m}?")
    )
    noun = table.noun if found is None else f"{table.noun} {found.text}"
    column = f"{table.name}.{measure.column}" if found is not None and found.join else measure.column
    statement = f"{_select(table, '{c}', table.label, found)} ORDER BY {column} {order} LIMIT {number}"
    return frame.format(k=number, n=noun, w=word, m=measure.noun), statement


def _group(table: Table, rng: Random) -> tuple[str, str]:
    category = rng.choice(table.categories)
    found = _by_measure(rng.choice(table.measures), rng) if table.measures and rng.random() < 0.8 else None
    noun = table.noun if found is None else f"{table.noun} {found.text}"
    if table.measures and rng.random() < 0.5:
        measure, function = rng.choice(table.measures), rng.choice(tuple(_AGGREGATES))
        what, text = f"{function}({measure.column})", f"{rng.choice(_AGGREGATES[function])} {measure.noun} of {noun}"
        frame = rng.choice(("What is the {t} per {c}?", "Show the {t} for each {c}."))
    else:
        what, text = "COUNT(*)", noun
        frame = rng.choice(("How many {t} are there per {c}?", "Count the {t} for each {c}."))
    statement = f"{_select(table, category.column + ', ' + what, '', found)} GROUP BY {category.column}"
    return frame.format(t=text, c=category.noun), statement


def _lookup(table: Table, rng: Random) -> tuple[str, str]:
    label = rng.choice(table.labels)
    if label[0].isupper() and rng.random() < 0.5:
        label = proper(rng, 1, 1)
    asked: Category | Measure = rng.choice(table.categories + table.measures)
    frame = rng.choice(("What is the {m} of {v}?", "Find the {m} of {v}.", "Tell me the {m} of {v}."))
    found = _Filter("", f"{table.label} = {_quote(label)}")
    return frame.format(m=asked.noun, v=label), _select(table, asked.column, "", found)


def _intents(table: Table) -> tuple[Callable[[Table, Random], tuple[str, str]], ...]:
    intents: list[Callable[[Table, Random], tuple[str, str]]] = [_list, _count]
    if table.measures:
        intents += [_aggregate, _top]
    if table.categories:
        intents += [_group, _lookup]
    return tuple(intents)


# Tables with numbers carry most of the variety, so they are asked about more often.
_WEIGHTS = tuple(1 + 2 * len(table.measures) for table in TABLES)


def ask(rng: Random) -> Question:
    """Draw a question and its gold statement."""
    table = rng.choices(TABLES, _WEIGHTS)[0]
    text, sql = rng.choice(_intents(table))(table, rng)
    return Question(table.database, text, sql)
