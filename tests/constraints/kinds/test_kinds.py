"""What each kind of constraint writes, against independent judges; values; bad input; the front door."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jsonschema
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outlines import types as outlines_types
from typing_extensions import TypedDict

from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.json_schema.constraint import JsonSchema
from decodekit.constraints.kinds.choice import Choice
from decodekit.constraints.kinds.coercion import constraint_of
from decodekit.constraints.kinds.regex import Regex
from decodekit.errors import ConstraintError, DecodekitError

LETTERS = Vocabulary(tuple(bytes([i]) for i in range(256)))


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=8)
    age: int = pydantic.Field(ge=0, le=150)
    tags: list[Literal["a", "b"]] = pydantic.Field(max_length=2)
    nick: str | None = None


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Movie(TypedDict):
    title: str
    year: int


class Colour(enum.Enum):
    RED = "red"
    DARK = "dark red"


def reads(constraint: Any, text: str) -> bool:
    """Whether the constraint lets the text be written, byte by byte."""
    cursor = constraint.compile(LETTERS).start()
    for byte in text.encode():
        if not cursor.allows(byte):
            return False
        cursor.advance(byte)
    return bool(cursor.is_complete())


PATTERNS = [
    r"\w{1,6}( \d+)?",
    r"(?i)straße|k+",
    r"[^\W\d_]{2,5}",
    r"^(the|a) (?:\S{1,3} ){0,2}end$",
    r".{0,9}",
    r"(?s).{1,4}",
    r"[^a-z]{1,5}",
    r"(?a)\w+\s\d",
    r"[A-Z]{2}(?i:ab)/\"'\\",
    r"(true|tru|truer){1,3}",
    r"\d{4}-(0[1-9]|1[0-2])-[0-3]\d",
    "",
    r"(?x) a  b+ # comment",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_walks_of_a_pattern_match_it(pattern: str, tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    constraint = Regex(pattern)
    compiled, done = constraint.compile(vocabulary), 0
    for seed in range(40):
        cursor, ids = tools.walk(compiled, seed, vocabulary, 60)
        if cursor.is_complete():
            done += 1
            text = vocabulary.text(ids).decode()
            assert re.fullmatch(pattern, text)
            assert constraint.value(text) == text
    assert done >= 5


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_what_python_means(pattern: str) -> None:
    constraint = Regex(pattern)
    compiled = constraint.compile(LETTERS)

    @given(st.text(alphabet="aAbBkKſßsé٣1 2\n\t/\"'\\-_\u0301\u00a0\x1c日𝟘endTRUEtrue#", max_size=5))
    def agrees(text: str) -> None:
        cursor, alive = compiled.start(), True
        for byte in text.encode():
            alive = alive and cursor.allows(byte)
            if alive:
                cursor.advance(byte)
        assert (alive and cursor.is_complete()) == (re.fullmatch(pattern, text) is not None)

    agrees()


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("a(", r"'a\(' is not a regular expression: missing \), unterminated subpattern at position 1"),
        ("(?=a)b", "holds a look-ahead or look-behind; write it without"),
        (r"\bfoo", "holds a word boundary"),
        (r"(a)\1", "holds a back-reference"),
        ("a^b", "holds an anchor"),
        ("a++", "holds a possessive repetition"),
        ("(?>ab)", "holds an atomic group"),
        ("a{99999999999}", "not a regular expression: the repetition number is too large"),
        ("x" * 70 + "(", r"'x{57}'\.\.\. is not a regular expression"),
    ],
)
def test_bad_patterns_are_refused_in_a_sentence(pattern: str, said: str) -> None:
    with pytest.raises(ConstraintError, match=said) as caught:
        Regex(pattern, "llguidance")
    assert "\n" not in str(caught.value)


SCHEMAS: list[Any] = [
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["b"]},
    {"type": "array", "items": {"type": "number", "minimum": -2, "maximum": 7.5}, "minItems": 1, "maxItems": 3},
    {"enum": ["a", 1, None, {"x": [True]}]},
    {"anyOf": [{"type": "string", "pattern": "^[a-c]{2,4}$"}, {"const": "日本"}, {"type": "boolean"}]},
    {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}, "additionalProperties": False}},
     "$ref": "#/$defs/n"},
    {"type": "string", "minLength": 2, "maxLength": 5},
    True,
]  # fmt: skip


@pytest.mark.parametrize("whitespace", ["compact", "flexible"])
@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_walks_of_a_schema_are_valid(number: int, whitespace: Any, tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    constraint = JsonSchema(SCHEMAS[number], whitespace)
    compiled, done = constraint.compile(vocabulary), 0
    validator = jsonschema.Draft202012Validator(SCHEMAS[number])
    for seed in range(40):
        cursor, ids = tools.walk(compiled, seed, vocabulary, 120, 0.6)
        if cursor.is_complete():
            done += 1
            text = vocabulary.text(ids).decode()
            validator.validate(json.loads(text))
            assert constraint.judge(text)
            assert not re.search(r"\s{67}", text)  # a line break of two bytes, 16 levels of four spaces
    assert done >= 10


def test_white_space_ends(tools: ModuleType) -> None:
    constraint = JsonSchema(SCHEMAS[0], "flexible")
    assert reads(constraint, '{\n  "a": 1,\n  "b": "x"\n}')
    assert not reads(constraint, '{\n\n"b": "x"}')
    assert not reads(constraint, "{" + " " * 17 + '"b":"x"}')
    assert not reads(constraint, '{"b":"x"}\n')
    assert reads(JsonSchema(SCHEMAS[0]), '{"a": 1,"b":"x"}')  # the default
    compact = JsonSchema(SCHEMAS[0], "compact")
    assert reads(compact, '{"a":1,"b":"x"}')
    assert not reads(compact, '{"a": 1,"b":"x"}')


def test_values_of_python_types() -> None:
    person = JsonSchema(Person)
    text = '{"name":"Ada","age":36,"tags":["a"],"nick":null}'
    assert reads(person, text)
    assert person.value(text) == Person(name="Ada", age=36, tags=["a"])
    assert person.value(text[:-1]) is None
    assert person.value('{"name":"Ada","age":151,"tags":[]}') is None
    assert not reads(person, '{"name":"Ada","age":3,"tags":[],"other":1}')
    assert JsonSchema(Point).value('{"x":1.5,"y":2}') == Point(1.5, 2.0)
    assert JsonSchema(Movie).value('{"title":"M","year":1931}') == {"title": "M", "year": 1931}
    assert JsonSchema(list[int]).value("[1,2]") == [1, 2]
    assert JsonSchema(dict[str, date]).value('{"a":"2024-02-29"}') == {"a": date(2024, 2, 29)}
    assert JsonSchema({"type": "integer"}).value("12") == 12
    assert JsonSchema({"type": "integer"}).value("1" * 5000) is None  # more digits than Python reads
    assert not JsonSchema({}).judge("NaN")


def test_a_schema_from_text_and_file(tmp_path: Path) -> None:
    schema = {"type": "boolean"}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    for given_as in (schema, json.dumps(schema), " " + json.dumps(schema), file, str(file)):
        assert JsonSchema(given_as).source().document == schema
        assert reads(JsonSchema(given_as), "true")
    assert reads(JsonSchema(True), '[{"a":1}]')


class Unusable:
    pass


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "foo"}, r"not a JSON Schema: at #/type, 'foo' is not one of"),
        ({"properties": {"a/b": {"minimum": "3"}}}, r"at #/properties/a~1b/minimum, '3' is not of type 'number'"),
        ({"anyOf": [{"required": "x"}]}, r"at #/anyOf/0/required, 'x' is not of type 'array'"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "no value satisfies the schema: at #, 'allOf'"),
        ({"$ref": "http://example.org/x"}, "refers to 'http://example.org/x', which is not part of it"),
        ('{"type":', r"the schema is not JSON at line 1 column 9"),
        ("nothing.json", r"'nothing.json' is neither JSON text nor a file that can be read \(No such file"),
        (False, "allows no text at all"),
        (3, "a JSON Schema is an object, true or false, and this is of type int"),
        ("[1]", "a JSON Schema is an object, true or false, and this is of type list"),
        (Unusable, "cannot be made a JSON Schema"),
    ],
)  # fmt: skip
def test_bad_schemas_are_refused_in_a_sentence(schema: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=said) as caught:
        JsonSchema(schema).compile(LETTERS)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::decodekit.errors.ConstraintWarning")
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"t": {"type": "array", "uniqueItems": True}}},
         r"uses 'uniqueItems' \(at #/properties/t/uniqueItems\), which cannot be enforced"),
        ({"not": {"type": "string"}}, r"uses 'not' \(at #/not\)"),
        ({"if": {"type": "string"}, "then": {"minLength": 2}}, r"uses 'if'.* \(at #/if"),
        ({"type": "string", "pattern": "(?=a)b"}, r"cannot be enforced: .*look-around"),
        ({"$ref": "http://example.org/x"}, "cannot be enforced: Resource 'http://example.org/x' is not present"),
    ],
)  # fmt: skip
def test_what_one_engine_cannot_enforce_it_refuses_by_name(schema: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        JsonSchema(schema, engine="llguidance").compile(LETTERS)


def test_a_file_that_is_not_json(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text("{,}")
    with pytest.raises(ConstraintError, match=r"the schema file .*s\.json is not JSON at line 1 column 2"):
        JsonSchema(file)


def test_choice_of_thousands_with_prefixes(tools: ModuleType) -> None:
    options = tuple(f"{word}{i:x}" for i in range(1500) for word in ("", "the quick ", "日本 "))
    constraint = Choice(options)
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    compiled = constraint.compile(vocabulary)
    for seed in range(60):
        cursor, ids = tools.walk(compiled, seed, vocabulary)
        assert cursor.is_complete()
        assert vocabulary.text(ids).decode() in set(options)
    assert constraint.value("5d") == "5d"
    assert constraint.value("the quick") is None


def test_bad_choices() -> None:
    with pytest.raises(ConstraintError, match="needs at least one option, and the list is empty"):
        Choice(())
    with pytest.raises(ConstraintError, match="option 1 of choice holds half a surrogate pair"):
        Choice(("a", "\ud800"))
    with pytest.raises(ConstraintError, match=r"can spell none of the 1 options of choice \(such as 'x'\)"):
        Choice(("x",)).compile(Vocabulary((b"a",)))
    with pytest.raises(DecodekitError, match=r"choice.*3"):
        Choice(("a", 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_as", "meant"),
    [
        (Regex("a+"), Regex("a+")),
        (re.compile("a+"), Regex("a+")),
        (re.compile("a.", re.IGNORECASE | re.DOTALL), Regex("(?is)a.")),
        (re.compile("(?i)a.", re.DOTALL), Regex("(?is)a.")),
        (["b", "a"], Choice(("b", "a"))),
        ({"b", "a"}, Choice(("a", "b"))),
        (Literal["x", 3], Choice(("x", "3"))),
        (Colour, Choice(("red", "dark red"))),
        (Person, JsonSchema(Person)),
        (Point, JsonSchema(Point)),
        (Movie, JsonSchema(Movie)),
        ({"type": "null"}, JsonSchema({"type": "null"})),
        (list[int], JsonSchema(list[int])),
        (int | None, JsonSchema(int | None)),
        (int, JsonSchema(int)),
        (outlines_types.Regex("[ab]"), Regex("[ab]")),
        (outlines_types.Choice(["a", "b"]), Choice(("a", "b"))),
        (outlines_types.JsonSchema({"type": "null"}), JsonSchema('{"type": "null"}')),
    ],
)
def test_what_the_front_door_makes_of_values(given_as: Any, meant: Any) -> None:
    made = constraint_of(given_as)
    assert made == meant
    assert made.compile(LETTERS).start().explain()


def test_other_types_of_outlines_become_patterns() -> None:
    made = constraint_of(outlines_types.either("a", outlines_types.at_least(2, "b")))
    assert reads(made, "bbb")
    assert not reads(made, "b")


@pytest.mark.parametrize(
    ("given_as", "said"),
    [
        ("a+", "may be a pattern, a schema or a grammar; say which: regex"),
        (3, "an object of type int is no constraint; give a pydantic model"),
        (Unusable, "the type Unusable is no constraint"),
        (re.compile(b"a"), "is made of bytes"),
        ([1.5], r"the list holds 1.5, and a choice is among texts"),
        ([], "choice needs at least one option"),
        (None, "an object of type NoneType is no constraint"),
        (outlines_types.CFG("start: 'a'"), "line 1, column 8: unexpected input"),
        (outlines_types.JsonSchema({"type": "null"}, "[ ]?"), "white space pattern"),
    ],
)
def test_what_the_front_door_refuses(given_as: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        constraint_of(given_as)
