"""JSON Schema as a user has it: what the machine allows is what the validator accepts; bounds, remarks, refusals."""

from __future__ import annotations

import gzip
import json
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit as dk
from decodekit.constraints.core.vocabulary import vocabulary_of
from decodekit.constraints.json_schema.compile import compiled as machine_for
from decodekit.constraints.json_schema.constraint import Json, JsonSchema
from decodekit.constraints.json_schema.machine import JsonMachine
from decodekit.constraints.json_schema.satisfiability import Bounds
from decodekit.constraints.json_schema.string_patterns import searching
from decodekit.errors import ConstraintError, ConstraintWarning

pytestmark = pytest.mark.filterwarnings("ignore::decodekit.errors.ConstraintWarning")
HARD: list[Any] = [
    {"type": "array", "items": {"enum": [1, 2, "a"]}, "uniqueItems": True, "minItems": 2},
    {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}}, "additionalProperties": False,
     "if": {"properties": {"a": {"const": True}}, "required": ["a"]}, "then": {"required": ["b"]}},
    {"oneOf": [{"type": "boolean"}, {"enum": [True, "x"]}, {"const": "y"}]},
    {"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "null"}, "contains": {"type": "null"},
     "maxItems": 3},
    {"not": {"type": ["string", "array", "object", "number"]}},
    {"type": "object", "propertyNames": {"enum": ["k", "kk"]}, "additionalProperties": {"enum": [0, 1]},
     "minProperties": 1},
    {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "integer", "minimum": 12, "maximum": 14}},
     "dependentRequired": {"a": ["b"]}, "required": ["a"],
     "additionalProperties": False, "unevaluatedProperties": False},
    {"$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}, "maxItems": 2}}, "$ref": "#/$defs/t",
     "minItems": 1},
]  # fmt: skip


def accepts(machine: Any, text: str) -> bool:
    """Byte by byte."""
    state = machine.first()
    for byte in text.encode():
        state = machine.step(state, byte)
        if state is None:
            return False
    return bool(machine.final(state))


def machine_of(schema: Any, wide: bool = False, formats: bool = False, **bounds: Any) -> JsonMachine:
    return machine_for(schema, formats, False, "flexible" if wide else "compact", Bounds(**bounds))


@pytest.mark.slow
@pytest.mark.skipif("DECODEKIT_DATA" not in os.environ, reason="DECODEKIT_DATA is not set")
def test_real_schemas() -> None:
    folder = Path(os.environ["DECODEKIT_DATA"]) / "jsonschemabench"
    for name in ("Handwritten", "BFCL", "MCPspec"):
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in list(lines)[:40]:
                row = json.loads(line)
                machine = machine_of(row["schema"])
                good = jsonschema.validators.validator_for(row["schema"], jsonschema.Draft202012Validator)(
                    row["schema"]
                )
                for test in row["tests"]:
                    text = json.dumps(test["data"], separators=(",", ":"), ensure_ascii=False)
                    assert accepts(machine, text) == good.is_valid(test["data"]), row["id"]


