"""How a SQL statement that was begun can be ended: one short way, found without search."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from string import ascii_lowercase
from typing import Final

from .join_keys import lacking
from .joins import attached, called, key_pairs, tieable
from .lexer import Lexer
from .literals import GAP, NUMBER, QUOTED, SIGN, VALUE, WORD, State
from .open_symbols import Terminal
from .parser import END, UNKNOWN, Place
from .rules import ELSE, RULES, Symbol
from .scope import Scope, Source
from .spelling import is_plain, lettered, written_as
from .tables import OPEN_SYMBOLS

STEPS: Final = 2_000
"""The most lexemes that are added."""
_FIRST: Final = ("NULL", "num", "int", "str")
_WAYS: Final = ("FROM", "ON", "USING", ",", "NATURAL", "JOIN", "AS")
"""What helps where the next thing that the grammar needs is refused: something named earlier still has to come."""
FEW: Final = 3
"""So many ends of a lexeme are looked at."""


class SqlMachine(Lexer):
    """The lexer, and how to end what was begun."""

    def ending(self, state: State) -> bytes | None:
        """A text that completes the statement; None where none was found."""
        return min(self.endings(state), key=lambda text: (len(text), text), default=None)

    def endings(self, state: State) -> Iterator[bytes]:
        """Texts that complete the statement. Along each of them the rest of it stays one of these, or of a shorter one.

        From a place between two lexemes there is one way on, which depends on the place alone (:func:`rest_of`); a
        lexeme that is being read may be ended in that way and in the :data:`FEW` shortest, which stay among the
        shortest while they are read.
        """
        if state[1] == GAP:
            rest = rest_of(self, state[0])
            if rest is None:
                return
            if not rest:
                yield b""
                return
            yield from (text for text in (rest, b" " + rest) if self.leap(state, text) is not None)
            return
        if state[1] == WORD:
            rest = rest_of(self, state[0])
            if rest is not None and lettered(self.names, rest[: len(state[2])].decode(errors="replace")) == state[2]:
                yield rest[len(state[2]) :]
        for tail, place in islice(_tails(self, state), FEW):
            rest = rest_of(self, place)
            if rest is not None:
                yield _joined(tail, rest)


def rest_of(lexer: Lexer, place: Place) -> bytes | None:
    """Lexemes from a place between two of them to the end of the statement; None where no way was found."""
    passed, here = list[tuple[Place, bytes]](), place
    while here.rest == UNKNOWN:
        if len(passed) >= STEPS:
            return None
        found = None if lexer.parser.ends(here) else next(_moves(lexer, here), None)
        if found is None:
            here.rest = b"" if lexer.parser.ends(here) else None
            break
        passed.append((here, found[0]))
        here = found[1]
    rest = here.rest
    for before, text in reversed(passed):
        rest = before.rest = None if rest is None else _joined(text, rest)
    return rest


def _joined(text: bytes, rest: bytes) -> bytes:
    """A lexeme and what follows it: a blank between them, unless the first is the dot of a qualified name."""
    return text + rest if not rest or text.endswith(b".") else text + b" " + rest


def _tails(lexer: Lexer, state: State) -> Iterator[tuple[bytes, Place]]:
    """Ways to end the lexeme that is being read."""
    place, mode, a, b = state
    done = lexer.settled(state)
    if done is not None:
        yield b"", done
    tails = [b"'", b'"', b"=", b"0", b".", b"|"]
    if mode == WORD:
        offer = place.offer(lexer.names)
        begun = list({word for word, _ in offer.begins.get(a[0], ()) if word.startswith(a)})
        begun.sort(key=lambda word: (len(word), word))
        tails = [word[len(a) :].encode() + dot for word in begun for dot in (b"", b".")]
        if offer.loose or offer.loose_qualifier:
            tails += [b".", b"_", b"_.", *(b"%d" % i for i in range(10))]
    elif mode == QUOTED:
        offer = place.offer(lexer.names)
        begun = a + b'"' if b else a  # after one quote a second one goes on with the name
        rests = [name[len(begun) :].replace(b'"', b'""') for name in offer.quoted if name.startswith(begun)]
        tails = [rest + end for rest in [*rests, b""] for end in (b'"', b'".')]
        tails = [b".", *(b'"' + tail for tail in tails)] if b else [*tails, b'x"']
    elif mode == VALUE:
        values = sorted(lexer.values_of(place) or (), key=lambda text: (len(text), text))
        tails = [text[len(a) :].replace(b"'", b"''") + b"'" for text in values if text.startswith(a)]
    elif mode not in (NUMBER, SIGN) and b and b > 0:
        tails = [bytes([low]) * (b % 8) + quote for low in (0x80, 0x90, 0xA0) for quote in (b"'", b'"')]
    for tail in tails:
        after = lexer.leap(state, tail) if tail else None
        end = None if after is None else lexer.settled(after)
        if end is not None:
            yield tail, end


def _moves(lexer: Lexer, place: Place) -> Iterator[tuple[bytes, Place]]:
    """The next lexeme: what the grammar needs, or what brings nearer a table that is waited for."""
    for terminal in _needed(lexer, place):
        text, after = _written(lexer, place, terminal)
        if after is not None:
            yield text, after
    for terminal in _WAYS:
        text, after = _written(lexer, place, terminal)
        if after is not None and (not _joins(terminal, after) or _nearer(lexer, after.scope)):
            yield text, after


def _joins(terminal: str, after: Place) -> bool:
    """Whether another table was begun."""
    top = after.stack[0] if after.stack is not None else ""
    return terminal == "NATURAL" or (isinstance(top, tuple) and top[0] == "source" and terminal != "FROM")


def _nearer(lexer: Lexer, scope: Scope) -> bool:
    """Whether some table that may be joined here is one that is waited for."""
    sources = (*scope.ctes, *lexer.names.tables.values())
    return any(_left(lexer, scope, source) < lacking(lexer.names, scope) for source in sources)


def _left(lexer: Lexer, scope: Scope, source: Source | None) -> int:
    """How many tables are still waited for when this one has come."""
    if source is None or not tieable(lexer.names, scope, source):
        return 1_000
    ways = (attached(lexer.names, scope, source._replace(name=way)) for way in called(lexer.names, scope, source))
    return min((lacking(lexer.names, after) for after in ways if after is not None), default=1_000)


def _needed(lexer: Lexer, place: Place) -> Iterator[Terminal]:
    stack, scope = place.stack, place.scope
    while stack is not None:
        symbol, rest = stack
        name = symbol if isinstance(symbol, str) else str(symbol[0])
        if name == "condition" and not key_pairs(lexer.names, scope):
            stack = ("expr", rest)
            continue
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
    if name in ("more", "named", "called", "alias") and one.optional(names, scope, symbol):
        return
    if name == "salias":
        waited = {qualifier for qualifier, _, _ in scope.pend}
        own = scope.cur is not None and scope.cur.name in waited
        asked = not own and waited & set(OPEN_SYMBOLS["tablename"].words(names, scope, "tablename"))
        if asked or not one.optional(names, scope, symbol):
            yield "AS"
        return
    offered = one.terminals(names, scope, symbol)
    yield from (terminal for terminal in _FIRST if terminal in offered)
    words = sorted(one.words(names, scope, symbol), key=lambda word: (not word.isdigit(), len(word), word))
    if name == "using":
        words.sort(key=lambda word: word not in scope.must)
    if name == "source":
        joined = scope._replace(how=str(symbol[1]))
        words.sort(key=lambda word: _left(lexer, joined, names.source(scope, word)))
    yield from (("i", word) if word.isdigit() else ("w" if is_plain(word) else "d", word) for word in words)
    if not words:
        quals = sorted(one.qualifiers(names, scope, symbol))
        yield from (("q" if is_plain(word) else "e", word) for word in quals)
    yield from (term for term in ("(", *sorted(offered)) if term in offered)
    if one.loose(names, scope, symbol):
        yield from (("w", name) for name in (*ascii_lowercase, *(f"a{i}" for i in range(100))))


def _written(lexer: Lexer, place: Place, terminal: Terminal) -> tuple[bytes, Place | None]:
    """A terminal as text, and the place after it."""
    literals = {"num": "1", "int": "1", "str": "''", "dstr": '""'}
    if isinstance(terminal, str) and (terminal in literals or not terminal[0].isalpha()):
        return literals.get(terminal, terminal).encode(), lexer.parser.shift(place, terminal)
    word = written_as(lexer.names, place.style, terminal)
    after = lexer.parser.read(place, terminal, word)
    if terminal[0] in ("d", "e"):
        word = '"' + word.replace('"', '""') + '"'
    return word.encode() + (b"." if terminal[0] in ("q", "e") else b""), after
