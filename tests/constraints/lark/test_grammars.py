"""Grammars in use: masks over whole real vocabularies, whole runs, other dialects, hostile grammars."""

from __future__ import annotations

import os
import random
import re
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lark import Lark
from lark.indenter import PythonIndenter

import decodekit as dk
from decodekit.constraints.core.time_limit import within
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.lark import constraint
from decodekit.constraints.lark.constraint import Cfg
from decodekit.errors import ConstraintError
from tests.constraints.lark.test_cfg import JSON

DATA = os.environ.get("DECODEKIT_DATA")
# Work that is ended may be at the deletion of an object then, which Python reports.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SUMS = r"""
start: sum
sum: product | sum ("+" | "-") product
product: atom | product ("*" | "/") atom
atom: NUMBER | "-" atom | "(" sum ")" | NAME
%import common (NUMBER, WS_INLINE)
%import common.CNAME -> NAME
%ignore WS_INLINE
"""
SQL = r"""
start: select ";"?
select: "SELECT"i "DISTINCT"i? cols "FROM"i NAME ["WHERE"i cond] ["ORDER"i "BY"i expr order?] ["LIMIT"i INT]
order: "ASC"i | "DESC"i
cols: "*" | expr ["AS"i NAME] ("," expr ["AS"i NAME])*
cond: test (("OR"i | "AND"i) test)*
test: "NOT"i test | expr OP expr | expr "LIKE"i STRING | expr "IN"i "(" select ")"
expr: atom (("+" | "-" | "*" | "/") atom)*
atom: NAME ["." NAME] | NUMBER | STRING | NAME "(" ("*" | "DISTINCT"i? expr) ")" | "(" expr ")"
OP: "=" | "<" | ">" | "<=" | ">=" | "!=" | "<>"
NAME: /[a-zA-Z_][a-zA-Z_0-9]*/
STRING: /'[^']*'/ | /"[^"]*"/
COMMENT: /--[^\n]*/
%import common (INT, NUMBER, WS)
%ignore WS
%ignore COMMENT
"""


def python() -> Lark:
    return Lark.open_from_package(
        "lark", "python.lark", ["grammars"], parser="lalr", postlex=PythonIndenter(), start="file_input"
    )


GRAMMARS: dict[str, tuple[Any, str]] = {
    "json": (lambda: JSON, '{"name": "Ada \\u00e9", "age": [36, -1.5e3, true], "cat": null}'),
    "sums": (lambda: SUMS, "foo * (3.5 + -bar) / 2 - x1*(y)"),
    "sql": (lambda: SQL, "SELECT T.name, count(*) AS n FROM singer -- all\n WHERE T.age > 36 ORDER BY n DESC LIMIT 3"),
    "python": (python, 'import os\n\ndef f(n=3):\n    """A."""\n    for i in x:  # go\n        y = [i ** 2, "a"]\n'),
}


@pytest.mark.skipif(not DATA, reason="DECODEKIT_DATA names no folder with tokenizers")
@pytest.mark.parametrize("name", GRAMMARS)
@pytest.mark.parametrize("folder", ["tok-gpt2", "tok-mistral-v1"])
def test_a_mask_is_the_checks_of_all_tokens_of_a_real_vocabulary(folder: str, name: str, tools: ModuleType) -> None:
    tokenizer = tools.real_tokenizer(Path(str(DATA)) / folder)
    vocabulary = vocabulary_of(tokenizer, None, (tokenizer.eos_token_id,))
    make, text = GRAMMARS[name]
    ids = vocabulary.spell(text.encode())
    assert ids is not None
    cursor, places = Cfg(make()).compile(vocabulary).start(), random.Random(0).sample(range(len(ids)), 3)
    for at, token in enumerate(ids):
        if at in places:
            found = tools.tokens_of(cursor.mask(), len(vocabulary)).tolist()
            assert found == tools.by_checks(cursor, len(vocabulary)), vocabulary.text(ids[:at])
        assert cursor.allows(token), vocabulary.text(ids[: at + 1])
        cursor.advance(token)
    assert cursor.is_complete()


@pytest.mark.parametrize("name", ["json", "sums"])
def test_whole_runs_parse_and_drafts_change_nothing(name: str) -> None:
    constraint, texts = Cfg(GRAMMARS[name][0]()), dict[str, str]()
    for strategy in ("greedy", "speculative(draft='zoo:draft') | greedy", "forced | greedy"):
        out = dk.generate("zoo:base", "x: ", constraint=constraint, strategy=strategy, max_tokens=24)
        texts[strategy] = out.text
        assert (out.value is not None) == constraint.judge(out.text)
    assert len(set(texts.values())) == 1, texts
    for strategy in ("sample", "mask", "awrs", "speculative(draft='zoo:draft') | sample", "awrs | smc(particles=4)"):
        out = dk.generate("zoo:base", "x: ", constraint=constraint, strategy=strategy, max_tokens=40, seed=1)
        if out.finish == "eos":
            Lark(GRAMMARS[name][0](), parser="earley").parse(out.text)


NESTED = {
    "llguidance": 'start: "(" start ")" | A "," A\nA: /[0-9]{1,3}|x+/',
    "gbnf": 'root ::= "(" root ")" | a "," a\na ::= [0-9] [0-9]? [0-9]? | "x"+',
}


@pytest.mark.parametrize("dialect", NESTED)
def test_other_dialects_write_what_they_say(dialect: Any, tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 416, (1,))
    constraint = Cfg(NESTED[dialect], dialect=dialect)
    compiled, done = constraint.compile(vocabulary), 0
    judge = re.compile(r"\(*([0-9]{1,3}|x+),([0-9]{1,3}|x+)\)*")
    for seed in range(25):
        cursor, ids = tools.walk(compiled, seed, vocabulary, 30)
        assert tools.tokens_of(cursor.mask(), 416).tolist() == tools.by_checks(cursor, 416)
        if cursor.is_complete():
            text = vocabulary.text(ids).decode()
            assert judge.fullmatch(text), text
            assert text.count("(") == text.count(")")
            assert constraint.judge(text)
            done += 1
    assert done > 5
    assert not constraint.judge("(1,2")
    for bad in ("start: (", 'root ::= "a'):
        with pytest.raises(ConstraintError, match=r"llguidance cannot use the grammar|GBNF grammar cannot be read"):
            Cfg(bad, dialect=dialect).compile(vocabulary)


HOSTILE = {
    "optional parts": "start: " + " ".join(['"a"?'] * 25),
    "nested repetition": 'start: (("a"~1..40)~1..40)~1..40',
    "endless template": 'start: t{"a"}\nt{x}: "b" t{x} | x t{t{x}}',
    "large terminal": "start: A\nA: /((a{1,99}){1,99}){1,99}/",
    "many states": "start: A\nA: /(.*a.{14})/",
    "deep": "start: " + "(" * 3000 + '"a"' + ")" * 3000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_grammars_do_not_hang(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraint, "SECONDS", 0.5)
    vocabulary = Vocabulary(tuple(bytes([b]) for b in range(256)))
    with pytest.raises(ConstraintError, match=r"over 0\.5 seconds|too large|over \d+ states|RecursionError") as caught:
        Cfg(HOSTILE[name]).compile(vocabulary).start().mask()
    assert "\n" not in str(caught.value)


def test_work_that_takes_too_long_is_ended() -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless() -> None:
        begun.set()
        try:
            while True:
                sum(range(100))
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        within(0.2, endless)
    assert begun.is_set()
    assert ended.wait(20)
    assert within(20, lambda: 3) == 3
    with pytest.raises(KeyError):
        within(20, lambda: os.environ["NO_SUCH_NAME"])
