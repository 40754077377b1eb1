"""The tokens of a vocabulary sorted by what they do to an open lexeme, whatever the parser thinks of it.

From a place inside a lexeme a token either stays in the lexeme, or ends it somewhere and goes on with the rest of its
bytes. Which of the two, and at which place or with which match, depends on the lexer alone: it is found once, level by
level over the trie, and the parser later only says which of the few outcomes it takes. The rests of the tokens that end
the lexeme with the same match are sorted again in the same way, from where the parser is then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ..core.vocabulary_trie import FlatTrie, Ints
from .lexemes import Lexemes

NOTHING: Final = -1
"""The place of a token that ends where it began, and the label where nothing has matched."""
BACK: Final = 128
WIDE: Final = 1 << 20
FEW: Final = 64
"""So few tokens are walked one by one."""

Flags = npt.NDArray[np.bool_]


class Rests(NamedTuple):
    """Tokens of which only a rest is to be read. Item i: those below node[i] of the trie (those that end there, where
    `only`), from their byte at[i] on. key: equal for equal ones.
    """

    node: Ints
    at: Ints
    only: Flags
    key: bytes

    def ranges(self, trie: FlatTrie) -> tuple[Ints, Ints]:
        """Where its tokens stand in the order of the trie."""
        return trie.low[self.node], np.where(self.only, trie.own[self.node], trie.high[self.node])


class Leaf(NamedTuple):
    """Tokens that stay in the lexeme: order[low[i]:high[i]] of the trie, read from their byte at[i] on.

    place: where they end. label: what matched last within them (:func:`label_of`). width: of their last line.
    """

    place: int
    label: int
    width: int
    low: Ints
    high: Ints
    at: Ints


@dataclass
class Sorted:
    """What a place makes of some tokens.

    leaves: those that stay in the lexeme. rests: what is left of those that end it, by the match with which they do.
    staying: what the parser has been found to take of the leaves (:mod:`decodekit.constraints.lark.masks`).
    """

    leaves: list[Leaf] = field(default_factory=list)
    rests: list[tuple[int, Rests]] = field(default_factory=list)
    staying: dict[Any, Any] = field(default_factory=dict)


NODE, AT, ONLY, PLACE, LABEL, SINCE, BASE, COUNT = range(8)
"""Rows of a front. Its columns are items of a walk: `at` bytes of the way to `node` are read, and led to `place`.

