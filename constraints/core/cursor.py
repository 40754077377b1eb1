"""The cursor interface that every constraint engine offers.

A constraint is compiled once per vocabulary; each row of a run holds a cursor, a place in a text of the constraint.
Cursors behave as values: asking never changes them, a fork is independent, `rollback` undoes `advance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .vocabulary import Vocabulary

T = TypeVar("T")
Bits: TypeAlias = npt.NDArray[np.uint32]
"""[ceil(V / 32)] packed mask; token t is allowed iff bit `t % 32` of word `t // 32` is set. Read-only."""

FORCED: Final = 64
"""The longest forced run that is looked for at once."""


class Cursor(Protocol):
    """A place in a text of the constraint. Ids that end a text are the business of the bridge to the rows.

    Engines that can also have `stuck()` (whether no token may come next, quicker than an empty mask), `forced_text()`
    (the bytes that every whole text has next; :func:`forced_text`), `closing()` (a short text that completes this one;
    :mod:`decodekit.constraints.core.steering`), `place()` (a value, equal where the future is) and `text` (the bytes
    read).
    """

    def mask(self) -> Bits:
        """The tokens that may come next; equals `allows` token by token."""

    def allows(self, token: int) -> bool:
        """Whether `token` may come next: some continuation completes the text."""

    def allows_many(self, tokens: Sequence[int]) -> list[bool]:
        """`allows` of each of `tokens`."""

    def advance(self, token: int) -> None:
        """Read `token`. Raises ValueError, and stays where it is, if that is not allowed."""

    def fork(self) -> Self:
        """An independent cursor at the same place; cheap."""

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens read."""

    def is_complete(self) -> bool:
        """Whether what was read is a whole text of the constraint."""

    def forced(self) -> list[int]:
        """The tokens that must come next, each being the only one allowed; empty where the text may end."""

    def explain(self) -> str:
        """What was expected here, in a few words."""


class Compiled(Protocol):
    """A constraint compiled for one vocabulary; shared by all rows of a run.

    built: masks computed so far (those found in memory are not counted).
    """

    vocabulary: Vocabulary
    built: int

    def start(self) -> Cursor:
        """A cursor before the first token."""


class Trail(Generic[T]):
    """What a cursor has passed, such that a fork costs the same after one token and after a thousand.

    Forks share one list until one of them writes past the place that they have in common.
    """

    __slots__ = ("_items", "_n", "_shared")

    def __init__(self, items: list[T]) -> None:
        self._items, self._n, self._shared = items, len(items), False

    def __len__(self) -> int:
        return self._n

    def fork(self) -> Trail[T]:
        """The same so far."""
        other: Trail[T] = Trail(self._items)
        other._n, other._shared, self._shared = self._n, True, True
        return other

    def push(self, item: T) -> None:
        """One more."""
        if len(self._items) != self._n:
            if self._shared:
                self._items, self._shared = self._items[: self._n], False
            else:
                del self._items[self._n :]
        self._items.append(item)
        self._n += 1

    def drop(self, n: int) -> None:
        """Forget the last `n`."""
        self._n -= n

    def last(self) -> T:
        """The latest one."""
        return self._items[self._n - 1]

    def tail(self, n: int) -> list[T]:
        """The last `n`, in order."""
        return self._items[self._n - n : self._n]


def tokens_of(bits: Bits, size: int) -> npt.NDArray[np.int64]:
    """The allowed ids below `size`, in increasing order."""
    words = np.flatnonzero(bits)  # mostly few: nothing else is unpacked
    flags = np.unpackbits(bits[words].view(np.uint8), bitorder="little").reshape(-1, 32)
    at, place = np.nonzero(flags)
    ids = words[at] * 32 + place
    return ids if not len(ids) or ids[-1] < size else ids[ids < size]


def single(cursor: Cursor) -> list[int]:
    """`Cursor.forced` for engines without a quicker way: read on while exactly one token is allowed."""
    here, out = cursor.fork(), list[int]()
    while len(out) < FORCED and not here.is_complete():
        bits = here.mask()
        if int(np.bitwise_count(bits).sum()) != 1:
            break
        word = int(bits.argmax())
        out.append(word * 32 + int(bits[word]).bit_length() - 1)
        here.advance(out[-1])
    return out


def stuck(cursor: Cursor) -> bool:
    """Whether no token may come next; cursors whose masks are dear have a quicker way, `stuck`."""
    quick = getattr(cursor, "stuck", None)
    return bool(quick()) if quick is not None else not cursor.mask().any()


def forced_text(cursor: Cursor, vocabulary: Vocabulary) -> bytes:
    """The bytes that every whole text has next, whichever tokens write them; empty where there is a choice.

    Engines that read bytes know them (`forced_text`); of others the tokens that are forced one by one are taken.
    """
    ask = getattr(cursor, "forced_text", None)
    found: bytes = ask() if ask is not None else vocabulary.text(cursor.forced())
    return found


def explained(cursor: Cursor, vocabulary: Vocabulary, most: int = 8) -> str:
    """`Cursor.explain` by examples of allowed tokens, shortest first."""
    ids = tokens_of(cursor.mask(), len(vocabulary)).tolist()
    texts = sorted({vocabulary.tokens[i].decode(errors="replace") for i in ids}, key=lambda text: (len(text), text))
    parts = [repr(text) for text in texts[:most]]
    if len(texts) > most:
        parts.append(f"or one of {len(texts) - most} other tokens")
    if cursor.is_complete():
        parts.append("the end of the text")
    return "expected " + ", ".join(parts) if parts else "nothing can follow, and the text is not complete"
