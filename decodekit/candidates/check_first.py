"""Choosing under a constraint without its mask: the best token is checked first, and a mask is built where few fit.

The token is the very one that the masked law gives: candidates are asked in the order in which that law would rank
them (logit, or logit + noise; law 2), so the first that is admitted is its best. The full processed law is not made:
such a choice has no `law`, and the trace no column `logt`.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from decodekit.core import noise, selection
from decodekit.core.protocols import Constraint, Proposal, Selection
from decodekit.core.rows import NONE, Rows

FEW: Final = 3
"""Where a mask costs no more checks than this, a second round of checks is not worth its search for candidates."""


def prefers_checks(constraint: Constraint, ask: Proposal) -> bool:
    """Whether to choose by checks: the constraint says how many of them a mask is worth, and nothing is pinned."""
    return patience_of(constraint) > 0 and ask.pinned is None


def patience_of(constraint: Any) -> int:
    """How many checks cost as much as one mask, as measured by the constraint; 0 where it does not say."""
    return int(getattr(constraint, "patience", 0))


def choose(rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint, noisy: bool) -> Selection:
    """What :func:`decodekit.core.selection.chain` makes of the masked law of `logits` [R, K, V]: its best tokens, or
    draws.
    """
    tokens = torch.full_like(ask.at, NONE)  # [R, K]
    for k in range(ask.at.shape[1]):  # a guess is checked only where the chain before it holds
        here = ask.at[:, k].masked_fill(~selection.reached(tokens, ask)[:, k], NONE)  # [R]
        if bool((here == NONE).all()):
            break
        tokens[:, k] = _one(rows, here, logits[:, k], constraint, noisy)
    return Selection(tokens, selection.agreeing(tokens, ask), dead=selection.stuck(tokens, ask))


def _one(rows: Rows, at: Tensor, logits: Tensor, constraint: Constraint, noisy: bool) -> Tensor:
    """[R] the best allowed token at `at` [R] under `logits` [R, V]; NONE where there is none, or no position."""
    token = _best(rows, at, logits, noisy)  # [R]
    good = constraint.admits(rows, at, token[:, None])[:, 0]
    token = token.masked_fill(~good, NONE)
    left = ~good & (at != NONE)  # [R]
    if not bool(left.any()):
        return token
    most = min(patience_of(constraint), logits.shape[1] - 1)
    if most > FEW:
        index = left.nonzero()[:, 0]
        found = torch.full_like(at, NONE)[:, None].repeat(1, most)  # [R, most]
        found[index] = _next(rows, at, logits, index, most, noisy)
        asked = at.masked_fill(~left, NONE)
        good = constraint.admits(rows, asked, found) & (found != NONE) & left[:, None]  # [R, most]
        first = found.gather(1, good.to(torch.uint8).argmax(1, keepdim=True))[:, 0]
        token = torch.where(good.any(1), first, token)
        left = left & ~good.any(1)
        if not bool(left.any()):
            return token
    here = at.masked_fill(~left, NONE)
    masked = selection.allowed(rows, Proposal(here[:, None], here[:, None]), logits[:, None], constraint)[:, 0]
    return torch.where(left, _best(rows, here, masked, noisy), token)


def _best(rows: Rows, at: Tensor, logits: Tensor, noisy: bool) -> Tensor:
    """[R] the first of all tokens; NONE where no logit [R, V] is above -inf."""
    if noisy:
        return noise.argmax(logits[:, None], rows.stream, at[:, None])[:, 0].masked_fill(at == NONE, NONE)
    best, token = logits.max(-1)
    return token.masked_fill((best == -torch.inf) | (at == NONE), NONE)


def _next(rows: Rows, at: Tensor, logits: Tensor, index: Tensor, count: int, noisy: bool) -> Tensor:
    """[M, count] the tokens after the first, in order, of the rows `index` [M]; NONE where nothing sure is left."""
    law = logits[index]
    if noisy:
        order, _ = noise.order(law, rows.stream[index], at[index], count + 1)
        return order[:, 1:]
    value, token = law.topk(count + 1)  # [M, count + 1]; equal logits come in any order
    token, where = token.sort(1)
    value, back = value.gather(1, where).sort(dim=1, descending=True, stable=True)
    token = token.gather(1, back)
    sure = value > value[:, -1:]  # what equals the last may have equals that were not fetched
    return token.masked_fill(~sure, NONE)[:, 1:]
