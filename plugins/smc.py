"""Sequential Monte Carlo: a population of particles, resampled when their weights have become uneven."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.noise import Salt
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, OptionError
from decodekit.particles import potentials, resampling
from decodekit.particles.potentials import Potential
from decodekit.particles.resampling import Scheme, ancestors, offspring
from decodekit.registry.declaration import plugin
from decodekit.text.codec import Codec

_COUNT, _TWIST, _SEEN, _UNITS = "smc.resamplings", "smc.twist", "smc.judged", "smc.units"


@plugin(
    role="population",
    exactness="weighted",
    requires=("weights",),
    provides=("particles",),
    paper="Del Moral, Doucet, Jasra 2006; for language models Lew et al. 2023, arXiv 2306.03081, algorithm 1",
)
class SMC:
    """Each asked sample is a group of particles that share their luck in proportion to their weights.

    Where the effective sample size (sum w)^2 / sum w^2 of a group (finished and dead particles included) is below `ess`
    times the number of particles, the slots are given to particles in proportion to their weights, and every weight
    becomes the mean. Weights come from the selector (`awrs`, `mask`); one that gives none is refused, for its particles
    would only be samples that look weighted.

    The mean of the final weights is an unbiased estimate of the evidence: without a critic, the probability that the
    model satisfies the constraint; with one, the expectation of its potential over such texts. Expectations under the
    normalised final weights tend to those under the model given the constraint (times the potential), as the number of
    particles grows. A group leaves when all its particles are done.

    Args:
        particles: how many per asked sample.
        ess: between 0 (never resample: importance sampling; with `critic` and `at="end"`, sample and rerank) and 1
            (whenever weights differ).
        resampling: one uniform for all slots ("systematic"), one for each of equal strata ("stratified"), whole
            expectations first and draws for the rest ("residual"), or independent draws ("multinomial").
        refill: resample a group, whatever its ESS, when a particle has died.
        critic: a potential of the text so far (:mod:`decodekit.potentials`): a function (text) -> log weight or bool,
            or a constraint, which judges whole texts. What it says of unfinished texts guides (a twist) and is taken
            back at the next look; only what it says of the whole text stays. A critic that fails forbids that text.
        at: where the critic is asked and particles may be resampled: after every "token", "word" or "line", at the
            "end", or wherever a regular expression is found once more in the text, "[.!?] " for sentences.

    A particle that survives stays in its slot, so that little has to be moved; noise stays with the slot, so that
    copies diverge. Dead particles are never copied.
    """

    particles: Annotated[int, Field(ge=1)] = 16
    ess: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    resampling: Scheme = "systematic"
    refill: bool = False
    critic: Any = None
    at: str = "token"

    def __post_init__(self) -> None:
        self._unit()  # a broken expression is refused here

    def _unit(self) -> re.Pattern[str]:
        """What is counted in the text: a boundary is where there is one more."""
        try:
            return re.compile({"word": r"\S+\s", "line": r"\n"}.get(self.at, self.at))
        except re.error as problem:
            raise OptionError(
                f"smc(at={self.at!r}) is neither 'token', 'word', 'line' or 'end' nor a regular expression: {problem}"
            ) from problem

    def bind(self, run: BindContext) -> _Smc:
        """Reads the critic. Raises OptionError where it is no potential, CompositionError where there is no text."""
        if self.critic is None and self.at in ("token", "end"):
            return _Smc(self, None, None)
        if run.model.tokenizer is None:
            raise CompositionError(f"smc: a critic reads text, and {run.model.name} has no tokenizer; pass tokenizer=")
        critic = None if self.critic is None else potentials.potential_of(self.critic)
        if critic is not None and self.at == "end":
            critic = potentials.at_end(critic)
        return _Smc(self, critic, Codec(run.model.tokenizer), self._unit())


class _Smc:
    def __init__(
        self, options: SMC, critic: Potential | None, codec: Codec | None, unit: re.Pattern[str] | None = None
    ) -> None:
        self._options, self._critic, self._codec, self._unit = options, critic, codec, unit
        self.width = options.particles
        self._begun = False

    def survivors(self, rows: Rows) -> Tensor | None:
        """[R] which row each slot continues, or None if no group is resampled; resets the weights of those that are."""
        due = self._boundaries(rows)  # [R]
        if self._critic is not None and bool(due.any()):
            self._judge(rows, due)
        n, options = self.width, self._options
        logw = rows.logw.view(-1, n)  # [G, N]; groups leave as a whole, so every group has all its slots
        size = resampling.ess(logw)
        self._tell(rows, size, logw)
        uneven = size < options.ess * n
        if options.refill and options.ess > 0:
            uneven |= (logw == -torch.inf).any(1) & ~(logw == -torch.inf).all(1)
        chosen = uneven & ~rows.done.view(-1, n).all(1)
        if options.at != "token":  # where a particle has come to a boundary; what the others' last one said still holds
            chosen &= due.view(-1, n).any(1)
        if not bool(chosen.any()):
            return None
        count = rows.column(_COUNT, torch.zeros_like(rows.n))  # by group, whatever else is in the batch
        uniform = noise.uniform(rows.stream, count[:, None], Salt.RESAMPLE).view(-1, n)
        share = resampling.shares(logw)
        if resampling.RETAINED in rows.columns:
            parents = resampling.conditional(share, uniform)  # [G, N]
        else:
            parents = ancestors(offspring(share, uniform, options.resampling))
        index = torch.arange(len(rows), device=rows.device).view(-1, n)
        index = torch.where(chosen[:, None], parents + index[:, :1], index)
        again = chosen.repeat_interleave(n)
        rows.tell("smc.parent", rows.group[again], rows.sample[again], parents[chosen].flatten())
        mean = logw.logsumexp(1, keepdim=True) - math.log(n)
        rows.logw = torch.where(chosen[:, None], mean, logw).flatten()
        rows.columns[_COUNT] = count + chosen.repeat_interleave(n)
        return index.flatten()

    def _tell(self, rows: Rows, size: Tensor, logw: Tensor) -> None:
        """ESS and the estimated log normalising constant of every group, before it is resampled."""
        group = rows.group.view(-1, self.width)[:, 0]
        whole = torch.full_like(group, NONE)
        if not self._begun:
            self._begun = True
            rows.tell("smc.particles", group, whole, torch.full_like(size, self.width))
        rows.tell("smc.ess", group, whole, size.nan_to_num(0.0))  # all dead: nothing is left
        rows.tell("smc.log_z", group, whole, logw.logsumexp(1) - math.log(self.width))

    def leaving(self, rows: Rows) -> Tensor:
        """[R] bool, all rows of a group once all of them are done."""
        return rows.done.view(-1, self.width).all(1).repeat_interleave(self.width)

    def _texts(self, rows: Rows, where: list[int]) -> list[str]:
        """What the rows `where` have written; a text in the middle of a character lacks that character."""
        assert self._codec is not None
        starts = rows.start.tolist()
        return [self._codec.text(rows.text(r)[starts[r] :]) for r in where]

    def _boundaries(self, rows: Rows) -> Tensor:
        """[R] bool, rows that have come to a boundary in this round, or to their end."""
        seen = rows.column(_SEEN, torch.zeros_like(rows.done))
        fresh = ~seen & (rows.logw > -torch.inf)
        if self._options.at == "token":
            return fresh
        if self._options.at == "end":
            return fresh & rows.done
        units = rows.column(_UNITS, torch.zeros_like(rows.n))
        where = fresh.nonzero()[:, 0].tolist()
        now = units.clone()
        assert self._unit is not None
        for r, text in zip(where, self._texts(rows, where), strict=True):
            now[r] = sum(1 for _ in self._unit.finditer(text))
        rows.columns[_UNITS] = now
        return fresh & (rows.done | (now > units))

    def _judge(self, rows: Rows, due: Tensor) -> None:
        """Take the last provisional score back and put the new one in its place; that of a whole text stays."""
        assert self._critic is not None
        where = due.nonzero()[:, 0]
        done = rows.done[where].tolist()
        scores, troubles = potentials.safely(self._critic, self._texts(rows, where.tolist()), done)
        for r, why in zip(where.tolist(), troubles, strict=True):
            if why:
                rows.remark(r, f"it failed with {why}")
        twist = rows.column(_TWIST, torch.zeros_like(rows.logw))
        given = torch.tensor(scores, dtype=torch.float64, device=rows.device)
        rows.logw = rows.logw.index_put((where,), rows.logw[where] - twist[where] + given)
        forbidden = torch.zeros_like(rows.done).index_put((where,), given == -torch.inf)
        rows.columns[_TWIST] = twist.index_put((where,), given.masked_fill(given == -torch.inf, 0.0))
        rows.columns[_SEEN] = rows.columns[_SEEN] | (due & rows.done)
        rows.end(forbidden, rows.n, "refused")
