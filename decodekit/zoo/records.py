"""The JSON task: a sentence or two about a person, an order or an event, and the record that it states."""

from collections.abc import Callable, Mapping
from random import Random

from decodekit.zoo.sentences import EVENT, ORDER, PERSON, Clauses, compose
from decodekit.zoo.words import CITIES, EVENT_KINDS, ITEMS, email, full_name, listing, number_word, proper, spoken_date

Value = str | int | float | bool | list[str]
Record = dict[str, Value]


def _schema(kind: str, /, **properties: dict[str, object]) -> dict[str, object]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT: dict[str, object] = {"type": "string", "minLength": 1}
_FLAG: dict[str, object] = {"type": "boolean"}

#: One JSON Schema per record type; the order of ``properties`` is the order in which the models write the keys.
JSON_SCHEMAS: dict[str, dict[str, object]] = {
    "person": _schema(
        "person",
        name=_TEXT,
        age={"type": "integer", "minimum": 0, "maximum": 120},
        city=_TEXT,
        email={"type": "string", "pattern": "^[a-z0-9.]+@[a-z.]+$"},
        member=_FLAG,
    ),
    "order": _schema(
        "order",
        number={"type": "integer", "minimum": 1},
        customer=_TEXT,
        items={"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 3},
        total={"type": "number", "minimum": 0},
        paid=_FLAG,
    ),
    "event": _schema(
        "event",
        title=_TEXT,
        date={"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        city=_TEXT,
        seats={"type": "integer", "minimum": 0},
        free=_FLAG,
    ),
}

#: The field whose value decides the split of a record: held-out names and titles never occur in training.
SPLIT_FIELD = {"person": "name", "order": "customer", "event": "title"}


def _person(rng: Random) -> tuple[str, Record]:
    record: Record = {
        "name": full_name(rng),
        "age": rng.randint(16, 95),
        "city": rng.choice(CITIES),
        "email": email(rng),
        "member": rng.random() < 0.5,
    }
    age = number_word(int(str(record["age"]))) if rng.random() < 0.15 else str(record["age"])
    return _say(PERSON, rng, {**record, "age": age}, bool(record["member"])), record


def _order(rng: Random) -> tuple[str, Record]:
    items = rng.sample(ITEMS, rng.choice((1, 2, 2, 3)))
    # The last digit of the cents is never 0, so that the shortest JSON number reads exactly as in the sentence.
    total = float(f"{rng.randint(1, 399)}.{rng.randint(0, 9)}{rng.randint(1, 9)}")
    record: Record = {
        "number": rng.randint(100, 9999),
        "customer": full_name(rng),
        "items": items,
        "total": total,
        "paid": rng.random() < 0.5,
    }
    article = rng.choice(("a ", "one ", "the ", ""))
    words = {**record, "items": listing([article + item for item in items])}
    return _say(ORDER, rng, words, bool(record["paid"])), record


def _event(rng: Random) -> tuple[str, Record]:
    year, month, day = rng.randint(2024, 2029), rng.randint(1, 12), rng.randint(1, 28)
    record: Record = {
        "title": f"{proper(rng)} {rng.choice(EVENT_KINDS)}",
        "date": f"{year}-{month:02d}-{day:02d}",
        "city": rng.choice(CITIES),
        "seats": rng.choice((rng.randint(20, 99), rng.randint(100, 900))),
        "free": rng.random() < 0.5,
    }
    return _say(EVENT, rng, {**record, "date": spoken_date(rng, year, month, day)}, bool(record["free"])), record


def _say(clauses: Clauses, rng: Random, words: Mapping[str, object], flag: bool) -> str:
    """A sentence, with values that belong to nothing in the record for the clauses that only distract."""
    others = {"other": full_name(rng), "elsewhere": rng.choice(CITIES), "count": rng.randint(2, 60)}
    return compose(clauses, rng, flag).format(**words, **others)


_WRITERS: dict[str, Callable[[Random], tuple[str, Record]]] = {"person": _person, "order": _order, "event": _event}
KINDS = tuple(_WRITERS)


def write(kind: str, rng: Random) -> tuple[str, Record]:
    """Draw a record of type ``kind`` and a sentence or two that state all of its fields."""
    return _WRITERS[kind](rng)
