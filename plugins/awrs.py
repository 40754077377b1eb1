"""Adaptive weighted rejection sampling: find an allowed token by checking a few, and weigh the step without bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit import noise, verify
from decodekit.errors import CompositionError
from decodekit.kit import Run
from decodekit.registry import plugin
from decodekit.roles import Choice, Constraint, Proposal
from decodekit.rows import NONE, Rows

_SURE = 0.99  # above this checked mass, 1 - mass has lost digits: sum up what is left instead


@plugin(
    role="selector",
    keeps="weighted",
    needs=("causal_lm", "constraint"),
    gives=("weights",),
    paper="Lipkin et al. 2025, arXiv 2504.05410, Definition 2; the recursive weight as in genlm-control",
)
class Awrs:
    """Check tokens in noisy order until one is allowed; the walk itself gives an unbiased weight.

    The vocabulary in descending order of log-probability + Gumbel noise is a sequence of draws without replacement.
    Its first allowed token is a draw from the law p restricted to what is allowed, and the very token that `mask`
    draws with the same seed; the expected number of checks is at most 1 / Z, Z being the allowed mass.

    Weight: let x be the token taken, t_1 ... t_k the k >= 1 that follow it in the order, and rest the mass of all that
    come after them. Then

        w = p(x) + sum over i < k of p(t_i) [t_i allowed] + (p(t_k) + rest) [t_k allowed]

    has the expectation p(x) [x allowed] at each x (proper weighting), because each next token in the order is a draw
    from what is left. k may depend on the place of x in the order, not on verdicts: it runs to the end of the chunk.

    Args:
        weight: "recursive" as above; "exact" is log Z from the full mask (no noise in the weight, but a mask a step);
            "none" gives no weights, which is locally constrained decoding, and approximate.
        max_rejects: give the row up (dead, weight zero) after so many refused tokens; None never does. At the last
            permitted check w is all mass not yet refused, which keeps the weight proper.
        chunk: tokens checked in the first call for each row; every further call checks as many as all before.

    Guesses are verified as by `sample`: the text and its weight do not depend on the drafter.

    Raises:
        CompositionError: while decoding, if no constraint is bound.
    """

    weight: Literal["recursive", "exact", "none"] = "recursive"
    max_rejects: Annotated[int, Field(ge=1)] | None = None
    chunk: Annotated[int, Field(ge=1)] = 8

    def bind(self, run: Run) -> _Awrs:
        """Nothing to prepare."""
        return _Awrs(self.weight, self.max_rejects, self.chunk)


def recursive(logp: Tensor, ok: Tensor, first: Tensor, rest: Tensor) -> Tensor:
    """Log weight [R] of the token at place `first` [R] of a noisy order of which the first n were checked.

    `logp` [R, n] log-probabilities in that order, `ok` [R, n] verdicts, `rest` [R] log mass of all that was not
    checked. The last one checked stands for itself and for all that come after it.
    """
    counts = ok & (torch.arange(ok.shape[1], device=ok.device) >= first[:, None])
    terms = torch.cat([logp.masked_fill(~counts, -torch.inf), rest.masked_fill(~ok[:, -1], -torch.inf)[:, None]], 1)
    return terms.logsumexp(1)


@dataclass(frozen=True)
class _Awrs:
    weight: str
    max_rejects: int | None
    chunk: int

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Choice:
        if constraint is None:
            raise CompositionError("awrs: no constraint is bound; give one, or choose sample")
        if self.weight == "exact":
            masked = verify.allowed(rows, ask, logits, constraint)  # [R, K, V]
            tokens = noise.argmax(masked, rows.stream, ask.at)
            logw = masked.logsumexp(-1).double() - logits.logsumexp(-1).double()
            return verify.chain(tokens, ask, masked, logw)
        tokens = torch.full_like(ask.at, NONE)
        logw = torch.zeros(ask.at.shape, dtype=torch.float64, device=rows.device)
        for k in range(ask.at.shape[1]):  # a chain of guesses: only what it reaches is checked at all
            here = ask.at[:, k].masked_fill(~verify.reached(tokens, ask)[:, k], NONE)  # [R]
            if bool((here == NONE).all()):
                break
            tokens[:, k], logw[:, k] = self._walk(rows, here, logits[:, k], constraint)
        weights = None if self.weight == "none" else logw
        return Choice(tokens, verify.agreeing(tokens, ask), logw=weights, dead=verify.stuck(tokens, ask))

    def _walk(self, rows: Rows, at: Tensor, logits: Tensor, constraint: Constraint) -> tuple[Tensor, Tensor]:
        """The first allowed token [R] of each row (NONE: there is none) and its log weight [R], for `at` [R]."""
        token, logw = torch.full_like(at, NONE), torch.full_like(at, -torch.inf, dtype=torch.float64)
        cap = min(self.max_rejects or logits.shape[1], logits.shape[1])
        todo = (at != NONE).nonzero()[:, 0]  # [M] rows still looking
        ok = torch.zeros(len(todo), 0, dtype=torch.bool, device=rows.device)  # [M, checked]
        upto = min(self.chunk, cap)
        while len(todo):
            law = logits if len(todo) == len(rows) else logits[todo]  # [M, V]
            order, _ = noise.order(law, rows.stream[todo], at[todo], upto)  # [M, upto]
            ok = torch.cat([ok, self._check(rows, at, todo, order[:, ok.shape[1] :], constraint)], 1)
            found, first = ok.any(1), ok.to(torch.uint8).argmax(1)  # [M]
            over = (order[:, -1] == NONE) | (upto == cap)  # nothing more to check
            settled = over | (found & (first < upto - 1))  # a weight needs one look past the token taken
            win = settled & found
            token[todo[win]] = order[win, first[win]]
            logw[todo[win]] = self._weigh(law[win], order[win], ok[win], first[win])
            todo, ok = todo[~settled], ok[~settled]
            upto = min(2 * upto, cap)
        return token, logw

    def _check(self, rows: Rows, at: Tensor, todo: Tensor, tokens: Tensor, constraint: Constraint) -> Tensor:
        """Verdicts [M, C] on the candidates `tokens` [M, C] of the rows `todo` [M]; one call for all rows."""
        asked = torch.full((len(rows), tokens.shape[1]), NONE, dtype=torch.int64, device=rows.device)
        asked[todo] = tokens
        where = torch.full_like(at, NONE)
        where[todo] = at[todo]
        return constraint.admits(rows, where, asked)[todo] & (tokens != NONE)

    def _weigh(self, logits: Tensor, order: Tensor, ok: Tensor, first: Tensor) -> Tensor:
        """Log weight [M] of the token at place `first` [M]; `logits` [M, V], `order` and `ok` [M, n]."""
        if self.weight == "none" or not len(order):
            return torch.zeros(len(order), dtype=torch.float64, device=order.device)
        total = logits.logsumexp(1).double()  # [M]
        logp = logits.gather(1, order.clamp(min=0)).double() - total[:, None]
        logp = logp.masked_fill(order == NONE, -torch.inf)
        checked = logp.logsumexp(1).exp()  # [M] mass
        rest = torch.log1p(-checked.clamp(max=_SURE))
        sure = (checked > _SURE).nonzero()[:, 0]
        if len(sure):
            left = logits[sure].double()  # a copy, in which what was checked is crossed out
            every = order[sure]
            spare = every[:, :1].expand_as(every)  # the first in the order exists, and is crossed out anyway
            left.scatter_(1, torch.where(every == NONE, spare, every), -torch.inf)
            rest[sure] = left.logsumexp(1) - total[sure]
        return recursive(logp, ok, first, rest)
