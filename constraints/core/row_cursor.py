"""Where one row is in a text of the constraint."""

from __future__ import annotations

from collections.abc import Sequence

from decodekit.core.rows import NONE

from .cursor import Cursor


class Place:
    """Where one row is. `at` tokens of the row were read (prompt included); at `over` stands an end of text or a token
    that is not allowed, after which the row is no longer followed.
    """

    __slots__ = ("at", "cursor", "ended", "over")

    def __init__(self, cursor: Cursor, at: int, over: int = NONE, ended: bool = False) -> None:
        self.cursor, self.at, self.over, self.ended = cursor, at, over, ended

    def fork(self) -> Place:
        """An independent place with the same past."""
        return Place(self.cursor.fork(), self.at, self.over, self.ended)

    def back(self, keep: int) -> None:
        """Forget all past the first `keep` tokens."""
        if self.over != NONE and keep <= self.over:
            self.over, self.ended = NONE, False
        if keep < self.at:
            self.cursor.rollback(self.at - keep)
            self.at = keep

    def read(self, tokens: Sequence[int], eos: Sequence[int]) -> None:
        """Read on until an end of text (one of `eos`) or a token that is not allowed."""
        if self.over != NONE:
            return
        for token in tokens:
            if token in eos:
                self.over, self.ended = self.at, self.cursor.is_complete()
                return
            if not self.cursor.allows(token):
                self.over = self.at
                return
            self.cursor.advance(token)
            self.at += 1
