"""Plain partners for the plugin under test: written for being obviously right, not for speed."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.noise import Salt
from decodekit.core.protocols import Constraint, Proposal, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.registry.declaration import plugin


@plugin(role="selector", exactness="weighted", provides=("weights", "randomness", "distribution"))
class Plain:
    """Selector: one position after the other, argmax of log-probability + dense noise, weight log Z under a constraint.

    It verifies guesses as every selector of the house: takes those that it would have chosen, and one token more.
    """

    def bind(self, run: BindContext) -> Plain:
        """Nothing to prepare."""
        return self

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        """Row by row, position by position."""
        raw = logits.double().log_softmax(2)  # [R, K, V]
        legal = torch.ones_like(raw, dtype=torch.bool) if constraint is None else constraint.mask(rows, ask.at)
        key = raw.masked_fill(~legal, -torch.inf) + noise.gumbel(rows.stream, ask.at, raw.shape[2])
        tokens = key.argmax(2)  # [R, K]
        mass = raw.masked_fill(~legal, -torch.inf).logsumexp(2)  # [R, K]
        taken: list[list[bool]] = []
        dead: list[bool] = []
        facts = (ask.at, ask.guess, tokens, mass > -torch.inf)
        for at, guess, token, alive in zip(*(fact.tolist() for fact in facts), strict=True):
            taken.append([False] * len(at))
            dead.append(False)
            for k in range(len(at)):
                if at[k] == NONE:
                    break
                dead[-1], taken[-1][k] = not alive[k], alive[k]
                if dead[-1] or token[k] != guess[k]:
                    break
        take = torch.tensor(taken, device=rows.device).view(tokens.shape)
        logp = raw.gather(2, tokens[..., None])[..., 0] - mass
        logp = logp.masked_fill(~take, -torch.inf)
        return Selection(tokens, take, mass.masked_fill(~take, 0.0), logp, torch.tensor(dead, device=rows.device))


@plugin(role="proposer", provides=("guesses", "logq"))
class Uniform:
    """Proposer: `k` guesses drawn uniformly from the vocabulary by the token noise, with their law.

    Args:
        k: guesses per round.
    """

    k: int = 2

    def bind(self, run: BindContext) -> UniformDrafter:
        """Remember the width of the vocabulary."""
        return UniformDrafter(self.k, run.model.vocab)


class UniformDrafter:
    """The bound proposer."""

    def __init__(self, k: int, vocab: int) -> None:
        self.k, self.vocab = k, vocab

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """Guesses at n, n + 1, ... and one position more."""
        at = rows.n[:, None] + torch.arange(self.k + 1, device=rows.device)  # [R, K]
        at = at.masked_fill((at >= rows.limit[:, None]) | rows.done[:, None], NONE)
        flat = torch.zeros(*at.shape, self.vocab, dtype=torch.float64, device=rows.device)  # [R, K, V]
        guess = (flat + noise.gumbel(rows.stream, at, self.vocab, Salt.TOKEN)).argmax(2)
        guess = guess.masked_fill(at == NONE, NONE)
        guess[:, -1] = NONE
        return Proposal(at, guess, logq=flat.log_softmax(2), by="uniform")


@plugin(role="population")
class Stay:
    """Population: every row lives alone, and none leaves before all are done."""

    width: int = 1

    def bind(self, run: BindContext) -> Stay:
        """Nothing to prepare."""
        return self

    def survivors(self, rows: Rows) -> Tensor | None:
        """Every row goes on as it is."""
        return None

    def leaving(self, rows: Rows) -> Tensor:
        """[R] bool, all of them at the end."""
        return rows.done & rows.done.all()
