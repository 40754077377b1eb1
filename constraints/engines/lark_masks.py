"""Masks of a Lark grammar: the parser picks from tokens that were sorted by what they do to the lexer alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

import numpy as np

from decodekit.constraints.cursor import Bits
from decodekit.constraints.engines.flat_trie import Ints, flat_trie
from decodekit.constraints.engines.lark_lexemes import Lexemes
from decodekit.constraints.engines.lark_machine import Reader, Spot
from decodekit.constraints.engines.lark_sorting import NOTHING, Leaf, Rests, Sorted, label_of, sort
from decodekit.constraints.engines.states import States
from decodekit.constraints.vocabulary import Vocabulary

FEW: Final = 24
"""So few tokens are read one by one."""
SORTS: Final = 4_096
"""How many sorted sets of tokens are remembered."""

Picked = tuple[Ints, Ints]
"""Tokens, as ranges of the order of the trie."""


class Spots(States):
    """A grammar compiled for one vocabulary."""

    machine: Reader

    def __init__(self, machine: Reader, vocabulary: Vocabulary) -> None:
        super().__init__(machine, vocabulary)
        self.trie = flat_trie(vocabulary)
        self.lexemes = Lexemes(machine.tables)
        self._tab = int(machine.tables.indenter.tab_len) if machine.tables.indenter is not None else 0
        self._simple = machine.future.clear and machine.future.plain and not machine.counts
        root = np.zeros(1, dtype=np.int64)
        self._all = Rests(root, root, np.zeros(1, dtype=np.bool_))
        self._known: dict[bytes, int] = {}
        self._sorted: OrderedDict[tuple[int, int, bytes], Sorted] = OrderedDict()
        self._stays: OrderedDict[Any, tuple[Picked, list[Leaf]]] = OrderedDict()

    def bits_of(self, state: Hashable) -> Bits:
        """The mask of a spot."""
        if self.machine.tables.reach:  # what a lexeme may be depends on what was before it
            return super().bits_of(state)
        assert isinstance(state, Spot)
        low, high = list[Ints](), list[Ints]()
        open_: list[tuple[Spot | None, Rests]] = [(state, self._all)]
        while open_:
            spot, rests = open_.pop()
            if spot is None:
                continue
            lows, highs = rests.ranges(self.trie)
            if int((highs - lows).sum()) <= FEW:
                picked = self._read(spot, lows, highs, rests.at)
            else:
                found = self._sort(spot, rests)
                picked = self._staying(spot, found)
                open_.extend((self._over(spot, label), rest) for label, rest in found.rests)
            low.append(picked[0])
            high.append(picked[1])
        return self.trie.packed(np.concatenate(low), np.concatenate(high))

    def _sort(self, spot: Spot, rests: Rests) -> Sorted:
        place = self.lexemes.of(spot.place)
        count = spot.count if self.lexemes.counts[place] else -1
        key = (place, count, rests.key())
        found = self._sorted.get(key)
        if found is None:
            found = self._sorted[key] = sort(self.lexemes, self.trie, place, count, rests, self._tab)
            if len(self._sorted) > SORTS:
                self._sorted.popitem(last=False)
        return found

    def _over(self, spot: Spot, label: int) -> Spot | None:
        """Where the lexeme ends with the match `label`; what is left of the token goes on there."""
        if label == NOTHING:
            return spot.other
        number, back, count = label_of(label)
        name = self.lexemes.name(spot.place.scanner, number)
        found = self.machine.layer.take(spot.stack, spot.layer, name, count)
        if found is None:
            return None
        fresh = self.machine.fresh(*found, b"")
        return self.machine.run(fresh, spot.recent[-back:]) if back else fresh

    def _staying(self, spot: Spot, found: Sorted) -> Picked:
        """The tokens that stay in the lexeme and can be completed."""
        scanner, key = spot.place.scanner, Any
        if self._simple:
            key = (id(found), scanner, self.machine.tables.accepted(spot.stack))
        else:
            key = (id(found), spot.stack, spot.layer)
        known = self._stays.get(key)
        if known is None:
            yes, perhaps = list[Leaf](), list[Leaf]()
            for leaf in found.leaves:
                if leaf.place == NOTHING:
                    perhaps.append(leaf)
                elif not self.lexemes.waits[leaf.place] and self.machine.takes(
                    spot.stack, spot.layer, self.lexemes.place(scanner, leaf.place), leaf.count
                ):
                    yes.append(leaf)
                else:
                    perhaps.append(leaf)
            known = self._stays[key] = _together(yes), perhaps
        picked, doubtful = known
        for leaf in doubtful:
            if leaf.place == NOTHING:
                more = (leaf.low, leaf.high) if self.machine.alive(spot) else (leaf.low, leaf.low)
            elif self._over(spot, leaf.label) is None and not self.lexemes.waits[leaf.place]:
                continue
            else:
                more = self._read(spot, leaf.low, leaf.high, leaf.at)
            picked = np.concatenate([picked[0], more[0]]), np.concatenate([picked[1], more[1]])
        return picked

    def _read(self, spot: Spot, low: Ints, high: Ints, at: Ints) -> Picked:
        """Tokens one by one."""
        leap, tokens, order = self.machine.leap, self.vocabulary.tokens, self.trie.order
        good = list[int]()
        for first, last, begin in zip(low.tolist(), high.tolist(), at.tolist(), strict=True):
            for place in range(first, last):
                if leap(spot, tokens[order[place]][begin:]) is not None:
                    good.append(place)
        found = np.array(good, dtype=np.int64)
        return found, found + 1


def _together(leaves: list[Leaf]) -> Picked:
    none = np.zeros(0, dtype=np.int64)
    return (
        np.concatenate([none, *(leaf.low for leaf in leaves)]),
        np.concatenate([none, *(leaf.high for leaf in leaves)]),
    )
