"""A vocabulary as a trie in arrays, for walks that numpy does level by level.

Nodes are numbered level by level, and the children of a node stand together, by byte. The tokens below a node are a
range of `order`, those that end at the node itself first; so a whole subtree is named by two numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .vocabulary import Vocabulary

Ints = npt.NDArray[np.int64]
Sets = npt.NDArray[np.uint64]
"""[N, 4] sets of bytes, 64 bits a word."""


class FlatTrie:
    """The tokens of a vocabulary that have bytes.

    order: [T] ids, sorted by bytes. text: all tokens behind one another, in that order; begin: [N] where in it the path
    to a node can be read. depth, edge: [N] bytes from the root, and the last of them. low, own, high: [N] the tokens
    below a node are order[low:high], and those that end there order[low:own]. first, children: [N] number of the first
    child, and how many there are. below: [N, 4] the bytes that occur below a node.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokens = sorted(vocabulary.by_bytes)
        ids = [vocabulary.by_bytes[token] for token in tokens]
        self.size = len(vocabulary)
        self.order: Ints = np.array([i for same in ids for i in same], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum([len(same) for same in ids], dtype=np.int64)]).astype(np.int64)
        lengths = np.array([len(token) for token in tokens], dtype=np.int64)
        self.text = np.frombuffer(b"".join(tokens) + b"\0", dtype=np.uint8)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)[: len(tokens)]
        self._build(starts, lengths, offsets, _shared(self.text, lengths, offsets))
        self._gather()

    def _build(self, starts: Ints, lengths: Ints, offsets: Ints, shared: Ints) -> None:
        """Level by level: a token opens a node at every depth past what it shares with the one before."""
        many = len(lengths)
        parts: dict[str, list[Any]] = {name: [] for name in ("depth", "edge", "token", "until")}
        parts["depth"].append(np.zeros(1, dtype=np.int64))
        parts["edge"].append(np.zeros(1, dtype=np.int64))
        parts["token"].append(np.zeros(1, dtype=np.int64))
        parts["until"].append(np.full(1, many))
        for depth in range(1, int(lengths.max(initial=0)) + 1):
            opened = np.flatnonzero((shared < depth) & (lengths >= depth))
            bounds = np.append(np.flatnonzero(shared < depth), many)
            parts["depth"].append(np.full(len(opened), depth))
            parts["edge"].append(self.text[offsets[opened] + depth - 1].astype(np.int64))
            parts["token"].append(opened)
            parts["until"].append(bounds[np.searchsorted(bounds, opened, side="right")])
        found = {name: np.concatenate(each) for name, each in parts.items()}
        self.depth: Ints = found["depth"]
        self.edge: Ints = found["edge"]
        token, until = found["token"], found["until"]
        self.low: Ints = starts[token] if many else np.zeros(1, dtype=np.int64)
        self.high: Ints = starts[until]
        if many:
            ends = (lengths[token] == self.depth) & (self.depth > 0)
            self.own: Ints = np.where(ends, starts[token + ends], self.low)
            self.begin: Ints = offsets[token]
        else:
            self.own, self.begin = self.low.copy(), self.low.copy()

    def _gather(self) -> None:
        """Children, and what stands below."""
        count = len(self.depth)
        levels = np.searchsorted(self.depth, np.arange(int(self.depth[-1]) + 3))
        self.first: Ints = np.full(count, count)
        self.children: Ints = np.zeros(count, dtype=np.int64)
        self.below: Sets = np.zeros((count, 4), dtype=np.uint64)
        for depth in range(int(self.depth[-1]) - 1, -1, -1):
            here = np.arange(levels[depth], levels[depth + 1])
            child = np.arange(levels[depth + 1], levels[depth + 2])
            lows = self.low[child]
            self.first[here] = levels[depth + 1] + np.searchsorted(lows, self.low[here], side="left")
            last = levels[depth + 1] + np.searchsorted(lows, self.high[here], side="left")
            self.children[here] = last - self.first[here]
            full = here[self.children[here] > 0]
            edge = self.edge[child].astype(np.uint64)
            sets = self.below[child].copy()
            sets[np.arange(len(child)), (edge >> np.uint64(6)).astype(np.int64)] |= np.uint64(1) << (
                edge & np.uint64(63)
            )
            if len(full):
                self.below[full] = np.bitwise_or.reduceat(sets, self.first[full] - levels[depth + 1], axis=0)

    def expand(self, nodes: Ints) -> tuple[Ints, Ints]:
        """The children of `nodes`, and for each the place of its parent in `nodes`."""
        counts = self.children[nodes]
        parents = np.repeat(np.arange(len(nodes)), counts)
        before = np.cumsum(counts) - counts
        return self.first[nodes][parents] + np.arange(len(parents)) - before[parents], parents

    def ending(self, nodes: Ints) -> Ints:
        """The ids of the tokens that end at `nodes`."""
        counts = self.own[nodes] - self.low[nodes]
        before = np.cumsum(counts) - counts
        place = np.arange(int(counts.sum())) + np.repeat(self.low[nodes] - before, counts)
        ids: Ints = self.order[place]
        return ids

    def token(self, place: int) -> int:
        """The id at a place of `order`."""
        return int(self.order[place])

    def packed(self, low: Ints, high: Ints) -> npt.NDArray[np.uint32]:
        """[ceil(V / 32)] the mask of the tokens in the ranges low[i]:high[i]; read-only."""
        count = len(self.order)
        steps = np.bincount(low, minlength=count + 1) - np.bincount(high, minlength=count + 1)
        flags = np.zeros(32 * (self.size // 32 + 1), dtype=np.bool_)
        flags[self.order[np.cumsum(steps[:count]) > 0]] = True
        bits = np.packbits(flags, bitorder="little").view(np.uint32)
        bits.flags.writeable = False
        return bits


def flat_trie(vocabulary: Vocabulary) -> FlatTrie:
    """The trie of a vocabulary, made once."""
    found = vocabulary.engines.get("flat trie")
    if found is None:
        found = vocabulary.engines["flat trie"] = FlatTrie(vocabulary)
    made: FlatTrie = found
    return made


def _shared(text: npt.NDArray[np.uint8], lengths: Ints, offsets: Ints) -> Ints:
    """[T] how many bytes each token shares with the one before it."""
    out = np.zeros(len(lengths), dtype=np.int64)
    open_ = np.arange(1, len(lengths))
    depth = 0
    while len(open_):
        open_ = open_[np.minimum(lengths[open_], lengths[open_ - 1]) > depth]
        open_ = open_[text[offsets[open_] + depth] == text[offsets[open_ - 1] + depth]]
        depth += 1
        out[open_] = depth
    return out
