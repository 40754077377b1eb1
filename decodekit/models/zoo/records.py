"""The JSON task: one English sentence about a person, an order or an event, and the record that it states."""

from collections.abc import Callable
from random import Random

from .words import CITIES, EVENT_KINDS, ITEMS, MONTHS, email, full_name, listing, proper

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

_PERSON = (
    "{name} is {age} years old, lives in {city} and {member}. Mail: {email}",
    "{name} ({age}) from {city} {member}; write to {email}.",
    "At {age}, {name} of {city} {member}. The address is {email}.",
    "Write to {email} to reach {name}, {age}, who lives in {city} and {member}.",
    "Our contact in {city} is {name}, aged {age}, who {member} ({email}).",
    "From {city}: {name}, {age} years old, {member}. Reach them at {email}.",
    "{name} {member}. Age {age}, home {city}, email {email}.",
    "The account {email} belongs to {name} from {city}, who is {age} and {member}.",
)
_MEMBER = {
    True: ("is a member", "has joined the club", "holds a membership"),
    False: ("is not a member", "has not joined the club", "holds no membership"),
}
_ORDER = (
    "Order {number}: {customer} bought {items} for {total} euros and {paid}.",
    "{customer} {paid}: {items}, {total} euros in total, order number {number}.",
    "In order {number}, {customer} asked for {items}. The total is {total} euros; the customer {paid}.",
    "{customer} placed order {number} worth {total} euros ({items}) and {paid}.",
    "For {total} euros {customer} gets {items}; see order {number}. The buyer {paid}.",
    "We shipped {items} to {customer}, who {paid}. Order {number} comes to {total} euros.",
    "The bill over {total} euros for {items} goes to {customer}, who {paid}. Order {number}.",
)
_PAID = {
    True: ("has paid", "already paid", "paid in full"),
    False: ("has not paid", "still has to pay", "will pay later"),
}
_EVENT = (
    "The {title} takes place in {city} on {date}; there are {seats} seats and {free}.",
    "On {date}, {city} hosts the {title} with {seats} seats; {free}.",
    "Join us in {city} for the {title} on {date}: {free}, {seats} seats.",
    "With {seats} seats, the {title} comes to {city} on {date} and {free}.",
    "{city} welcomes up to {seats} guests to the {title} on {date}, where {free}.",
    "Save the date: {date}, {title}, {city}. There are {seats} seats and {free}.",
    "There are {seats} places at the {title} ({city}, {date}) and {free}.",
)
_FREE = {
    True: ("entry is free", "it costs nothing", "no ticket is needed"),
    False: ("tickets are sold at the door", "a ticket is needed", "entry is not free"),
}


def _person(rng: Random) -> tuple[str, Record]:
    record: Record = {
        "name": full_name(rng),
        "age": rng.randint(16, 95),
        "city": rng.choice(CITIES),
        "email": email(rng),
        "member": rng.random() < 0.5,
    }
    return rng.choice(_PERSON).format(**{**record, "member": rng.choice(_MEMBER[bool(record["member"])])}), record


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
    words = {
        **record,
        "items": listing(["a " + item for item in items]),
        "paid": rng.choice(_PAID[bool(record["paid"])]),
    }
    return rng.choice(_ORDER).format(**words), record


def _event(rng: Random) -> tuple[str, Record]:
    year, month, day = rng.randint(2024, 2029), rng.randint(1, 12), rng.randint(1, 28)
    iso = f"{year}-{month:02d}-{day:02d}"
    spoken = rng.choice((iso, f"{day} {MONTHS[month - 1]} {year}", f"{MONTHS[month - 1]} {day}, {year}"))
    record: Record = {
        "title": f"{proper(rng)} {rng.choice(EVENT_KINDS)}",
        "date": iso,
        "city": rng.choice(CITIES),
        "seats": rng.choice((rng.randint(20, 99), rng.randint(100, 900))),
        "free": rng.random() < 0.5,
    }
    words = {**record, "date": spoken, "free": rng.choice(_FREE[bool(record["free"])])}
    return rng.choice(_EVENT).format(**words), record


_WRITERS: dict[str, Callable[[Random], tuple[str, Record]]] = {"person": _person, "order": _order, "event": _event}
KINDS = tuple(_WRITERS)


def write(kind: str, rng: Random) -> tuple[str, Record]:
    """Draw a record of type ``kind`` and one sentence that states all of its fields."""
    return _WRITERS[kind](rng)
