"""Whether a text can be completed: no dead ends.

The tables of a grammar without conflicts shift only what can be completed, so the parser's side is mostly settled. The
lexer's is not: a terminal may be hidden by others in every text, or by what the lexeme before it would still swallow.
Both are proved once per grammar, by a text for every terminal in every state after every terminal. Where the proof
fails, completions are searched for one by one, up to a bound; beyond it a text counts as possible.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import Any, Final

from lark.parsers.lalr_analysis import LALR_Analyzer

from .adjacency import Seams
from .completion import Completion
from .scanner import Place, Scanner
from .tables import END, QUOTED, Stack, Tables
from .terminal_automaton import State, Terminal

WORDS: Final = 12
"""How many texts of a terminal are tried."""
STACKS: Final = 3_000
"""How many parser stacks are looked at for a completion."""

Seam = frozenset[tuple[Terminal, State]]
"""What the lexeme before could still become: terminals that must not match any more."""


class Future:
    """What the terminals of a grammar allow after one another.

    plain: whether the tables only shift what can be completed: every rule has texts, and Lark resolved no conflict.
    clear: whether every terminal of every LALR state can be written there, whatever was before.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._words: dict[str, list[bytes]] = {}
        self._checked: dict[tuple[int, Seam], bool] = {}
        self._written: dict[tuple[Scanner, str, Seam], Seam | None] = {}
        self._gaps = list(dict.fromkeys(gap for name in sorted(tables.ignored) for gap in self._between(name)))
        self.plain = _productive(tables) and not _conflicts(tables)
        self.clear = self._all_clear()
        if not self.clear and Seams(tables).prune():
            self.plain = False
            self._checked.clear()
            self.clear = self._all_clear()
        self.completion = None if self.plain else Completion(tables)

    def words(self, name: str) -> list[bytes]:
        """Some texts of a terminal, shortest first."""
        if name not in self._words:
            definition = self.tables.lark.parser.lexer_conf.terminals_by_name.get(name.removeprefix(QUOTED))
            found = list[bytes]()
            if definition is not None and definition.pattern.type == "str":
                found = [definition.pattern.value.encode()]
            elif definition is not None:
                terminal = self.tables.terminal(definition)
                start = terminal.start(b"", False)
                for byte in terminal.bytes_of(start):
                    after = terminal.step(start, byte)
                    rest = None if after is None else b"" if after.hit else terminal.shortest(after)
                    if rest is not None:
                        found.append(bytes([byte]) + rest)
                        if after is not None and not rest and (more := terminal.shortest(after)) is not None:
                            found.append(bytes([byte]) + more)
            self._words[name] = sorted(found, key=lambda word: (len(word), word))[:WORDS]
        return self._words[name]

    def _between(self, name: str) -> list[bytes]:
        """Texts of an ignored terminal: single bytes, of which one may end what another would not, and two more."""
        definition = self.tables.lark.parser.lexer_conf.terminals_by_name.get(name)
        if definition is None:
            return []
        terminal = self.tables.terminal(definition)
        start = terminal.start(b"", False)
        single = [bytes([b]) for b in range(128) if (after := terminal.step(start, b)) is not None and after.hit]
        return [*single, *self.words(name)[:2]]

    def follows(self, place: Place, stack: Stack) -> bool:
        """Whether all that the parser may want after `stack` can be written although `place` could read on."""
        return self.free(stack.state, seam(place))

    def free(self, state: int, before: Seam) -> bool:
        """Whether all that the parser may take in `state`, the end included, can be written after `before`."""
        key = (state, before)
        if key not in self._checked:
            scanner, row = self.tables.scanners[state], self.tables.rows[state]
            names = [name for name in scanner.names if name in row and name not in self.tables.ignored]
            self._checked[key] = all(self.written(scanner, name, before) is not None for name in names) and (
                END not in row or self._closes(scanner, before)
            )
        return self._checked[key]

    def _closes(self, scanner: Scanner, before: Seam) -> bool:
        """Whether the text can end after `before`: the end too may let what was open match instead."""
        if _quiet(before):
            return True
        texts = [(gap, name) for gap in self._gaps for name in self.tables.ignored if _ends(before, gap)]
        return any((after := self.read(scanner, gap, name)) is not None and _quiet(after) for gap, name in texts)

    def written(self, scanner: Scanner, name: str, before: Seam) -> Seam | None:
        """The seam after some text that `scanner` reads as `name`, after ignored ones, and that ends `before`."""
        key = (scanner, name, before)
        if key not in self._written:
            self._written[key] = self._writing(scanner, name, before)
        return self._written[key]

    def _writing(self, scanner: Scanner, name: str, before: Seam) -> Seam | None:
        for gap in (b"", *self._gaps):
            for word in self.words(name):
                after = self.read(scanner, gap + word, name) if _ends(before, gap + word) else None
                if after is not None:
                    return after
        return None

    def read(self, scanner: Scanner, text: bytes, name: str) -> Seam | None:
        """The seam where all of `text` is read as ignored terminals and then `name`; None where it is not."""
        at, upto, here, last = 0, 0, scanner.first(b"", False), ""
        while at < len(text):
            after = here.step(text[at])
            if after is None or (after.dead and at + 1 < len(text)):
                if after is not None and after.hit:
                    upto, last = at + 1 - after.hit[0], after.hit[1]
                if last not in self.tables.ignored or not last:
                    return None
                at, here, last = upto, scanner.first(b"", False), ""
                continue
            at, here = at + 1, after
            if after.hit:
                upto, last = at - after.hit[0], after.hit[1]
        return seam(here) if upto == len(text) and last == name else None

    def _all_clear(self) -> bool:
        """For every state that a terminal leads to, after every text that this terminal was shown to have there."""
        tables = self.tables
        if tables.reach:  # what was before a lexeme matters, so one text proves nothing
            return False
        known = tables.lark.parser.lexer_conf.terminals_by_name
        for state, row in tables.rows.items():  # is there one that the parser needs and the lexer never gives it?
            if any(
                name in known and (name in tables.ignored or name not in tables.scanners[state].names) for name in row
            ):
                return False
        taken: dict[Scanner, set[str]] = {}
        for state, row in tables.rows.items():
            taken.setdefault(tables.scanners[state], set()).update(row)
        nothing: Seam = frozenset()
        ends: dict[str, set[Seam]] = {}
        for scanner, names in taken.items():
            for name in scanner.names & (names | tables.ignored):
                after = self.written(scanner, name, nothing)
                if after is not None:
                    ends.setdefault(name, set()).add(after)
                elif name not in tables.ignored or scanner.first(b"", False).can(name):
                    return False
        lines = getattr(tables.indenter, "NL_type", "")
        reached: dict[int, set[str]] = {tables.first_state: set()}
        for row in tables.rows.values():
            for name, (shift, target) in row.items():
                if shift and (name in ends or not name.islower()):
                    reached.setdefault(target, set()).add(name if name in ends else lines)
        for state, led in reached.items():
            for name in {*led, *tables.ignored}:
                if not all(self.free(state, before) for before in ends.get(name, ())):
                    return False
        return True

    def kind(self, state: int) -> int:
        """A number; stacks of the same kind of state on top of the same frames are completed alike."""
        return state if self.completion is None else self.completion.kinds[state]

    def completed(self, stack: Stack) -> bool:
        """Whether some terminals lead from `stack` to the end, lexing aside."""
        if self.completion is None:
            return True
        found = self.completion.completes(stack)
        return self._searched(stack) if found is None else found

    def _searched(self, stack: Stack) -> bool:
        """:meth:`completed` by trying, shorter stacks first; True too where the bound is met."""
        tick, came = count(), dict[Stack, Stack | None]({stack: None})
        open_: list[tuple[int, int, Stack]] = [(stack.height, next(tick), stack)]
        while open_:
            _, _, here = heapq.heappop(open_)
            if here.completed or self.tables.ends(here):
                back: Stack | None = here
                while back is not None:
                    back.completed, back = True, came[back]
                return True
            for name in self.tables.accepted(here):
                after = self.tables.feed(here, name)
                if after is not None and after not in came and after.completed is not False:
                    came[after] = here
                    heapq.heappush(open_, (after.height, next(tick), after))
            if len(came) > STACKS:
                return True
        for here in came:
            here.completed = False
        return False


