"""The SQL grammar as a machine over terminals: places are values, and every place can be completed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, TypeAlias

from .actions import ACTIONS
from .database import KEYWORDS
from .joins import key_pairs
from .open_symbols import Terminal
from .rules import ELSE, RULES, Rule, Symbol
from .scope import CLOSED, Names, Scope
from .spelling import PLAINLY, Style, is_plain, spelt, styled
from .tables import OPEN_SYMBOLS

END: Final = "end"
"""The terminal after the last one."""
UNKNOWN: Final = b"?"
"""Stands for the end of a place that was not looked for; no statement ends like that."""
PLACES: Final = 20_000
"""Places remembered; when there are more, all are forgotten."""
Stack: TypeAlias = "tuple[Symbol, Any] | None"


class Place:
    """A point between two lexemes. Equal places have equal futures; what is learnt about one is kept with it."""

    __slots__ = ("_offer", "hash", "moves", "open", "prefixes", "rest", "scope", "special", "stack", "starts", "style")

    def __init__(self, stack: Stack, scope: Scope, style: Style) -> None:
        self.stack, self.scope, self.style = stack, scope, style
        self.hash = hash((stack, scope, style))
        self.moves: dict[Terminal, Place | None] = {}
        self.prefixes: dict[Any, bool] = {}
        self.starts: dict[int, Any] = {}
        self.special: list[bytes] | None = None
        self.open: list[tuple[int, Any]] | None = None
        self._offer: Offer | None = None
        self.rest: bytes | None = UNKNOWN

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Place):
            return NotImplemented
        return (
            self.hash == other.hash
            and self.style == other.style
            and self.scope == other.scope
            and self.stack == other.stack
        )

    def offer(self, names: Names) -> Offer:
        """What may stand here, as far as the grammar says."""
        if self._offer is None:
            self._offer = Offer(names, self.stack, self.scope, self.style)
        return self._offer


class Offer:
    """Candidates for the next terminal; :meth:`Parser.shift` has the last word.

    terminals: key words and signs. words, qualifiers: names in lower case. plain: those that need no quotes. loose,
    loose_qualifier: any new name. numbers: ordinals. begins: what can be written as a word, by its first letter.
    quoted: what can be written in quotes, sorted.
    """

    __slots__ = ("begins", "loose", "loose_qualifier", "numbers", "plain", "qualifiers", "quoted", "terminals", "words")

    def __init__(self, names: Names, stack: Stack, scope: Scope, style: Style) -> None:
        terminals, words, qualifiers = set[str](), set[str](), set[str]()
        self.loose = self.loose_qualifier = False
        while stack is not None:
            symbol, stack = stack
            name = _head(symbol)
            if name[0] == "@" or _whole(scope, name):
                continue
            if name == "condition" and not key_pairs(names, scope):
                stack = ("expr", stack)
                continue
            if name in OPEN_SYMBOLS:
                one = OPEN_SYMBOLS[name]
                terminals.update(one.terminals(names, scope, symbol))
                words.update(one.words(names, scope, symbol))
                qualifiers.update(one.qualifiers(names, scope, symbol))
                self.loose |= one.loose(names, scope, symbol)
                self.loose_qualifier |= one.loose_qualifier(names, scope, symbol)
                if not one.optional(names, scope, symbol):
                    break
            elif name in RULES:
                rule = RULES[name]
                terminals.update(word for word in rule if word not in (ELSE, ""))
                if ELSE in rule:
                    stack = push(rule[ELSE], stack)
                elif "" not in rule:
                    break
            else:
                terminals.add(name)
                break
        self.terminals = frozenset(terminals) - names.without
        self.numbers = tuple(sorted(word for word in words if word.isdigit()))
        self.words = frozenset(words - set(self.numbers))
        self.qualifiers = frozenset(qualifiers)
        known = self.words, self.qualifiers, self.terminals
        self.plain, self.begins, self.quoted = _index(*known) if names.spelt is None else spelt(names, style, *known)


@lru_cache(4096)
def _index(
    words: frozenset[str], qualifiers: frozenset[str], terminals: frozenset[str]
) -> tuple[frozenset[str], dict[str, list[tuple[str, Terminal]]], list[bytes]]:
    """What needs no quotes, all that can be written as a word by its first letter, and all that can be written in
    quotes, sorted; shared by equal offers.
    """
    plain = frozenset(word for word in words | qualifiers if is_plain(word))
    begins: dict[str, list[tuple[str, Terminal]]] = {}
    for term in terminals:
        if term.isupper():
            begins.setdefault(term[0].lower(), []).append((term.lower(), term))
    for kind, known in (("w", words), ("q", qualifiers)):
        for word in known & plain:
            begins.setdefault(word[0], []).append((word, (kind, word)))
    return plain, begins, sorted(word.encode() for word in words | qualifiers)


class Parser:
    """Reads terminals. One per compiled constraint."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._places: dict[tuple[Stack, Scope, Style], Place] = {}
        self.first = self.place(("statement", None), Scope(phase=CLOSED, blind=True), PLAINLY)

    def place(self, stack: Stack, scope: Scope, style: Style) -> Place:
        """The place of these symbols, this scope and this spelling."""
        key = (stack, scope, style)
        found = self._places.get(key)
        if found is None:
            if len(self._places) >= PLACES:
                for place in self._places.values():
                    place.moves.clear()
                    place.prefixes.clear()
                    place.starts.clear()
                    place.open = None
                self._places.clear()
            found = self._places[key] = Place(stack, scope, style)
        return found

    def shift(self, place: Place, terminal: Terminal) -> Place | None:
        """The place after one more terminal; None where no statement goes on like that."""
        try:
            return place.moves[terminal]
        except KeyError:
            found = None if terminal in self.names.without else self._shift(place, terminal)
            place.moves[terminal] = found
            return found

    def read(self, place: Place, terminal: Terminal, word: str) -> Place | None:
        """`shift`, where the terminal was written as `word`: its case holds for the rest of the statement."""
        after = self.shift(place, terminal)
        if after is None or self.names.spelt is None:
            return after
        style = styled(self.names, place.style, terminal, word)
        return after if style == after.style else self.place(after.stack, after.scope, style)

    def ends(self, place: Place) -> bool:
        """Whether the statement may end here."""
        return self.shift(place, END) is not None

    def _shift(self, place: Place, terminal: Terminal) -> Place | None:
        stack: Stack = place.stack
        scope: Scope | None = place.scope
        while stack is not None and scope is not None:
            symbol, rest = stack
            name = _head(symbol)
            if name[0] == "@":
                scope, stack = self._act(scope, symbol), rest
            elif _whole(scope, name):
                stack = rest
            elif name in OPEN_SYMBOLS:
                read = OPEN_SYMBOLS[name].take(self.names, scope, symbol, terminal)
                if read is None:
                    return None
                stack, scope = push(read.symbols, rest), read.scope
                if read.consumed:
                    return self._settled(stack, scope, place.style)
            elif name in RULES:
                chosen = _chosen(RULES[name], terminal)
                if chosen is None:
                    return None
                stack = push(chosen, rest)
            else:
                return self._settled(rest, scope, place.style) if name == terminal else None
        return place if scope is not None and terminal == END else None

    def _settled(self, stack: Stack, scope: Scope | None, style: Style) -> Place | None:
        """The place after the actions that stand first are done."""
        while stack is not None and scope is not None and _head(stack[0])[0] == "@":
            symbol, stack = stack
            scope = self._act(scope, symbol)
        return self.place(stack, scope, style) if scope is not None else None

    def _act(self, scope: Scope, symbol: Symbol) -> Scope | None:
        if isinstance(symbol, tuple):
            return ACTIONS[str(symbol[0])](self.names, scope, symbol[1])
        return ACTIONS[symbol](self.names, scope, None)


def _head(symbol: Symbol) -> str:
    return symbol if isinstance(symbol, str) else str(symbol[0])


def _whole(scope: Scope, name: str) -> bool:
    """Whether nothing may be added to the item, which is all columns of one table."""
    return name in ("tail", "alias") and isinstance(scope.bare, tuple) and scope.bare[0] == "*"


def _chosen(rule: Rule, terminal: Terminal) -> tuple[Symbol, ...] | None:
    if isinstance(terminal, str) and terminal in rule:
        return rule[terminal]
    return rule.get(ELSE, rule.get(""))


def push(symbols: tuple[Symbol, ...], stack: Stack) -> Stack:
    """The stack with symbols put before it."""
    for symbol in reversed(symbols):
        stack = (symbol, stack)
    return stack


def new_name(word: str) -> bool:
    """Whether a word may be a new name without quotes."""
    return word not in KEYWORDS