label: the last match; since: where the token's rest begins if the lexeme ends there. base: where the walk began.
count: width of the last line. only: whether the tokens that go on behind the node are not meant.
"""


def label_of(key: int) -> tuple[int, int, int]:
    """(number of the label, bytes before the token that come after the match, width of the last line)."""
    return key // (BACK * WIDE), key // WIDE % BACK, key % WIDE - 1


def sort(lexemes: Lexemes, trie: FlatTrie, place: int, count: int, rests: Rests, tab: int) -> Sorted:
    """Sort `rests` from a place inside a lexeme whose last line is `count` wide (-1: it has no line break)."""
    many = len(rests.node)
    same = (np.full(many, value) for value in (place, NOTHING))
    front = np.stack([rests.node, rests.at, rests.only, *same, rests.at, rests.at, np.full(many, count)])
    walk = _Walk(lexemes, trie, tab)
    while walk.left(front) > FEW:
        front = walk.onward(front)
    walk.finish(front)
    return walk.outcome()


class _Walk:
    def __init__(self, lexemes: Lexemes, trie: FlatTrie, tab: int) -> None:
        self.lexemes, self.trie, self.tab = lexemes, trie, tab
        self._stay: list[tuple[Ints, Ints, Ints]] = []
        self._over: list[Ints] = []

    def left(self, front: Ints) -> int:
        """How many tokens are still on the way, about."""
        return int((self.trie.high[front[NODE]] - self.trie.low[front[NODE]]).sum())

    def finish(self, front: Ints) -> None:
        """:meth:`onward` to the end, item by item: long tokens are few, and arrays of a few are slow."""
        trie, stay, low, high, over = self.trie, list[Any](), list[int](), list[int](), list[Any]()
        open_ = front.T.tolist()
        while open_:
            item = open_.pop()
            node, at, only, place = item[:4]
            if not self.lexemes.known[place]:
                self.lexemes.fill(front[PLACE, :1] * 0 + place)
            if at < trie.depth[node]:
                self._one(item, int(trie.text[trie.begin[node] + at]), open_, over)
                continue
            first, last = int(trie.low[node]), int(trie.own[node])
            if last > first:
                if self.lexemes.dead[place] and at > item[BASE]:
                    over.append([node, at, 1, *item[3:]])
                else:
                    stay.append([*item[:3], NOTHING if at == item[BASE] else place, *item[4:]])
                    low.append(first)
                    high.append(last)
            if not only:
                child = int(trie.first[node])
                for each in range(child, child + int(trie.children[node])):
                    self._one([each, *item[1:]], int(trie.edge[each]), open_, over)
        if stay:
            self._stay.append((np.array(stay).T, np.array(low), np.array(high)))
        if over:
            self._over.append(np.array(over).T)

    def _one(self, item: list[int], byte: int, open_: list[list[int]], over: list[list[int]]) -> None:
        """One byte of one item."""
        node, at, only, place, label, since, base, count = item
        lexemes = self.lexemes
        after = int(lexemes.next[place, byte])
        if after < 0:
            over.append(item)
            return
        at += 1
        if lexemes.counts[after]:
            count = 0 if byte == 10 else count if count < 0 else count + (self.tab if byte == 9 else byte == 32)
        else:
            count = -1
        match = int(lexemes.match[after])
        if match >= 0:
            begin = at - int(lexemes.age[after])
            back = max(base - begin, 0)
            label, since = (match * BACK + back) * WIDE + min(count + 1, WIDE - 1), begin + back
        open_.append([node, at, only, after, label, since, base, count])

    def onward(self, front: Ints) -> Ints:
        """One byte further; what ends on the way is kept for :meth:`outcome`."""
        self.lexemes.fill(front[PLACE])
        here = front[AT] == self.trie.depth[front[NODE]]
        if here.all():
            return self._read(self._opened(front))
        return self._read(np.concatenate([front[:, ~here], self._opened(front[:, here])], axis=1))

    def _opened(self, front: Ints) -> Ints:
        """From nodes to their children; tokens that end here, and subtrees that the place swallows whole, are done."""
        trie, lexemes, node, place = self.trie, self.lexemes, front[NODE], front[PLACE]
        low, own = trie.low[node], trie.own[node]
        ends = own > low
        if ends.any():
            dead = ends & lexemes.dead[place] & (front[AT] > front[BASE])
            if dead.any():
                over = front[:, dead]
                over[ONLY] = 1
                self._over.append(over)
                ends &= ~dead
            still = front[:, ends]
            still[PLACE, still[AT] == still[BASE]] = NOTHING
            self._stay.append((still, low[ends], own[ends]))
        more = (trie.children[node] > 0) & (front[ONLY] == 0)
        left = more & ((trie.below[node] & ~lexemes.loop[place]).any(axis=1) | lexemes.counts[place])
        loops = more & ~left
        if loops.any():
            inner = front[:, loops]
            self._stay.append((self._matched(inner), own[loops], trie.high[node[loops]]))
        child, parents = trie.expand(node[left])
        after = front[:, np.flatnonzero(left)[parents]]
        after[NODE] = child
        return after

    def _read(self, front: Ints) -> Ints:
        """The next byte on the way to each node."""
        byte = self.trie.text[self.trie.begin[front[NODE]] + front[AT]]
        after = self.lexemes.next[front[PLACE], byte]
        good = after >= 0
        if not good.all():
            self._over.append(front[:, ~good])
            front, after, byte = front[:, good], after[good], byte[good]
        front[PLACE] = after
        front[AT] += 1
        if self.tab:
            self._count(front, byte)
        return self._matched(front)

    def _matched(self, front: Ints) -> Ints:
        """With what the places have just matched."""
        match = self.lexemes.match[front[PLACE]]
        hits = np.flatnonzero(match >= 0)
        if len(hits):
            begin = front[AT, hits] - self.lexemes.age[front[PLACE, hits]]
            back = np.maximum(front[BASE, hits] - begin, 0)
            wide = np.minimum(front[COUNT, hits] + 1, WIDE - 1)
            front[LABEL, hits] = (match[hits] * BACK + back) * WIDE + wide
            front[SINCE, hits] = begin + back
        return front

    def _count(self, front: Ints, byte: npt.NDArray[np.uint8]) -> None:
        """As :meth:`decodekit.constraints.lark.layers.Indented.count`."""
        wide = front[COUNT] + np.where(byte == 9, self.tab, byte == 32)
        count = np.where(byte == 10, 0, np.where(front[COUNT] < 0, -1, wide))
        front[COUNT] = np.where(self.lexemes.counts[front[PLACE]], count, -1)

    def outcome(self) -> Sorted:
        """What was found, grouped."""
        out = Sorted()
        if self._stay:
            front = np.concatenate([each for each, _, _ in self._stay], axis=1)
            low, high = (np.concatenate([each[n] for each in self._stay]) for n in (1, 2))
            for which in _groups(front[PLACE], front[LABEL], front[COUNT]):
                one = front[:, which[0]].tolist()
                leaf = Leaf(one[PLACE], one[LABEL], one[COUNT], low[which], high[which], front[BASE, which])
                out.leaves.append(leaf)
        if self._over:
            front = np.concatenate(self._over, axis=1)
            for which in _groups(front[LABEL]):
                part = front[:, which[np.argsort(front[NODE, which], kind="stable")]]
                rests = Rests(part[NODE], part[SINCE], part[ONLY] > 0, part[[NODE, SINCE, ONLY]].tobytes())
                out.rests.append((int(part[LABEL, 0]), rests))
        return out


def _groups(*keys: Ints) -> list[Ints]:
    """The places of equal ones."""
    order = np.lexsort(keys)
    changes = np.zeros(len(order), dtype=np.bool_)
    for key in keys:
        changes[1:] |= np.diff(key[order]) != 0
    return np.split(order, np.flatnonzero(changes)) if len(order) else []
