"""Classical acceptance-rejection verification of guesses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.noise import TRIAL, Salt
from decodekit.core.protocols import Constraint, Proposal, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.registry.declaration import plugin


@plugin(
    role="selector",
    exactness="exact",
    requires=("causal_lm", "logq"),
    provides=("randomness", "distribution"),
    paper="Leviathan et al. 2023, arXiv 2211.17192, Algorithm 1; Chen et al. 2023, arXiv 2302.01318, Algorithm 2",
)
class Rejection:
    """Verify guesses by acceptance-rejection: same distribution as sampling, other texts than `sample` gives.

    With p the processed target (warped, and restricted to what the constraint allows) and q the guesser's law, a
    guess x is taken with probability min(1, p(x) / q(x)); the first that is not taken is replaced by a draw from the
    normalised positive part of p - q; after the last guess one more token is drawn from p. A guess without a law
    (an n-gram, forced text) counts as certain: q(x) = 1. Acceptance per position is sum_v min(p(v), q(v)).

    In a tree the guesses for one position are tried in turn: after each that is not taken p becomes the normalised
    positive part of p - q, and q loses that guess and is normalised again (they were drawn without replacement).
    Certain guesses are just removed from p.

    Without guesses it samples from p, with the very noise of `sample`.
    """

    def bind(self, run: BindContext) -> Verifier:
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
    #
    # Several guesses for one position: the drafter drew them without replacement, so given that the first was refused
    # the second is a draw from q without the first, which is known by then; what is left to be matched is the
    # residual of the first step. So each step is the step above, with other p and q, and a threshold of its own.

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        """Take the accepted guesses of each row and one token more."""
        scores = logits.double()
        if constraint is not None:
            scores = scores.masked_fill(~constraint.mask(rows, ask.at), -torch.inf)
        stuck = scores.amax(2).isneginf() & (ask.at != NONE)  # [R, K] nothing is allowed there
        logp = scores.masked_fill(stuck[..., None], 0.0).log_softmax(-1)  # [R, K, V], without NaN
        options = ask.guess[..., None] if ask.siblings is None else ask.siblings[:, None]  # [R, K, C]
        options = options.masked_fill(stuck[..., None], NONE)
        guessed = options[..., 0] != NONE
        tokens = torch.full_like(ask.at, NONE)
        if bool(guessed.any()):
            tokens, rest = _tried(rows, ask, logp, options)
            drawn = noise.argmax(rest, rows.stream, ask.at, Salt.RESIDUAL)
            accepted = tokens != NONE
            tokens = torch.where(accepted, tokens, drawn)
        else:
            accepted = torch.zeros_like(guessed)
        if not bool(guessed.all()):
            tokens = torch.where(guessed, tokens, noise.argmax(logp, rows.stream, ask.at, Salt.TOKEN))
        reached = pad(accepted[:, :-1].to(torch.int8), (1, 0), value=1).cumprod(1).bool()
        return Selection(tokens, reached & ~stuck, law=logp, dead=(reached & stuck).any(1))


def _tried(rows: Rows, ask: Proposal, logp: Tensor, options: Tensor) -> tuple[Tensor, Tensor]:
    """([R, K] the guess that is accepted or NONE, [R, K, V] log of what is left for the residual draw)."""
    p = logp.exp()
    q = None if ask.logq is None else ask.logq.double().exp().nan_to_num(0.0)  # [R, K, V]
    token = torch.full_like(ask.at, NONE)
    for number in range(options.shape[2]):
        x = options[..., number]
        spot = x.clamp(min=0)[..., None]  # [R, K, 1]
        open_ = (x != NONE) & (token == NONE)
        chance = 1.0 if q is None else q.gather(2, spot)[..., 0]
        threshold = noise.uniform(rows.stream, ask.at, Salt.ACCEPT + TRIAL * number)  # [R, K]
        taken = open_ & (threshold * chance < p.gather(2, spot)[..., 0])
        token = torch.where(taken, x, token)
        rest = p.scatter(2, spot, 0.0) if q is None else (p - q).clamp(min=0.0)
        # Equal laws leave no residual but rounding; they refuse nothing either, so what stands here is never drawn.
        mass = rest.sum(2, keepdim=True)
        rest = torch.where(mass > 0, rest / mass, p)
        p = torch.where((open_ & ~taken)[..., None], rest, p)
        if q is not None and number + 1 < options.shape[2]:
            left = q.scatter(2, spot, 0.0)
            q = torch.where(open_[..., None], left / left.sum(2, keepdim=True).clamp(min=1e-300), q)
    return token, p.log()
