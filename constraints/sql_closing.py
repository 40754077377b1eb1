"""How a SQL statement that was begun can be ended: one short way, found without search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from decodekit.constraints.sql_lexer import Lexer
from decodekit.constraints.sql_literals import NUMBER, QUOTED, SIGN, VALUE, WORD, State
from decodekit.constraints.sql_open import Terminal
from decodekit.constraints.sql_parser import END, Place, is_plain
from decodekit.constraints.sql_rules import ELSE, RULES, Symbol
from decodekit.constraints.sql_scope import missing
from decodekit.constraints.sql_tables import OPEN_SYMBOLS

STEPS: Final = 2_000
"""The most lexemes that are added."""
_FIRST: Final = ("NULL", "num", "int", "str")
_WAYS: Final = ("FROM", "USING", "NATURAL", ",", "AS")
"""What helps where the next thing that the grammar needs is refused: something named earlier still has to come."""


class SqlMachine(Lexer):
    """The lexer, and how to end what was begun."""

    def ending(self, state: State) -> bytes | None:
        """A text that completes the statement; None where none was found."""
        return closing(self, state)


def closing(lexer: Lexer, state: State) -> bytes | None:
    """A text that completes the statement; None where none was found."""
    for text, place in _endings(lexer, state):
        rest = _rest(lexer, place, tight=text.endswith(b".") or not lexer.moved(state))
        if rest is not None:
            return text + rest
    return None


def _endings(lexer: Lexer, state: State) -> Iterator[tuple[bytes, Place]]:
    """Ways to end the lexeme that is being read."""
    place, mode, a, b = state
    done = lexer.settled(state)
    if done is not None:
        yield b"", done
    tails = [b"'", b'"', b"=", b"0", b".", b"|"]
    if mode == WORD:
        offer = place.offer(lexer.names)
        known = {term.lower() for term in offer.terminals if term.isupper()} | set(offer.plain)
        begun = sorted((word for word in known if word.startswith(a)), key=lambda word: (len(word), word))
        tails = [*(word[len(a) :].encode() + dot for word in begun for dot in (b"", b".")), b".", b"_", b"_."]
    elif mode == QUOTED:
        offer = place.offer(lexer.names)
        names = sorted(name.encode() for name in offer.words | offer.qualifiers if name.encode().startswith(a))
        tails = [name[len(a) :].replace(b'"', b'""') + end for name in names for end in (b'"', b'".')] + [b'"', b'x"']
    elif mode == VALUE:
        values = sorted(lexer.values_of(place) or (), key=lambda text: (len(text), text))
        tails = [text[len(a) :].replace(b"'", b"''") + b"'" for text in values if text.startswith(a)]
    elif mode not in (NUMBER, SIGN) and b and b > 0:
        tails = [bytes([low]) * (b % 8) + quote for low in (0x80, 0x90, 0xA0) for quote in (b"'", b'"')]
    for tail in tails:
        after = lexer.leap(state, tail)
        end = None if after is None else lexer.settled(after)
        if end is not None:
            yield tail, end


def _rest(lexer: Lexer, place: Place, tight: bool) -> bytes | None:
    """Lexemes to the end of the statement."""
    out = b""
    for _ in range(STEPS):
        if lexer.parser.ends(place):
            return out
        found = next(_moves(lexer, place), None)
        if found is None:
            return None
        text, place = found
        out += text if tight else b" " + text
        tight = text.endswith(b".")
    return None


def _moves(lexer: Lexer, place: Place) -> Iterator[tuple[bytes, Place]]:
    """The next lexeme: what the grammar needs, or what brings nearer a table that is waited for."""
    needed = list(_needed(lexer, place))
    for terminal in (*needed, *_WAYS):
        after = lexer.parser.shift(place, terminal)
        if after is not None:
            yield spelled(terminal), after


def _needed(lexer: Lexer, place: Place) -> Iterator[Terminal]:
    stack, scope = place.stack, place.scope
    while stack is not None:
        symbol, rest = stack
        name = symbol if isinstance(symbol, str) else str(symbol[0])
        if name in OPEN_SYMBOLS:
            yield from _opened(lexer, place, symbol, name)
            if not OPEN_SYMBOLS[name].optional(lexer.names, scope, symbol):
                return
        elif name in RULES:
            rule = RULES[name]
            if "" in rule:
                stack = rest
                continue
            if ELSE in rule:
                stack = (rule[ELSE][0], rest) if rule[ELSE][0] != "@item" else (rule[ELSE][1], rest)
                while isinstance(stack[0], str) and stack[0][0] == "@":
                    stack = (rule[ELSE][rule[ELSE].index(stack[0]) + 1], rest)
                continue
            yield from sorted(rule, key=lambda word: (word not in ("SELECT", "IN"), len(word), word))
            return
        elif name[0] != "@":
            yield name
            return
        stack = rest
    yield END


def _opened(lexer: Lexer, place: Place, symbol: Symbol, name: str) -> Iterator[Terminal]:
    """Terminals of a symbol that depends on the scope, best first."""
    one, names, scope = OPEN_SYMBOLS[name], lexer.names, place.scope
    if name in ("more", "named", "alias") and one.optional(names, scope, symbol):
        return
    if name == "salias":
        if one.optional(names, scope, symbol):
            return
        yield "AS"
        return
    offered = one.terminals(names, scope, symbol)
    yield from (terminal for terminal in _FIRST if terminal in offered)
    words = sorted(one.words(names, scope, symbol), key=lambda word: (not word.isdigit(), len(word), word))
    if name == "source":
        words.sort(key=lambda word: _left(lexer, place, word))
    yield from (("i", word) if word.isdigit() else ("w" if is_plain(word) else "d", word) for word in words)
    yield from (term for term in ("(", *sorted(offered)) if term in offered)
    if one.loose(names, scope, symbol):
        yield from (("w", f"a{i}") for i in range(100))


def _left(lexer: Lexer, place: Place, word: str) -> int:
    """How many tables are still waited for when this one has come."""
    after = lexer.parser.shift(place, ("w", word))
    if after is None or after.scope.cur is None:
        return 1_000
    best = 900
    for name in (word, *sorted({one for one, _, _ in after.scope.pend if one})):
        added = after.scope._replace(sources=(*after.scope.sources, after.scope.cur._replace(name=name)))
        best = min(best, missing(added))
    return best


def spelled(terminal: Terminal) -> bytes:
    """A terminal as text."""
    if isinstance(terminal, str):
        return {"num": b"1", "int": b"1", "str": b"''", "dstr": b'""'}.get(terminal, terminal.encode())
    kind, name = terminal
    if kind in "de":
        name = '"' + name.replace('"', '""') + '"'
    return name.encode() + (b"." if kind in "qe" else b"")
