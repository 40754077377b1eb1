"""Masks of a Lark grammar: the parser picks from tokens that were sorted by what they do to the lexer alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final, NamedTuple

import numpy as np

from ..automata.byte_machine import States
from ..core.cursor import Bits
from ..core.vocabulary import Vocabulary
from ..core.vocabulary_trie import Ints, flat_trie
from .lexemes import Lexemes
from .machine import Reader, Spot
from .token_sorting import NOTHING, Leaf, Rests, Sorted, label_of, sort

KEPT: Final = 32
"""How many grammars a vocabulary remembers."""
FEW: Final = 24
"""So few tokens are read one by one."""
PARTS: Final = 4_096
"""How many parts of masks are remembered, and how often tokens are sorted before all is forgotten."""
SEEN: Final = 256
"""For how many parsers the choice among sorted tokens is remembered."""

Picked = tuple[Ints, Ints]
"""Tokens, as ranges of the order of the trie."""


class Part(NamedTuple):
    """Tokens of which a rest is to be read. number: equal parts are one object. size: how many tokens."""

    number: int
    rests: Rests
    low: Ints
    high: Ints
    size: int


class Spots(States):
    """A grammar compiled for one vocabulary."""

    machine: Reader

    def __init__(self, machine: Reader, vocabulary: Vocabulary) -> None:
        super().__init__(machine, vocabulary)
        self.trie = flat_trie(vocabulary)
        self.lexemes = Lexemes(machine.tables)
        self._tab = int(machine.tables.indenter.tab_len) if machine.tables.indenter is not None else 0
        self._parts: dict[bytes, Part] = {}
        self._count = 0
        self._sorted: dict[tuple[int, int, int], tuple[Sorted, list[tuple[int, Part]]]] = {}
        self._picked: OrderedDict[tuple[Spot, int], Picked] = OrderedDict()
        root = np.zeros(1, dtype=np.int64)
        self._all = self._part(Rests(root, root, np.zeros(1, dtype=np.bool_), b""))

    def bits_of(self, state: Hashable) -> Bits:
        """The mask of a spot."""
        assert isinstance(state, Spot)
        if self.machine.tables.reach:  # what a lexeme may be depends on what was before it
            return super().bits_of(state)
        return self.trie.packed(*self._pick(state, self._all))

    def _pick(self, spot: Spot, part: Part) -> Picked:
        """The tokens of a part that may come next."""
        found = self._picked.get((spot, part.number))
        if found is not None:
            return found
        if part.size <= FEW:
            found = self._read(spot, part.low, part.high, part.rests.at)
        else:
            known, rests = self._sort(spot, part)
            picked = [self._staying(spot, known)]
            for label, rest in rests:
                after = self._over(spot, label)
                if after is not None:
                    picked.append(self._pick(after, rest))
            found = _joined(picked)
        self._picked[spot, part.number] = found
        if len(self._picked) > PARTS:
            self._picked.popitem(last=False)
        return found

    def _part(self, rests: Rests) -> Part:
        found = self._parts.get(rests.key)
        if found is None:
            low, high = rests.ranges(self.trie)
            self._count += 1
            found = self._parts[rests.key] = Part(self._count, rests, low, high, int((high - low).sum()))
        return found

    def _sort(self, spot: Spot, part: Part) -> tuple[Sorted, list[tuple[int, Part]]]:
        place = self.lexemes.of(spot.place)
        count = spot.count if self.lexemes.counts[place] else -1
        key = (place, count, part.number)
        found = self._sorted.get(key)
        if found is None:
            if len(self._sorted) >= PARTS:
                self._sorted.clear()
                self._parts = {b"": self._all}
                self._picked.clear()
            known = sort(self.lexemes, self.trie, place, count, part.rests, self._tab)
            found = self._sorted[key] = known, [(label, self._part(rests)) for label, rests in known.rests]
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

    def _staying(self, spot: Spot, known: Sorted) -> Picked:
        """The tokens that stay in the lexeme and can be completed."""
        picked, doubtful = self._sure(spot, known)
        more = [picked]
        for leaf in doubtful:
            if leaf.place == NOTHING:
                if self.machine.alive(spot):
                    more.append((leaf.low, leaf.high))
            elif self._breaks(spot, leaf):
                more.append((leaf.low, leaf.high))
            elif self.lexemes.waits[leaf.place] or self._over(spot, leaf.label) is not None:
                more.append(self._read(spot, leaf.low, leaf.high, leaf.at))
        return _joined(more)

    def _breaks(self, spot: Spot, leaf: Leaf) -> bool:
        """Whether the lexeme may become a newline, whose width matters, and be completed."""
        if not self.lexemes.counts[leaf.place] or self.lexemes.waits[leaf.place]:
            return False
        place = self.lexemes.place(spot.place.scanner, leaf.place)
        return self.machine.takes(spot.stack, spot.layer, place, leaf.width)

    def _sure(self, spot: Spot, known: Sorted) -> tuple[Picked, list[Leaf]]:
        """Tokens whose open lexeme can be completed without its last match, and those of which that is not said."""
        scanner, names = spot.place.scanner, self.machine.onward(spot)
        key: Any = (spot.stack, spot.layer) if names is None else (scanner, names)
        found: tuple[Picked, list[Leaf]] | None = known.staying.get(key)
        if found is None:
            if len(known.staying) >= SEEN:
                known.staying.clear()
            yes, perhaps = list[Picked](), list[Leaf]()
            for leaf in known.leaves:
                if leaf.place == NOTHING or self.lexemes.waits[leaf.place] or self.lexemes.counts[leaf.place]:
                    perhaps.append(leaf)
                    continue
                place = self.lexemes.place(scanner, leaf.place)
                if names is None:
                    sure = self.machine.takes(spot.stack, spot.layer, place, leaf.width)
                else:
                    sure = any(name in names and place.can(name) for name in place.names())
                if sure:
                    yes.append((leaf.low, leaf.high))
                else:
                    perhaps.append(leaf)
            found = known.staying[key] = _joined(yes), perhaps
        return found

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


def spots_of(machine: Reader, vocabulary: Vocabulary) -> Spots:
    """A grammar compiled for one vocabulary: what was sorted for it once stays."""
    kept: OrderedDict[Reader, Spots] = vocabulary.engines.setdefault("lark", OrderedDict())
    found = kept.get(machine)
    if found is None:
        found = kept[machine] = Spots(machine, vocabulary)
        if len(kept) > KEPT:
            kept.popitem(last=False)
    return found


def _joined(parts: list[Picked]) -> Picked:
    parts = [part for part in parts if len(part[0])]
    if len(parts) == 1:
        return parts[0]
    none = np.zeros(0, dtype=np.int64)
    return np.concatenate([none, *(part[0] for part in parts)]), np.concatenate([none, *(part[1] for part in parts)])
