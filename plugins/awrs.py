"""Adaptive weighted rejection sampling: find an allowed token by checking a few, and weigh the step without bias."""

from __future__ import annotations

from random import Random
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit.candidates import estimators
from decodekit.candidates.estimators import Steps
from decodekit.candidates.seeking import Seeker
from decodekit.candidates.token_search import search
from decodekit.core import noise, selection, warping
from decodekit.core.bound import BindContext, Model
from decodekit.core.noise import Salt
from decodekit.core.protocols import Constraint, Proposal, Scorer, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, OptionError
from decodekit.models.prompted import Prompted
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without

Weight = Literal["auto", "replay", "recursive", "two_loops", "head", "exact", "none"]


@plugin(
    role="selector",
    exactness="weighted",
    requires=("causal_lm", "constraint"),
    provides=("weights", "randomness", "distribution"),
    paper="Lipkin et al. 2025, arXiv 2504.05410; estimators as in decodekit.candidates.estimators",
)
class AWRS:
    """Check tokens in noisy order until one is allowed; the walk itself gives an unbiased weight.

    The vocabulary in descending order of log-probability + Gumbel noise is a sequence of draws without replacement.
    Its first allowed token is a draw from the law p restricted to what is allowed, and the very token that `mask`
    draws with the same seed. Finding it takes 1 + sum over refused i of p_i / (p_i + Z) checks on average, at most
    1 / Z, Z being the allowed mass. A walk whose checks have cost as much as a mask asks for the mask instead. All
    weights are proper: their expectation at each allowed token x is p(x).

    Args:
        weight: which estimate of Z (formulas: :mod:`decodekit.candidates.estimators`). "auto" is "replay", which has
            the least variance for its checks wherever a constraint bites, and on peaked laws needs the fewest checks as
            well (`perf/awrs.py`). "recursive" looks `ahead` tokens past the one taken: the cheapest.
            "two_loops" is the paper's own. "head" checks the `head` likeliest tokens and one that stands for all
            others, and draws among them: its token is not always that of `mask`. "exact" is log Z from the full mask.
            "none" gives no weights, which is locally constrained decoding, and approximate over whole texts.
        max_rejects: give the row up (dead, weight zero) after so many refused tokens; None never does. Only for
            "replay", "auto" and "recursive", whose weights stay proper.
        accepts: how many accepted draws "replay" waits for.
        replays: how many replays of one order "replay" averages; they cost no checks of their own.
        ahead: tokens that "recursive" looks at past the one taken.
        head: tokens that "head" checks.
        chunk: tokens checked in the first call for each row, unless one token has 90 % of the mass; further calls check
            four times as many as all before, until a mask costs less than they do. Changes cost, never results.
        proposal: a model (a name, or a loaded one) whose law proposes instead of the target's; the weight gets the
            ratio of the two laws at the token taken. It must have the target's vocabulary.
        instead: a prompt that the proposal reads in place of the request's own; without `proposal` the target's own
            model proposes after it.

    Guesses are verified as by `sample`: the text and its weight do not depend on the drafter. Where warpers truncate
    what is allowed (`top_k`, `top_p`, ...), that takes the mask of every step: then nothing is checked, and Z is exact.

    Raises:
        OptionError: `max_rejects` with an estimate that cannot have it.
        CompositionError: when bound, if the proposal has another vocabulary; while decoding, without a constraint.
    """

    weight: Weight = "auto"
    max_rejects: Annotated[int, Field(ge=1)] | None = None
    accepts: Annotated[int, Field(ge=2)] = 3
    replays: Annotated[int, Field(ge=1)] = 16
    ahead: Annotated[int, Field(ge=1)] = 1
    head: Annotated[int, Field(ge=1)] = 32
    chunk: Annotated[int, Field(ge=1)] = 16
    proposal: Any = None
    instead: str = ""

    def __post_init__(self) -> None:
        if self.max_rejects is not None and self.weight in ("two_loops", "head", "exact"):
            raise OptionError(
                f"awrs(weight={self.weight!r}) cannot have max_rejects, its weight would be biased; "
                "drop it, or choose weight='replay'"
            )
        if self.weight == "none":
            without(self, "weights", exactness="approximate")

    def bind(self, run: BindContext) -> _Awrs:
        """Opens the proposal, if there is one."""
        if self.proposal is None and not self.instead:
            return _Awrs(self, run, None)
        model = run.model if self.proposal is None else run.open(self.proposal)
        if model.vocab != run.model.vocab or "causal_lm" not in model.provides:
            raise CompositionError(
                f"awrs: the proposal {model.name!r} is no causal model with the {run.model.vocab} tokens of "
                f"{run.model.name!r}; choose one with the same vocabulary"
            )
        reader = model.reader(run.cost, "proposal")
        return _Awrs(self, run, Prompted(reader, self._words(model)) if self.instead else reader)

    def _words(self, model: Model) -> list[int]:
        ids = [] if model.tokenizer is None else list(model.tokenizer.encode(self.instead))
        if not ids:
            raise CompositionError(
                f"awrs(instead={self.instead!r}) has no token for {model.name}; give a prompt of at least one token"
            )
        return ids


