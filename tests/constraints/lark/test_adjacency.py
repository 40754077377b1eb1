"""Terminals that never stand side by side: such actions leave the tables, and texts that lead nowhere are refused."""

from __future__ import annotations

import pytest
from lark import Lark

import decodekit as dk
from decodekit.constraints.core.steering import closing
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.constraints.lark import machine
from decodekit.constraints.lark.adjacency import Seams
from decodekit.constraints.lark.machine import Reader
from decodekit.constraints.lark.tables import Tables
from decodekit.errors import ConstraintError

BYTES = Vocabulary(tuple(bytes([byte]) for byte in range(256)))
NESTED = (
    'start: start x INT | "if"\nx: "if" INT | ")" "if" ")" | ")" x NAME start\nNAME: /[a-zé]+(?!\\()/\nINT: /[0-9]+/'
)


def pruned(grammar: str) -> set[tuple[str, str]]:
    """(terminal before, terminal that never follows it), as far as the tables lost it everywhere."""
    tables = Tables(Lark(grammar, parser="lalr"), None)
    seams = Seams(tables)
    seams.prune()
    return {(name, want) for (_, name, _, want), found in seams._beside.items() if not found}


@pytest.mark.parametrize(
    ("grammar", "gone"),
    [
        ('start: NAME "if"\nNAME: /[a-z]+/', {("NAME", "IF")}),
        ('start: NAME "if"\nNAME: /[a-z]+/\n%ignore " "', set()),
        ('start: NAME "if"\nNAME: /[a-z]/', set()),
        ('start: NAME "("\nNAME: /[a-z]+(?!\\()/', {("NAME", "LPAR")}),
        ('start: INT INT | INT "."\nINT: /[0-9]+/', {("INT", "INT")}),
        ("start: A B\nA: /a+/\nB: /a?b/", set()),
        ('start: A "y"\nA: /a(xy)*/\n%ignore "x"', set()),  # "axxy"
    ],
)
def test_pairs_that_no_text_holds(grammar: str, gone: set[tuple[str, str]]) -> None:
    assert pruned(grammar) == gone


def test_what_leads_nowhere_is_refused() -> None:
    reader = Reader(Tables(Lark(NESTED, parser="lalr"), None))
    for text in ("if))", "if)if)if", "if)1"):
        assert reader.leap(reader.first(), text.encode()) is None, text
    assert reader.leap(reader.first(), b"if)if)4") is not None


def test_a_state_that_is_reached_by_reducing_reads_with_the_lexer_before() -> None:
    lark = Lark("start: T2 | x? T1 x?\nx: T2+\nT1: /a*b/\nT2: /b/", parser="lalr")
    lark.parse("bbb")
    reader = Reader(Tables(lark, None))
    assert reader.leap(reader.first(), b"bbb") is not None


def test_deep_texts_are_closed() -> None:
    grammar = 'start: NAME x\nx: start "if" x | "if" NAME\nNAME: /[a-z]/'
    cursor = dk.cfg(grammar).compile(BYTES).start()
    text = b"rilthvgqxfibhghsotwkkbvueytfyl"
    for byte in text:
        cursor.advance(byte)
    rest = closing(cursor)
    assert rest is not None
    Lark(grammar, parser="lalr").parse((text + rest).decode())


def test_spots_are_forgotten_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = 'start: "<" value* ">"\nvalue: "[" (value ("," value)*)? "]" | NAME\nNAME: /[a-z]+/\n%ignore " "'
    text = b"<[a,[b, c],[]] xy [[[z]]]>"

    def masks() -> list[list[int]]:
        reader = Reader(Tables(Lark(grammar, parser="lalr"), None))
        spot, out = reader.first(), []
        for byte in text:
            out.append([each for each in range(256) if reader.step(spot, each) is not None])
            after = reader.step(spot, byte)
            assert after is not None
            spot = after
        assert reader.final(spot)
        return out

    want = masks()
    monkeypatch.setattr(machine, "SPOTS", 5)
    assert masks() == want


def test_what_lark_itself_fails_to_put_into_words_is_told_with_its_place() -> None:
    """Found by fuzzing: a log message of Lark's own error report is not formatted right."""
    with pytest.raises(ConstraintError, match=r"line 2, column 8: unexpected token .*'\?'"):
        dk.cfg("%ignore / +/\nA: ( | ?")
