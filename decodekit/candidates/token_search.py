"""The search for a token that a constraint allows: along the noisy order of each row, a few checks at a time.

One call of the constraint serves all rows that are still looking. What a row looks for, and how far it must know its
order for that, is an estimator's business (:mod:`decodekit.candidates.estimators`).

Where allowed tokens are improbable, a walk must neither check the vocabulary token by token nor sort it again and
again. Three bounds, none of which changes a result:

- What is fetched and what is checked grow by factors, to the end of the vocabulary. A fetch that wants more than a part
  of it fetches all, so that all fetches of a row cost a few full sorts together.
- A row whose checks have cost as much as a mask asks for its mask, which has the verdicts of all tokens to come. What a
  mask costs is measured by the constraint (`checks_per_mask`) or else taken to be :data:`UNKNOWN` checks.
- After :func:`exact_after` refusals an estimator asks for the exact mass instead of walking on. That number is fixed by
  the vocabulary alone and not by measured times: weights must be the same on every machine.

Constraints whose every check calls Python code (their masks take a check for each token) are never asked for a mask
here; their walk goes on, in checks that double, to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor

from decodekit.candidates.estimators import MASKED, Exact, Steps
from decodekit.candidates.seeking import ALL, Seeker
from decodekit.core import noise, selection
from decodekit.core.noise import Salt
from decodekit.core.protocols import Constraint, Proposal
from decodekit.core.rows import NONE, Rows

PEAKED: Final = 0.9  # a law whose best token has this much mass is checked token by token: more would be wasted
UNKNOWN: Final = 1024
"""Checks that a mask is taken to cost where the constraint does not say."""
_LEAST, _MOST, _SHARE = 64, 4096, 16  # see :func:`exact_after`
_AT_ONCE: Final = 1 << 22  # elements of full orders made at once: memory, not speed


def exact_after(vocab: int) -> int:
    """Refusals after which the exact mass is asked for.

    A sixteenth of the vocabulary: a mask costs at most one check for each token, hence at most 16 times what the walk
    has cost by then. No more than 4,096, for a mask of a large vocabulary costs far less than a check for each token,
    and no fewer than 64.
    """
    return min(_MOST, max(_LEAST, vocab // _SHARE))


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
    asks for them. Results do not depend on `chunk`.
    """
    token, logw = torch.full_like(at, NONE), torch.full_like(at, -torch.inf, dtype=torch.float64)
    peak = (logits.amax(1) - logits.logsumexp(1)).exp().tolist()  # [R]
    dear = bool(getattr(constraint, "dear", False))
    few = [1 if p >= PEAKED else min(2, chunk) if dear else None for p in peak]
    most = None if dear or cap is not None else exact_after(logits.shape[1])
    looking = [Seeker(index, chunk, cap, few[index], most) for index in (at != NONE).nonzero()[:, 0].tolist()]
    for row in looking:
        row.steps = steps(row)
    places = at.tolist()
    while looking := [row for row in looking if row.go()]:
        _fetch(rows, at, logits, looking)
        _mask(rows, at, logits, looking, constraint)
        _check(rows, places, looking, constraint)
        for row in looking:
            row.learn()
        _sum_up(logits, [row for row in looking if row.unsure()])
        for row in looking:
            if not row.go() and row.found[0] != -1:
                token[row.index], logw[row.index] = _taken(rows, at, row), row.found[1]
    return token, logw


def _taken(rows: Rows, at: Tensor, row: Seeker) -> int:
    """The token that a row has found."""
    if row.found[0] != MASKED:
        return row.orders[0].tokens[row.found[0]]
    assert row.masked is not None
    here = slice(row.index, row.index + 1)
    return int(noise.order(row.masked[None], rows.stream[here], at[here], 1)[0])


def _fetch(rows: Rows, at: Tensor, logits: Tensor, looking: list[Seeker]) -> None:
    """Make every row know the tokens that it needs, a chunk at a time."""
    vocab = logits.shape[1]
    for which in (0, 1):
        mine = [row for row in looking if row.short(which)]
        if not mine:
            continue
        wanted = [min(row.wanted(vocab), vocab) for row in mine]
        size = len(mine) if max(wanted) * ALL <= vocab else max(1, _AT_ONCE // vocab)
        for begin in range(0, len(mine), size):
            _extend(rows, at, logits, mine[begin : begin + size], wanted[begin : begin + size], which)


def _extend(rows: Rows, at: Tensor, logits: Tensor, mine: list[Seeker], wanted: list[int], which: int) -> None:
    """The first `wanted` tokens of order `which` of the rows `mine`."""
    index = torch.tensor([row.index for row in mine], device=at.device)
    law = logits if len(mine) == len(rows) else logits[index]  # [M, V]
    order, _ = noise.order(law, rows.stream[index], at[index], max(wanted), mine[0].orders[which].salt)  # [M, upto]
    logp, left = _masses(law, order)
    each = zip(mine, order.tolist(), logp.exp().tolist(), left, wanted, strict=True)
    for row, tokens, p, rest, count in each:
        row.orders[which].extend(tokens, p, rest, count, logits.shape[1])


def _mask(rows: Rows, at: Tensor, logits: Tensor, looking: list[Seeker], constraint: Constraint) -> None:
    """Ask for the masks of rows that have no use for checks any more; one call for all of them."""
    worth = _worth(constraint)
    mine = [row for row in looking if row.wants_mask(len(row.asks()), worth)]
    if not mine:
        return
    here = torch.full_like(at, NONE)
    index = torch.tensor([row.index for row in mine], device=at.device)
    here[index] = at[index]
    ask = Proposal(here[:, None], torch.full_like(here, NONE)[:, None])
    masked = selection.allowed(rows, ask, logits[:, None], constraint)[:, 0]  # [R, V]
    for row in mine:
        row.masked, law = masked[row.index].clone(), logits[row.index]  # a view would keep the other rows alive
        logz = float(row.masked.double().logsumexp(0) - law.double().logsumexp(0))
        for order in row.orders:
            order.walk.exact = Exact(logz, partial(_loops, rows, at, law, row.masked, row.index))


def _worth(constraint: Constraint) -> float:
    """How many checks cost as much as a mask."""
    if getattr(constraint, "dear", False):
        return torch.inf
    measured = getattr(constraint, "checks_per_mask", None)
    return UNKNOWN if measured is None else float(measured)


def _loops(rows: Rows, at: Tensor, law: Tensor, masked: Tensor, index: int) -> tuple[int, int, float]:
    """What :class:`decodekit.candidates.estimators.Exact` says of both loops, from the keys [V] of both orders."""
    one, other = (_keys(rows, at, law, index, salt) for salt in (Salt.TOKEN, Salt.ORDER))
    allowed = masked > -torch.inf
    before = one > one[allowed].max()  # what the first loop refused
    again = (other > other[allowed].max()) & ~before
    rest = law.double()
    left = rest.masked_fill(before, -torch.inf).logsumexp(0) - rest.logsumexp(0)
    return int(before.sum()), int(again.sum()), float(left)


def _keys(rows: Rows, at: Tensor, law: Tensor, index: int, salt: int) -> Tensor:
    """[V] float64, by which the order of one row descends."""
    here = slice(index, index + 1)
    return law.double() + noise.gumbel(rows.stream[here], at[here, None], len(law), salt)[0, 0]


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
