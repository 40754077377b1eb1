"""White space of JSON: what `json.dumps` writes is accepted, what is too much refused, and all engines agree."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit as dk
from decodekit.constraints.automata.automaton import Automaton
from decodekit.constraints.core.steering import Steering
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.json_schema.as_pattern import flat_schema
from decodekit.constraints.json_schema.constraint import JsonSchema
from decodekit.constraints.json_schema.layout import LEVELS, Layout, levels
from decodekit.constraints.json_schema.masks import JsonStates
from decodekit.errors import ConstraintError, OptionError

BYTES = Vocabulary(tuple(bytes([byte]) for byte in range(256)))
DUMPS: dict[Any, dict[str, Any]] = {
    "compact": {"separators": (",", ":")},
    "single": {},
    0: {"indent": 0},
    2: {"indent": 2},
    4: {"indent": 4},
}
"""The exact styles, as arguments of `json.dumps`."""
INNER: dict[str, Any] = {
    "type": "object",
    "properties": {"x": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}, "y": {"type": "boolean"}},
    "additionalProperties": False,
}
CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"enum": ["a b", "c"]},
        "in": {"type": "array", "items": INNER, "maxItems": 2},
        "e": {"enum": [[], {}, [1, {"k": [2]}]]},
        "o": {"type": "object", "properties": {"n": {"type": "null"}}, "additionalProperties": False},
    },
    "required": ["name"],
    "additionalProperties": False,
}
"""At most four levels, all kinds of places between two tokens."""
RECORDS = [
    {"name": "a b", "in": [{"x": [1, 23], "y": True}, {}], "e": [1, {"k": [2]}], "o": {"n": None}},
    {"name": "c", "in": [], "e": [], "o": {}},
    {"name": "c", "e": {}},
]


BOTH = json.loads(json.dumps(CLOSED).replace("integer", "boolean"))
"""Without whole numbers, which the machine writes as 1.0 as well."""
_ENGINES: Any = ("machine", "llguidance")


def reads(compiled: Any, text: str) -> bool:
    """Byte by byte."""
    cursor = compiled.start()
    for byte in text.encode():
        if not cursor.allows(byte):
            return False
        cursor.advance(byte)
    return bool(cursor.is_complete())


def engine(style: Any, name: str, schema: Any = CLOSED) -> Any:
    return JsonSchema(schema, style, engine=name, order="schema").compile(BYTES)  # type: ignore[arg-type]


def canvas(style: Any) -> Any:
    """What a canvas is filled by, as a reader of whole texts."""
    machine = Automaton(flat_schema(CLOSED, style), "schema")

    def holds(text: str) -> bool:
        state: Any = machine.first()
        for byte in text.encode():
            state = None if state is None else machine.step(state, byte)
        return state is not None and machine.final(state)

    return holds


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('aé ,:{\n"\\', max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab ", max_size=2), inner, max_size=3),
    max_leaves=8,
)
ANY: dict[str, Any] = {}


def any_json(name: str) -> Any:
    if name not in ANY:
        ANY[name] = engine("flexible", name, True)
    return ANY[name]


@settings(max_examples=60, deadline=None)
@given(value=VALUES, indent=st.sampled_from([None, 0, 1, 2, 3, 4, "\t"]), tight=st.booleans(), windows=st.booleans())
def test_whatever_dumps_writes_is_accepted(value: Any, indent: Any, tight: bool, windows: bool) -> None:
    text = json.dumps(value, indent=indent, separators=(",", ":") if tight else None, ensure_ascii=False)
    text = text.replace("\n", "\r\n") if windows else text
    for name in ("machine", "llguidance"):
        assert reads(any_json(name), text), (name, text)


@pytest.mark.parametrize("name", ["machine", "llguidance"])
def test_indentation_goes_as_deep_as_the_schema(name: str) -> None:
    value: Any = 1
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(LEVELS + 4):
        value, schema = [value], {"type": "array", "items": schema}
    made = engine("flexible", name, schema)
    for indent in (2, 4, "\t"):
        assert reads(made, json.dumps(value, indent=indent))
    assert not reads(made, json.dumps(value, indent=5))
    shallow = engine("flexible", name, {"type": "array", "items": {"type": "integer"}})
    assert reads(shallow, "[\n    1]")
    assert not reads(shallow, "[\n     1]")
    assert not reads(shallow, "[\n\t\t1]")


def verdicts(style: Any) -> list[Any]:
    names = ("machine",) if isinstance(style, int) else _ENGINES
    return [canvas(style), *(functools.partial(reads, engine(style, name)) for name in names)]


@pytest.mark.parametrize("style", ["flexible", *DUMPS])
def test_all_engines_agree_on_texts_with_a_blank_more_or_less(style: Any) -> None:
    """In every place of every record: one to three blanks more, or one less. Exact styles take their own text alone."""
    judges, rng, taken = verdicts(style), random.Random(1), 0
    for record in RECORDS:
        own = None if style == "flexible" else json.dumps(record, **DUMPS[style])
        for form in (*DUMPS.values(), {"indent": "\t"}):
            whole = json.dumps(record, **form)
            texts = {whole, whole.replace("\n", "\r\n"), whole.replace("\n", "\r"), whole.replace("\n", " \n")}
            for at in range(len(whole) + 1):
                texts |= {whole[:at] + blank + whole[at:] for blank in (" ", "\n", "\r\n", "\t", "\n\n", "\n ")}
                if whole[at : at + 1].isspace():
                    texts.add(whole[:at] + whole[at + 1 :])
            for text in [whole, *rng.sample(sorted(texts), min(len(texts), 160))]:
                said = [judge(text) for judge in judges]
                assert len(set(said)) == 1, (style, text, said)
                assert own is None or said[0] == (text == own), (style, text, own)
                taken += said[0]
    assert taken >= (100 if style == "flexible" else 3)


def test_no_end_of_blanks() -> None:
    """After any white space there are at most so many more bytes of it, and something else may always follow."""
    longest = 2 + 4 * LEVELS
    for name in ("machine", "llguidance"):
        for text in ('{"a":', "[1,", "{", "[", '{"a"', '{"a":1'):
            rng = random.Random(text)
            for _ in range(20):
                cursor, run = any_json(name).start(), 0
                for byte in text.encode():
                    cursor.advance(byte)
                while ways := [byte for byte in b" \t\r\n" if cursor.allows(byte)]:
                    cursor.advance(rng.choice(ways))
                    run += 1
                assert 1 <= run <= longest
                assert np.bitwise_count(cursor.mask()).sum() > 0


@pytest.mark.parametrize("style", ["flexible", "compact", "single"])
def test_masks_of_both_engines_are_equal(style: Any, tools: ModuleType, data: Path) -> None:
    vocabulary = vocabulary_of(tools.real_tokenizer(data / "tok-gpt2"), None, (50256,))
    made = [JsonSchema(BOTH, style, engine=name, order="schema").compile(vocabulary) for name in _ENGINES]
    for seed in range(4):
        rng, cursors = random.Random(seed), [one.start() for one in made]
        for _ in range(40):
            one, other = (cursor.mask() for cursor in cursors)
            words = min(len(one), len(other))
            assert np.array_equal(one[:words], other[:words])
            assert cursors[0].is_complete() == cursors[1].is_complete()
            allowed = np.flatnonzero(np.unpackbits(one.view(np.uint8), bitorder="little"))
            if not len(allowed):
                break
            token = int(rng.choice(allowed.tolist()))
            for cursor in cursors:
                cursor.advance(token)


@pytest.mark.parametrize("name", _ENGINES)
@pytest.mark.parametrize("style", ["flexible", "compact", "single", 2])
def test_an_end_in_time_leaves_out_what_is_optional(name: str, style: Any) -> None:
    """From any beginning the completion has no white space that could be left out."""
    if name == "llguidance" and isinstance(style, int):
        with pytest.raises(ConstraintError, match="cannot count the levels"):
            engine(style, name)
        return
    made = engine(style, name)
    whole = json.dumps(RECORDS[0], **DUMPS.get(style, {"separators": (",", ":")}))
    for at in range(len(whole) + 1):
        cursor = made.start()
        for byte in whole[:at].encode():
            cursor.advance(byte)
        left = cursor.closing()
        value = json.loads(whole[:at] + left.decode())
        assert whole[:at] + left.decode() == json.dumps(value, **DUMPS.get(style, {"separators": (",", ":")}))


@pytest.mark.parametrize("name", _ENGINES)
@pytest.mark.parametrize("strategy", ["greedy", "sample"])
def test_no_text_is_cut_off(name: Any, strategy: str) -> None:
    required = {**CLOSED, "required": ["name", "in", "o"]}
    rule = JsonSchema(required, engine=name, order="schema")
    steering = Steering(rule.compile(vocabulary_of(dk.load("zoo:base").tokenizer)), 1)
    for room in (steering.least, steering.least + 1, steering.least + 5, steering.least + 20):
        out = dk.generate(
            "zoo:base", "A record:\n", strategy=strategy, constraint=rule, max_tokens=room, in_time=True, seed=room
        )
        assert out.finish == "eos"
        assert out.value is not None


def test_exact_indentation_takes_the_machine_and_a_model_may_write_any_style() -> None:
    assert isinstance(JsonSchema(CLOSED, 2).compile(BYTES), JsonStates)
    assert not isinstance(JsonSchema(CLOSED).compile(BYTES), JsonStates)
    rule = JsonSchema({**INNER, "required": ["x", "y"]}, 4, digits=2)
    out = dk.generate("zoo:base", "A record:\n", strategy="sample", constraint=rule, seed=1)
    assert out.text == json.dumps(out.value, indent=4)
    for refused in (9, -1, True, "\t", "wide"):
        with pytest.raises(OptionError, match="whitespace"):
            JsonSchema(CLOSED, refused)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schema", "bound"),
    [
        ({"type": "integer"}, 0),
        (True, None),
        ({}, None),
        (INNER, 2),
        (CLOSED, 4),
        ({"type": "object"}, None),
        ({"type": "array"}, None),
        ({"type": "array", "maxItems": 0}, 1),
        ({"type": "array", "prefixItems": [INNER], "items": False}, 3),
        ({"type": "array", "items": [INNER]}, None),
        ({"type": "array", "items": [INNER], "additionalItems": False}, 3),
        ({"enum": [1, [2], {"a": {"b": []}}]}, 3),
        ({"const": None}, 0),
        ({"anyOf": [INNER, {"type": "null"}]}, 2),
        ({"anyOf": [INNER, {}]}, None),
        ({"allOf": [{}, INNER]}, 2),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": INNER}}}, 3),
        ({"type": "array", "items": {"$ref": "#"}}, None),
        ({"$ref": "#/nowhere"}, None),
        ({"$ref": "other.json"}, None),
    ],
)
def test_levels_of_a_schema(schema: Any, bound: int | None) -> None:
    assert levels(schema) == bound
    assert Layout.of("flexible", schema).levels == (LEVELS if bound is None else max(bound, 1))


def test_definitions_that_all_name_each_other_are_looked_at_once() -> None:
    """Along their paths there would be more than 20! of them to look at."""
    names = [f"d{i}" for i in range(24)]
    every = {name: {"$ref": f"#/$defs/{name}"} for name in names}
    closed = {"type": "object", "properties": every, "additionalProperties": False}
    assert levels({"$ref": "#/$defs/d0", "$defs": dict.fromkeys(names, closed)}) is None
    chain = {f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(23)}
    assert levels({"$ref": "#/$defs/d0", "$defs": {**chain, "d23": {"type": "integer"}}}) == 23
    assert levels({"type": "array", "items": {"$ref": "#anchor"}}) is None
