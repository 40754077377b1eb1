"""Automata over bytes: against Python's own matcher, by enumeration."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit.constraints.automata.automaton import Automaton, Both, byte_ranges, letters
from decodekit.constraints.automata.byte_machine import Machine
from decodekit.constraints.automata.patterns import LAST, parsed
from decodekit.errors import ConstraintError

PIECES = st.recursive(
    st.sampled_from(["a", "b", "é", "[ab]", "[^a]", ".", "[é-ü]", r"\d", "(?i:k)"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
    ),
    max_leaves=6,
)
TEXTS = ["".join(some) for n in range(5) for some in itertools.product("abé", repeat=n)] + ["日本", "K", "1", "ü", "\n"]


def reads(machine: Machine, text: str) -> bool:
    state = machine.first()
    for byte in text.encode():
        state = machine.step(state, byte)
        if state is None:
            return False
    return machine.final(state)


@given(PIECES)
@settings(max_examples=60, deadline=None)
def test_an_automaton_is_the_pattern(pattern: str) -> None:
    machine = Automaton(parsed(pattern))
    for text in TEXTS:
        assert reads(machine, text) == (re.fullmatch(pattern, text) is not None), text
    shortest = machine.closing(machine.first())
    assert shortest is not None
    assert re.fullmatch(pattern, shortest.decode())
    for text in TEXTS:
        if re.fullmatch(pattern, text):
            assert len(text.encode()) >= len(shortest)


@given(PIECES, PIECES)
@settings(max_examples=40, deadline=None)
def test_a_product_is_the_intersection_without_dead_ends(one: str, other: str) -> None:
    machine = Both((Automaton(parsed(one)), Automaton(parsed(other))))
    for text in TEXTS:
        both = bool(re.fullmatch(one, text) and re.fullmatch(other, text))
        assert reads(machine, text) == both
    state = machine.first()
    if machine.alive(state):
        left = machine.closing(state)
        assert left is not None
        assert re.fullmatch(one, left.decode())
        assert re.fullmatch(other, left.decode())


def test_a_shortest_completion_stays_one_along_itself() -> None:
    machine = Automaton(parsed("(?:ab|ba|c{3,9})+x?(?:日|本)"))
    for start in ("", "a", "ccc", "ab", "c"):
        state = machine.leap(machine.first(), start.encode())
        assert state is not None
        text = machine.closing(state)
        assert text
        for at, byte in enumerate(text, 1):
            state = machine.step(state, byte)
            assert state is not None
            assert machine.closing(state) == text[at:]


def test_every_code_point_has_its_bytes() -> None:
    rows = list(byte_ranges(0x61, LAST))
    for code in [0x61, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, LAST]:
        text = chr(code).encode()
        found = [
            row
            for row in rows
            if len(row) == len(text) and all(a <= b <= c for b, (a, c) in zip(text, row, strict=True))
        ]
        assert len(found) == 1, hex(code)
    assert reads(Automaton(letters("né日")), "né日")


@pytest.mark.parametrize("pattern", ["(?:(?:a{99}){99}){99}", "(?:.{1,200}a){1,200}", "(?:a|b)*a(?:a|b){18}"])
def test_what_is_too_large_is_refused(pattern: str) -> None:
    with pytest.raises(ConstraintError, match="automaton of more than"):
        read_all(pattern)


def read_all(pattern: str) -> None:
    machine = Automaton(parsed(pattern))
    seen, open_ = {machine.first()}, [machine.first()]
    while open_:
        here = open_.pop()
        for byte in b"ab":
            after = machine.step(here, byte)
            if after is not None and after not in seen:
                seen.add(after)
                open_.append(after)
