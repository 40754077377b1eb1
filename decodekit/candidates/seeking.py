"""What one row of a walk knows, and what it wants next (:mod:`decodekit.candidates.token_search` asks for it)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from decodekit.candidates.estimators import DEAD, EXACT, Steps, Walk
from decodekit.core.noise import Salt
from decodekit.core.rows import NONE

_GROWTH: Final = 4  # every further call checks up to this many times as many tokens as were checked before
ALL: Final = 16  # more than 1 / 16 of the vocabulary wanted: fetch all of it, at about the cost of one sort
_SURE: Final = 0.99  # above this refused mass, 1 - mass has lost digits: sum up what is left instead


class Order:
    """One noisy order of one row, as far as it was fetched: its tokens, and what estimators know of it."""

    __slots__ = ("salt", "sure", "tokens", "walk")

    def __init__(self, salt: int) -> None:
        self.walk, self.salt = Walk(), salt
        self.tokens: list[int] = []
        self.sure = False  # whether `walk.left` is a sum, and not 1 - the rest

    def extend(self, tokens: list[int], p: list[float], left: float, wanted: int, vocab: int) -> None:
        """Take over the first `wanted` of a longer list, with the mass of all that come after them."""
        found = tokens.index(NONE) if NONE in tokens else len(tokens)
        taken = min(found, wanted)
        self.tokens = tokens[:taken]
        self.walk.whole = taken == vocab or (found < len(tokens) and taken == found)
        self.walk.left = 0.0 if self.walk.whole else max(0.0, left) + sum(p[taken:found])
        self.sure = self.walk.whole
        self.walk.p = p[:taken]


class Seeker:
    """One row that looks for its token.

    index: of the row. cap: refusals at most. first: tokens to check in the first call, None for a whole `chunk`. most:
    refusals after which the exact mass is wanted, None for never. masked: the row's law [V] under its mask, once it has
    one.
    """

    __slots__ = ("cap", "chunk", "first", "found", "index", "known", "masked", "need", "orders", "steps", "verdicts")

    def __init__(self, index: int, chunk: int, cap: int | None, first: int | None, most: int | None) -> None:
        self.index, self.chunk, self.cap, self.first = index, chunk, cap, first
        self.orders = (Order(Salt.TOKEN), Order(Salt.ORDER))
        for order in self.orders:
            order.walk.most = most
        self.verdicts: dict[int, bool] = {}
        self.known: dict[int, int] = {}
        self.masked: Tensor | None = None
        self.steps: Steps
        self.need = (0, 0)
        self.found = DEAD

    def place(self, second: int) -> int | None:
        """Where the token at place `second` of the second order stands in the first, if it was fetched there."""
        return self.known.get(second)

    def go(self) -> bool:
        """Run the estimator as far as it gets; whether it needs more."""
        while True:
            if self._lacks():
                return True
            try:
                self.need = next(self.steps)
            except StopIteration as done:
                self.found = done.value
                return False

    def _lacks(self) -> bool:
        which, count = self.need
        if which == EXACT:
            return self.masked is None
        walk = self.orders[which].walk
        return len(walk.ok) < count and not walk.ends_before(len(walk.ok))

    def short(self, which: int) -> bool:
        """Whether tokens of order `which` must be fetched."""
        if self.need[0] != which:
            return False
        order = self.orders[which]
        return len(order.tokens) < self.need[1] and not order.walk.whole

    def wanted(self, vocab: int) -> int:
        """How many tokens to fetch then."""
        order = self.orders[self.need[0]]
        have, most = len(order.tokens), order.walk.most
        more = max(self.chunk, (_GROWTH if have > 1 else 1) * have)
        if most is not None:
            more = most if self.masked is not None else min(more, most)  # with a mask verdicts are free
        elif self.cap is not None:
            more = min(more, self.cap)
        elif more * ALL > vocab and have > 1:
            more = vocab
        return max(self.need[1], more)

    def asks(self) -> list[int]:
        """Tokens of the order in need that were fetched and lack a verdict: all, or few, then twice as many."""
        which, count = self.need
        if which == EXACT or self.masked is not None:
            return []
        order = self.orders[which]
        known = len(order.walk.ok)
        end = max(count, self.chunk, _GROWTH * known) if self.first is None else max(count, 2 * known, self.first)
        return [token for token in order.tokens[known:end] if token not in self.verdicts]

    def wants_mask(self, asked: int, worth: float) -> bool:
        """Whether a mask, which costs `worth` checks, comes before `asked` more checks."""
        if self.masked is not None:
            return False
        done = len(self.verdicts)
        return self.need[0] == EXACT or (asked > 0 and done > 0 and done + asked > worth)

    def unsure(self) -> bool:
        """Whether the mass that is left must be summed up: nearly all is refused, and 1 - that is rounding."""
        if self.need[0] == EXACT:
            return False
        order = self.orders[self.need[0]]
        refused = sum(p for p, ok in zip(order.walk.p, order.walk.ok, strict=False) if not ok)
        return not order.sure and refused > _SURE

    def learn(self) -> None:
        """Take verdicts over into the order in need."""
        which = self.need[0]
        if which == EXACT:
            return
        order = self.orders[which]
        rest = order.tokens[len(order.walk.ok) :]
        if self.masked is not None:
            order.walk.ok += (self.masked[torch.tensor(rest, device=self.masked.device)] > -torch.inf).tolist()
            rest = []
        for token in rest:
            if token not in self.verdicts:
                break
            order.walk.ok.append(self.verdicts[token])
        if which == 1:
            first = {token: place for place, token in enumerate(self.orders[0].tokens)}
            self.known = {at: first[token] for at, token in enumerate(order.tokens) if token in first}
