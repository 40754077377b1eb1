"""Cursors of every engine: masks against checks, values, finite languages, dead ends."""

from __future__ import annotations

import importlib.util
import itertools
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from decodekit.constraints.automata.word_list import Words
from decodekit.constraints.backends.llguidance import Grammar
from decodekit.constraints.core.cursor import Compiled, Cursor, tokens_of
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.json_schema.constraint import JsonSchema
from decodekit.constraints.kinds.canonical import Canonical
from decodekit.constraints.kinds.choice import Choice
from decodekit.constraints.kinds.combine import AllOf, AnyOf, NotAtEnd
from decodekit.constraints.kinds.predicate import Predicate
from decodekit.constraints.kinds.regex import Regex
from decodekit.constraints.sql.constraint import Sql
from decodekit.errors import ConstraintError

DDL = """CREATE TABLE owners (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, owner_id INTEGER REFERENCES owners (id));"""
SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 0, "maximum": 9999},
        "name": {"type": "string", "maxLength": 8},
        "tags": {"type": "array", "items": {"enum": ["a", "ab", "é"]}, "maxItems": 3},
        "more": {"type": ["boolean", "null"]},
    },
    "required": ["id", "name"],
    "additionalProperties": False,
}
KINDS: dict[str, Any] = {
    "regex": Regex(r"(the|café|[0-9]{1,3})( (quick|日本|name)){0,4}"),
    "table": Regex(r"(the|café|[0-9]{1,3})( (quick|日本|name)){0,4}", "outlines_core"),
    "automaton": Regex(r"(the|café|[0-9]{1,3})( (quick|日本|name)){0,4}", "automaton"),
    "words": Regex(r"(?i)\w{2,6}( \w+)?"),
    "partial": Regex(r"(?=.*[0-9])(the|café|[0-9]{1,3})( (quick|日本|name)){0,4}", "partial"),
    "predicate": Predicate(lambda text: len(text) < 9 and text.count("e") < 3, lambda text: text.endswith("e")),
    "all": AllOf((Regex(r"(the|café|[0-9]{1,3})( \w{1,6}){0,4}"), Regex(r"[^e]*e?[^e]*"), Predicate(str.isprintable))),
    "any": AnyOf((Regex(r"the( quick)?( name)?"), Choice(("the", "then 日本", "café 1")), Regex(r"(?=.*1)[12]{1,3}"))),
    "not": NotAtEnd(Regex(r"the( quick)?")),
    "canonical": AllOf((Canonical(), Regex(r"(the|café|[0-9]{1,3})( (quick|日本|name)){0,4}"))),
    "choice": Choice(("a", "ab", "abc", "the quick", "the", "日本", "日", "")),
    "compact": JsonSchema(SCHEMA),
    "flexible": JsonSchema(SCHEMA, "flexible"),
    "sql": Sql(DDL),
}

if importlib.util.find_spec("xgrammar") is not None:
    KINDS["xgrammar"] = Regex(r"(the|café|[0-9]{1,3})( (quick|日本|name)){0,4}", "xgrammar")


def same(a: Cursor, b: Cursor) -> bool:
    return bool((a.mask() == b.mask()).all()) and a.is_complete() == b.is_complete()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_the_checks(kind: str, tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    compiled = KINDS[kind].compile(vocabulary)
    for seed in range(8):
        _, text = tools.walk(compiled, seed, vocabulary, 60)
        cursor = compiled.start()
        for token in [*text, None]:
            allowed = tokens_of(cursor.mask(), 420).tolist()
            assert tools.by_checks(cursor, 420) == allowed
            assert [t for t in range(420) if cursor.allows(t)] == allowed
            assert not any(cursor.allows_many([-1, 0, 1, 400, 419, 420, 10_000]))
            if token is not None:
                assert token in allowed
                cursor.advance(token)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "canonical"])  # asks 50,000 tokens one by one
def test_a_mask_is_the_checks_with_a_real_vocabulary(kind: str, tools: ModuleType, data: Path) -> None:
    vocabulary = vocabulary_of(tools.real_tokenizer(data / "tok-gpt2"), None, (50256,))
    cursor, rng = KINDS[kind].compile(vocabulary).start(), random.Random(1)
    for _ in range(5):
        allowed = tokens_of(cursor.mask(), len(vocabulary)).tolist()
        assert tools.by_checks(cursor, len(vocabulary)) == allowed
        if not allowed:
            break
        cursor.advance(rng.choice(allowed))


