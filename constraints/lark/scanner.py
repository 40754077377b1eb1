"""The lexer of one LALR state: its terminals in Lark's order, as one lazily built automaton over bytes.

Lark matches one alternation of all terminals that the state can use. The first alternative that matches wins, however
short; so a place is the list of the terminals still alive, cut below the first that has matched. Terminals run on
automata of their own, which all states of the parser share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from decodekit.errors import ConstraintError

from .terminal_automaton import State, Terminal

PLACES: Final = 50_000
"""The most places that the lexer of one LALR state may take."""
SEARCH: Final = 5_000
"""How many places are looked at for a text that ends in a given terminal, before it counts as possible."""


class Place:
    """A place inside one lexeme.

    entries: (index of the terminal, its state), best first. hit: (bytes since the end, index of the name) of the match
    that became certain with the last byte, which cuts everything behind it. keep: bytes to remember. waits: whether a
    match depends on what comes. dead: whether nothing can match later. number: counts the places of its scanner.
    """

    __slots__ = (
        "_ends",
        "_labels",
        "_names",
        "classes",
        "dead",
        "entries",
        "hit",
        "keep",
        "next",
        "number",
        "scanner",
        "waits",
    )

    def __init__(self, scanner: Scanner, entries: tuple[tuple[int, State], ...], hit: tuple[int, str] | None) -> None:
        self.scanner, self.entries, self.hit, self.dead = scanner, entries, hit, not entries
        self.number = len(scanner.places)
        self.keep = max((state.keep for _, state in entries), default=0)
        self.waits = any(item[2] >= 0 for _, state in entries for item in state.items)
        self.next: list[Place | bool | None] = [False] * 256
        self._labels: dict[str, bool] = {}
        self._ends: tuple[int, str] | bool | None = False
        self.classes: list[int] | None = None
        self._names: tuple[str, ...] | None = None

    def step(self, byte: int) -> Place | None:
        """After one more byte; None where the lexeme is over and no match became certain."""
        found = self.next[byte]
        if found is False:
            found = self.next[byte] = self.scanner.after(self, byte)
        return found  # type: ignore[return-value]

    def end(self) -> tuple[int, str] | None:
        """The match that becomes certain because the text ends here."""
        if self._ends is False:
            self._ends = self.scanner.ended(self)
        return self._ends  # type: ignore[return-value]

    def names(self) -> tuple[str, ...]:
        """What the open lexeme could be called by its living terminals alone."""
        if self._names is None:
            found = dict[str, None]()
            for n, state in self.entries:
                name = self.scanner.terminals[n].name
                found[name] = None
                if name in self.scanner.words and state.words:
                    found.update(dict.fromkeys(self.scanner.words[name]))
            self._names = tuple(found)
        return self._names

    def learn(self, labels: set[str]) -> None:
        """`labels` are all that it can become."""
        self._labels = {name: name in labels for name in self.scanner.names}

    def can(self, label: str) -> bool:
        """Whether the lexeme can still become a `label`, by bytes that are yet to come."""
        found = self._labels.get(label)
        if found is None:
            found = self._labels[label] = self.scanner.possible(self, label)
        return found


class Scanner:
    """The ordered alternation of some terminals (`lark.lexer.Scanner`).

    terminals: best first. words: for a terminal, the names that its exact spellings get instead, in order.
    reach: how many bytes before a lexeme any of them looks at.
    """

    def __init__(self, terminals: list[Terminal], words: dict[str, list[str]]) -> None:
        self.terminals, self.words = terminals, words
        self.reach = max((each.program.reach for each in terminals), default=0)
        self.places: dict[tuple[tuple[tuple[int, State], ...], tuple[int, str] | None], Place] = {}
        self.names = frozenset(name for each in terminals for name in (each.name, *words.get(each.name, ())))
        self.firsts: dict[tuple[bytes, bool], Place] = {}

    def first(self, recent: bytes, whole: bool) -> Place:
        """Before a lexeme that follows `recent`; `whole` where nothing came before that."""
        key = (recent, whole) if self.reach else (b"", False)
        found = self.firsts.get(key)
        if found is None:
            states = ((n, each.start(*key)) for n, each in enumerate(self.terminals))
            entries = tuple((n, state) for n, state in states if self.terminals[n].lives(state))
            found = self.firsts[key] = self.place(entries, None)
        return found

    def place(self, entries: tuple[tuple[int, State], ...], hit: tuple[int, str] | None) -> Place:
        """The one place with these entries."""
        key = (entries, hit)
        found = self.places.get(key)
        if found is None:
            if len(self.places) >= PLACES:
                raise ConstraintError(
                    f"the terminals {', '.join(sorted(self.names)[:6])} ... take over {PLACES} places together; "
                    f"write them more simply"
                )
            found = self.places[key] = Place(self, *key)
        return found

    def after(self, place: Place, byte: int) -> Place | None:
        """One step of all terminals; the first that has matched cuts those behind it."""
        entries, hit = list[tuple[int, State]](), None
        for n, state in place.entries:
            terminal = self.terminals[n]
            after = terminal.step(state, byte)
            if after is None:
                continue
            if terminal.lives(after):
                entries.append((n, after))
            if after.hit is not None:
                hit = (after.hit[0], self.label(terminal.name, after.hit[1]))
                break
        return self.place(tuple(entries), hit) if entries or hit else None

    def ended(self, place: Place) -> tuple[int, str] | None:
        """The match of the best terminal that matches because the text ends."""
        for n, state in place.entries:
            found = self.terminals[n].end(state)
            if found is not None:
                return found[0], self.label(self.terminals[n].name, found[1])
        return None

    def label(self, name: str, spelled: frozenset[str]) -> str:
        """The name of a match of terminal `name` that has the exact spellings `spelled`."""
        return next((word for word in self.words.get(name, ()) if word in spelled), name) if spelled else name

    def possible(self, place: Place, label: str) -> bool:
        """Whether some text leads from `place` to a match named `label`."""
        if label not in self.names:
            return False
        ways = [(n, s) for n, s in place.entries if self.might(n, label)]
        if not ways:
            return False
        if len(place.entries) == 1:  # nothing else can hide it
            terminal, state = self.terminals[ways[0][0]], ways[0][1]
            return any(self.label(terminal.name, spelled) == label for spelled in spellings(terminal, state))
        for n, state in ways:  # the shortest way of the terminal alone is mostly not shadowed
            text = self.terminals[n].shortest(state)
            if text is not None and label in self.passed(place, text):
                return True
        return label in self.reached(place, label)

    def might(self, n: int, label: str) -> bool:
        """Whether terminal `n` can have the name `label`."""
        name = self.terminals[n].name
        return label == name or label in self.words.get(name, ())

    def passed(self, place: Place, text: bytes) -> set[str]:
        """The names of the matches on the way along `text`."""
        out, here = set[str](), place
        for byte in text:
            after = here.step(byte)
            if after is None:
                break
            here = after
            if here.hit:
                out.add(here.hit[1])
        return out

    def reached(self, place: Place, label: str) -> set[str]:
        """The names of matches that some text leads to, until `label` is among them."""
        seen, open_, out = {place}, deque([place]), set[str]()
        while open_ and label not in out:
            for after in self.successors(open_.popleft()):
                if after.hit:
                    out.add(after.hit[1])
                if after not in seen:
                    seen.add(after)
                    open_.append(after)
            if len(seen) > SEARCH:
                return {label}
        if label not in out:
            place.learn(out)
        return out

    def bytes_of(self, place: Place) -> list[int]:
        """One byte of each class that the place tells apart."""
        if place.classes is None:
            found = {byte for n, state in place.entries for byte in self.terminals[n].bytes_of(state)}
            place.classes = sorted(found)
        return place.classes

    def successors(self, place: Place) -> Iterator[Place]:
        """Every place one byte further, some more than once."""
        for byte in self.bytes_of(place):
            after = place.step(byte)
            if after is not None:
                yield after


def spellings(terminal: Terminal, state: State) -> set[frozenset[str]]:
    """The spellings of all matches that some text leads to from a state of a terminal."""
    if state.spelled is None:
        _spread(terminal, state)
    return state.spelled or set()


def _spread(terminal: Terminal, state: State) -> None:
    """For all states that `state` leads to, from the matches backwards."""
    before: dict[State, list[State]] = {state: []}
    open_, changed = [state], list[State]()
    while open_:
        here = open_.pop()
        here.spelled = set()
        for byte in terminal.bytes_of(here):
            after = terminal.step(here, byte)
            if after is None:
                continue
            if after.hit:
                here.spelled.add(after.hit[1])
            if after in before:
                before[after].append(here)
            elif after.spelled is not None:  # known from before
                here.spelled |= after.spelled
            else:
                before[after] = [here]
                open_.append(after)
        changed.append(here)
    while changed:
        here = changed.pop()
        for each in before[here]:
            if here.spelled and each.spelled is not None and not here.spelled <= each.spelled:
                each.spelled |= here.spelled
                changed.append(each)
