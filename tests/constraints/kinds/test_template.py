"""Templates: exactly the fillings, whatever tokens run across the borders."""

from __future__ import annotations

import itertools
import json
from types import ModuleType
from typing import Any

import pytest

import decodekit as dk
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.errors import ConstraintError

SMALL = Vocabulary((b"a", b"b", b"1", b"ab", b"b1", b"a1", b"1a", b'"', b'"1', b'a"'))
KINDS: dict[str, Any] = {
    "pattern": dk.template("a{x}b{y}", {"x": dk.regex("[ab]{0,2}"), "y": dk.choice(["1", "b", ""])}),
    "json": dk.template("a{x}1{y}", {"x": dk.json_schema({"type": "integer"}), "y": dk.regex("a?")}),
    "text": dk.template("{x}1", {"x": dk.json_schema({"type": "string", "maxLength": 2})}),
}


def spelled(kind: Any, text: str) -> bool:
    open_ = [(kind.compile(SMALL).start(), text.encode())]
    while open_:
        cursor, rest = open_.pop()
        if not rest and cursor.is_complete():
            return True
        for token, piece in enumerate(SMALL.tokens):
            if rest.startswith(piece) and cursor.allows(token):
                after = cursor.fork()
                after.advance(token)
                open_.append((after, rest[len(piece) :]))
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_fillings(kind: str) -> None:
    found = 0
    for text in map("".join, (some for n in range(6) for some in itertools.product('ab1"', repeat=n))):
        if len(text) == 5 and text.count('"') not in (0, 2):
            continue
        want = KINDS[kind].judge(text)
        assert spelled(KINDS[kind], text) == want, text
        found += want
    assert found > 3


def test_a_number_before_a_digit_is_no_dead_end(tools: ModuleType) -> None:
    """An engine that reads terminals greedily takes the 3 for the number's and is lost."""
    kind = dk.template("age {age}3!", {"age": dk.json_schema(int)})
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    cursor = kind.compile(vocabulary).start()
    for byte in b"age 123":
        cursor.advance(vocabulary.by_bytes[bytes([byte])][0])
    assert cursor.allows(vocabulary.by_bytes[b"!"][0])
    assert kind.value("age 123!") == {"age": 12}


@pytest.mark.parametrize("strategy", ["greedy", "forced | sample", "awrs"])
def test_end_to_end(strategy: str) -> None:
    kind = dk.template("Name: {name}, {{{age}}}", {"name": dk.regex("[A-Z][a-z]{1,9}"), "age": dk.json_schema(int)})
    out = dk.generate("zoo:base", "Ada Park is 36.\n", strategy=strategy, constraint=kind, max_tokens=30, in_time=True)
    assert out.finish == "eos"
    assert set(out.value) == {"name", "age"}
    assert json.loads(out.text.split("{")[1][:-1]) == out.value["age"]


def test_what_does_not_fit_together_is_refused() -> None:
    for text, holes, said in (
        ("a {x", {"x": "b"}, "a single '{' at character 2"),
        ("a {x}", {}, "the hole {x} has no constraint"),
        ("a", {"x": dk.regex("b")}, "no hole {x}"),
        ("{x}", {"x": "b"}, "may be a pattern"),
    ):
        with pytest.raises(ConstraintError, match=said.replace("{", r"\{").replace("}", r"\}")):
            dk.template(text, holes)
