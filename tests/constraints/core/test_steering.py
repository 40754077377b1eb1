"""Texts that are whole in time: for every room there is, whole; below it, refused before decoding."""

from __future__ import annotations

import json
from typing import Any

import pytest

import decodekit as dk
from decodekit.constraints.automata.distances import Rollout
from decodekit.constraints.backends.llguidance import HEAD
from decodekit.constraints.core.cursor import tokens_of
from decodekit.constraints.core.steering import Steering, closing
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.errors import ConstraintError, OptionError

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "inner": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": ["xx", "yy"]}}},
    },
    "required": ["name", "tags"],
}
SMALL = Vocabulary((b"", b"a", b"b", b"c", b"ab", b"ba", b"bb", b"aaa"))
KINDS: dict[str, Any] = {
    "pattern": dk.regex("(ab|ba)+c{0,3}|b{4,9}c"),
    "automaton": dk.regex("(ab|ba)+c{0,3}|b{4,9}c", engine="automaton"),
    "choice": dk.choice(["aab", "abababab", "c", "abc"]),
}


def texts(kind: Any, room: int) -> set[str]:
    """All texts that may be written in `room` tokens, the end included; fails at any dead end."""
    compiled = kind.compile(SMALL)
    steering = Steering(compiled, 1)
    found, open_ = set[str](), [(compiled.start(), "", room)]
    while open_:
        cursor, text, left = open_.pop()
        allowed = tokens_of(steering.mask(cursor, left), len(SMALL)).tolist()
        assert [t for t in range(len(SMALL)) if steering.allows(cursor, [t], left)[0]] == allowed
        assert allowed or cursor.is_complete(), f"a dead end after {text!r}"
        assert left > 0
        if cursor.is_complete():
            found.add(text)
        for token in allowed:
            more = cursor.fork()
            more.advance(token)
            open_.append((more, text + SMALL.tokens[token].decode(), left - 1))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_fits_and_nothing_else_is_cut(kind: str) -> None:
    """Every text that is written is whole, more room allows more, and with room enough nothing is refused."""
    least = Steering(KINDS[kind].compile(SMALL), 1).least
    before = set[str]()
    for room in range(least, 7):
        now = texts(KINDS[kind], room)
        assert all(KINDS[kind].judge(text) for text in now)
        assert before <= now
        assert now
        before = now
    if kind == "choice":
        assert before == set(KINDS[kind].options)


def test_a_followed_completion_stays_one() -> None:
    grammar = HEAD + "start: %json " + dk_json()
    rollout = Rollout(grammar, None)
    whole = rollout.after(b"")
    assert whole is not None
    assert dk.json_schema(SCHEMA).judge(whole.decode())
    for at in range(len(whole)):
        assert rollout.after(whole[:at]) == whole[at:]
    for text in (
        b'{"na',
        b'{"name":"}]',
        b'{"name":"a\\"',
        b'{"name":"x","age":-',
        b'{"name":"x","tags":[],"inner":{"b":"',
    ):
        left = rollout.after(text)
        assert left is not None
        assert dk.json_schema(SCHEMA).judge((text + left).decode())
    assert rollout.after(b"[") is None


def dk_json() -> str:
    return json.dumps({**SCHEMA, "x-guidance": {"whitespace_flexible": False}})


@pytest.mark.parametrize("strategy", ["greedy", "sample", "mask", "awrs", "awrs | smc(particles=3)"])
def test_no_json_is_cut_off(strategy: str) -> None:
    made = dk.Decoder("zoo:base", strategy, dk.json_schema(SCHEMA), trace=False)
    for room in (17, 18, 21, 26):
        out = made.generate("A record of Ada as JSON:\n", max_tokens=room, in_time=True, seed=room)
        assert all(sample.finish == "eos" and sample.value is not None for sample in out.samples)
        assert all(len(sample.tokens) <= room for sample in out.samples)


def test_with_room_enough_nothing_changes() -> None:
    made = dk.Decoder(
        "zoo:base", "sample", dk.json_schema(SCHEMA, whitespace="compact")
    )  # which ends in time by itself
    prompt = "A record of Ada as JSON:\n"
    free, steered = (made.generate(prompt, max_tokens=120, in_time=yes, seed=2) for yes in (False, True))
    assert free.finish == "eos"
    assert free.tokens == steered.tokens


def test_a_draft_and_a_batch_change_nothing() -> None:
    prompts = ["A record of Ada as JSON:\n", "JSON: "]
    plain = dk.Decoder("zoo:base", "sample", dk.json_schema(SCHEMA))
    drafted = dk.Decoder("zoo:base", "speculative(draft='zoo:draft') | sample", dk.json_schema(SCHEMA))
    want = [plain.generate(one, max_tokens=24, in_time=True).tokens for one in prompts]
    assert [one.tokens for one in plain.generate(prompts, max_tokens=24, in_time=True)] == want
    assert [one.tokens for one in drafted.generate(prompts, max_tokens=24, in_time=True)] == want


def test_what_cannot_be_in_time_is_refused_before_decoding() -> None:
    with pytest.raises(ConstraintError, match=r"max_tokens=5 holds no text of the constraint.*takes 17 tokens"):
        dk.generate("zoo:base", "x", constraint=dk.json_schema(SCHEMA), max_tokens=5, in_time=True)
    with pytest.raises(OptionError, match="in_time=True needs a constraint"):
        dk.generate("zoo:base", "x", max_tokens=5, in_time=True)

    def complete(text: str) -> bool:
        return len(text) > 40

    with pytest.raises(ConstraintError, match="no short text of the constraint is known"):
        dk.generate("zoo:base", "x", constraint=dk.predicate(str.isascii, complete), max_tokens=5, in_time=True)


def test_completions_of_cursors() -> None:
    every_byte = Vocabulary(tuple(bytes([b]) for b in range(256)))
    for kind, text, left in (
        (dk.regex("a(bc|b{3})d?"), "ab", b"c"),
        (dk.choice(["abc", "abcd", "abx"]), "ab", b"c"),
        (dk.regex("x{2,5}", engine="automaton"), "", b"xx"),
    ):
        cursor = kind.compile(every_byte).start()
        for byte in text.encode():
            cursor.advance(byte)
        assert closing(cursor) == left