@pytest.mark.parametrize("number", range(len(HARD)))
@pytest.mark.parametrize("whitespace", ["compact", "flexible"])
def test_walks_are_valid(number: int, whitespace: Any, tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    constraint = JsonSchema(HARD[number], whitespace, engine="machine")
    compiled, done = constraint.compile(vocabulary), 0
    validator = jsonschema.Draft202012Validator(HARD[number])
    for seed in range(15):
        cursor, ids = tools.walk(compiled, seed, vocabulary, 60, 0.7)
        if cursor.is_complete():
            done += 1
            validator.validate(json.loads(vocabulary.text(ids).decode()))
    assert done >= 5


@pytest.mark.parametrize("number", range(len(HARD)))
def test_masks_are_checks(number: int, tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    compiled = JsonSchema(HARD[number], "flexible", engine="machine").compile(vocabulary)
    for seed in range(3):
        cursor, _ = tools.walk(compiled, seed, vocabulary, 6, 0.0)
        flags = np.unpackbits(cursor.mask().view(np.uint8), count=len(vocabulary), bitorder="little").astype(bool)
        assert flags.tolist() == cursor.allows_many(range(len(vocabulary)))


def test_a_free_string_has_a_looked_up_mask(tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    compiled = JsonSchema({"type": "array", "items": {"type": "string"}, "uniqueItems": True}).compile(vocabulary)
    cursor = compiled.start()
    for text in ('["naïve', '["naïve","na', '["a\\', '["a\\ud8', '["\\ud83d\\', '{"k'[:0] + '["caf'):
        cursor = compiled.start()
        for byte in text.encode():
            cursor.advance(next(iter(vocabulary.by_bytes[bytes([byte])])))
        flags = np.unpackbits(cursor.mask().view(np.uint8), count=len(vocabulary), bitorder="little").astype(bool)
        assert flags.tolist() == cursor.allows_many(range(len(vocabulary))), text


def texts(machine: Any, alphabet: bytes, most: int) -> set[str]:
    """All whole texts of at most `most` bytes."""
    found, open_ = set[str](), [(machine.first(), b"")]
    while open_:
        state, text = open_.pop()
        if machine.final(state):
            found.add(text.decode())
        if len(text) < most:
            for byte in alphabet:
                after = machine.step(state, byte)
                if after is not None:
                    open_.append((after, text + bytes([byte])))
    return found


def test_every_text_is_reached_and_no_other() -> None:
    unique = machine_of({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True})
    assert texts(unique, b"[]12,", 5) == {"[]", "[1]", "[2]", "[1,2]", "[2,1]"}
    known = {"properties": {"a": {"const": 1}, "b": False}, "patternProperties": {"^ab?$": True}}
    keys = machine_of({"type": "object", **known, "additionalProperties": False})
    assert texts(keys, b'{}"ab:1', 7) == {"{}", '{"a":1}'}
    between = machine_of({"type": "integer", "minimum": 9, "exclusiveMaximum": 12})
    assert texts(between, b"0129.-", 4) == {"9", "10", "11", "9.0", "10.0", "11.0", "9.00"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "ab", "b"]) | st.just(1.5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
COUNTS = ("minLength", "maxItems", "minItems", "minProperties", "maxProperties", "minimum", "maximum")
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
SINGLE = ("not", "items", "contains", "additionalProperties", "propertyNames", "unevaluatedItems")
PLAIN = [
    *({"type": name} for name in ("string", "integer", "number", "array", "object", "null")),
    *({name: n} for name in COUNTS for n in range(3)),
    *({"uniqueItems": True}, {"required": ["a"]}, {"pattern": "a"}, {"dependentRequired": {"a": ["b"]}}),
]


def together(two: Any) -> Any:
    """Two schemas in one."""
    one, other = two
    return {**one, **other} if isinstance(one, dict) and isinstance(other, dict) else other


def larger(inner: Any) -> Any:
    """Schemas made of schemas."""
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(LISTS), some).map(lambda pair: {pair[0]: pair[1]}),
        st.tuples(st.sampled_from((*SINGLE, "propertyNames", "unevaluatedItems")), inner).map(
            lambda pair: dict([pair])
        ),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=2).map(lambda found: {"properties": found}),
        st.tuples(inner, inner).map(together),
        st.tuples(inner, inner, inner).map(lambda three: dict(zip(("if", "then", "else"), three, strict=True))),
    )


SMALL = st.one_of(
    st.booleans(),
    st.sampled_from(PLAIN),
    VALUES.map(lambda value: {"const": value}),
    st.lists(VALUES, min_size=1, max_size=3).map(lambda values: {"enum": values}),
)
SCHEMAS = st.recursive(SMALL, larger, max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, st.lists(VALUES, min_size=1, max_size=5))
def test_it_is_the_validator(schema: Any, values: list[Any]) -> None:
    valid = [jsonschema.Draft202012Validator(schema).is_valid(value) for value in values]
    try:
        machine = machine_of(schema)
    except ConstraintError:
        assert not any(valid)  # said to be unsatisfiable
        return
    for value, good in zip(values, valid, strict=True):
        text = json.dumps(value, separators=(",", ":"))
        assert accepts(machine, text) == good, text


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        "[1,]",
        "01",
        "1.",
        '"\\ud800"',
        '"\\udc00x"',
        " 1",
        "1 ",
        '"\x01"',
        "tru",
        "{,}",
        '{"a" :1}',
        "[[]",
    ],
)
def test_what_is_no_text(text: str) -> None:
    assert not accepts(machine_of(True), text)


