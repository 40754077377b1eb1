"""In which order warpers and a constraint act: truncation happens among what is allowed, so it never empties it.

The one place that decides it, for selectors, drafters, judges of exits and look-ahead alike. Warpers act in the order
given. The leading ones that may act on the model's own logits do (:func:`split`); then the logits are restricted to
what the constraint allows; then the others act on what is left. Where there are no others, nothing is restricted here,
and a selector may search for an allowed token without a mask.

With p the distribution before the first warper that acts within the constraint, C what is allowed and Z = p(C), a
token is drawn from t, the warped p(. | C), and the weight of the step is Z. So weighted strategies aim at the model
that gives Z t(x) to an allowed token x and p(x) to a forbidden one, conditioned on the constraint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from decodekit.core.protocols import Constraint, Proposal, Warper
from decodekit.core.rows import NONE, Rows
from decodekit.core.selection import allowed

Within = Literal["constraint", "model"]
"""Option of truncating warpers: what they look at, the allowed tokens, or all of the model's ("model")."""


def split(warpers: Sequence[Warper]) -> tuple[tuple[Warper, ...], tuple[Warper, ...]]:
    """(those that act on the model's own logits, those that act on what the constraint leaves), both in order.

    The first part ends before the first warper that is neither `pointwise` nor `before_constraint`.
    """
    count = 0
    while count < len(warpers) and (is_pointwise(warpers[count]) or is_before(warpers[count])):
        count += 1
    return tuple(warpers[:count]), tuple(warpers[count:])


def is_pointwise(warper: Warper) -> bool:
    """Whether what it makes of a token depends on no other token: then it commutes with any restriction."""
    return bool(getattr(warper, "pointwise", False))


def is_before(warper: Warper) -> bool:
    """Whether it was asked to act on all tokens of the model, and may cut away all that a constraint allows."""
    return bool(getattr(warper, "before_constraint", False))


def warped(warpers: Sequence[Warper], rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
    """`logits` [R, K, V] after all of `warpers`, in order."""
    for warper in warpers:
        logits = warper.warp(rows, ask, logits)
    return logits


def within(warpers: Sequence[Warper], rows: Rows, ask: Proposal, restricted: Tensor) -> Tensor:
    """What `warpers` make of `restricted` [R, K, V]: -inf stays -inf, and where nothing is allowed none is asked."""
    forbidden = restricted == -torch.inf
    stuck = forbidden.all(-1, keepdim=True)  # a distribution over nothing is NaN to most warpers
    out = warped(warpers, rows, ask, restricted.masked_fill(stuck, 0.0) if bool(stuck.any()) else restricted)
    return out.masked_fill(forbidden, -torch.inf)


def processed(
    warpers: Sequence[Warper], rows: Rows, ask: Proposal, logits: Tensor, restrict: Callable[[Tensor], Tensor]
) -> Tensor:
    """The logits [R, K, V] of the processed target: warped and restricted, in the right order.

    restrict: puts -inf where a token is not allowed.
    """
    early, late = split(warpers)
    restricted = restrict(warped(early, rows, ask, logits))
    return within(late, rows, ask, restricted) if late else restricted


@dataclass(frozen=True, slots=True)
class Reshaped:
    """What a selector gets. logits: [R, K, V]. constraint: what is still to be asked for, or None.

    before, restricted: [R, K, V] the logits before truncation, of all tokens and of the allowed ones; None where
    nothing was restricted yet.
    """

    logits: Tensor
    constraint: Constraint | None
    before: Tensor | None = None
    restricted: Tensor | None = None

    def mass(self) -> Tensor | float:
        """[R, K] float64, log Z of each position; 0 where the selector still weighs the restriction itself."""
        if self.before is None or self.restricted is None:
            return 0.0
        return self.restricted.logsumexp(-1).double() - self.before.logsumexp(-1).double()


def reshape(
    warpers: Sequence[Warper], rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None
) -> Reshaped:
    """Warp `logits` [R, K, V] as far as that can be done before a selector restricts; if not, restrict as well."""
    if constraint is None:
        return Reshaped(warped(warpers, rows, ask, logits), None)
    early, late = split(warpers)
    before = warped(early, rows, ask, logits)
    if not late:
        return Reshaped(before, constraint)
    restricted = allowed(rows, ask, before, constraint)
    out = within(late, rows, ask, restricted)
    return Reshaped(out, Settled(constraint, ask.at, out), before, restricted)


class Settled:
    """A bound constraint (:class:`decodekit.core.protocols.Constraint`) whose answers at `at` [R, K] are in `logits`
    [R, K, V].

    Allowed is what has a logit above -inf. Anything else that it is asked for, `inner` answers; checks cost nothing
    here, so `patience` is 0, and there is nothing to narrow or to prepare.
    """

    patience = 0
    dear = False

    def __init__(self, inner: Constraint, at: Tensor, logits: Tensor) -> None:
        self.inner, self._at, self._logits = inner, at, logits

    def __getattr__(self, name: str) -> Any:
        if name in ("narrow", "prepare"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def masked(self, rows: Rows, at: Tensor, logits: Tensor) -> Tensor:
        """`logits` [R, K, V] with -inf where the token is cut away or not allowed."""
        if logits is self._logits and at is self._at:
            return logits
        return logits.masked_fill(~self.mask(rows, at), -torch.inf)

    def mask(self, rows: Rows, at: Tensor) -> Tensor:
        """[R, K, V] bool."""
        if at is self._at:
            return self._logits > -torch.inf
        place, known = self._place(at)
        out = self._logits.gather(1, place[..., None].expand(-1, -1, self._logits.shape[-1])) > -torch.inf
        out = out | (at == NONE)[..., None]
        elsewhere = ~known & (at != NONE)
        if bool(elsewhere.any()):
            out = torch.where(elsewhere[..., None], self.inner.mask(rows, at.masked_fill(~elsewhere, NONE)), out)
        return out

    def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
        """[R, C] bool for candidates `tokens` [R, C] at position `at` [R]."""
        place, known = self._place(at[:, None])
        line = torch.arange(len(at), device=at.device)
        out = self._logits[line, place[:, 0]].gather(1, tokens.clamp(min=0)) > -torch.inf
        out = (out | (at == NONE)[:, None]) & (tokens != NONE)
        elsewhere = ~known[:, 0] & (at != NONE)
        if bool(elsewhere.any()):
            there = at.masked_fill(~elsewhere, NONE)
            inner = self.inner.admits(rows, there, tokens.masked_fill(~elsewhere[:, None], NONE))
            out = torch.where(elsewhere[:, None], inner, out)
        return out

    def complete(self, rows: Rows) -> Tensor:
        """[R] bool, what the inner constraint says."""
        return self.inner.complete(rows)

    def forced(self, rows: Rows) -> list[list[int]]:
        """What the inner constraint says."""
        return self.inner.forced(rows)

    def _place(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """([R, K'] column of each position `at` [R, K'], whether it is one of those that are settled)."""
        same = (at[..., None] == self._at[:, None]) & (at != NONE)[..., None]  # [R, K', K]
        return same.to(torch.uint8).argmax(-1), same.any(-1)
