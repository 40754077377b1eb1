"""The search for a token that a constraint allows: along the noisy order of each row, a few checks at a time.

One call of the constraint serves all rows that are still looking. What a row looks for, and how far it must know its
order for that, is an estimator's business (:mod:`decodekit.estimators`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from decodekit import noise
from decodekit.estimators import DEAD, Steps, Walk
from decodekit.noise import Salt
from decodekit.roles import Constraint
from decodekit.rows import NONE, Rows

PEAKED: Final = 0.9  # a law whose best token has this much mass is checked token by token: more would be wasted
_GROWTH: Final = 4  # every further call checks up to this many times as many tokens as all before
_MOST: Final = 4096  # ... but not more than this at once
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

    index: of the row. cap: refusals at most. first: tokens to check in the first call, None for all that were fetched.
    """

    __slots__ = ("cap", "chunk", "first", "found", "index", "known", "need", "orders", "steps", "verdicts")

    def __init__(self, index: int, chunk: int, cap: int | None, first: int | None) -> None:
        self.index, self.chunk, self.cap, self.first = index, chunk, cap, first
        self.orders = (Order(Salt.TOKEN), Order(Salt.ORDER))
        self.verdicts: dict[int, bool] = {}
        self.known: dict[int, int] = {}
        self.steps: Steps
        self.need = (0, 0)
        self.found = DEAD

    def place(self, second: int) -> int | None:
        """Where the token at place `second` of the second order stands in the first, if it was fetched there."""
        return self.known.get(second)

    def go(self) -> bool:
        """Run the estimator as far as it gets; whether it needs more."""
        while True:
            which, count = self.need
            walk = self.orders[which].walk
            if len(walk.ok) < count and not walk.ends_before(len(walk.ok)):
                return True
            try:
                self.need = next(self.steps)
            except StopIteration as done:
                self.found = done.value
                return False

    def short(self) -> bool:
        """Whether tokens of the order in need must be fetched."""
        order = self.orders[self.need[0]]
        return len(order.tokens) < self.need[1] and not order.walk.whole

    def wanted(self) -> int:
        """How many tokens to fetch then."""
        have = len(self.orders[self.need[0]].tokens)
        more = max(self.chunk, min((_GROWTH if have > 1 else 1) * have, _MOST))
        return max(self.need[1], more if self.cap is None else min(more, self.cap))

    def asks(self) -> list[int]:
        """Tokens of the order in need that were fetched and lack a verdict: all, or few, then twice as many."""
        which, count = self.need
        order = self.orders[which]
        known = len(order.walk.ok)
        upto = len(order.tokens) if self.first is None else max(count, 2 * known, self.first)
        return [token for token in order.tokens[known:upto] if token not in self.verdicts]

    def unsure(self) -> bool:
        """Whether the mass that is left must be summed up: nearly all is refused, and 1 - that is rounding."""
        order = self.orders[self.need[0]]
        refused = sum(p for p, ok in zip(order.walk.p, order.walk.ok, strict=False) if not ok)
        return not order.sure and refused > _SURE

    def learn(self) -> None:
        """Take verdicts over into the order in need."""
        which = self.need[0]
        order = self.orders[which]
        for token in order.tokens[len(order.walk.ok) :]:
            if token not in self.verdicts:
                break
            order.walk.ok.append(self.verdicts[token])
        if which == 1:
            first = {token: place for place, token in enumerate(self.orders[0].tokens)}
            self.known = {at: first[token] for at, token in enumerate(order.tokens) if token in first}


def search(
    rows: Rows,
    at: Tensor,
    logits: Tensor,
    constraint: Constraint,
    steps: Callable[[Seeker], Steps],
    chunk: int,
    cap: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The token [R] that each row's estimator takes (NONE: there is none) and its log weight [R] float64.

    `at` [R] positions, NONE for rows that do not look; `logits` [R, V]; `steps` starts the estimator of a row; `chunk`
    tokens are checked in a row's first call, one where its law is peaked, and no more than `cap` unless an estimator
    asks for them. Results do not depend on either.
    """
    token, logw = torch.full_like(at, NONE), torch.full_like(at, -torch.inf, dtype=torch.float64)
    peak = (logits.amax(1) - logits.logsumexp(1)).exp().tolist()  # [R]
    dear = bool(getattr(constraint, "dear", False))
    few = [1 if p >= PEAKED else min(2, chunk) if dear else None for p in peak]
    looking = [Seeker(index, chunk, cap, few[index]) for index in (at != NONE).nonzero()[:, 0].tolist()]
    for row in looking:
        row.steps = steps(row)
    places = at.tolist()
    while looking := [row for row in looking if row.go()]:
        _fetch(rows, at, logits, looking)
        _check(rows, places, looking, constraint)
        for row in looking:
            row.learn()
        _sum_up(logits, [row for row in looking if row.unsure()])
        for row in looking:
            if not row.go() and row.found[0] >= 0:
                token[row.index], logw[row.index] = row.orders[0].tokens[row.found[0]], row.found[1]
    return token, logw


def _fetch(rows: Rows, at: Tensor, logits: Tensor, looking: list[Seeker]) -> None:
    """Make every row know the tokens that it needs, a chunk at a time."""
    for which in (0, 1):
        mine = [row for row in looking if row.need[0] == which and row.short()]
        if not mine:
            continue
        wanted = [row.wanted() for row in mine]
        index = torch.tensor([row.index for row in mine], device=at.device)
        law = logits if len(mine) == len(rows) else logits[index]  # [M, V]
        upto = min(max(wanted), logits.shape[1])
        order, _ = noise.order(law, rows.stream[index], at[index], upto, mine[0].orders[which].salt)  # [M, upto]
        logp, left = _masses(law, order)
        each = zip(mine, order.tolist(), logp.exp().tolist(), left, wanted, strict=True)
        for row, tokens, p, rest, count in each:
            row.orders[which].extend(tokens, p, rest, count, logits.shape[1])


def _check(rows: Rows, places: list[int], looking: list[Seeker], constraint: Constraint) -> None:
    """Ask for the verdicts that are missing; one call for all rows."""
    asked = [row.asks() for row in looking]
    width = max(map(len, asked))
    if not width:
        return
    lines, where = [[NONE] * width for _ in range(len(rows))], [NONE] * len(rows)
    for row, tokens in zip(looking, asked, strict=True):
        if tokens:
            lines[row.index][: len(tokens)], where[row.index] = tokens, places[row.index]
    device = rows.device
    verdicts = constraint.admits(rows, torch.tensor(where, device=device), torch.tensor(lines, device=device)).tolist()
    for row, tokens in zip(looking, asked, strict=True):
        row.verdicts.update(zip(tokens, verdicts[row.index], strict=False))


def _sum_up(logits: Tensor, unsure: list[Seeker]) -> None:
    """The mass of all that was not fetched, as a sum."""
    for row in unsure:
        order = row.orders[row.need[0]]
        law = logits[row.index].double()
        rest = law.index_fill(0, torch.tensor(order.tokens, device=law.device), -torch.inf)
        order.walk.left, order.sure = float((rest.logsumexp(0) - law.logsumexp(0)).exp()), True


def _masses(logits: Tensor, order: Tensor) -> tuple[Tensor, list[float]]:
    """Log-probabilities [M, n] of `order` [M, n] under `logits` [M, V], and 1 - the mass of these."""
    logp = logits.gather(1, order.clamp(min=0)).double() - logits.logsumexp(1).double()[:, None]
    logp = logp.masked_fill(order == NONE, -torch.inf)
    left: list[float] = (1 - logp.exp().sum(1)).tolist()
    return logp, left