def test_white_space_and_digits_end() -> None:
    wide = machine_of(True, wide=True, digits=5)
    assert accepts(wide, '{\n  "a" :\n  [1 ,\n 2]}')
    assert accepts(wide, f"[\n{64 * ' '}1]")
    assert not accepts(wide, f"[\n{65 * ' '}1]")
    assert not accepts(wide, "[  1]")
    assert not accepts(wide, "[\n\n1]")
    assert accepts(wide, "[12345]")
    assert not accepts(wide, "[123456]")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2020-01-02T03:04:05.6+01:00", "2020-01-02 03:04:05Z"),
        ("time", "23:59:60Z", "24:00:00Z"),
        ("duration", "P1DT2H", "P"),
        ("email", "a.b@c.org", "a@b@c"),
        ("hostname", "a-b.c", "-a.b"),
        ("ipv4", "1.2.3.255", "1.2.3.256"),
        ("ipv6", "::1", ":::1"),
        ("uri", "https://a.b/c?d#e", "a b"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("json-pointer", "/a~0/b", "a/b"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    machine = machine_of({"type": "string", "format": name}, formats=True)
    assert accepts(machine, json.dumps(good))
    assert not accepts(machine, json.dumps(bad))


def test_keys_in_any_order_and_formats(tools: ModuleType) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "d": {"type": "string", "format": "date"}},
        "required": ["a"],
    }
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    for order, first in (("schema", False), ("any", True)):
        compiled = JsonSchema(schema, order=order).compile(vocabulary)  # type: ignore[arg-type]
        assert _reads(compiled, '{"d":"2020-01-01","a":1}') == first
        assert _reads(compiled, '{"a":1,"d":"2020-01-01"}')
    for text, good in (("2020-02-29", True), ("2020-13-01", False), ("2021-02-29", False)):
        for formats in (True, False):
            compiled = JsonSchema(schema, engine="machine", formats=formats).compile(vocabulary)
            assert _reads(compiled, f'{{"a":1,"d":"{text}"}}') == (good or not formats)
    assert JsonSchema({"items": {"multipleOf": 3}}).late() == []
    assert JsonSchema({"items": {"pattern": "(?=a)b"}}).late()[0].startswith("#/items: the pattern")
    with pytest.raises(ConstraintError, match="keys in order"):
        JsonSchema(schema, engine="llguidance", order="any")


def _reads(compiled: Any, text: str) -> bool:
    cursor = compiled.start()
    for byte in text.encode():
        (token, *_) = compiled.vocabulary.by_bytes[bytes([byte])]
        if not cursor.allows(token):
            return False
        cursor.advance(token)
    return bool(cursor.is_complete())


def test_the_arguments_of_a_function() -> None:
    def order(number: int, items: list[str], paid: bool = False) -> None:
        """Never called."""

    made = JsonSchema(order)
    assert set(made.source().document["required"]) == {"number", "items"}  # type: ignore[index]
    assert made.value('{"number":1,"items":["a"]}').model_dump() == {"number": 1, "items": ["a"], "paid": False}

    def odd(*rest: int) -> None:
        """Has no name for its arguments."""

    with pytest.raises(ConstraintError, match="the parameter 'rest' of odd cannot be given by name"):
        JsonSchema(odd)


