"""THE loop. Every strategy, autoregressive or not, is: propose -> score -> warp -> select -> commit -> survive."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from decodekit.kit import Kit
from decodekit.roles import Choice, Proposal, Round
from decodekit.rows import NONE, Rows

_NEVER = torch.iinfo(torch.int64).max


def decode(kit: Kit, rows: Rows) -> Generator[Round, None, None]:
    """Run rounds until every row has left the batch (they are then in `rows.retired`), yielding each one.

    The generator can be stepped by hand, and abandoned at any point: `rows` is consistent whenever it is suspended.
    """
    kit.proposer.start(rows)
    number = 0
    while len(rows):
        ask = kit.proposer.propose(rows)
        rows.write(ask.at, ask.guess, ask.guess != NONE)  # a guess is a token written past the final text
        logits = kit.scorer.read(rows, ask.at, ask.only)  # [R, K, V], of the tokens AT ask.at
        warped, choice = kit.judge(rows, ask, logits)
        take = choice.take & (ask.at != NONE) & (ask.at < rows.limit[:, None]) & ~rows.done[:, None]
        going = ~rows.done
        before = rows.commit(ask.at, choice.tokens, take)
        _settle(kit, rows, ask, choice, take, before)
        what = Round(number, rows, ask, logits, warped, choice, take, before, going & rows.done)
        for observer in kit.observers:
            observer.round(what)
        yield what
        _survive(kit, rows)
        number += 1


def _settle(kit: Kit, rows: Rows, ask: Proposal, choice: Choice, take: Tensor, before: Tensor) -> None:
    """End rows at the earliest cut, then weigh what is left: nothing past the cut counts."""
    cuts = [stop.ended(rows, before) for stop in kit.stops]  # each [R], NONE while the row goes on
    cuts = [cut.masked_fill(cut == NONE, _NEVER) for cut in cuts]
    for cut, stop in zip(cuts, kit.stops, strict=True):
        first = torch.stack(cuts).amin(0) == cut  # the earliest cut wins; among equals the stop named first
        rows.end(first & (cut < _NEVER), cut, stop.reason)
    if choice.dead is not None:
        dead = choice.dead & ~rows.done
        rows.end(dead, rows.n, "dead end")
        rows.logw = rows.logw.masked_fill(dead, -torch.inf)
    if choice.logw is not None:
        counts = take & (~rows.done[:, None] | (ask.at < rows.n[:, None]))
        rows.logw = rows.logw + choice.logw.masked_fill(~counts, 0.0).sum(1)


def _survive(kit: Kit, rows: Rows) -> None:
    index = kit.population.survivors(rows)
    if index is not None:
        rows.fork(index)
        for observer in kit.observers:
            observer.moved(rows, index)
    stay = rows.retire(kit.population.leaving(rows))
    if stay is not None:
        for observer in kit.observers:
            observer.moved(rows, stay)