@pytest.mark.parametrize("kind", KINDS)
def test_cursors_are_values(kind: str, tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    compiled, rng = KINDS[kind].compile(vocabulary), random.Random(5)
    held: list[tuple[Cursor, list[int]]] = [(compiled.start(), [])]
    for _ in range(100):
        cursor, text = held[rng.randrange(len(held))]
        match rng.randrange(4):
            case 0:
                held.append((cursor.fork(), text.copy()))
            case 1 if text:
                n = rng.randrange(len(text) + 1)
                cursor.rollback(n)
                del text[len(text) - n :]
            case _:
                allowed = tokens_of(cursor.mask(), 420).tolist()
                refused = rng.randrange(420)
                if refused not in allowed:
                    with pytest.raises(ValueError, match=f"token {refused} is not allowed here"):
                        cursor.advance(refused)
                if allowed:
                    text.append(rng.choice(allowed))
                    cursor.advance(text[-1])
        if len(held) > 8:
            held.pop(rng.randrange(len(held)))
        for cursor, text in held:
            fresh = compiled.start()
            for token in text:
                fresh.advance(token)
            assert same(cursor, fresh)


def language(compiled: Compiled, most: int = 2_000) -> set[bytes]:
    """Every text that masks lead to."""
    found, open_ = set[bytes](), [(compiled.start(), b"")]
    steps = 0
    while open_:
        cursor, text = open_.pop()
        steps += 1
        assert steps < most * 20
        if cursor.is_complete():
            found.add(text)
        for token in tokens_of(cursor.mask(), len(compiled.vocabulary)).tolist():
            child = cursor.fork()
            child.advance(token)
            open_.append((child, text + compiled.vocabulary.tokens[token]))
    return found


SMALL = Vocabulary((b"a", b"b", b"ab", b"ba", b"aab", b"\xc3", b"\xa9", b"\xc3\xa9", b"a", b"", b"\xe6\x97", b"\xa5"))


@pytest.mark.parametrize("engine", ["llguidance", "outlines_core"])
@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("a|ab|aab", ["a", "ab", "aab"]),
        ("(a|b){0,3}", ["".join(letters) for n in range(4) for letters in itertools.product("ab", repeat=n)]),
        ("(a|é|日){1,2}", [*"aé日", *(x + y for x in "aé日" for y in "aé日")]),
        ("", [""]),
        ("a?é?", ["", "a", "é", "aé"]),
    ],
)
def test_finite_languages_are_reached_whole(engine: Any, pattern: str, texts: list[str]) -> None:
    assert language(Regex(pattern, engine).compile(SMALL)) == {text.encode() for text in texts}


def test_choices_are_reached_whole_where_tokens_can_spell_them() -> None:
    options = ("a", "ab", "abab", "é", "日", "", "bé", "x", "日x")
    assert language(Choice(options).compile(SMALL)) == {option.encode() for option in options[:7]}


def test_finite_schemas_are_reached_whole(tools: ModuleType) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [1, "é", None]}, "b": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    letters = Vocabulary(tuple(bytes([i]) for i in range(256)))
    expected = {f'{{"a":{a}{b}}}'.encode() for a in ("1", '"é"', "null") for b in ("", ',"b":true', ',"b":false')}
    found = {text for text in language(JsonSchema(schema, whitespace="compact").compile(letters)) if b"\\u" not in text}
    assert found == expected


def test_a_dead_end_is_a_state_from_which_one_can_go_back() -> None:
    compiled = Grammar("start: /a(bx|c|ab)/", Vocabulary((b"a", b"b", b"c", b"")))
    cursor = compiled.start()
    cursor.advance(0)
    other = cursor.fork()
    cursor.advance(1)  # no token holds an x
    assert tokens_of(cursor.mask(), 4).tolist() == []
    assert not cursor.is_complete()
    assert cursor.allows_many([0, 1, 2, 3]) == [False] * 4
    assert cursor.explain() == "nothing can follow, and the text is not complete"
    cursor.rollback(1)
    assert same(cursor, other)
    cursor.advance(2)
    assert cursor.is_complete()


def test_a_table_refuses_what_it_cannot_spell_and_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConstraintError, match=r"cannot compile this pattern .*; use engine='llguidance'"):
        Regex("a(bx|c|ab)", "outlines_core").compile(Vocabulary((b"a", b"b", b"c", b"")))
    monkeypatch.setattr("decodekit.constraints.backends.outlines_core.STATES", 5)
    with pytest.raises(ConstraintError, match=r"has \d+ states, and outlines-core is used up to 5; use engine="):
        Regex("a{9}", "outlines_core").compile(SMALL)


def test_masks_of_equal_states_are_built_once(tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    compiled = Regex("[a-z ]+").compile(vocabulary)
    one, other = compiled.start(), compiled.start()
    for token in vocabulary.spell(b"the quick") or []:
        one.advance(token)
    for letter in b"the quick":
        other.advance(vocabulary.by_bytes[bytes([letter])][0])
    before = compiled.built
    assert one.mask() is other.mask()
    assert compiled.built == before + 1


def test_what_was_expected_is_said(tools: ModuleType) -> None:
    compiled = Words([b"yes", b"no"], Vocabulary(tuple(bytes([i]) for i in range(256))))
    cursor = compiled.start()
    assert cursor.explain() == "expected 'n', 'y'"
    for letter in b"no":
        cursor.advance(letter)
    assert cursor.explain() == "expected the end of the text"
