"""How the sentences of the JSON task are put together: clauses in any order, some of them there to distract."""

from dataclasses import dataclass
from random import Random

from decodekit.zoo.words import listing


@dataclass(frozen=True)
class Clauses:
    """Ways to say a record. ``subject`` is the field that the verb phrases speak about; ``whole`` are ready sentences.

    ``verbs`` holds, per field, phrases that follow the subject; ``yes`` and ``no`` are the phrases of the boolean field
    ``flag``; ``asides`` belong to no field; ``pronouns`` stand for the subject later on.
    """

    subject: str
    flag: str
    verbs: tuple[tuple[str, ...], ...]
    yes: tuple[str, ...]
    no: tuple[str, ...]
    asides: tuple[str, ...]
    pronouns: tuple[str, ...]
    whole: tuple[str, ...]


PERSON = Clauses(
    subject="{name}",
    flag="member",
    verbs=(
        ("is {age} years old", "is {age}", "turned {age} this year", "gives {age} as the age", "is aged {age}"),
        ("lives in {city}", "comes from {city}", "is based in {city}", "has a flat in {city}", "calls {city} home"),
        (
            "uses {email}",
            "can be reached at {email}",
            "has the address {email}",
            "reads mail at {email}",
            "writes from {email}",
        ),
    ),
    yes=(
        "is a member",
        "has joined the club",
        "holds a membership",
        "renewed the membership",
        "signed up with us",
        "belongs to the club",
    ),
    no=(
        "is not a member",
        "has not joined the club",
        "holds no membership",
        "let the membership lapse",
        "is no longer a member",
        "never signed up",
    ),
    asides=(
        "knows {other}",
        "has {count} books",
        "works with {other}",
        "used to live in {elsewhere}",
        "was invited by {other}",
        "likes {elsewhere}",
        "owns {count} plants",
        "never saw {elsewhere}",
    ),
    pronouns=("He", "She", "This person", "The same person"),
    whole=(
        "{name} ({age}) from {city} {flag}; write to {email}.",
        "At {age}, {name} of {city} {flag}. The address is {email}.",
        "Write to {email} to reach {name}, {age}, who lives in {city} and {flag}.",
        "Our contact in {city} is {name}, aged {age}, who {flag} ({email}).",
        "From {city}: {name}, {age} years old, {flag}. Reach them at {email}.",
        "{name} {flag}. Age {age}, home {city}, email {email}.",
        "The account {email} belongs to {name} from {city}, who is {age} and {flag}.",
        "Name {name}, mail {email}, city {city}, age {age}; {flag}.",
    ),
)
ORDER = Clauses(
    subject="{customer}",
    flag="paid",
    verbs=(
        ("ordered {items}", "bought {items}", "asked for {items}", "chose {items}", "wants {items}"),
        (
            "owes {total} euros in total",
            "has a bill of {total} euros",
            "was charged {total} euros",
            "got an invoice over {total} euros",
        ),
        (
            "placed order {number}",
            "has order number {number}",
            "is the customer of order {number}",
            "filed this as order {number}",
        ),
    ),
    yes=("has paid", "already paid", "paid in full", "settled the bill", "sent the money", "has nothing left to pay"),
    no=(
        "has not paid",
        "still has to pay",
        "will pay later",
        "left the bill open",
        "forgot to pay",
        "did not send the money",
    ),
    asides=(
        "was served by {other}",
        "waited {count} days",
        "knows {other}",
        "saved {count} euros",
        "lives in {elsewhere}",
        "collected {count} points",
        "moved to {elsewhere}",
        "came with {other}",
    ),
    pronouns=("He", "She", "The customer", "The buyer"),
    whole=(
        "Order {number}: {customer} bought {items} for {total} euros and {flag}.",
        "{customer} {flag}: {items}, {total} euros in total, order number {number}.",
        "In order {number}, {customer} asked for {items}. The total is {total} euros; the customer {flag}.",
        "{customer} placed order {number} worth {total} euros ({items}) and {flag}.",
        "For {total} euros {customer} gets {items}; see order {number}. The buyer {flag}.",
        "We shipped {items} to {customer}, who {flag}. Order {number} comes to {total} euros.",
        "The bill over {total} euros for {items} goes to {customer}, who {flag}. Order {number}.",
        "Number {number}, customer {customer}, items {items}, total {total}; the customer {flag}.",
    ),
)
EVENT = Clauses(
    subject="The {title}",
    flag="free",
    verbs=(
        ("takes place on {date}", "is on {date}", "opens on {date}", "is planned for {date}", "starts on {date}"),
        ("comes to {city}", "is held in {city}", "happens in {city}", "visits {city}", "brings people to {city}"),
        (
            "has {seats} seats",
            "offers {seats} places",
            "has room for {seats} guests",
            "seats {seats} people",
            "welcomes up to {seats} visitors",
        ),
    ),
    yes=(
        "is free",
        "costs nothing",
        "needs no ticket",
        "asks for no fee",
        "charges no entry",
        "is open to all without a ticket",
    ),
    no=(
        "is not free",
        "needs a ticket",
        "charges an entry fee",
        "costs money",
        "sells tickets at the door",
        "is open only with a ticket",
    ),
    asides=(
        "was founded by {other}",
        "lasts {count} hours",
        "is run by {other}",
        "was in {elsewhere} before",
        "has {count} helpers",
        "goes on to {elsewhere}",
        "thanks {other}",
        "employs {count} people",
    ),
    pronouns=("It", "This event", "The event", "The occasion"),
    whole=(
        "The {title} takes place in {city} on {date}; there are {seats} seats and it {flag}.",
        "On {date}, {city} hosts the {title} with {seats} seats; it {flag}.",
        "Join us in {city} for the {title} on {date}: it {flag}, {seats} seats.",
        "With {seats} seats, the {title} comes to {city} on {date} and {flag}.",
        "{city} welcomes up to {seats} guests to the {title} on {date}, which {flag}.",
        "Save the date: {date}, {title}, {city}. There are {seats} seats and it {flag}.",
        "There are {seats} places at the {title} ({city}, {date}), which {flag}.",
        "Title {title}, city {city}, date {date}, seats {seats}; it {flag}.",
    ),
)


def compose(clauses: Clauses, rng: Random, flag: bool) -> str:
    """A template that names every field once: a ready sentence, or shuffled verb phrases in one or two sentences."""
    said = rng.choice(clauses.yes if flag else clauses.no)
    aside = rng.choice(clauses.asides)
    if rng.random() < 0.35:
        text = rng.choice(clauses.whole).replace("{flag}", said)
        return f"{text} {rng.choice(clauses.pronouns)} {aside}." if rng.random() < 0.2 else text
    phrases = [rng.choice(variants) for variants in clauses.verbs] + [said]
    if rng.random() < 0.4:
        phrases.append(aside)
    rng.shuffle(phrases)
    first = rng.randint(1, len(phrases))
    groups = [phrases[:first], phrases[first:]]
    subjects = [clauses.subject, rng.choice(clauses.pronouns)]
    # Listings use commas; a phrase with an item list in the middle is why not every comma ends a phrase.
    return " ".join(f"{s} {listing(g)}." for s, g in zip(subjects, groups, strict=True) if g)
