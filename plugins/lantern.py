"""LANTERN: guesses are taken more freely where neighbouring tokens of a codebook are worth the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.noise import Salt
from decodekit.core.protocols import Constraint, Proposal, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, OptionError
from decodekit.models.codebook import codebook_of
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without
from decodekit.speculation.relaxed_acceptance import Bound, Rule, sift, transport

_APART: Final = 32
"""Between the salts of the acceptance noise of two siblings, as in every verifier of trees."""


@plugin(
    role="selector",
    exactness="approximate",
    requires=("causal_lm", "logq"),
    provides=("randomness", "distribution"),
    paper="LANTERN, arXiv 2410.03355, section 3; LANTERN++, arXiv 2502.06352; transport: docs/lantern.md",
)
class Lantern:
    """Verify guesses by relaxed acceptance over the `neighbours` nearest codebook entries.

    Rules, with p the processed target, q the guesser's law and A(x) the largest neighbourhood of the guess x whose mass
    is at most `delta`: "paper" takes x with min(1, p_A(x) / q(x)), else draws from the positive part of p_A - q, where
    p_A is p with the mass of A(x) moved onto x. "dynamic" and "static" are what the authors' code does on trees of
    either kind, which differs in what is drawn after a refusal; "greedy" what it does at temperature 0. "transport"
    moves at most `delta` of p towards q along edges between neighbours before it looks at x, and verifies exactly
    against that law: only there is the law of each step provably within `delta` of p in total variation.

    After the last guess one more token is drawn from p itself. With delta=0 every rule is exact speculation, token for
    token (`rejection`; "dynamic" as if guesses had no law, "greedy" `greedy`).

    Args:
        neighbours: k, how many nearest entries are looked at; the token itself is not counted.
        delta: the bound. Of 0 to 1, or, with bound="multiplicative", in multiples of p(x).
        rule: how guesses are judged.
        bound: "additive": moved mass <= delta. "multiplicative" (LANTERN++): moved mass <= delta * p(x).
        coupling: "rejection", or "noise": the draft's noise decides the target's token, and a guess stands if it is
            that token; with "transport" only, whose law does not depend on the guess.
        codebook: vectors [N, W] of tokens 0..N-1, or a safetensors file; None for the one that came with the model.

    Raises:
        OptionError: delta out of range, or options that do not go together. CompositionError: when bound, a model
        without a codebook, or more neighbours than it has.
    """

    neighbours: Annotated[int, Field(ge=1)]
    delta: Annotated[float, Field(ge=0.0)]
    rule: Rule = "paper"
    bound: Bound = "additive"
    coupling: Literal["rejection", "noise"] = "rejection"
    codebook: Any = None

    def __post_init__(self) -> None:
        if self.bound == "additive" and self.delta > 1.0:
            raise OptionError(
                f"lantern: delta={self.delta} is a mass, from 0 to 1; the multiples of LANTERN++ are asked for by "
                "bound='multiplicative'"
            )
        if self.rule == "transport" and self.bound != "additive":
            raise OptionError("lantern: rule='transport' has a total budget; drop bound='multiplicative'")
        if self.coupling == "noise" and self.rule != "transport":
            raise OptionError(
                f"lantern: coupling='noise' needs a law that does not depend on the guess, and rule={self.rule!r} has "
                "none; use rule='transport' or coupling='rejection'"
            )
        if self.rule == "greedy":  # the mass of a neighbourhood still decides, unless nothing may be moved
            without(self, "randomness", *(() if self.delta > 0 else ("distribution",)))

    def bind(self, run: BindContext) -> Verifier:
        """Look up the nearest entries; runs no model."""
        given = self.codebook if self.codebook is not None else getattr(run.model, "codebook", None)
        if given is None:
            raise CompositionError(
                f"lantern needs a codebook, and {run.model.name!r} has none: its tokens are not known to be "
                "interchangeable; give codebook=, use a visual model, or use rejection"
            )
        book = codebook_of(given)
        extra = int(self.rule in ("dynamic", "static") and self.neighbours + 1 < len(book))
        near = book.near(self.neighbours + extra, run.model.vocab).to(run.model.device)
        if self.rule in ("dynamic", "static") and not extra:
            near = pad(near, (0, 1), value=NONE)
        return Verifier(self, near)


@dataclass(frozen=True)
class Verifier:
    """The bound selector. near: [V, k] the nearest tokens, with one column more for the rules of the code."""

    options: Lantern
    near: Tensor

    # The three noises of a position are used as `rejection` uses them, so that delta=0 gives its very tokens.

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        """Take the accepted guesses of each row and one token more."""
        scores = logits.double()
        if constraint is not None:
            scores = scores.masked_fill(~constraint.mask(rows, ask.at), -torch.inf)
        stuck = scores.amax(2).isneginf() & (ask.at != NONE)  # [R, K] nothing is allowed there
        logp = scores.masked_fill(stuck[..., None], 0.0).log_softmax(-1)  # [R, K, V], without NaN
        guessed = (ask.guess != NONE) & ~stuck
        tokens, accepted = self._fresh(rows, ask, logp), torch.zeros_like(guessed)
        if bool(guessed.any()):
            taken, other = self._verify(rows, ask, logp)
            accepted = guessed & (taken == ask.guess)
            tokens = torch.where(guessed, torch.where(taken == NONE, other, taken), tokens)
        reached = pad(accepted[:, :-1].to(torch.int8), (1, 0), value=1).cumprod(1).bool()
        return Selection(tokens, reached & ~stuck, law=logp, dead=(reached & stuck).any(1))

    def _fresh(self, rows: Rows, ask: Proposal, logp: Tensor) -> Tensor:
        """[R, K] what is written where nothing was guessed; a drafter bound to these rules guesses so, too."""
        return logp.argmax(-1) if self.options.rule == "greedy" else noise.argmax(logp, rows.stream, ask.at, Salt.TOKEN)

    def _verify(self, rows: Rows, ask: Proposal, logp: Tensor) -> tuple[Tensor, Tensor]:
        """([R, K] the guess taken or NONE, [R, K] what is written then); undefined where nothing is guessed."""
        options, p = self.options, logp.exp()
        siblings = ask.siblings  # [R, C] in a step of a tree, where K is 1
        guesses = ask.guess[..., None] if siblings is None else siblings[:, None]  # [R, K, C]
        q = None if ask.logq is None else ask.logq.double().exp().nan_to_num(0.0)  # [R, K, V]
        if options.coupling == "noise":
            drawn = torch.zeros_like(p).scatter_(2, guesses[..., :1].clamp(min=0), 1.0) if q is None else q
            moved, _ = transport(p, drawn, self.near, options.delta)
            moved, _ = transport(p, drawn, self.near, options.delta)
            token = noise.argmax(moved.log(), rows.stream, ask.at, Salt.TOKEN)
            return token, token
        taken, rest = sift(
            options.rule,
            p,
            q,
            guesses,
            self.near,
            options.delta,
            options.bound,
            uniform=lambda c: noise.uniform(rows.stream, ask.at, Salt.ACCEPT + _APART * c),
        )
        return taken, noise.argmax(rest.log(), rows.stream, ask.at, Salt.RESIDUAL)
