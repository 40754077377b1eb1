"""Resampling of weighted particles: who goes on, how often, and in which slot.

Every scheme gives particle i on average N w_i / sum w offspring, so that expectations under the weights are kept
(Douc, Cappé, Moulines 2005; Liu and Chen 1998 for the residual scheme). A particle that goes on stays in its own slot,
and only the slots of those that do not are filled with copies: little has to be moved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

RETAINED = "resampling.retained"
"""Column of rows whose population keeps the particle in its first slot where it is (conditional SMC)."""
Scheme: TypeAlias = Literal["systematic", "stratified", "residual", "multinomial"]


def ess(logw: Tensor) -> Tensor:
    """Effective sample size (sum w)^2 / sum w^2 of each group: `logw` [G, N] -> [G]; NaN where all are dead."""
    weight = shares(logw)
    return weight.sum(1) ** 2 / (weight**2).sum(1)


def shares(logw: Tensor) -> Tensor:
    """Weights [G, N] up to a factor per group, the largest being 1; a group of dead ones has none."""
    return (logw - logw.amax(1, keepdim=True)).exp().nan_to_num(0.0)


def offspring(weight: Tensor, uniform: Tensor, scheme: Scheme) -> Tensor:
    """How often each particle goes on: `weight` [G, N] and i.i.d. `uniform` [G, N] -> [G, N] int64, rows sum to N."""
    n = weight.shape[1]
    if scheme != "residual":
        return _counts(weight, points(uniform, scheme))
    expected = n * weight / weight.sum(1, keepdim=True)
    # Rounded down but for the last bits: an expectation of 2 - 1e-16 means 2.
    whole = (expected + 1e-9).floor()
    rest = (expected - whole).clamp(min=0)  # [G, N]
    missing = n - whole.sum(1).to(torch.int64)  # [G]
    drawn = torch.arange(n, device=weight.device) < missing[:, None]  # the first so many uniforms are used
    edges = torch.where(rest.sum(1, keepdim=True) > 0, rest, weight)
    return whole.to(torch.int64) + _counts(edges, uniform, drawn)


def points(uniform: Tensor, scheme: Scheme) -> Tensor:
    """[G, N] points in [0, 1) at which cumulated weights are read, from i.i.d. `uniform` [G, N]."""
    n = uniform.shape[1]
    if scheme == "multinomial":
        return uniform.sort(1).values
    if scheme == "systematic":
        uniform = uniform[:, :1]
    return (torch.arange(n, device=uniform.device) + uniform) / n


def _counts(weight: Tensor, points: Tensor, counted: Tensor | None = None) -> Tensor:
    """How many of the `points` [G, N] fall on each particle; only those `counted` [G, N], where that is given."""
    n = weight.shape[1]
    edges = weight.cumsum(1)
    chosen = torch.searchsorted(edges, points * edges[:, -1:], right=True)  # never one without weight ...
    last = n - 1 - (weight > 0).flip(1).to(torch.uint8).argmax(1, keepdim=True)
    chosen = torch.minimum(chosen, last)  # ... not even where rounding puts a point past the last edge
    ones = torch.ones_like(chosen) if counted is None else counted.to(chosen.dtype)
    return torch.zeros_like(chosen).scatter_add_(1, chosen, ones)


def ancestors(offspring: Tensor) -> Tensor:
    """[G, N] the particle that each slot continues: who has offspring stays, the others' slots take the surplus."""
    n = offspring.shape[1]
    here = torch.arange(n, device=offspring.device).expand_as(offspring)
    free = offspring == 0
    vacancy = free.cumsum(1) - 1  # number of the vacancy in a free slot
    surplus = (offspring - 1).clamp(min=0).cumsum(1)  # copies that must go elsewhere, cumulated
    taker = torch.searchsorted(surplus, vacancy.contiguous(), right=True).clamp(max=n - 1)
    return torch.where(free, taker, here)


def conditional(weight: Tensor, uniform: Tensor) -> Tensor:
    """[G, N] ancestors of conditional SMC: the first slot keeps its particle, the others are independent draws from
    `weight` [G, N] by `uniform` [G, N] (Andrieu, Doucet, Holenstein 2010, section 4.3).
    """
    edges = weight.cumsum(1)
    last = weight.shape[1] - 1 - (weight > 0).flip(1).to(torch.uint8).argmax(1, keepdim=True)
    chosen = torch.minimum(torch.searchsorted(edges, uniform * edges[:, -1:], right=True), last)
    chosen[:, 0] = 0
    return chosen


def log_evidence(logw: Iterable[float]) -> float:
    """Log of the mean weight of one group: its estimate of the evidence (unbiased before the logarithm)."""
    values = torch.tensor(list(logw), dtype=torch.float64)
    return float(values.logsumexp(0)) - math.log(len(values))
