"""The one synchronisation routine of the house: private state kept in step with the rows (law 1)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from decodekit.core.rows import NONE, Rows


class Follower(ABC):
    """State that depends on the text: replay the forks, keep the common prefix, absorb the rest.

    Model caches, grammar cursors, n-gram tables, detokenisers and stop-string matchers are followers. When asked
    about rows they call :meth:`sync`; no plugin ever calls rollback, crop, reorder or prefill.

    Legal iff the state after p tokens depends only on those tokens (and on p). What cannot promise that must
    declare itself `approximate`.
    """

    def __init__(self) -> None:
        self._seen: Tensor | None = None  # [R, T] tokens as they were absorbed
        self._have: Tensor  # [R] how many of them the state covers
        self._version = 0

    @abstractmethod
    def fork(self, index: Tensor) -> None:
        """Rearrange private state: new row j continues old row `index[j]`. Called with every move, in order."""

    @abstractmethod
    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> object:
        """Forget all past `keep` [R] tokens of each row, then absorb `rows.tokens[r, keep[r]:upto[r]]`.

        Rows outside `only` [R] bool must be left alone: their `keep` and `upto` say nothing.
        """

    def sync(self, rows: Rows, upto: Tensor, again: Tensor | None = None, only: Tensor | None = None) -> object:
        """Bring the state of the rows `only` (default: all that are not done) to their first `upto` [R] tokens.

        Tokens from `again` [R] on are absorbed anew even if nothing changed: a reader needs the logits they give.
        Returns what :meth:`feed` returned.
        """
        only = ~rows.done if only is None else only
        stands = self._stands(rows)
        keep = torch.minimum(stands, upto if again is None else again)  # `again` is never past `upto`
        # Rows that were not asked lag behind, and catch up by themselves when they are. Set before feeding, so that a
        # feed that is interrupted leaves nothing that claims to be absorbed.
        self._have = torch.where(only, keep, stands)
        out = self.feed(rows, keep, upto, only)
        self._have = torch.where(only, upto, self._have)
        return out

    def _stands(self, rows: Rows) -> Tensor:
        """[R] how many tokens of each row the state holds that the rows still say; and remember what they say now."""
        self._replay(rows)
        seen, tokens = self._seen, rows.tokens
        assert seen is not None  # _replay made it
        if seen.shape[1] != tokens.shape[1]:
            seen = torch.nn.functional.pad(seen, (0, tokens.shape[1] - seen.shape[1]), value=NONE)
        differ = seen != tokens
        differ[:, -1] = True  # the spare column, in which anything may stand: rows that differ nowhere differ there
        same = differ.view(torch.uint8).argmax(1)  # [R] length of the common prefix
        self._seen = tokens.clone()
        return torch.minimum(same, self._have)

    def _replay(self, rows: Rows) -> None:
        if self._seen is None:
            self._seen, self._have = torch.full_like(rows.tokens, NONE), torch.zeros_like(rows.n)
            self._version = len(rows.moves)
        for index in rows.moves[self._version :]:
            self.fork(index)
            self._seen, self._have = self._seen[index], self._have[index]
        self._version = len(rows.moves)