def test_what_means_nothing_is_said_once_and_not_if_lenient(tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    schema = {"type": "string", "minLenght": 3, "format": "mail", "pattern": "a+"}
    with pytest.warns(ConstraintWarning) as told:
        JsonSchema(schema, engine="machine").compile(vocabulary)
    said = " ".join(str(one.message) for one in told)
    for part in ("'minLenght' at # is unknown", "format 'mail' at #", "'a+' at # is not anchored"):
        assert part in said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        JsonSchema(schema, engine="machine", lenient=True).compile(vocabulary)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "http://example.org/x"}, "'http://example.org/x', which is not part of it"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "'#/\\$defs/none', where the schema has nothing"),
        ({"type": "string", "minLength": 3, "not": {"type": "string"}}, "no value satisfies"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "no value satisfies"),
        ({"type": "object", "maxProperties": 1, "required": ["a", "b"]}, "no value satisfies"),
        ({"type": "number", "minimum": 3, "exclusiveMaximum": 3}, "no value satisfies"),
        ({"type": "string", "minLength": 4, "maxLength": 3}, "no value satisfies"),
        ({"patternProperties": {"\n": {"anyOf": []}}}, r"at #/patternProperties/\\n/anyOf, \[\] should"),
    ],
)
def test_bad_schemas(schema: Any, said: str, tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    with pytest.raises(ConstraintError, match=said):
        JsonSchema(schema, engine="machine").compile(vocabulary)


def _nested(depth: int) -> Any:
    schema: Any = {"type": "integer"}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def test_hostile_schemas_end() -> None:
    wide: dict[str, Any] = {"$defs": {"n0": {"type": "integer"}}}
    for n in range(1, 40):
        wide["$defs"][f"n{n}"] = {"anyOf": [{"$ref": f"#/$defs/n{n - 1}"}, {"$ref": f"#/$defs/n{n - 1}"}]}
    assert accepts(machine_of({**wide, "$ref": "#/$defs/n39"}), "1")
    with pytest.raises(ConstraintError, match="refers to itself"):
        machine_of({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"})
    assert accepts(machine_of(_nested(60)), "[" * 60 + "1" + "]" * 60)
    assert accepts(machine_of({"type": "string", "pattern": "^(a+)+$"}), '"aaaa"')


def test_a_pattern_that_takes_too_long_refuses_under_not_as_well() -> None:
    assert searching("(?!z)(a|b)\\1c")("aac") is True
    assert searching("^(a|aa|a?a)*(b)\\2c$")("a" * 60 + "b") is not True  # not found, or given up in time
    for schema in ({"pattern": "(?!z)(a)\\1b"}, {"not": {"pattern": "(?!z)(a)\\1b"}}):
        machine = machine_of({"type": "string", **schema})
        assert accepts(machine, '"aab"') == ("pattern" in schema)


def test_bounds_are_options(tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    bounded = JsonSchema(
        {"properties": {"long_name": {"type": "string"}, "s": {"minLength": 4}}, "required": ["s"]},
        digits=3, max_string=2, max_items=2,
    ).compile(vocabulary)  # fmt: skip
    for text, good in (
        ('{"long_name":"ab","s":1}', True),
        ('{"long_name":"abc","s":1}', False),
        ('{"s":"abcd"}', True),  # the schema's own bound is larger
        ('{"s":"abcde"}', False),
        ('{"s":[1,2]}', True),
        ('{"s":[1,2,3]}', False),
        ('{"s":1234}', False),
        ('{"s":1,"a":1,"b":1}', True),
        ('{"s":1,"a":1,"b":1,"c":1,"d":1}', False),
    ):
        assert _reads(bounded, text) == good, text
    tiny = Json(max_string=3, max_items=1, digits=2).compile(vocabulary)
    assert _reads(tiny, '{"abc":["abc"]}')
    for text in ('"abcd"', "[1,2]", "123", '{"abcd":1}', '{"a":1,"b":1}'):
        assert not _reads(tiny, text), text
    assert _reads(JsonSchema({"const": "a long word"}, max_string=3).compile(vocabulary), '"a long word"')
    with pytest.raises(ConstraintError, match="no bounds but those of the schema"):
        JsonSchema(True, engine="llguidance", max_string=3)


def test_in_a_run() -> None:
    schema = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3}
        },
        "required": ["tags"],
        "additionalProperties": False,
    }
    for strategy in ("greedy", "sample", "awrs", "speculative(draft='zoo:draft') | sample"):
        out = dk.generate(
            "zoo:base", "Some tags as JSON:\n", strategy=strategy, constraint=dk.json_schema(schema), seed=3
        )
        assert sorted(out.value["tags"]) == ["a", "b", "c"], strategy
    any_value = dk.generate("zoo:base", "Some JSON:\n", strategy="sample", constraint=Json(), seed=1, max_tokens=60)
    assert any_value.finish in ("eos", "length", "complete")
