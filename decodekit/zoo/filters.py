"""Filters of the SQL task: English that follows a plural noun, and the condition (with its join) that it means."""

from dataclasses import dataclass
from random import Random

from decodekit.zoo.words import proper
from decodekit.zoo.worlds import LABELS, Category, Measure, Parent, Table


@dataclass(frozen=True)
class Filter:
    """English, SQL condition and the join it needs; ``{t}`` marks where a join makes the table's name necessary."""

    text: str
    condition: str
    join: str = ""


def by_category(category: Category, rng: Random, qualifier: str = "{t}") -> Filter:
    """Equal to one value, to one of two, or not to one."""
    column = qualifier + category.column
    value, other = rng.sample(category.values, 2)
    shape = rng.random()
    if shape < 0.12:
        return Filter(f"whose {category.noun} is not {value}", f"{column} <> '{value}'")
    phrase = rng.choice(category.phrases)
    if shape < 0.24:
        return Filter(phrase.format(v=f"{value} or {other}"), f"{column} IN ('{value}', '{other}')")
    return Filter(phrase.format(v=value), f"{column} = '{value}'")


def by_measure(measure: Measure, rng: Random) -> Filter:
    """More, less, at least, at most, or between two bounds."""
    column, value = "{t}" + measure.column, rng.randint(measure.low, measure.high)
    shape = rng.random()
    if shape < 0.36:
        return Filter(rng.choice(measure.more).format(v=value), f"{column} > {value}")
    if shape < 0.72:
        return Filter(rng.choice(measure.less).format(v=value), f"{column} < {value}")
    if shape < 0.80:
        return Filter(f"whose {measure.noun} is at least {value}", f"{column} >= {value}")
    if shape < 0.88:
        return Filter(f"whose {measure.noun} is at most {value}", f"{column} <= {value}")
    upper = rng.randint(value, measure.high)
    return Filter(f"whose {measure.noun} is between {value} and {upper}", f"{column} BETWEEN {value} AND {upper}")


def by_average(table: Table, rng: Random) -> Filter:
    """Above or below the average of the whole table (a subquery)."""
    measure = rng.choice(table.measures)
    word, sign = rng.choice((("above", ">"), ("below", "<")))
    condition = f"{{t}}{measure.column} {sign} (SELECT AVG({measure.column}) FROM {table.name})"
    return Filter(f"whose {measure.noun} is {word} average", condition)


def by_parent(table: Table, parent: Parent, rng: Random) -> Filter:
    """A condition on the table that a foreign key points to."""
    join = f" JOIN {parent.table} ON {table.name}.{parent.key} = {parent.table}.id"
    if rng.random() < 0.6:
        value = rng.choice(parent.category.values)
        text = rng.choice(parent.category.phrases).format(v=value)
        return Filter(text, f"{parent.table}.{parent.category.column} = '{value}'", join)
    label = rng.choice(LABELS[parent.table])
    # An invented name now and then: the model must copy what the question says, not recall what the table holds.
    if label[0].isupper() and rng.random() < 0.4:
        label = proper(rng, 1, 1)
    text = rng.choice(parent.label_phrases).format(v=label)
    return Filter(text, f"{parent.table}.name = '{label}'", join)


def own_filter(table: Table, rng: Random) -> Filter:
    """A filter on the table's own columns: one condition, sometimes two."""
    shape = rng.random()
    if not table.measures:
        return by_category(rng.choice(table.categories), rng)
    if shape < 0.1:
        return by_average(table, rng)
    if not table.categories or shape < 0.5:
        return by_measure(rng.choice(table.measures), rng)
    first = by_category(rng.choice(table.categories), rng)
    if shape < 0.7:
        return first
    second = by_measure(rng.choice(table.measures), rng)
    return Filter(f"{first.text} and {second.text}", f"{first.condition} AND {second.condition}")


def any_filter(table: Table, rng: Random) -> Filter:
    """A filter on the table itself, on its parent, or on both."""
    shape = rng.random()
    if not table.parents or shape < 0.65:
        return own_filter(table, rng)
    parent = by_parent(table, rng.choice(table.parents), rng)
    if shape < 0.88:
        return parent
    own = by_measure(rng.choice(table.measures), rng)
    return Filter(f"{own.text} and {parent.text}", f"{own.condition} AND {parent.condition}", parent.join)
