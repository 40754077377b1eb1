"""Several compiled constraints as one, each reading the text for itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.cursor import Bits, Compiled, Cursor, forced_text, single
from ..core.steering import closing
from ..core.vocabulary import Vocabulary


class Together:
    """Several compiled constraints as one; `every` says whether all must hold, or one."""

    def __init__(self, parts: Sequence[Compiled], vocabulary: Vocabulary, every: bool) -> None:
        self.parts, self.vocabulary, self.every = parts, vocabulary, every
        self.built = 0

    def start(self) -> TogetherCursor:
        """A cursor before the first token."""
        return TogetherCursor(self, [part.start() for part in self.parts], [0] * len(self.parts), 0)


class TogetherCursor:
    """The places of all parts. read: tokens that each part has read; less than `n` if a token was not its own."""

    __slots__ = ("_cursors", "_home", "_n", "_read")

    def __init__(self, home: Together, cursors: list[Cursor], read: list[int], n: int) -> None:
        self._home, self._cursors, self._read, self._n = home, cursors, read, n

    def _alive(self) -> list[Cursor]:
        return [cursor for cursor, read in zip(self._cursors, self._read, strict=True) if read == self._n]

    def mask(self) -> Bits:
        """[ceil(V / 32)] uint32, read-only."""
        join = np.bitwise_and if self._home.every else np.bitwise_or
        bits: Bits = join.reduce([cursor.mask() for cursor in self._alive()])
        bits.flags.writeable = False
        self._home.built = sum(part.built for part in self._home.parts)
        return bits

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return (all if self._home.every else any)(cursor.allows(token) for cursor in self._alive())

    def allows_many(self, tokens: Sequence[int]) -> list[bool]:
        """For each of `tokens`, whether it may come next."""
        return [self.allows(token) for token in tokens]

    def advance(self, token: int) -> None:
        """Read `token`. Raises ValueError if it is not allowed."""
        if not self.allows(token):
            raise ValueError(f"token {token} is not allowed here")
        for i, cursor in enumerate(self._cursors):
            if self._read[i] == self._n and cursor.allows(token):
                cursor.advance(token)
                self._read[i] += 1
        self._n += 1

    def fork(self) -> TogetherCursor:
        """An independent cursor at the same place."""
        return TogetherCursor(self._home, [cursor.fork() for cursor in self._cursors], self._read.copy(), self._n)

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens; parts that had stopped before stay where they stopped."""
        self._n -= n
        for i, cursor in enumerate(self._cursors):
            if self._read[i] > self._n:
                cursor.rollback(self._read[i] - self._n)
                self._read[i] = self._n

    def is_complete(self) -> bool:
        """Whether what was read is a whole text."""
        return (all if self._home.every else any)(cursor.is_complete() for cursor in self._alive())

    def closing(self) -> bytes | None:
        """A short text that completes this one: of any part that knows one; of the first that all read, for all."""
        known = [left for cursor in self._alive() if (left := closing(cursor)) is not None]
        if not self._home.every:
            return min(known, key=len, default=None)
        return next((left for left in known if self._reads(left)), None)

    def _reads(self, text: bytes) -> bool:
        """Whether `text` completes every part."""
        tokens = self._home.vocabulary.spell(text)
        more = self.fork()
        for token in tokens or ():
            if not more.allows(token):
                return False
            more.advance(token)
        return tokens is not None and more.is_complete()

    def forced_text(self) -> bytes:
        """What a part forces, for all of them; what all parts that go on have in common, for any."""
        texts = [forced_text(cursor, self._home.vocabulary) for cursor in self._alive()]
        if self._home.every:
            return max(texts, key=len, default=b"")
        first, last = min(texts, default=b""), max(texts, default=b"")  # what these share, all share
        return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]

    def forced(self) -> list[int]:
        """The tokens that must come next, as long as each is the only one allowed."""
        return single(self)

    def explain(self) -> str:
        """What the parts expect, joined."""
        return (" and " if self._home.every else " or ").join(cursor.explain() for cursor in self._alive())
