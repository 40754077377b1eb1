"""Deterministic examples of the zoo's tasks, with train and held-out splits that cannot overlap.

The split of an example is a hash of its content, never of a position or a seed. JSON: a person's name, an order's
customer and an event's title decide, so no held-out name or title occurs in training under any wording. SQL: the
database and the gold statement decide, so no held-out statement occurs in training under any wording.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from random import Random
from typing import Literal

from decodekit.zoo.databases import DATABASES, Database
from decodekit.zoo.questions import ask
from decodekit.zoo.records import JSON_SCHEMAS, KINDS, SPLIT_FIELD, Record, write

Split = Literal["train", "heldout"]
_HELD_OUT_OF = 10


@dataclass(frozen=True)
class Example:
    """A prompt and its gold answer (text without the end token).

    ``task`` is ``json``, ``sql`` or ``text``; ``kind`` is the record type or the database name; ``key`` is what decides
    the split; ``record`` is the gold record of the JSON task (empty elsewhere).
    """

    task: str
    prompt: str
    answer: str
    kind: str
    key: str
    record: Record = field(default_factory=dict)


def split_of(key: str) -> Split:
    """The split that content ``key`` belongs to; one key in ten is held out."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return "heldout" if int.from_bytes(digest, "big") % _HELD_OUT_OF == 0 else "train"


def json_prompt(kind: str, sentence: str) -> str:
    """Prompt that asks for ``sentence`` as a record of type ``kind``."""
    return f"{sentence}\n{kind} as JSON:\n"


def sql_prompt(database: str, question: str) -> str:
    """Prompt that asks ``question`` over the named database."""
    return f"{question}\n{database} as SQL:\n"


def _json(rng: Random) -> Example:
    kind = rng.choice(KINDS)
    sentence, record = write(kind, rng)
    answer = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    key = f"{kind}:{record[SPLIT_FIELD[kind]]}"
    return Example("json", json_prompt(kind, sentence), answer, kind, key, record)


def _sql(rng: Random) -> Example:
    question = ask(rng)
    key = f"{question.database}:{question.sql}"
    return Example("sql", sql_prompt(question.database, question.text), question.sql, question.database, key)


def _text(rng: Random) -> Example:
    kind = rng.choice(KINDS)
    sentence, record = write(kind, rng)
    # Cut before a space: the tokenizer always starts a new piece there, so the seam is safe.
    spaces = [at for at, sign in enumerate(sentence) if sign == " "]
    cut = rng.choice(spaces[1:4])
    return Example("text", sentence[:cut], sentence[cut:], kind, f"{kind}:{record[SPLIT_FIELD[kind]]}")


_MAKERS = {"json": _json, "sql": _sql, "text": _text}


def stream(task: str, split: Split, seed: int) -> Iterator[Example]:
    """Endless examples of one task (``json``, ``sql`` or ``text``) of one split; a seed gives one stream."""
    rng = Random(f"{task}-{split}-{seed}")
    make = _MAKERS[task]
    while True:
        example = make(rng)
        if split_of(example.key) == split:
            yield example


def mixture(split: Split, seed: int, weights: dict[str, float]) -> Iterator[Example]:
    """Endless examples of several tasks, drawn with the given weights."""
    rng = Random(f"mixture-{split}-{seed}")
    streams = {task: stream(task, split, seed) for task in weights}
    tasks, shares = tuple(weights), tuple(weights.values())
    while True:
        yield next(streams[rng.choices(tasks, shares)[0]])


def json_examples(split: Split, n: int, seed: int) -> list[Example]:
    """``n`` examples of the JSON task: a sentence, and the record that it states as compact JSON."""
    return list(islice(stream("json", split, seed), n))


def sql_examples(split: Split, n: int, seed: int) -> list[Example]:
    """``n`` examples of the SQL task: a question over a database of :data:`DATABASES`, and one SELECT statement."""
    return list(islice(stream("sql", split, seed), n))


def text_examples(split: Split, n: int, seed: int) -> list[Example]:
    """``n`` sentences of the same worlds, cut into a beginning (the prompt) and the rest (the answer)."""
    return list(islice(stream("text", split, seed), n))


__all__ = [
    "DATABASES",
    "JSON_SCHEMAS",
    "Database",
    "Example",
    "Split",
    "json_examples",
    "json_prompt",
    "mixture",
    "split_of",
    "sql_examples",
    "sql_prompt",
    "stream",
    "text_examples",
]
