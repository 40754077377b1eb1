"""Guesses that are a function of the text alone: laid out, cut where they cannot stand, and joined with others'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows


def certain(run: BindContext, rows: Rows, runs: Sequence[Sequence[int]], by: str) -> Proposal:
    """A chain of guesses for each row, and one position more; a row without one just decides its next token.

    runs: what is guessed from `rows.n` on, for each of R rows. Nothing is asked past the row's limit, nor after a
    token that ends the text. No law comes with the guesses: they count as certain.
    """
    width = max(1, 1 + max(map(len, runs), default=0))
    guess = torch.tensor([[*one, *[NONE] * (width - len(one))] for one in runs], device=rows.device)  # [R, width]
    guess = guess.reshape(len(rows), width).to(torch.int64)
    step = torch.arange(width, device=rows.device)
    length = torch.tensor([len(one) for one in runs], device=rows.device)
    at = rows.n[:, None] + step  # [R, width]
    ended = torch.isin(guess, torch.tensor(run.eos, dtype=torch.int64, device=rows.device))
    past = pad(ended[:, :-1].cumsum(1), (1, 0)) > 0  # nothing is decided after an end of text
    out = (step > length[:, None]) | (at >= rows.limit[:, None]) | rows.done[:, None] | past
    return Proposal(at.masked_fill(out, NONE), guess.masked_fill(out, NONE), by=by)


def standing(run: BindContext, rows: Rows, ask: Proposal) -> Proposal:
    """The same without guesses that the constraint refuses, and all after them: they cannot become text."""
    constraint = run.kit.constraint
    if constraint is None:
        return ask
    holds, count = ~rows.done, torch.zeros_like(rows.n)  # [R]
    for k in range(ask.guess.shape[1]):
        holds = holds & (ask.guess[:, k] != NONE)
        if not bool(holds.any()):
            break
        here, token = ask.at[:, k].masked_fill(~holds, NONE), ask.guess[:, k : k + 1]
        holds = holds & constraint.admits(rows, here, token.masked_fill(~holds[:, None], NONE))[:, 0]
        rows.write(here[:, None], token, holds[:, None])  # the next one is judged after this one
        count = count + holds
    return shortened(ask, count)


def shortened(ask: Proposal, count: Tensor) -> Proposal:
    """`ask` with at most `count` [R] guesses a row, and no wider than it must be."""
    step = torch.arange(ask.at.shape[1], device=count.device)
    at = ask.at.masked_fill(step > count[:, None], NONE)
    width = max(1, int((at != NONE).sum(1).max())) if len(at) else 1
    return replace(ask, at=at[:, :width], guess=ask.guess.masked_fill(step >= count[:, None], NONE)[:, :width])


def joined(rows: Rows, asks: Sequence[Proposal], winner: Tensor, vocab: int, laws: bool) -> Proposal:
    """For each row the chain of the part that `winner` [R] names; who guessed is told cell by cell.

    laws: whether a selector reads the guessers' laws. A part without laws guesses with certainty: its law is a point.
    """
    width = max(ask.at.shape[1] for ask in asks)
    pick = winner[None, :, None]  # [1, R, 1]

    def of(parts: Sequence[Tensor]) -> Tensor:
        wide = torch.stack([pad(part, (0, width - part.shape[1]), value=NONE) for part in parts])  # [P, R, K]
        return wide.gather(0, pick.expand(1, -1, width))[0]

    words = tuple(dict.fromkeys(word for ask in asks for word in (ask.words or (ask.by,))))
    at, guess = of([ask.at for ask in asks]), of([ask.guess for ask in asks])
    who = of([_who(ask, words) for ask in asks]).clamp(min=0)
    pinned = None
    if any(ask.pinned is not None for ask in asks):
        flags = [torch.zeros_like(ask.at) if ask.pinned is None else ask.pinned.to(torch.int64) for ask in asks]
        pinned = of(flags) == 1
    logq = None
    if laws and any(ask.logq is not None for ask in asks):
        logq = torch.full((*at.shape, vocab), -torch.inf, device=rows.device, dtype=torch.float32)
        logq.scatter_(2, guess.clamp(min=0)[..., None], 0.0)
        for number, ask in enumerate(asks):
            if ask.logq is not None:
                mine, upto = winner == number, min(width, ask.logq.shape[1])
                logq[mine, :upto] = ask.logq[mine, :upto].to(logq)
    longest = max(1, int((at != NONE).sum(1).max())) if len(at) else 1
    cut = slice(0, longest)
    return Proposal(
        at[:, cut],
        guess[:, cut],
        logq=None if logq is None else logq[:, cut],
        pinned=None if pinned is None else pinned[:, cut],
        who=who[:, cut],
        words=words,
    )


def _who(ask: Proposal, words: tuple[str, ...]) -> Tensor:
    if ask.who is None:
        return torch.full_like(ask.at, words.index(ask.by))
    return torch.tensor([words.index(word) for word in ask.words], device=ask.at.device)[ask.who.clamp(min=0)]
