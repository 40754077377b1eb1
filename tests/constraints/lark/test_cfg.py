"""Stock Lark grammars as constraints: what is completed parses in Lark, and no beginning of such a text is refused."""

from __future__ import annotations

import itertools
import random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lark import Lark
from lark.exceptions import LarkError
from lark.indenter import PythonIndenter

from decodekit.constraints.automata.byte_machine import closing
from decodekit.constraints.core.vocabulary import vocabulary_of
from decodekit.constraints.lark.constraint import Cfg
from decodekit.constraints.lark.machine import Reader
from decodekit.constraints.lark.tables import Tables
from decodekit.errors import ConstraintError

JSON = r"""
start: value
?value: object | array | string | SIGNED_NUMBER -> number | "true" | "false" | "null"
array: "[" [value ("," value)*] "]"
object: "{" [pair ("," pair)*] "}"
pair: string ":" value
string: ESCAPED_STRING
%import common.ESCAPED_STRING
%import common.SIGNED_NUMBER
%import common.WS
%ignore WS
"""
INDENTED = r"""
start: (_NL | statement)*
statement: NAME "=" sum _NL | "if" sum ":" block | "call" "(" [sum ("," sum)*] ")" _NL
block: _NL _INDENT statement+ _DEDENT
?sum: NAME | INT | sum "+" sum2
?sum2: NAME | INT
NAME: /[a-z]+/
%import common.INT
_NL: /(\r?\n[\t ]*)+/
%ignore / +/
%declare _INDENT _DEDENT
"""


class Tree(PythonIndenter):
    NL_type = "_NL"
    OPEN_PAREN_types = ["LPAR"]  # noqa: RUF012 Lark declares it as a variable of instances
    CLOSE_PAREN_types = ["RPAR"]  # noqa: RUF012


# Grammar, alphabet, length of the texts that are enumerated, options of Lark.
GRAMMARS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "keywords": (
        'start: NAME "=" NAME | "if" NAME "then" start\nNAME: /[a-z]+/\n%ignore " "', "if =t", 6, {}),
    "arithmetic": (
        'start: sum\nsum: atom | sum "+" atom\natom: INT | "(" sum ")" | "-" atom\n%import common.INT\n%ignore " "',
        "1+(-) ", 5, {}),
    "json": (JSON, '[{"1:,', 5, {}),
    "no case": ('start: "select"i NAME ("as"i NAME)?\nNAME: /[a-z]+/i\n%ignore " "', "asAS e", 4, {}),
    "case": ('start: "s"i N | N "."\nN: /[a-z]+/i', "sSa.", 5, {}),
    "hidden for ever": ("start: (A | B)*\nA: /a+/\nB: /ab/", "abc", 6, {}),
    "numbers": ("start: INT \"..\" INT | FLOAT\nINT: /[0-9]+/\nFLOAT: /[0-9]+\\.[0-9]+/", "1.", 7, {}),
    "priorities": ('start: X+\nX.2: "ab"\nY: "a"\nZ: "abc"\n%ignore Y', "abc", 6, {}),
    "first is short": ("start: A B?\nA.2: /a|ab/\nB: /b|bc/", "abc", 5, {}),
    "templates": ('start: list{"a"} | list{pair}\nlist{x}: "[" x ("," x)* "]"\npair: "b" "c"', "[]abc,", 6, {}),
    "comments": ('start: "/" X | X "/" X\nX: "x"\n%ignore /\\/\\*(.|\\n)*?\\*\\//', "/*x", 7, {}),
    "escapes": ('start: S\nS: /".*?(?<!\\\\)(\\\\\\\\)*?"/', '"\\a', 7, {}),
    "look ahead": ('start: A "b"? C\nA: /a(?!b)/\nC: /c\\b/', "abc", 6, {}),
    "look behind": ('start: (A | B)+\nA: /a/\nB: /(?<=a)b|c\\b/', "abc", 6, {}),
    "words only": ('start: (W | "-" N)+\nW: /\\b(?!if\\b)[if]+\\b/\nN: /[0-9]+/\n%ignore " "', "if- 1", 5, {}),
    "letters": ('start: (A | "é")+\nA: /[à-è]|日本?/', "éà日本", 4, {}),
    "basic lexer": ('start: "a" NAME | NAME\nNAME: /[ab]+/\n%ignore " "', "ab ", 6, {"lexer": "basic"}),
    "optional end": ('start: a* [b]\na: "x" "y"\nb: "x"', "xy", 7, {}),
    "flags": ('start: A "b"\nA: /a.c/s | /x y/x', "axyc\nb", 5, {}),
    "shifts for ever": ('start: l\nl: "x" l "x" |', "x", 6, {}),
    "palindromes": ('start: p\np: "a" p "a" | "b" p "b" | "c" |', "abc", 5, {}),
    "dangling else": ('start: s\ns: "i" s | "i" s "e" s | "a"', "iea", 7, {}),
    "no precedence": ('start: e\ne: e "+" e | "n" | "(" e ")"', "n+()", 6, {}),
    "shift or end": ('start: l "y" | "z"\nl: "x" l "x" | "w"?', "xyzw", 6, {}),
    "empty rules": ('start: a b "x"\na: "x" |\nb: "x" |', "x", 5, {}),
    "anchored": ("start: A+\nA: /^a|b$|c/m", "abc\n", 5, {}),
}  # fmt: skip


