"""Hostile patterns, schemas and templates: one clear sentence, or a constraint that works; never another error.

`DECODEKIT_FUZZ=600 pytest tests/constraints/test_fuzz.py` goes on for ten minutes.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import decodekit as dk
from decodekit.constraints.core.cursor import tokens_of
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.errors import ConstraintError

pytestmark = pytest.mark.filterwarnings("ignore::decodekit.errors.ConstraintWarning")
LETTERS = Vocabulary((*(bytes([b]) for b in range(256)), b"ab", b'":', b"}}", b"123"))
SECONDS = float(os.environ.get("DECODEKIT_FUZZ", "0"))


PATTERNS = st.one_of(
    st.text(st.sampled_from("ab01.*+?|()[]{}^$\\-,dwsDWSé日\n"), max_size=18),
    st.from_regex(r"(\(?[a-c.](\{[0-9]{1,4},?[0-9]{0,4}\}|[*+?])?\)?){1,6}", fullmatch=True),
)
SCHEMAS = st.recursive(
    st.sampled_from(
        [True, {"type": "string"}, {"type": "integer"}, {"enum": ["a", 1, None]}, {"const": {}}, {"type": "x"}]
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("abc"), inner)}
        ),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner, "minItems": st.integers(-1, 5)}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=3), "if": inner, "then": inner}),
        st.fixed_dictionaries({"uniqueItems": st.booleans(), "contains": inner, "maxItems": st.integers(0, 3)}),
        st.fixed_dictionaries({"propertyNames": inner, "unevaluatedProperties": inner, "minProperties": st.just(1)}),
        st.fixed_dictionaries(
            {"patternProperties": st.dictionaries(PATTERNS, inner, max_size=2), "required": st.just(["a"])}
        ),
        st.fixed_dictionaries({"type": st.just("string"), "pattern": PATTERNS, "minLength": st.integers(0, 99)}),
        st.fixed_dictionaries({"type": st.just("number"), "multipleOf": st.floats(-2, 2), "maximum": st.integers()}),
        st.fixed_dictionaries({"$ref": st.sampled_from(["#", "#/properties/a", "#/nowhere", "x"]), "not": inner}),
    ),
    max_leaves=6,
)


parts = st.lists(
    st.sampled_from(
        [
            "start",
            "x",
            "A",
            "B",
            "(",
            ")",
            "[",
            "]",
            "|",
            "?",
            "*",
            "+",
            "~2",
            "~1..3",
            '"a"',
            '"if"i',
            "/a+/",
            "/b|ab/",
            "->",
            "%",
        ]
    ),
    max_size=7,
).map(" ".join)
GRAMMARS = st.one_of(
    st.lists(
        st.one_of(
            st.builds("{}: {}".format, st.sampled_from(["start", "x", "?x", "!y", "x{a}", "A", "B.2", "_C"]), parts),
            st.builds("A: /{}/".format, PATTERNS),
            st.sampled_from(
                ["%ignore / +/", "%import common.INT", "%import nowhere.X", "%declare D", "%override x: A", "//"]
            ),
        ),
        min_size=1,
        max_size=5,
    ).map("\n".join),
    st.text(st.sampled_from('start:xA"/|()[]*+?~\n \\%'), max_size=25),
)


def tried(make: Any) -> None:
    """Compile, walk a little, ask everything there is; only our own error is allowed, in one sentence."""
    said = None
    try:
        kind = make()
        compiled = kind.compile(LETTERS)
        cursor, read = compiled.start(), b""
        for step in range(5):
            allowed = tokens_of(cursor.mask(), len(LETTERS))
            cursor.is_complete(), cursor.explain(), cursor.forced()
            if not len(allowed):
                break
            token = int(allowed[step * 7 % len(allowed)])
            assert cursor.allows(token)
            cursor.advance(token)
            read += LETTERS.tokens[token]
        if cursor.is_complete():
            assert kind.judge(read.decode())
    except ConstraintError as error:
        said = str(error)
    assert said is None or len(said) > 10, said
    assert said is None or "\n" not in said or "^" in said.splitlines()[-1], said  # a grammar's line, and a caret


short = settings(
    max_examples=10_000_000 if SECONDS else 60, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


UNTIL: dict[str, float] = {}
KINDS = 4
"""Patterns, schemas, templates, grammars: each gets its share of the seconds."""


def timed(what: str, make: Any) -> None:
    if SECONDS and time.monotonic() > UNTIL.setdefault(what, time.monotonic() + SECONDS / KINDS):
        pytest.skip(f"{SECONDS / KINDS:g} seconds are up and nothing was found")
    tried(make)


@given(PATTERNS, st.sampled_from(["auto", "automaton"]))
@short
def test_patterns(pattern: str, engine: Any) -> None:
    timed("patterns", lambda: dk.regex(pattern, engine=engine))


@given(SCHEMAS, st.sampled_from(["auto", "machine"]), st.sampled_from([None, 3]), st.sampled_from(["schema", None]))
@short
def test_schemas(schema: Any, engine: Any, most: int | None, order: Any) -> None:
    timed("schemas", lambda: dk.json_schema(schema, engine=engine, max_string=most, max_items=most, order=order))


@given(st.text(st.sampled_from("a{}x b"), max_size=12), PATTERNS)
@short
def test_templates(text: str, pattern: str) -> None:
    timed("templates", lambda: dk.template(text, {"x": dk.regex(pattern)}))


@given(GRAMMARS)
@short
def test_grammars(grammar: str) -> None:
    timed("grammars", lambda: dk.cfg(grammar))


HOSTILE = [
    "(((a{1,99}){1,99}){1,99}){1,99}",
    "(a|b|ab)*c" * 40,
    "(.*a){30}",
    "(?:" * 400 + "a" + ")" * 400,
    "[" * 300,
    "(a*)*" * 50,
    "\\w{1000}\\W{1000}",
]


@pytest.mark.parametrize("pattern", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("engine", ["auto", "automaton"])
def test_hostile_patterns_do_not_hang(pattern: str, engine: Any) -> None:
    tried(lambda: dk.regex(pattern, engine=engine))
