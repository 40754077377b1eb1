"""Kinds that are checked and not compiled: Python predicates, and patterns beyond finite automata."""

from __future__ import annotations

import itertools
import random
import time
from types import ModuleType
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

import decodekit as dk
from decodekit.constraints.automata.byte_machine import utf8
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.constraints.kinds.predicate import Predicate
from decodekit.constraints.kinds.regex import Regex
from decodekit.errors import ConstraintError

BYTES = Vocabulary(tuple(bytes([byte]) for byte in range(256)))
PATTERNS = [
    r"([ab]{1,2})-\1",
    r"(?=.*a)[abc]{1,3}",
    r"(?!ab)[abc]{1,3}",
    r"[ab]+(?<!b)c?",
    r"(?>a|ab)c?b?",
    r"a\b.?c?",
    r"(a)?(?(1)b|c)",
    r"(?<n>a|b)(?&n)",
    r"^a+$|b",
]


def reads(kind: Any, text: bytes) -> tuple[bool, bool]:
    """(every prefix allowed, complete at the end)."""
    cursor = kind.compile(BYTES).start()
    for byte in text:
        if not cursor.allows(byte):
            return False, False
        cursor.advance(byte)
    return True, cursor.is_complete()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_beyond_automata_by_enumeration(pattern: str) -> None:
    """Over all texts up to five characters: complete is a full match, and no beginning of a match is refused."""
    kind = Regex(pattern)
    assert kind.beyond or pattern.startswith("^")
    texts = ["".join(letters) for n in range(6) for letters in itertools.product("abc-", repeat=n)]
    matched = {text for text in texts if regex.fullmatch(pattern, text)}
    assert matched
    for text in texts:
        viable, complete = reads(kind, text.encode())
        assert complete == (text in matched) == (kind.judge(text))
        if any(other.startswith(text) for other in matched):
            assert viable


def test_a_catastrophic_pattern_ends_with_a_sentence() -> None:
    kind, begun = Regex(r"((a|a|a)+)+\1(?!b)c", "partial"), time.monotonic()
    with pytest.raises(ConstraintError, match=r"takes more than 0\.5 s"):
        kind.judge("a" * 40 + "d")
    assert time.monotonic() < begun + 30


@pytest.mark.parametrize(
    ("pattern", "engine", "said"),
    [
        ("(?=a", "auto", "is not a regular expression"),
        ("(", "partial", "read"),
    ],
    ids=["broken", "syntax"],
)
def test_bad_patterns(pattern: str, engine: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        Regex(pattern, engine)


def test_a_predicate_in_text_and_in_bytes(tools: ModuleType) -> None:
    few = Predicate(lambda text: text.count("a") < 2)
    assert reads(few, "béa".encode()) == (True, True)
    assert reads(few, b"aa") == (False, False)
    assert reads(few, b"\xff") == (False, False)  # no UTF-8
    assert reads(few, b"\xc3") == (True, False)  # half a character
    raw = Predicate(lambda data: b"\xff\xff" not in data, over="bytes")
    assert reads(raw, b"\xff") == (True, True)
    assert reads(raw, b"\xff\xff") == (False, False)
    assert few.judge("ba")
    assert not few.judge("aba")


def test_a_predicate_that_fails_refuses_that_text_and_says_why() -> None:
    def odd(text: str) -> Any:
        if text.endswith("x"):
            raise RuntimeError("x is not known")
        return "yes" if text.endswith("y") else True

    cursor = Predicate(odd).compile(BYTES).start()
    assert cursor.allows_many(list(b"axy")) == [True, False, False]
    said = cursor.explain()
    assert "raised RuntimeError: x is not known" in said
    assert "answered str instead of True or False" in said


def test_a_slow_predicate_is_left_behind() -> None:
    def slow(text: str) -> bool:
        if text == "a":
            time.sleep(2)
        return True

    cursor, begun = Predicate(slow, timeout=0.1).compile(BYTES).start(), time.monotonic()
    assert cursor.allows_many(list(b"ab")) == [False, True]
    assert time.monotonic() < begun + 1.5
    assert "no answer within 0.1 s" in cursor.explain()


def test_bad_predicates() -> None:
    with pytest.raises(ConstraintError, match="is a function of the text so far"):
        Predicate(3)
    with pytest.raises(ConstraintError, match="refuses the empty text"):
        Predicate(lambda text: bool(text)).compile(BYTES)


def test_answers_are_remembered() -> None:
    asked = list[str]()

    def fn(text: str) -> bool:
        asked.append(text)
        return len(text) < 4

    compiled = Predicate(fn).compile(BYTES)
    for _ in range(3):
        cursor = compiled.start()
        for byte in b"abc":
            assert cursor.allows(byte)
            cursor.advance(byte)
        assert not cursor.allows(ord("d"))
    assert len(asked) == len(set(asked))


@given(st.binary(max_size=6))
def test_the_utf8_checker_agrees_with_python(data: bytes) -> None:
    state: int | None = 0
    for byte in data:
        state = None if state is None else utf8(state, byte)
    reason = ""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        reason = error.reason
    assert {"": state == 0, "unexpected end of data": bool(state)}.get(reason, state is None)


def test_end_to_end_with_awrs() -> None:
    out = dk.generate(
        "zoo:base",
        "Which pets are there?\nvet as SQL:\n",
        strategy="awrs",
        constraint=[
            dk.regex(r"SELECT (name|age) FROM (pets|owners) WHERE \1 = \1"),
            dk.predicate(lambda t: "age" not in t),
        ],
        max_tokens=30,
    )
    assert out.text in ("SELECT name FROM pets WHERE name = name", "SELECT name FROM owners WHERE name = name")


@pytest.mark.parametrize("over", ["text", "bytes"])
def test_a_closed_function_is_asked_once_a_token_and_says_the_same(over: Any) -> None:
    """Same verdicts as character by character, for a function that is closed under prefixes."""
    asked: list[Any] = []

    def few(text: Any) -> bool:
        asked.append(text)
        return len(text) <= 6 and not any(c in text for c in (b"bb" if isinstance(text, bytes) else "bb",))

    vocabulary = Vocabulary((b"a", b"b", b"ab", "é".encode(), b"\xc3", b"\xa9", "aé".encode()))
    slow = Predicate(few, over=over).compile(vocabulary)
    quick = Predicate(few, over=over, closed=True).compile(vocabulary)
    rng = random.Random(5)
    for _ in range(60):
        one, other = slow.start(), quick.start()
        for _ in range(5):
            said = one.allows_many(range(len(vocabulary)))
            before = len(asked)
            assert other.allows_many(range(len(vocabulary))) == said
            assert len(asked) - before <= len(vocabulary)
            assert (one.mask() == other.mask()).all()
            assert one.is_complete() == other.is_complete()
            if not any(said):
                break
            token = rng.choice([t for t, ok in enumerate(said) if ok])
            one.advance(token)
            other.advance(token)