def reader(name: str) -> tuple[Lark, Reader]:
    grammar, _, _, options = GRAMMARS[name]
    lark = Lark(grammar, parser="lalr", **options)
    return lark, Reader(Tables(lark, None))


def parses(lark: Lark, text: str) -> bool:
    try:
        lark.parse(text)
    except (LarkError, AssertionError, IndexError):
        return False
    return True


def compared(lark: Lark, machine: Reader, alphabet: str, length: int) -> None:
    """The machine against stock Lark on all texts up to `length`: whole texts, beginnings, and no dead ends."""
    texts = ("".join(letters) for n in range(length + 1) for letters in itertools.product(alphabet, repeat=n))
    whole = {text for text in texts if parses(lark, text)}
    beginnings = {text[:i] for text in whole for i in range(len(text) + 1)}
    open_, admitted = [("", machine.first())], set[str]()
    if not machine.alive(machine.first()):
        assert not whole
        return
    while open_:
        text, spot = open_.pop()
        admitted.add(text)
        assert machine.final(spot) == (text in whole), text
        if text not in beginnings:  # then a longer text must complete it
            rest = closing(machine, spot)
            assert rest is not None, text
            assert parses(lark, text + rest.decode()), text + rest.decode()
        if len(text) < length:
            for letter in alphabet:
                after = machine.leap(spot, letter.encode())
                if after is not None:
                    open_.append((text + letter, after))
    assert beginnings <= admitted, sorted(beginnings - admitted)[:5]
    assert machine.unknown == 0


@pytest.mark.parametrize("name", GRAMMARS)
def test_exactly_the_beginnings_of_what_lark_parses_are_admitted(name: str) -> None:
    _, alphabet, length, _ = GRAMMARS[name]
    compared(*reader(name), alphabet, length)


def test_indentation_is_read_as_by_larks_indenter() -> None:
    grammar = INDENTED.replace('"("', "LPAR").replace('")"', "RPAR") + '\nLPAR: "("\nRPAR: ")"\n'
    lark = Lark(grammar, parser="lalr", postlex=Tree())
    machine = Reader(Tables(lark, None))
    good = "if a:\n  b=1\n  if c+1:\n\td=2\n  e=1\ncall(1,\n\n 2)\n\n"
    spot: Any = machine.first()
    for n, letter in enumerate(good):
        assert machine.final(spot) == parses(lark, good[:n]), good[:n]
        spot = machine.leap(spot, letter.encode())
        assert spot is not None, good[: n + 1]
    assert machine.final(spot)
    assert parses(lark, good)
    rng = random.Random(0)
    for bad in ("if a:\nb", "if a:\n  b=1\n c", "x=1\n  y", "call)", "if a:\n \t \nx"):
        spot = machine.first()
        assert not parses(lark, bad)
        for letter in bad:
            spot = spot and machine.leap(spot, letter.encode())
        assert spot is None, bad
    for _ in range(60):
        text, spot = "", machine.first()
        for _ in range(rng.randrange(1, 25)):
            after = [(c, s) for c in "if a:\n\t=1(,)cl+" if (s := machine.leap(spot, c.encode())) is not None]
            letter, spot = after[rng.randrange(len(after))]
            text += letter
        rest = closing(machine, spot)
        assert rest is not None, text
        assert parses(lark, text + rest.decode()), text + rest.decode()


