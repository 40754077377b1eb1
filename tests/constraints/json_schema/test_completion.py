"""The end of an open JSON text: found where numbers have thousands of ways to go on, and short where there are few."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

import decodekit as dk
from decodekit.constraints.automata.byte_machine import States
from decodekit.constraints.core.cursor import Cursor
from decodekit.constraints.core.steering import closing
from decodekit.constraints.core.vocabulary import Vocabulary

BYTES = Vocabulary(tuple(bytes([byte]) for byte in range(256)))
UNIQUE = {"type": "array", "items": {"type": "number"}, "maxItems": 3, "uniqueItems": True}
NESTED = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": UNIQUE, "maxItems": 2}},
    "additionalProperties": False,
}


def at(schema: Any, text: bytes) -> Cursor:
    """The cursor after a text."""
    cursor: Cursor = dk.json_schema(schema, lenient=True).compile(BYTES).start()
    for byte in text:
        cursor.advance(byte)
    return cursor


@pytest.mark.parametrize(
    ("schema", "text", "want"),
    [
        (NESTED, b'{"a":[[4', b"]]}"),
        (NESTED, b'{"a":[[4662883851015480834104156567500179112', b"]]}"),
        (NESTED, b'{"a":[[4,4.0', None),
        (UNIQUE, b"[4,5", b"]"),
        ({"type": "array", "items": {"type": "string", "minLength": 2}, "uniqueItems": True}, b'["ab","ab', None),
        ({"not": {"type": "string"}, "uniqueItems": True}, b"[[],[1],{", b"}]"),
    ],
)
def test_an_open_text_is_closed(schema: Any, text: bytes, want: bytes | None) -> None:
    rest = closing(at(schema, text))
    assert rest is not None
    assert want is None or rest == want
    assert jsonschema.Draft202012Validator(schema).is_valid(json.loads(text + rest))


@pytest.mark.parametrize("items", [{"const": {"a": [1]}}, {"enum": [{"a": 1}, {"a": 1.0}]}])
def test_no_item_is_begun_that_could_only_repeat_one(items: Any) -> None:
    cursor = at(
        {"type": "array", "items": items, "uniqueItems": True}, b'[{"a":' + (b"[1]}" if "const" in items else b"1}")
    )
    assert not cursor.allows(ord(","))
    assert cursor.allows(ord("]"))


def test_const_is_no_keyword_of_draft_4() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "array",
        "items": {"const": 1},
        "uniqueItems": True,
    }
    assert at(schema, b"[1,2").is_complete() is False
    assert closing(at(schema, b"[1,2")) == b"]"


def test_the_end_of_a_place_is_searched_once() -> None:
    """A search that meets its bound is long, and a steered text asks for it at every check."""
    asked = list[bytes]()

    class Endless:
        """Text without an end that a search would find."""

        def first(self) -> bytes:
            return b""

        def step(self, state: bytes, byte: int) -> bytes | None:
            return state + bytes([byte])

        def final(self, state: bytes) -> bool:
            return False

        def said(self, state: bytes) -> str:
            return ""

        def ending(self, state: bytes) -> bytes | None:
            asked.append(state)
            return None

    compiled = States(Endless(), BYTES)
    cursor = compiled.start()
    for _ in range(3):
        assert cursor.closing() is None
        assert cursor.fork().closing() is None
    assert asked == [b""]
