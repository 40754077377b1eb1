"""What all lexers of a grammar do with a lexeme, as one table for numpy.

A LALR state's lexer is an ordered list of terminals, and most places inside a lexeme are the same in many of them:
only one or two terminals are still alive. So places are numbered here without the lexer they belong to; what a match is
called (a keyword, or the terminal itself) is asked later. Rows are filled when a walk comes by.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .scanner import Place, Scanner
from .tables import Tables
from .terminal_automaton import State, Terminal

ROWS: Final = 64
"""How many rows there is room for at first."""

Entries = tuple[tuple[Terminal, State], ...]
Label = tuple[Terminal, frozenset[str]]


class Lexemes:
    """Places inside a lexeme, by number.

    next: [N, 256] the place after one more byte, -1 where the lexeme is over; only rows that are `known` hold.
    match: [N] number of the label of the match that became certain with the last byte, or -1; age: [N] bytes since its
    end. dead: [N] whether nothing can match later. waits: [N] whether a match is not certain yet, so that what was read
    matters. counts: [N] whether the width of its last line matters. loop: [N, 4] the bytes that lead from a place to
    itself, as sets.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._newline = tables.indenter.NL_type if tables.indenter is not None else None
        self._numbers: dict[tuple[Entries, Any], int] = {}
        self._entries: list[Entries] = []
        self._labels: dict[Label, int] = {}
        self._matched: list[Label] = []
        self._indexes: dict[Scanner, dict[Terminal, int]] = {}
        self._places: dict[tuple[Scanner, int], Place] = {}
        self._names: dict[tuple[Scanner, int], str] = {}
        self.next = np.full((ROWS, 256), -1, dtype=np.int32)
        self.match, self.age = np.full(ROWS, -1, dtype=np.int64), np.zeros(ROWS, dtype=np.int64)
        self.known, self.dead, self.waits, self.counts = (np.zeros(ROWS, dtype=np.bool_) for _ in range(4))
        self.loop = np.zeros((ROWS, 4), dtype=np.uint64)

    def of(self, place: Place) -> int:
        """The number of a place; what has just matched there is left out."""
        terminals = place.scanner.terminals
        return self._number(tuple((terminals[n], state) for n, state in place.entries), None)

    def place(self, scanner: Scanner, number: int) -> Place:
        """The place of a lexer, less what has just matched there."""
        found = self._places.get((scanner, number))
        if found is None:
            index = self._indexes.get(scanner)
            if index is None:
                index = self._indexes[scanner] = {terminal: n for n, terminal in enumerate(scanner.terminals)}
            entries = tuple((index[terminal], state) for terminal, state in self._entries[number])
            found = self._places[scanner, number] = scanner.place(entries, None)
        return found

    def name(self, scanner: Scanner, label: int) -> str:
        """What a lexer calls a match."""
        found = self._names.get((scanner, label))
        if found is None:
            terminal, spelled = self._matched[label]
            found = self._names[scanner, label] = scanner.label(terminal.name, spelled)
        return found

    def fill(self, numbers: npt.NDArray[np.int64]) -> None:
        """Have the rows of some places known."""
        known = self.known[numbers]
        if not known.all():
            for number in set(numbers[~known].tolist()):
                self._fill(number)

    def _fill(self, number: int) -> None:
        entries = self._entries[number]
        cuts = sorted({cut for terminal, state in entries for cut in terminal.bytes_of(state)} | {0, 256})
        row = np.empty(256, dtype=np.int32)
        for low, high in pairwise(cuts):
            row[low:high] = self._after(entries, low)
        self.next[number] = row
        self.known[number] = True
        self.loop[number] = np.packbits(row == number, bitorder="little").view(np.uint64)

    def _after(self, entries: Entries, byte: int) -> int:
        """As :meth:`decodekit.constraints.lark.scanner.Scanner.after`."""
        left, match = list[tuple[Terminal, State]](), None
        for terminal, state in entries:
            after = terminal.step(state, byte)
            if after is None:
                continue
            if terminal.lives(after):
                left.append((terminal, after))
            if after.hit is not None:
                match = (after.hit[0], self._label((terminal, after.hit[1])))
                break
        return self._number(tuple(left), match) if left or match else -1

    def _label(self, label: Label) -> int:
        found = self._labels.get(label)
        if found is None:
            found = self._labels[label] = len(self._matched)
            self._matched.append(label)
        return found

    def _number(self, entries: Entries, match: tuple[int, int] | None) -> int:
        found = self._numbers.get((entries, match))
        if found is None:
            found = self._numbers[entries, match] = len(self._entries)
            self._entries.append(entries)
            if found == len(self.next):
                self._grow()
            if match is not None:
                self.age[found], self.match[found] = match
            self.dead[found] = not entries
            self.waits[found] = any(state.keep for _, state in entries)
            self.counts[found] = self._newline is not None and self._breaks(entries, match)
        return found

    def _breaks(self, entries: Entries, match: tuple[int, int] | None) -> bool:
        """Whether a newline terminal of the grammar's indenter is among the terminals."""
        terminals = [terminal for terminal, _ in entries]
        if match is not None:
            terminals.append(self._matched[match[1]][0])
        return any(
            each.name == self._newline or any(word == self._newline for word, _ in each.words) for each in terminals
        )

    def _grow(self) -> None:
        for name in ("next", "match", "age", "known", "dead", "waits", "counts", "loop"):
            old = getattr(self, name)
            new = np.zeros((2 * len(old), *old.shape[1:]), dtype=old.dtype)
            new[: len(old)] = old
            if name == "match":
                new[len(old) :] = -1
            setattr(self, name, new)