class _Awrs:
    def __init__(self, options: AWRS, run: BindContext, reader: Scorer | None) -> None:
        self._options, self._run, self._reader = options, run, reader

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        if constraint is None:
            raise CompositionError("awrs: no constraint is bound; give one, or choose sample")
        law = logits if self._reader is None else self._proposed(rows, ask, logits)  # [R, K, V]
        if self._options.weight == "exact":
            masked = selection.allowed(rows, ask, law, constraint)
            tokens = noise.argmax(masked, rows.stream, ask.at)
            logw = masked.logsumexp(-1).double() - law.logsumexp(-1).double()
            return selection.chain(tokens, ask, masked, self._corrected(logw, tokens, law, logits))
        tokens = torch.full_like(ask.at, NONE)
        weights = torch.zeros(ask.at.shape, dtype=torch.float64, device=rows.device)
        for k in range(ask.at.shape[1]):  # a chain of guesses: only what it reaches is checked at all
            here = ask.at[:, k].masked_fill(~selection.reached(tokens, ask)[:, k], NONE)  # [R]
            if bool((here == NONE).all()):
                break
            step = self._head if self._options.weight == "head" else self._walk
            tokens[:, k], weights[:, k] = step(rows, here, law[:, k], constraint)
        logw_or_none = None if self._options.weight == "none" else self._corrected(weights, tokens, law, logits)
        return Selection(tokens, selection.agreeing(tokens, ask), logw=logw_or_none, dead=selection.stuck(tokens, ask))

    def _proposed(self, rows: Rows, ask: Proposal, target: Tensor) -> Tensor:
        """[R, K, V] logits of the proposal among what `target` [R, K, V] can give at all.

        It gets the pointwise warpers of the run, and no truncation of its own: that would lose tokens of the target.
        """
        assert self._reader is not None
        law = self._reader.read(rows, ask.at, ask.only)
        law = warping.warped([one for one in self._run.kit.warpers if warping.is_pointwise(one)], rows, ask, law)
        return law.masked_fill(target == -torch.inf, -torch.inf)

    def _corrected(self, logw: Tensor, tokens: Tensor, law: Tensor, target: Tensor) -> Tensor:
        """Weights [R, K] times target(x) / proposal(x)."""
        if self._reader is None:
            return logw
        which = tokens.clamp(min=0)[..., None]
        ratio = [one.double().log_softmax(-1).gather(-1, which)[..., 0] for one in (target, law)]
        return (logw + ratio[0] - ratio[1]).masked_fill(tokens == NONE, -torch.inf)

    def _walk(self, rows: Rows, at: Tensor, logits: Tensor, constraint: Constraint) -> tuple[Tensor, Tensor]:
        """The first allowed token [R] of each row (NONE: there is none) and its log weight [R], for `at` [R].

        Where the constraint knows a superset of what it allows (`narrow`), the walk is in that set, whose mass is
        exact: the weight of the walk is proper for the law within the set, and their product for the whole law.
        """
        narrow = getattr(constraint, "narrow", None)
        within = None if narrow is None else narrow(rows, at)
        if within is None:
            return self._search(rows, at, logits, constraint)
        inside = logits.masked_fill(~within, -torch.inf)
        mass = inside.logsumexp(1).double() - logits.logsumexp(1).double()  # [R]
        hopeless = mass == -torch.inf
        token, logw = self._search(rows, at.masked_fill(hopeless, NONE), inside, constraint)
        return token, torch.where(token == NONE, -torch.inf, logw + mass)

    def _search(self, rows: Rows, at: Tensor, logits: Tensor, constraint: Constraint) -> tuple[Tensor, Tensor]:
        seeds = noise.uniform(rows.stream, at[:, None], Salt.WEIGHT)[:, 0].tolist()  # [R]
        options = self._options
        return search(
            rows,
            at,
            logits,
            constraint,
            lambda row: self._steps(row, seeds[row.index]),
            options.chunk,
            options.max_rejects,
        )

    def _steps(self, row: Seeker, seed: float) -> Steps:
        options, walk = self._options, row.orders[0].walk
        match options.weight:
            case "two_loops":
                return estimators.two_loops(walk, row.orders[1].walk, row.place)
            case "recursive":
                return estimators.look(walk, options.ahead, options.max_rejects)
            case "none":
                return estimators.first(walk, options.max_rejects)
        return estimators.replay(walk, options.accepts, options.replays, options.max_rejects, Random(int(seed * 2**53)))

    def _head(self, rows: Rows, at: Tensor, logits: Tensor, constraint: Constraint) -> tuple[Tensor, Tensor]:
        """E6: check the likeliest tokens and the best of all others, and take the best allowed one of these.

        The keys log p + noise of the head, and the best key of the rest, which is log of its mass + Gumbel noise and
        does not depend on which token has it, are those of a draw among the head and one wildcard of the rest's mass.
        """
        size = min(self._options.head, logits.shape[1])
        best = logits.topk(size, 1).indices  # [R, H]
        other, _ = noise.order(logits.scatter(1, best, -torch.inf), rows.stream, at, 1)  # [R, 1]
        asked = torch.cat([best, other], 1)
        asked = asked.masked_fill((at == NONE)[:, None], NONE)
        mass = logits.double().log_softmax(1)
        ok = constraint.admits(rows, at, asked) & (asked != NONE)
        allowed = torch.full_like(logits, -torch.inf)
        spare = asked.clamp(min=0)
        allowed.scatter_reduce_(1, spare, logits.gather(1, spare).masked_fill(~ok, -torch.inf), "amax")
        token = noise.argmax(allowed[:, None], rows.stream, at[:, None])[:, 0]
        rest = mass.scatter(1, best, -torch.inf).logsumexp(1, keepdim=True)
        terms = torch.cat([mass.gather(1, best), rest], 1).masked_fill(~ok, -torch.inf)
        return token.masked_fill(at == NONE, NONE), terms.logsumexp(1)
