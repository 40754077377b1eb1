"""What all selectors that decide position by position share: the allowed law, and how far a chain of guesses holds.

A selector that would choose `tokens` [R, K] at all K positions of a round, each given the guesses before it, may take
the guesses that it would have chosen itself, and one token more: the first that differs, or the one after the last.
Up to there every position was decided given the very text that now stands before it, so the text is the one that K
rounds of one position each give. With noise that is a function of the position (law 2) this is exact verification of
any drafter: the drafter decides how much is taken, never what (Daliri, Musco, Suresh 2024, arXiv 2408.07978).
"""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core.protocols import Constraint, Proposal, Selection
from decodekit.core.rows import NONE, Rows


def allowed(rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Tensor:
    """`logits` [R, K, V] with -inf where the constraint allows nothing; unchanged without one."""
    if constraint is None:
        return logits
    quick = getattr(constraint, "masked", None)  # packed bits are applied without a [R, K, V] of booleans
    if quick is not None:
        out: Tensor = quick(rows, ask.at, logits)
        return out
    return logits.masked_fill(~constraint.mask(rows, ask.at), -torch.inf)


def reached(tokens: Tensor, ask: Proposal) -> Tensor:
    """[R, K] bool, positions before which every guess is what `tokens` [R, K] (NONE: no choice) would have been."""
    here = ask.at != NONE
    if here.shape[1] == 1:  # no guess to agree with
        return here
    agree = here & (tokens == ask.guess) & (ask.guess != NONE)
    before = torch.nn.functional.pad(agree[:, :-1].to(torch.int64), (1, 0), value=1)
    return here & before.cumprod(1).bool()


def agreeing(tokens: Tensor, ask: Proposal) -> Tensor:
    """[R, K] bool, which of the chosen `tokens` [R, K] to take: the agreeing guesses and one more."""
    return reached(tokens, ask) & (tokens != NONE)


def stuck(tokens: Tensor, ask: Proposal) -> Tensor:
    """[R] bool, rows that reach a position where nothing could be chosen (`tokens` is NONE there)."""
    return (reached(tokens, ask) & (tokens == NONE)).any(1)


def chain(tokens: Tensor, ask: Proposal, logits: Tensor, logw: Tensor | None = None) -> Selection:
    """The choice of a selector that would choose `tokens` [R, K] under the processed law `logits` [R, K, V].

    NONE in `tokens` means that nothing is allowed there: the row is dead if its chain holds as far as there.
    """
    if ask.pinned is not None:  # told what to take: if it can be taken at all
        law = logits.gather(-1, ask.guess.clamp(min=0)[..., None])[..., 0]  # [R, K]
        tokens = torch.where(ask.pinned, ask.guess.masked_fill(law == -torch.inf, NONE), tokens)
    within, chosen = reached(tokens, ask), tokens != NONE
    return Selection(tokens, within & chosen, logw=logw, law=logits, dead=(within & ~chosen).any(1))
