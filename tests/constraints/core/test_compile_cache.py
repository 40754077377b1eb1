"""Compiled constraints are kept from call to call, and only where their meaning cannot have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest

import decodekit as dk
from decodekit.constraints.core.compile_cache import KEPT, compiled
from decodekit.constraints.core.vocabulary import Vocabulary

BYTES = tuple(bytes([byte]) for byte in range(256))


class Pet(pydantic.BaseModel):
    """Read as a schema."""

    name: str


@pytest.mark.parametrize(
    "make",
    [
        lambda: dk.json_schema({"type": "object", "properties": {"a": {"type": "integer"}}}),
        lambda: dk.json_schema(Pet),
        lambda: dk.regex("[a-z]+"),
        lambda: dk.choice(["a", "b"]),
        lambda: dk.sql("CREATE TABLE t (a TEXT);"),
        lambda: dk.all_of((dk.regex("[a-z]+"), dk.regex("a.*"))),
    ],
)
def test_an_equal_constraint_is_not_compiled_again(make: Any) -> None:
    vocabulary = Vocabulary(BYTES)
    first = compiled(make(), vocabulary)
    assert compiled(make(), vocabulary) is first
    assert compiled(make(), Vocabulary(BYTES)) is not first


def test_what_means_something_else_is_compiled(tmp_path: Path) -> None:
    vocabulary = Vocabulary(BYTES)
    kinds: list[Any] = [
        dk.json_schema({"const": 1}),
        dk.json_schema({"const": True}),
        dk.json_schema({"const": "1"}),
        dk.json_schema({"const": 1}, order="any"),
        dk.json_schema({"enum": [1, 2]}),
        dk.regex("1"),
        dk.regex("1", engine="automaton"),
        dk.choice(["1"]),
        dk.json_schema({"properties": {"a": {}, "b": {}}}),
        dk.json_schema({"properties": {"b": {}, "a": {}}}),
    ]
    assert len({id(compiled(kind, vocabulary)) for kind in kinds}) == len(kinds)
    file = tmp_path / "schema.json"
    file.write_text('{"type": "integer"}')
    before = compiled(dk.json_schema(str(file)), vocabulary)
    file.write_text('{"type": "boolean"}')
    assert compiled(dk.json_schema(str(file)), vocabulary) is not before
    schema: dict[str, Any] = {"type": "integer"}
    rule = dk.json_schema(schema)
    compiled(rule, vocabulary)
    schema["type"] = "boolean"
    assert compiled(rule, vocabulary).start().allows(ord("t"))


def test_code_of_the_users_is_asked_anew_and_the_memory_is_bounded() -> None:
    vocabulary = Vocabulary(BYTES)
    rule = dk.predicate(str.isascii)
    assert compiled(rule, vocabulary) is not compiled(rule, vocabulary)
    both = dk.all_of((dk.regex("a*"), rule))
    assert compiled(both, vocabulary) is not compiled(both, vocabulary)
    first = compiled(dk.regex("a{1}"), vocabulary)
    for n in range(2, KEPT + 2):
        compiled(dk.regex(f"a{{{n}}}"), vocabulary)
    assert len(vocabulary.engines["compiled"]) == KEPT
    assert compiled(dk.regex("a{1}"), vocabulary) is not first


def test_a_second_run_gives_the_same_text() -> None:
    rule = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    runs = [dk.generate("zoo:base", "JSON:\n", constraint=dk.json_schema(rule), seed=4, max_tokens=40) for _ in "ab"]
    assert runs[0].tokens == runs[1].tokens
