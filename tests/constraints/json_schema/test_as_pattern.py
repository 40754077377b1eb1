"""Schemas as automata for canvases: every text drawn is valid, bounds are exact, the rest is refused by its pointer."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import decodekit as dk
from decodekit.constraints.canvas.unrolled import automaton_of
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.constraints.json_schema.as_pattern import flat_schema
from decodekit.constraints.json_schema.number_ranges import integers, numbers
from decodekit.core.bound import BindContext
from decodekit.diffusion.marginals import Cells, Lattice, Sums
from decodekit.errors import ConstraintError
from decodekit.testing.tables import TableModel

TEXTS = [
    b"",
    b"\n",
    *(bytes([byte]) for byte in range(32, 127)),
    b'"a"',
    b'":',
    b",",
    b"true",
    b"null",
    b'"}',
    b"12",
    b"",
]
MODEL = TableModel(vocab=5, masked=True, eos=(0,), tokenizer=Vocabulary(tuple(TEXTS)))
MODEL.vocab = len(TEXTS)

BOUNDS = st.fixed_dictionaries({}, optional={"minimum": st.integers(0, 30), "maximum": st.integers(25, 400)})
LEAF = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "integer"}, {"type": ["integer", "null"]}]),
    BOUNDS.map(lambda bounds: {"type": "integer", **bounds}),
    st.fixed_dictionaries({"minimum": st.integers(0, 9)}).map(lambda bounds: {"type": "number", **bounds}),
    st.integers(0, 3).map(lambda low: {"type": "string", "minLength": low, "maxLength": low + 3}),
    st.sampled_from([{"type": "string", "pattern": "^[a-c]{1,3}x?$"}, {"enum": ["a", 1, None, True]}, {"const": [1]}]),
)


def objects(inner: Any) -> Any:
    def made(parts: tuple[list[Any], list[bool], bool]) -> dict[str, Any]:
        properties = dict(zip("abc", parts[0], strict=False))
        required = [name for name, must in zip(properties, parts[1], strict=False) if must]
        closed = {"additionalProperties": False} if parts[2] else {}
        return {"type": "object", "properties": properties, "required": required, **closed}

    lists = st.lists(inner, min_size=1, max_size=3)
    return st.tuples(lists, st.lists(st.booleans(), min_size=3, max_size=3), st.booleans()).map(made)


SCHEMA = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        objects(inner),
        st.tuples(inner, st.integers(0, 2), st.integers(2, 3)).map(
            lambda part: {"type": "array", "items": part[0], "minItems": part[1], "maxItems": part[2]}
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: {"anyOf": parts}),
    ),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMA, whitespace=st.sampled_from(["flexible", "compact", "single", 2]))
def test_every_drawn_text_is_valid(schema: dict[str, Any], whitespace: Any) -> None:
    rule = dk.json_schema(schema, whitespace=whitespace, lenient=True)
    made = automaton_of((rule,), BindContext(MODEL, lambda thing: MODEL, eos=(0,)))
    assert isinstance(made, Lattice)
    size, rows = made.least + 6, 6
    law = torch.full((rows, size, len(TEXTS)), 1.0 / len(TEXTS), dtype=torch.float64)
    for ids in Sums(made, Cells.blank(rows, size), law).draw().tolist():
        text = b"".join(TEXTS[token] for token in ids).decode()
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))


@settings(max_examples=150, deadline=None)
@given(low=st.integers(-130, 1300), span=st.integers(0, 900), strict=st.tuples(st.booleans(), st.booleans()))
def test_bounds_of_numbers_are_exact(low: int, span: int, strict: tuple[bool, bool]) -> None:
    high = low + span
    bounds = {"exclusiveMinimum" if strict[0] else "minimum": low, "exclusiveMaximum" if strict[1] else "maximum": high}
    judge: Any = jsonschema.Draft202012Validator(bounds)
    whole, decimal = integers(bounds), numbers(bounds)
    for value in {low - 1, low, low + 1, (low + high) // 2, high - 1, high, high + 1, 0, -1, 7, 10, 99, 100}:
        assert bool(whole and re.fullmatch(whole, str(value))) == judge.is_valid(value)
        for text in (f"{value}", f"{value}.0", f"{value}.5", f"{value}.25"):
            good = judge.is_valid(json.loads(text))
            held = bool(decimal and re.fullmatch(decimal, text))
            assert held == (good and low >= 0 and (not strict[0] or value >= low)), (text, bounds, decimal)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (True, "# says nothing"),
        ({}, "# names no type"),
        ({"type": "object"}, "names no properties"),
        ({"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 3}}}, "#/properties/a/multipleOf"),
        ({"type": "array", "items": {"not": {"type": "null"}}}, "#/items names no type"),
        ({"type": "array"}, "#/items says nothing"),
        ({"type": "string", "format": "date"}, "#/format"),
        ({"type": "string", "pattern": "a"}, "#/pattern is not anchored"),
        ({"type": "string", "pattern": "^a|b$"}, "has alternatives"),
        (
            {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": True},
            "additionalProperties",
        ),
        ({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]}, "asks for 'b'"),
        ({"enum": ["a"], "type": "integer"}, "allows no value"),
        ({"$ref": "#/$defs/x"}, "leads nowhere"),
        ({"$ref": "other.json"}, "out of the schema"),
        ({"anyOf": [{"type": "null"}], "minLength": 3}, "joins anyOf with minLength"),
        ({"type": "number", "minimum": -3}, "bounds a number"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(schema: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=re.escape(said)):
        flat_schema(schema, "compact")


def test_references_are_followed_some_times() -> None:
    tree = {"type": "object", "properties": {"n": {"type": "null"}, "next": {"$ref": "#"}}, "required": ["n"]}
    made = automaton_of((dk.json_schema(tree),), BindContext(MODEL, lambda thing: MODEL, eos=(0,)))
    assert isinstance(made, Lattice)
    with pytest.raises(ConstraintError, match="leads into itself"):
        flat_schema({**tree, "required": ["next"]}, "compact")