small = st.sampled_from(["a", "b", "ab", "a+", "a*b", "(a|ab)", "b?a", "a(?!b)", "[ab]", "(?:ab)+", "a*?b", "ba"])


@st.composite
def grammars(draw: st.DrawFn) -> str:
    """Terminals that get in one another's way, under rules of a few shapes."""
    terminals = draw(st.lists(small, min_size=2, max_size=3, unique=True))
    names = [f"T{n}" for n in range(len(terminals))]
    atoms = st.sampled_from([*names, '"a"', '"b"', "x?"])
    body = st.lists(atoms, min_size=1, max_size=3).map(" ".join)
    lines = [f"start: {draw(body)} | {draw(body)}", f"x: {draw(st.sampled_from(names))}+"]
    for name, pattern in zip(names, terminals, strict=True):
        lines.append(f"{name}{draw(st.sampled_from(['', '', '.1']))}: /{pattern}/")
    if draw(st.booleans()):
        lines.append(f"%ignore {draw(st.sampled_from(['/c/', '/cb?/', 'T0']))}")
    return "\n".join(lines)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(grammars(), st.sampled_from(["contextual", "basic"]))
def test_grammars_made_at_random(grammar: str, lexer: str) -> None:
    try:
        lark = Lark(grammar, parser="lalr", lexer=lexer)
    except LarkError:
        return
    compared(lark, Reader(Tables(lark, None)), "abc", 5)


symbols = st.lists(st.sampled_from(['"a"', '"b"', "start", "x", "y"]), max_size=3).map(" ".join)
bodies = st.lists(symbols, min_size=1, max_size=3, unique=True).map(" | ".join)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(bodies, bodies, bodies)
def test_rules_made_at_random_with_the_conflicts_that_lark_resolves(start: str, x: str, y: str) -> None:
    try:
        lark = Lark(f"start: {start}\nx: {x}\ny: {y}", parser="lalr")
    except LarkError:
        return
    compared(lark, Reader(Tables(lark, None)), "ab", 6)


@pytest.mark.parametrize("name", GRAMMARS)
def test_walks_parse_in_lark_and_masks_equal_checks(name: str, tools: ModuleType) -> None:
    grammar, _, _, options = GRAMMARS[name]
    lark = Lark(grammar, parser="lalr", **options)
    constraint = Cfg(lark)
    vocabulary = vocabulary_of(tools.small_tokenizer(), 416, (1,))
    compiled = constraint.compile(vocabulary)
    for seed in range(6):
        cursor, tokens = tools.walk(compiled, seed, vocabulary, steps=15)
        text = vocabulary.text(tokens)
        if cursor.is_complete():
            assert constraint.judge(text.decode()), text
            assert constraint.value(text.decode()) is not None
        assert tools.tokens_of(cursor.mask(), 416).tolist() == tools.by_checks(cursor, 416), text
        fork = cursor.fork()
        fork.rollback(len(tokens) // 2)
        for token in tokens[len(tokens) - len(tokens) // 2 :]:
            fork.advance(token)
        assert fork.place() == cursor.place()
        rest = cursor.closing()
        assert rest is not None
        assert constraint.judge((text + rest).decode())


BAD = {
    "start: +": "line 1, column 8: misplaced operator\n  start: \\+\n         \\^",
    'start: "a" (': "line 1, column 13: unclosed parenthesis",
    'start: a\na: b "x"': "line 2, column 4: rule 'b' used but not defined",
    'start: a | b\na: "x"\nb: "x"': "cannot tell which of these rules is complete .*a: X; b: X.*llguidance",
    'start: "a"\n%import foo.X': "imports foo.lark, which was not found",
    "start: A\nA: /a*/": "line 2, column 1: a terminal may not match the empty text",
    "start: A\nA: /(a)\\1/": "cannot stand in one regular expression: cannot refer",
    "start: A\nA: /(?P<x>a)(?P=x)/": "terminal A: .*a back-reference",
    "start: A B\nA: /a+/\nB: /ab/": "no text at all",
    "": "the grammar is empty",
    'x: "a"': "start",
}


@pytest.mark.parametrize("grammar", BAD)
def test_bad_grammars_are_refused_in_a_sentence(grammar: str, tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 416, (1,))
    with pytest.raises(ConstraintError, match=f"(?s){BAD[grammar]}"):
        Cfg(grammar).compile(vocabulary)
