"""A finite list of texts as a constraint: a sorted list, and the part of it that begins with what was read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..core.cursor import Bits, Trail, explained, single
from ..core.vocabulary import Vocabulary
from .distances import Distances


class Part(NamedTuple):
    """The texts `low` to `high` (exclusive) of the sorted list: those whose first `depth` bytes were read."""

    low: int
    high: int
    depth: int


class Words:
    """A finite list of byte strings. Immutable but for its memory of masks.

    Nothing is allowed that the tokens cannot finish: a text that the vocabulary cannot spell is not on offer.
    """

    def __init__(self, texts: Iterable[bytes], vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.built = 0
        self.texts = sorted(set(texts))
        self._masks: dict[Part, Bits] = {}
        self._left: dict[Part, bytes | None] = {}
        self._ends = [self._spelled(text) for text in self.texts]
        keep = [i for i, ends in enumerate(self._ends) if ends[0]]
        self.texts = [self.texts[i] for i in keep]
        self._ends = [self._ends[i] for i in keep]
        self._shared = [0, *(_common(a, b) for a, b in pairwise(self.texts))]  # with the text before

    def _spelled(self, text: bytes) -> list[bool]:
        """[len + 1] whether the tokens can spell the rest of `text` from each byte on."""
        known, longest = self.vocabulary.by_bytes, self.vocabulary.longest
        if self.vocabulary.all_bytes:
            return [True] * (len(text) + 1)
        ends = [False] * len(text) + [True]
        for at in range(len(text) - 1, -1, -1):
            widths = range(1, min(longest, len(text) - at) + 1)
            ends[at] = any(ends[at + width] and text[at : at + width] in known for width in widths)
        return ends

    def first(self) -> Part:
        """All of them."""
        return Part(0, len(self.texts), 0)

    def step(self, part: Part, byte: int) -> Part | None:
        """The part after one more byte."""
        return self.narrow(part, bytes([byte]))

    def leap(self, part: Part, text: bytes) -> Part | None:
        """The part after all of `text`."""
        return self.narrow(part, text)

    def closing(self, part: Part) -> bytes | None:
        """The shortest rest of a text of the part, of equally short ones the first in order."""
        if part not in self._left:
            fit = (self.texts[i] for i in range(part.low, part.high) if self._ends[i][part.depth])
            found = min(fit, key=len, default=None)
            self._left[part] = None if found is None else found[part.depth :]
        return self._left[part]

    @cached_property
    def distances(self) -> Distances:
        """Exact completions."""
        return Distances(self)

    def start(self) -> WordsCursor:
        """A cursor before the first token."""
        return WordsCursor(self, Trail([Part(0, len(self.texts), 0)]))

    def narrow(self, part: Part, token: bytes) -> Part | None:
        """The part after reading `token`, or None where no text goes on like that."""
        if not token or part.low == part.high:
            return None
        head = self.texts[part.low][: part.depth]
        prefix = head + token
        low = bisect_left(self.texts, prefix, part.low, part.high)
        after = _successor(prefix)
        high = part.high if after is None else bisect_left(self.texts, after, low, part.high)
        depth = part.depth + len(token)
        if not any(self._ends[i][depth] for i in range(low, high)):
            return None
        return Part(low, high, depth)

    def mask_of(self, part: Part) -> Bits:
        """The tokens that go on to a text of the part, computed once for each part."""
        found = self._masks.get(part)
        if found is None:
            known, longest = self.vocabulary.by_bytes, self.vocabulary.longest
            flags = np.zeros(32 * (len(self.vocabulary) // 32 + 1), dtype=np.bool_)
            seen = set[bytes]()
            for i in range(part.low, part.high):
                text, ends = self.texts[i], self._ends[i]
                # what the text before began with as well was looked at there, if every text can be spelled
                new = self._shared[i] if i > part.low and self.vocabulary.all_bytes else part.depth
                for stop in range(max(new, part.depth) + 1, min(part.depth + longest, len(text)) + 1):
                    token = text[part.depth : stop]
                    if ends[stop] and token not in seen and token in known:
                        seen.add(token)
                        flags[list(known[token])] = True
            found = np.packbits(flags, bitorder="little").view(np.uint32)
            found.flags.writeable = False
            self._masks[part] = found
            self.built += 1
        return found


def _common(a: bytes, b: bytes) -> int:
    """Length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _successor(prefix: bytes) -> bytes | None:
    """The least byte string that is greater than all that begin with `prefix`; None if there is none."""
    cut = prefix.rstrip(b"\xff")
    return cut[:-1] + bytes([cut[-1] + 1]) if cut else None


class WordsCursor:
    """A place in one of the texts: the parts passed so far (:class:`decodekit.constraints.core.cursor.Cursor`)."""

    __slots__ = ("_home", "_parts")

    def __init__(self, home: Words, parts: Trail[Part]) -> None:
        self._home, self._parts = home, parts

    def mask(self) -> Bits:
        """[ceil(V / 32)] uint32, read-only; shared by all cursors after the same bytes."""
        return self._home.mask_of(self._parts.last())

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return self._next(token) is not None

    def allows_many(self, tokens: Sequence[int]) -> list[bool]:
        """For each of `tokens`, whether it may come next."""
        return [self._next(token) is not None for token in tokens]

    def advance(self, token: int) -> None:
        """Read `token`. Raises ValueError if it is not allowed."""
        part = self._next(token)
        if part is None:
            raise ValueError(f"token {token} is not allowed here")
        self._parts.push(part)

    def fork(self) -> WordsCursor:
        """An independent cursor at the same place."""
        return WordsCursor(self._home, self._parts.fork())

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens."""
        self._parts.drop(n)

    def is_complete(self) -> bool:
        """Whether what was read is one of the texts: it sorts before all longer ones."""
        part = self._parts.last()
        return part.low < part.high and len(self._home.texts[part.low]) == part.depth

    def place(self) -> Part:
        """Equal places have equal futures."""
        return self._parts.last()

    def closing(self) -> bytes | None:
        """The shortest rest of a text."""
        return self._home.closing(self._parts.last())

    def forced_text(self) -> bytes:
        """What all texts of the part have next; empty where one of them ends here."""
        low, high, depth = self._parts.last()
        if low == high:
            return b""
        first, last = self._home.texts[low], self._home.texts[high - 1]  # sorted: all others share what these share
        return first[depth : _common(first, last)]

    def forced(self) -> list[int]:
        """The tokens that must come next, as long as each is the only one allowed."""
        return single(self)

    def explain(self) -> str:
        """What was expected here, in a few words."""
        return explained(self, self._home.vocabulary)

    def _next(self, token: int) -> Part | None:
        tokens = self._home.vocabulary.tokens
        return self._home.narrow(self._parts.last(), tokens[token]) if 0 <= token < len(tokens) else None
