"""Terminals that can never stand side by side, and terminals that no text is read as.

LALR tables know nothing of the lexer: they shift `"if"` after NAME although the lexer reads `xif` as one name. Where no
text of the first terminal, with anything ignored after it, lets the lexer read the second, the action is taken out of
the tables: what is left says what texts can do. The states that terminals lead to, and the first, are the only ones
where that is done: there the lexer is asked, and the terminal that waits stays the same while the parser reduces.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .scanner import Place, Scanner
from .tables import QUOTED, Tables
from .terminal_automaton import AGE

PLACES: Final = 3_000
"""How many places are looked at for a text of two terminals, before it counts as possible."""
BUDGET: Final = 200_000
"""The same for all pairs of a grammar together: about a second."""

Ends = list[tuple[Place, bool]]
"""Places where a lexeme may end; whether its match is certain there, or waits for what comes next."""


class Seams:
    """What of a grammar's tables no text can use."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._ends: dict[tuple[Scanner, str], Ends | None] = {}
        self._direct: dict[tuple[Scanner, str, Scanner, str], bool] = {}
        self._beside: dict[tuple[Scanner, str, Scanner, str], bool] = {}
        self._read: dict[tuple[Scanner, str], bool] = {}
        self.looked = 0

    def prune(self) -> bool:
        """Take the actions out that no text can use; whether there were any."""
        tables = self.tables
        if tables.reach:  # what a terminal matches depends on what was before it
            return False
        known = tables.lark.parser.lexer_conf.terminals_by_name
        readers: dict[str, set[Scanner]] = {}  # the lexer asks the state on top, which may be reduced before the shift
        leads: dict[int, set[str]] = {}
        for state, row in tables.rows.items():
            for name, (shift, target) in row.items():
                if name in known:
                    readers.setdefault(name, set()).add(tables.scanners[state])
                    if shift:
                        leads.setdefault(target, set()).add(name)
        pruned = False
        for state in {tables.first_state, *leads}:  # the others are never on top when the lexer is asked
            row, scanner = tables.rows[state], tables.scanners[state]
            ways = [(old, name) for name in leads.get(state, ()) for old in readers[name]]
            for name in [name for name in row if name in known]:
                read = self.readable(scanner, name)
                if not read or (ways and not any(self.beside(*way, scanner, name) for way in ways)):
                    del row[name]
                    pruned = True
        return pruned

    def readable(self, scanner: Scanner, name: str) -> bool:
        """Whether some text is read as `name` and handed to the parser."""
        key = (scanner, name)
        if key not in self._read:
            labels = [QUOTED + name] if name in self.tables.ignored else [name, QUOTED + name]
            self._read[key] = any(scanner.first(b"", False).can(label) for label in labels)
        return self._read[key]

    def beside(self, old: Scanner, name: str, new: Scanner, want: str) -> bool:
        """Whether `new` can read a `want` after a `name` that `old` has read, and after ignored terminals."""
        key = (old, name, new, want)
        if key not in self._beside:
            self._beside[key] = self._found(*key)
        return self._beside[key]

    def _found(self, old: Scanner, name: str, new: Scanner, want: str) -> bool:
        seen, open_ = {name}, [(old, name)]
        while open_:
            way = open_.pop()
            if self.direct(*way, new, want):
                return True
            for gap in self.tables.ignored - seen:
                if self.direct(*way, new, gap):
                    seen.add(gap)
                    open_.append((new, gap))
        return False

    def direct(self, old: Scanner, name: str, new: Scanner, want: str) -> bool:
        """The same with nothing between them. True too where the bound is met."""
        key = (old, name, new, want)
        if key not in self._direct:
            ends = self.ends(old, name) if self.looked < BUDGET else None
            found, looked = (True, 0) if ends is None else _joined(ends, name, new, want)
            self.looked += looked
            self._direct[key] = found
        return self._direct[key]

    def ends(self, scanner: Scanner, name: str) -> Ends | None:
        """Where a lexeme `name` may end; None where the bound is met."""
        key = (scanner, name)
        if key not in self._ends:
            self._ends[key] = _ends(scanner, name)
        return self._ends[key]


def _ends(scanner: Scanner, name: str) -> Ends | None:
    first = scanner.first(b"", False)
    seen, open_, out = {first}, deque([first]), Ends()
    while open_:
        for after in scanner.successors(open_.popleft()):
            if after in seen:
                continue
            seen.add(after)
            open_.append(after)
            if after.hit is not None and after.hit[0] == 0 and _is(after.hit[1], name):
                out.append((after, True))
            elif any(item[2] == 0 for _, state in after.entries for item in state.items):
                out.append((after, False))
        if len(seen) > PLACES:
            return None
    return out


def _joined(ends: Ends, name: str, new: Scanner, want: str) -> tuple[bool, int]:
    """Whether after one of these ends `new` reads a `want` before the lexeme matches more; and the places looked at."""
    first = new.first(b"", False)
    open_ = deque((place, first, 0, sure) for place, sure in ends)
    seen = set(open_)
    for place, sure in ends:
        if place.dead and sure and first.can(want):
            return True, 0
    while open_:
        old, here, past, sure = open_.popleft()
        for byte in {*old.scanner.bytes_of(old), *new.bytes_of(here)}:
            after, onward = here.step(byte), old.step(byte)
            if after is None:
                continue
            held = _holds(onward, name, past + 1, sure)
            if held is None:
                continue
            read = after.hit is not None and _is(after.hit[1], want)
            if onward is None or onward.dead:
                if held and (read or after.can(want)):
                    return True, len(seen)
                continue
            if read and (held or onward.waits):
                return True, len(seen)
            way = (onward, after, min(past + 1, AGE + 1), held)
            if not after.dead and way not in seen:
                seen.add(way)
                open_.append(way)
        if len(seen) > PLACES:
            return True, len(seen)
    return False, len(seen)


def _holds(onward: Place | None, name: str, past: int, sure: bool) -> bool | None:
    """Whether the match that ended `past` bytes ago is certain after the last one; None where a longer one is."""
    if onward is None or onward.hit is None:
        return sure
    age, label = onward.hit
    if age < past:
        return None
    return age == past and _is(label, name)


def _is(label: str, name: str) -> bool:
    return label.removeprefix(QUOTED) == name
