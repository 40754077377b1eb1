"""Sequential Monte Carlo: a population of particles, resampled when their weights have become uneven."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit import noise
from decodekit.kit import Run
from decodekit.noise import Salt
from decodekit.registry import plugin
from decodekit.rows import Rows

_COUNT = "smc.resamplings"


@plugin(
    role="population",
    keeps="weighted",
    needs=("weights",),
    gives=("particles",),
    paper="Del Moral, Doucet, Jasra 2006; for language models Lew et al. 2023, arXiv 2306.03081, algorithm 1",
)
class Smc:
    """Each asked sample is a group of particles that share their luck in proportion to their weights.

    After every round, where the effective sample size (sum w)^2 / sum w^2 of a group (finished and dead particles
    included) is below `ess` times the number of particles, the slots are given to particles in proportion to their
    weights, and every weight becomes the mean.
    Weights come from the selector (`awrs`, `mask`); one that gives none is refused,
    for its particles would only be samples that look weighted.

    The mean of the final weights is an unbiased estimate of the evidence, the probability that the model satisfies the
    constraint (:func:`log_evidence`); expectations under the normalised final weights are those under the model given
    the constraint, as the number of particles grows. A group leaves when all its particles are done.

    Args:
        particles: how many per asked sample.
        ess: between 0 (never resample: importance sampling) and 1 (whenever weights differ).
        resampling: one uniform for all slots ("systematic"), one for each of equal strata ("stratified"), or
            independent draws ("multinomial").

    A particle that survives stays in its slot, so that little has to be moved; noise stays with the slot, so that
    copies diverge. Dead particles are never copied.
    """

    particles: Annotated[int, Field(ge=1)] = 16
    ess: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    resampling: Literal["systematic", "stratified", "multinomial"] = "systematic"

    @property
    def width(self) -> int:
        """Rows per prompt and asked sample."""
        return self.particles

    def bind(self, run: Run) -> Smc:
        """Nothing to prepare."""
        return self

    def survivors(self, rows: Rows) -> Tensor | None:
        """[R] which row each slot continues, or None if no group is resampled; resets the weights of those that are."""
        n = self.particles
        logw = rows.logw.view(-1, n)  # [G, N]; groups leave as a whole, so every group has all its slots
        weight = (logw - logw.amax(1, keepdim=True)).exp().nan_to_num(0.0)  # a group of dead ones has no weight
        ess = weight.sum(1) ** 2 / (weight**2).sum(1)  # [G]; NaN for the dead
        due = (ess < self.ess * n) & ~rows.done.view(-1, n).all(1)
        if not bool(due.any()):
            return None
        count = rows.column(_COUNT, torch.zeros_like(rows.n))  # by group, whatever else is in the batch
        offspring = _offspring(weight, self._points(rows, count))  # [G, N]
        index = torch.arange(len(rows), device=rows.device).view(-1, n)
        index = torch.where(due[:, None], _ancestors(offspring) + index[:, :1], index)
        mean = logw.logsumexp(1, keepdim=True) - math.log(n)
        rows.logw = torch.where(due[:, None], mean, logw).flatten()
        rows.columns[_COUNT] = count + due.repeat_interleave(n)
        return index.flatten()

    def leaving(self, rows: Rows) -> Tensor:
        """[R] bool, all rows of a group once all of them are done."""
        return rows.done.view(-1, self.particles).all(1).repeat_interleave(self.particles)

    def _points(self, rows: Rows, count: Tensor) -> Tensor:
        """[G, N] ascending points in [0, 1) at which the cumulated weights are read."""
        n = self.particles
        u = noise.uniform(rows.stream, count[:, None], Salt.RESAMPLE).view(-1, n)
        if self.resampling == "multinomial":
            return u.sort(1).values
        if self.resampling == "systematic":
            u = u[:, :1]
        return (torch.arange(n, device=u.device) + u) / n


def log_evidence(logw: Iterable[float]) -> float:
    """Log of the mean weight of one group: its estimate of the evidence (unbiased before the logarithm)."""
    values = torch.tensor(list(logw), dtype=torch.float64)
    return float(values.logsumexp(0)) - math.log(len(values))


def _offspring(weight: Tensor, points: Tensor) -> Tensor:
    """How many slots each particle gets: `weight` [G, N], `points` [G, N] in [0, 1) -> [G, N] int64, rows sum to N."""
    n = weight.shape[1]
    edges = weight.cumsum(1)
    chosen = torch.searchsorted(edges, points * edges[:, -1:], right=True)  # never one without weight ...
    last = n - 1 - (weight > 0).flip(1).to(torch.uint8).argmax(1, keepdim=True)
    chosen = torch.minimum(chosen, last)  # ... not even where rounding puts a point past the last edge
    return torch.zeros_like(chosen).scatter_add_(1, chosen, torch.ones_like(chosen))


def _ancestors(offspring: Tensor) -> Tensor:
    """[G, N] the particle that each slot continues: who has offspring stays, the others' slots take the surplus."""
    n = offspring.shape[1]
    here = torch.arange(n, device=offspring.device).expand_as(offspring)
    free = offspring == 0
    vacancy = free.cumsum(1) - 1  # number of the vacancy in a free slot
    surplus = (offspring - 1).clamp(min=0).cumsum(1)  # copies that must go elsewhere, cumulated
    taker = torch.searchsorted(surplus, vacancy.contiguous(), right=True).clamp(max=n - 1)
    return torch.where(free, taker, here)
