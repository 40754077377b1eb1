"""THE loop. Every strategy, autoregressive or not, is: propose -> score -> warp -> select -> commit -> survive."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import torch
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BoundStrategy
from decodekit.core.protocols import Proposal, Round, Selection, Watcher
from decodekit.core.rows import NONE, Rows
from decodekit.core.trees import decide
from decodekit.core.warping import is_before

_TOLD: Final = 2  # dead rows of a group and round that are explained
_REMARKS: Final = 64  # ... and of a run: where rows die in masses, more of them says nothing new
_NEVER = torch.iinfo(torch.int64).max


def decode(kit: BoundStrategy, rows: Rows) -> Generator[Round, None, None]:
    """Run rounds until every row has left the batch (they are then in `rows.retired`), yielding each one.

    The generator can be stepped by hand, and abandoned at any point: `rows` is consistent whenever it is suspended.
    """
    kit.proposer.start(rows)
    number = 0
    while len(rows):
        ask, logits, warped, choice, refused = decide(kit, rows, kit.proposer.propose(rows))
        going = ~rows.done
        take = choice.take & (ask.at != NONE) & (ask.at < rows.limit[:, None]) & going[:, None]
        before = rows.commit(ask.at, choice.tokens, take)
        for stop in kit.stops:
            if isinstance(stop, Watcher):  # it judges by what was taken, so it must see that first
                stop.watch(rows, ask, logits, choice, take)
        take = _settle(kit, rows, ask, choice, take, before)
        what = Round(number, rows, ask, logits, warped, choice, take, before, going & rows.done, refused)
        for observer in kit.observers:
            observer.round(what)
        yield what
        _survive(kit, rows)
        number += 1


def _settle(kit: BoundStrategy, rows: Rows, ask: Proposal, choice: Selection, take: Tensor, before: Tensor) -> Tensor:
    """End rows at the earliest cut, weigh what is left, and return it: [R, K] bool, nothing past the cut counts."""
    ends = [(stop, cut) for stop in kit.stops if (cut := stop.ended(rows, before)) is not None]  # cut: [R]
    if ends:
        cuts = torch.stack([cut for _, cut in ends])  # [S, R], NONE while the row goes on
        cuts = cuts.masked_fill(cuts == NONE, _NEVER)
        first = (cuts == cuts.amin(0)) & (cuts < _NEVER)  # the earliest wins; among equals the stop named first
        for where, cut, (stop, _) in zip(first, cuts, ends, strict=True):
            rows.end(where, cut, stop.reason)
        take = take & (~rows.done[:, None] | (ask.at < rows.n[:, None]))
    if choice.dead is not None and bool(choice.dead.any()):
        dead = choice.dead & ~rows.done
        _explain(kit, rows, dead)
        rows.end(dead, rows.n, "dead end")
        rows.logw = rows.logw.masked_fill(dead, -torch.inf)
    if choice.logw is not None:
        rows.logw = rows.logw + choice.logw.masked_fill(~take, 0.0).sum(1)
    return take


def _explain(kit: BoundStrategy, rows: Rows, dead: Tensor) -> None:
    """Note what was expected where a row came to a dead end; for a few rows of a group only, for it may be dear."""
    ask = getattr(kit.constraint, "explain", None)
    cuts = kit.constraint is not None and any(is_before(warper) for warper in kit.warpers)
    if ask is None and not cuts:
        return
    told: dict[int, int] = {}
    for r in dead.nonzero()[:, 0].tolist():
        group = int(rows.group[r])
        told[group] = told.get(group, 0) + 1
        if told[group] <= _TOLD and len(rows.remarks) < _REMARKS:
            why = "" if ask is None else str(ask(rows, r))
            if cuts and _was_open(kit, rows, r):
                why += f"{'; ' if why else ''}a warper with within='model' cut that away: leave within out"
            rows.remark(r, why)


def _was_open(kit: BoundStrategy, rows: Rows, r: int) -> bool:
    """Whether the constraint itself allows something after the text of row `r`."""
    assert kit.constraint is not None
    if getattr(kit.selector, "restricts", False):  # a canvas: what was committed so far had an accepted filling
        return True
    at = torch.full_like(rows.n, NONE)
    at[r] = rows.n[r]
    return bool(kit.constraint.mask(rows, at[:, None])[r].any())


def _survive(kit: BoundStrategy, rows: Rows) -> None:
    index = kit.population.survivors(rows)
    if index is not None:
        moved = index != torch.arange(len(rows), device=rows.device)
        rows.fork(index)
        # A slot that goes on with another, perhaps shorter row must not meet noise that it has used: what happened
        # there decided that it was given away.
        rows.stream = torch.where(moved, noise.renewed(rows.stream), rows.stream)
        for observer in kit.observers:
            observer.moved(rows, index)
    stay = rows.retire(kit.population.leaving(rows))
    if stay is not None:
        for observer in kit.observers:
            observer.moved(rows, stay)
