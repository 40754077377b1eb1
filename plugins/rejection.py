"""Classical acceptance-rejection verification of guesses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from decodekit import noise
from decodekit.kit import Run
from decodekit.noise import Salt
from decodekit.registry import plugin
from decodekit.roles import Choice, Constraint, Proposal
from decodekit.rows import NONE, Rows


@plugin(
    role="selector",
    keeps="exact",
    needs=("causal_lm", "logq"),
    paper="Leviathan et al. 2023, arXiv 2211.17192, Algorithm 1; Chen et al. 2023, arXiv 2302.01318, Algorithm 2",
)
class Rejection:
    """Verify guesses by acceptance-rejection: same distribution as sampling, other texts than `sample` gives.

    With p the processed target (warped, and restricted to what the constraint allows) and q the guesser's law, a
    guess x is taken with probability min(1, p(x) / q(x)); the first that is not taken is replaced by a draw from the
    normalised positive part of p - q; after the last guess one more token is drawn from p. A guess without a law
    (an n-gram, forced text) counts as certain: q(x) = 1. Acceptance per position is sum_v min(p(v), q(v)).

    Without guesses it samples from p, with the very noise of `sample`.
    """

    def bind(self, run: Run) -> Verifier:
        """Nothing to prepare."""
        return Verifier()


@dataclass(frozen=True)
class Verifier:
    """The bound selector."""

    # Why the text has law p, token by token. Three independent noises belong to a position: TOKEN, ACCEPT, RESIDUAL.
    # Given the text before position i (and the noise before i, which decided where rounds begin), the three of
    # position i are fresh. Whether i holds a guess or is the token after the last guess depends on the noise before i
    # alone. Without a guess: the token is drawn from p by TOKEN. With one: the drafter drew x from q by TOKEN, and
    # ACCEPT and RESIDUAL are independent of x, so P(y) = q(y) min(1, p(y)/q(y)) + (1 - sum_v min(p(v), q(v))) *
    # (p(y) - q(y))+ / sum_v (p(v) - q(v))+ = min(p(y), q(y)) + (p(y) - q(y))+ = p(y). Guesses past the first that is
    # refused never reach the text; their TOKEN noise is met again in the next round, but nothing that was kept has
    # depended on it, so there it is as good as fresh. One TOKEN noise for guess and residual would break this: the
    # residual must not know which x was refused.

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Choice:
        """Take the accepted guesses of each row and one token more."""
        scores = logits.double()
        if constraint is not None:
            scores = scores.masked_fill(~constraint.mask(rows, ask.at), -torch.inf)
        stuck = scores.amax(2).isneginf() & (ask.at != NONE)  # [R, K] nothing is allowed there
        logp = scores.masked_fill(stuck[..., None], 0.0).log_softmax(-1)  # [R, K, V], without NaN
        guessed = (ask.guess != NONE) & ~stuck
        tokens = ask.guess
        accepted = torch.zeros_like(guessed)
        if bool(guessed.any()):
            accepted, rest = self._verify(rows, ask, logp, guessed)
            tokens = torch.where(accepted, tokens, noise.argmax(rest, rows.stream, ask.at, Salt.RESIDUAL))
        if not bool(guessed.all()):
            tokens = torch.where(guessed, tokens, noise.argmax(logp, rows.stream, ask.at, Salt.TOKEN))
        reached = pad(accepted[:, :-1].to(torch.int8), (1, 0), value=1).cumprod(1).bool()
        return Choice(tokens, reached & ~stuck, law=logp, dead=(reached & stuck).any(1))

    def _verify(self, rows: Rows, ask: Proposal, logp: Tensor, guessed: Tensor) -> tuple[Tensor, Tensor]:
        """([R, K] bool accepted, [R, K, V] log of the unnormalised residual law)."""
        x = ask.guess.clamp(min=0)[..., None]  # [R, K, 1]
        p = logp.exp()
        law = torch.zeros_like(p).scatter_(2, x, 1.0) if ask.logq is None else ask.logq.double().exp()
        q = law.nan_to_num(0.0)  # [R, K, V]
        threshold = noise.uniform(rows.stream, ask.at, Salt.ACCEPT)  # [R, K]
        accepted = guessed & (threshold * q.gather(2, x)[..., 0] < p.gather(2, x)[..., 0])
        rest = (p - q).clamp(min=0.0)
        # Equal laws leave no residual but rounding; they refuse nothing either, so what stands here is never drawn.
        rest = torch.where(rest.sum(2, keepdim=True) > 0, rest, p)
        return accepted, rest.log()
