"""The tokens of a vocabulary sorted by what they do to an open lexeme, whatever the parser thinks of it.

From a place inside a lexeme a token either stays in the lexeme, or ends it somewhere and goes on with the rest of its
bytes. Which of the two, and at which place or with which match, depends on the lexer alone: it is found once, level by
level over the trie, and the parser later only says which of the few outcomes it takes. The rests of the tokens that end
the lexeme with the same match are sorted again in the same way, from where the parser is then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from decodekit.constraints.engines.flat_trie import FlatTrie, Ints
from decodekit.constraints.engines.lark_lexemes import Lexemes

NOTHING: Final = -1
"""The place of a token that ends where it began, and the label where nothing has matched."""
BACK: Final = 128
WIDE: Final = 1 << 20

Flags = npt.NDArray[np.bool_]


class Rests(NamedTuple):
    """Tokens of which only a rest is to be read. Item i: those below node[i] of the trie (those that end there, where
    `only`), from their byte at[i] on.
    """

    node: Ints
    at: Ints
    only: Flags

    def key(self) -> bytes:
        """Equal for equal ones."""
        return self.node.tobytes() + self.at.tobytes() + self.only.tobytes()

    def ranges(self, trie: FlatTrie) -> tuple[Ints, Ints]:
        """Where its tokens stand in the order of the trie."""
        return trie.low[self.node], np.where(self.only, trie.own[self.node], trie.high[self.node])


class Leaf(NamedTuple):
    """Tokens that stay in the lexeme: order[low[i]:high[i]] of the trie, read from their byte at[i] on.

    place: where they end. label: what matched last within them (:func:`label_of`). count: width of their last line.
    """

    place: int
    label: int
    count: int
    low: Ints
    high: Ints
    at: Ints


@dataclass
class Sorted:
    """leaves: tokens that stay in the lexeme. rests: by the match with which tokens end the lexeme, what is left of them."""

    leaves: list[Leaf] = field(default_factory=list)
    rests: list[tuple[int, Rests]] = field(default_factory=list)


class _Front(NamedTuple):
    """Items of a walk: `at` bytes of the way to `node` are read, and led to `place`. label: the last match; since: where
    the token's rest begins if the lexeme ends there. base: where the walk began. count: width of the last line.
    """

    node: Ints
    at: Ints
    only: Flags
    place: Ints
    label: Ints
    since: Ints
    base: Ints
    count: Ints

    def take(self, which: Ints | Flags) -> _Front:
        """Some of them."""
        return _Front(*(each[which] for each in self))


def label_of(key: int) -> tuple[int, int, int]:
    """(number of the label, bytes before the token that come after the match, width of the last line)."""
    return key // (BACK * WIDE), key // WIDE % BACK, key % WIDE - 1


def sort(lexemes: Lexemes, trie: FlatTrie, place: int, count: int, rests: Rests, tab: int) -> Sorted:
    """Sort `rests` from a place inside a lexeme whose last line is `count` wide (-1: it has no line break)."""
    many = len(rests.node)
    front = _Front(
        *rests, *(np.full(many, value) for value in (place, NOTHING)), rests.at, rests.at, np.full(many, count)
    )
    walk = _Walk(lexemes, trie, tab)
    while len(front.node):
        front = walk.onward(front)
    return walk.outcome()


class _Walk:
    def __init__(self, lexemes: Lexemes, trie: FlatTrie, tab: int) -> None:
        self.lexemes, self.trie, self.tab = lexemes, trie, tab
        self._stay: list[tuple[_Front, Ints, Ints]] = []
        self._over: list[_Front] = []

    def onward(self, front: _Front) -> _Front:
        """One byte further; what ends on the way is kept for :meth:`outcome`."""
        here = front.at == self.trie.depth[front.node]
        if here.all():
            return self._read(self._opened(front))
        return self._read(_joined(front.take(~here), self._opened(front.take(here))))

    def _opened(self, front: _Front) -> _Front:
        """From nodes to their children; tokens that end here, and subtrees that the place swallows whole, are done."""
        trie, lexemes = self.trie, self.lexemes
        lexemes.fill(front.place)
        low, own, high = trie.low[front.node], trie.own[front.node], trie.high[front.node]
        more = (high > own) & ~front.only
        loops = ((trie.below[front.node] & ~lexemes.loop[front.place]) == 0).all(axis=1) & more
        loops &= ~lexemes.counts[front.place]
        ends = own > low
        dead = ends & lexemes.dead[front.place] & (front.at > front.base)
        if dead.any():
            over = front.take(dead)
            self._over.append(over._replace(only=np.ones(len(over.node), dtype=np.bool_)))
            ends &= ~dead
        if ends.any():
            still = front.take(ends)
            place = np.where(still.at == still.base, NOTHING, still.place)
            self._stay.append((still._replace(place=place), low[ends], own[ends]))
        if loops.any():
            self._stay.append((self._matched(front.take(loops), front.at[loops]), own[loops], high[loops]))
            more &= ~loops
        left = front.take(more)
        child, parents = trie.expand(left.node)
        return left.take(parents)._replace(node=child)

    def _read(self, front: _Front) -> _Front:
        """The next byte on the way to each node."""
        if not len(front.node):
            return front
        trie, lexemes = self.trie, self.lexemes
        byte = trie.text[trie.begin[front.node] + front.at].astype(np.int64)
        lexemes.fill(front.place)
        after = lexemes.next[front.place, byte].astype(np.int64)
        over = after < 0
        if over.any():
            self._over.append(front.take(over))
            front, after, byte = front.take(~over), after[~over], byte[~over]
        return self._matched(self._counted(front._replace(place=after), byte), front.at + 1)

    def _matched(self, front: _Front, at: Ints) -> _Front:
        """With what the places have just matched, `at` bytes into the tokens."""
        match = self.lexemes.match[front.place]
        hits = match >= 0
        if not hits.any():
            return front._replace(at=at)
        begin = at - self.lexemes.age[front.place]
        back = np.maximum(front.base - begin, 0)
        key = (match * BACK + back) * WIDE + np.minimum(front.count + 1, WIDE - 1)
        return front._replace(
            at=at,
            label=np.where(hits, key, front.label),
            since=np.where(hits, np.maximum(begin, front.base), front.since),
        )

    def _counted(self, front: _Front, byte: Ints) -> _Front:
        """As :meth:`decodekit.constraints.engines.lark_layers.Indented.count`."""
        counts = self.lexemes.counts[front.place]
        if not counts.any():
            return front if (front.count < 0).all() else front._replace(count=np.full(len(byte), -1))
        wide = front.count + np.where(byte == 9, self.tab, byte == 32)
        count = np.where(byte == 10, 0, np.where(front.count < 0, -1, wide))
        return front._replace(count=np.where(counts, count, -1))

    def outcome(self) -> Sorted:
        """What was found, grouped."""
        out = Sorted()
        if self._stay:
            front = _joined(*(each for each, _, _ in self._stay))
            low, high = (np.concatenate([each[n] for each in self._stay]) for n in (1, 2))
            for which in _groups(front.place, front.label, front.count):
                one = which[0]
                key = int(front.place[one]), int(front.label[one]), int(front.count[one])
                out.leaves.append(Leaf(*key, low[which], high[which], front.base[which]))
        if self._over:
            front = _joined(*self._over)
            for which in _groups(front.label):
                part = front.take(which[np.argsort(front.node[which], kind="stable")])
                out.rests.append((int(part.label[0]), Rests(part.node, part.since, part.only)))
        return out


def _joined(*fronts: _Front) -> _Front:
    if len(fronts) == 1:
        return fronts[0]
    return _Front(*(np.concatenate(each) for each in zip(*fronts, strict=True)))


def _groups(*keys: Ints) -> list[Ints]:
    """The places of equal ones."""
    order = np.lexsort(keys)
    changes = np.zeros(len(order), dtype=np.bool_)
    for key in keys:
        changes[1:] |= np.diff(key[order]) != 0
    return np.split(order, np.flatnonzero(changes))