def seam(place: Place) -> Seam:
    """What a place could still become."""
    return frozenset((place.scanner.terminals[n], state) for n, state in place.entries)


def _ends(before: Seam, text: bytes) -> bool:
    """Whether `text` ends all that was open, without a match."""
    for terminal, state in before:
        here: State | None = state
        for byte in text:
            here = terminal.step(here, byte) if here is not None else None
            if here is None or here.hit:
                break
        if here is not None and (here.hit or terminal.lives(here)):
            return False
    return True


def _quiet(before: Seam) -> bool:
    """Whether nothing that was open matches because the text ends."""
    return all(terminal.end(state) is None for terminal, state in before)


def _productive(tables: Tables) -> bool:
    """Whether every rule has a text."""
    rules: list[Any] = tables.lark.parser.parser_conf.rules
    good, grown = set[str](), True
    while grown:
        before = len(good)
        good |= {r.origin.name for r in rules if all(each.is_term or each.name in good for each in r.expansion)}
        grown = len(good) > before
    return all(each.is_term or each.name in good for r in rules for each in (r.origin, *r.expansion))


def _conflicts(tables: Tables) -> bool:
    """Whether Lark resolved a conflict, by shifting or by priority; then tables may shift into a dead end."""
    analysis: Any = LALR_Analyzer(tables.lark.parser.parser_conf, debug=False, strict=False)
    analysis.compute_lalr()
    return any(
        len(rules) > 1 or sign in items.transitions
        for items in analysis.lr0_itemsets
        for sign, rules in items.lookaheads.items()
    )
