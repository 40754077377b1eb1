"""Combined constraints over finite languages: exactly the intersection, the union, the complement."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

import decodekit as dk
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.constraints.kinds.combine import AllOf, AnyOf, NotAtEnd
from decodekit.errors import ConstraintError

SMALL = Vocabulary((b"a", b"b", b"ab", b"ba", b"bb", b"c"))
TEXTS = ["".join(letters) for n in range(5) for letters in itertools.product("abc", repeat=n)]


def spelled(kind: Any, text: str) -> bool:
    """Whether some way to spell `text` in tokens is allowed and complete."""
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


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_languages(text: str) -> None:
    one, other = r"a[ab]*", r"[abc]*b"
    ours, theirs = re.fullmatch(one, text) is not None, re.fullmatch(other, text) is not None
    pair = (re.compile(one), re.compile(other))
    for kind, expected in ((AllOf(pair), ours and theirs), (AnyOf(pair), ours or theirs)):
        assert spelled(kind, text) == kind.judge(text) == expected
    free = NotAtEnd(pair[0])
    assert spelled(free, text) == free.judge(text) == (not ours)


def test_only_whole_characters_are_a_text() -> None:
    cursor = NotAtEnd(re.compile("é")).compile(Vocabulary(tuple(bytes([byte]) for byte in range(256)))).start()
    assert not cursor.allows(0xFF)
    cursor.advance(0xC3)
    assert not cursor.is_complete()
    assert not cursor.allows(ord("a"))
    cursor.advance(0xA9)
    assert not cursor.is_complete()  # this is the text that may not stand
    cursor.advance(ord("a"))
    assert cursor.is_complete()
    cursor.rollback(2)
    cursor.advance(0xA8)
    assert cursor.is_complete()


def test_what_cannot_be_combined_is_refused() -> None:
    with pytest.raises(ConstraintError, match="at least 1 constraint"):
        AllOf(())
    with pytest.raises(ConstraintError, match="say which"):
        AnyOf(("a",))


def test_end_to_end() -> None:
    out = dk.generate(
        "zoo:base",
        "Which pets are there?\nvet as SQL:\n",
        constraint=dk.any_of((dk.choice(["yes", "no"]), dk.all_of((re.compile("[a-z ]{1,9}"), re.compile("name.*"))))),
        max_tokens=12,
    )
    assert out.text in ("yes", "no") or out.text.startswith("name")


def test_patterns_are_joined_without_dead_ends() -> None:
    kind = AllOf((re.compile("a(bx|c)"), re.compile("a(by|c)"), ["ac", "abx"]))
    compiled = kind.compile(Vocabulary((b"a", b"b", b"c", b"x", b"y")))
    cursor = compiled.start()
    cursor.advance(0)
    assert cursor.allows_many([0, 1, 2, 3, 4]) == [False, False, True, False, False]
    with pytest.raises(ConstraintError, match="no text in common"):
        AllOf((re.compile("a(bx|c)"), re.compile("a(by|d)"))).compile(SMALL)


def test_steered_to_a_common_end() -> None:
    kind = AllOf((re.compile("[ab]{3,9}"), re.compile("b*a{2,}b*"), dk.predicate(str.isascii)))
    out = dk.generate("zoo:base", "Say: ", constraint=kind, strategy="sample", max_tokens=5, in_time=True)
    assert out.finish == "eos"
    assert kind.judge(out.text)
