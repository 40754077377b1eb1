"""Canvases: what the rules that fill mask tokens share, so that a rule is the choice of cells and nothing else.

A canvas is a row whose cells from the end of the prompt to its limit hold mask tokens, or a prompt that has mask
tokens itself (a template). It is cut into blocks; a rule sees the open cells of the first unfinished block and of as
many after it as its window says, and commits some of them. Cells behind a committed end token are left alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from decodekit.core import noise, warping
from decodekit.core.bound import BindContext
from decodekit.core.cells import FAR, GIVEN, open_templates, packed
from decodekit.core.protocols import Constraint, Proposal, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.diffusion.constrained_canvas import held
from decodekit.diffusion.marginals import Sums
from decodekit.errors import CompositionError

KINDS: Final = ("", "exploit", "explore", "fallback", "forced")
"""Why a cell was taken, by code: a rule's own limit, its value of information, or that nothing else qualified."""


@dataclass(frozen=True)
class View:
    """What a rule sees in a round: R rows, K cells that were read, V tokens.

    ask: the proposal. scope: [R, K] bool, cells that may be taken. logp: [R, K, V] float64, the law to decide by (after
    warpers; the mask token is never in it). value: [R, K] the token that a taken cell gets. raw: [R, K, V] the law
    before a constraint, and the warpers that act within it, changed it; the same object where none did. Under a
    constraint `logp` is the exact marginal of each cell given that the whole canvas satisfies it, all of `value`
    together is one filling that does, and `sums` has what it was computed by, before any truncation.
    """

    rows: Rows
    ask: Proposal
    scope: Tensor
    logp: Tensor
    value: Tensor
    raw: Tensor
    sums: Sums | None = None

    @cached_property
    def top(self) -> Tensor:
        """[R, K] probability of the most probable token, -1 outside the scope."""
        return self.logp.amax(2).exp().masked_fill(~self.scope, -1.0)

    @cached_property
    def best(self) -> Tensor:
        """[R, K] bool, the surest cell of each row that has one."""
        first = torch.zeros_like(self.scope).scatter(1, self.top.argmax(1, keepdim=True), True)
        return first & self.scope

    @cached_property
    def entropy(self) -> Tensor:
        """[R, K] in nats."""
        p = self.logp.exp()
        return -torch.where(p > 0, p * self.logp, 0.0).sum(2)

    @cached_property
    def margin(self) -> Tensor:
        """[R, K] probability of the first token less that of the second."""
        two = self.logp.topk(2, 2).values.exp()
        return two[..., 0] - two[..., 1]

    @cached_property
    def nats(self) -> Tensor:
        """[R, K] information of the value that each cell would get, in nats."""
        return -_at(self.logp, self.value)

    @cached_property
    def news(self) -> Tensor:
        """[R, K] the same under the law before any constraint."""
        return self.nats if self.raw is self.logp else -_at(self.raw, self.value)


@dataclass(frozen=True)
class Pick:
    """What a rule decided: `take` [R, K]; `why` [R, K], codes of :data:`KINDS`; `tokens` [R, K] instead of the view's.

    cap: [R] the most bits that the rule itself lets a row commit in this round (fallbacks not counted), or None.
    canvases: [R] canvases that were read for the row in this round, or None for one.
    """

    take: Tensor
    why: Tensor | None = None
    tokens: Tensor | None = None
    cap: Tensor | None = None
    canvases: Tensor | None = None


class Filler(ABC):
    """A bound proposer and selector that fills canvases by a rule, :meth:`choose`.

    It keeps nothing from round to round but in columns of the rows.

    Args:
        run: of the composition. name: of the plugin, for messages.
        block: cells per block, None for one block. window: blocks that may be committed into at once.
        sample: draw the value of each cell instead of taking the most probable one.

    Raises:
        CompositionError: the model has no mask token.
    """

    scattered = True
    """Cells are committed in any order: the recorder keeps log-probabilities cell by cell."""
    restricts = True
    """The constraint is an automaton on the whole canvas: warpers that act within it are applied here."""
    weighs = True
    """Drawn values have importance weights under a constraint: what is committed is never opened again."""

    def __init__(
        self, run: BindContext, name: str, *, block: int | None = None, window: int = 1, sample: bool = False
    ) -> None:
        if run.model.mask is None:
            raise CompositionError(
                f"{name}: the model {run.model.name!r} has no mask token; choose a masked model whose tokenizer "
                "names one"
            )
        own = getattr(run.model, "block", None)  # a block-causal model dictates its blocks, counted from position 0
        self.run, self.name, self.mask = run, name, run.model.mask
        self.block, self.window, self.sample = own or block or FAR, window, sample
        self._absolute = own is not None
        self.eos = torch.tensor(run.eos, dtype=torch.int64, device=run.model.device)  # [E]
        self.held = held(run) if run.limits else None

    def start(self, rows: Rows) -> None:
        """Open the mask tokens of templates, and write mask tokens from the end of each prompt to the row's limit."""
        open_templates(rows, self.mask)
        longest = max(0, int(rows.limit.max()))
        at = torch.arange(longest, device=rows.device).expand(len(rows), -1)
        rows.write(at, torch.full_like(at, self.mask), (at >= self.given(rows)[:, None]) & (at < rows.limit[:, None]))
        if self.held is not None:
            self.held.fits(rows, self.given(rows))

    def propose(self, rows: Rows) -> Proposal:
        """The open cells of each row's current blocks, in increasing order."""
        at = packed(self.within(rows, self.open(rows)))
        return Proposal(at, torch.full_like(at, NONE))

    def open(self, rows: Rows) -> Tensor:
        """[R, T] bool, cells that are to be filled: not final, inside the row, before a committed end token."""
        width = int(rows.limit.max())
        rows.reserve(width)
        place = torch.arange(width, device=rows.device)
        inside = (place < rows.limit[:, None]) & ~rows.done[:, None]
        final = rows.final[:, :width]
        stop = final & torch.isin(rows.tokens[:, :width], self.eos) & (place >= self.given(rows)[:, None])
        return ~final & inside & ((stop & inside).cumsum(1) == 0)

    def given(self, rows: Rows) -> Tensor:
        """[R] the position after the last cell that was given."""
        return rows.columns[GIVEN]

    def blocks(self, rows: Rows, at: Tensor) -> Tensor:
        """Number of the block of each position `at` [R, ...], counted from the row's start."""
        if self._absolute:
            return at // self.block
        return (at - rows.start.view(-1, *[1] * (at.dim() - 1))) // self.block

    def within(self, rows: Rows, is_open: Tensor) -> Tensor:
        """[R, T] bool, the open cells of the first unfinished block and of those that the window reaches."""
        place = torch.arange(is_open.shape[1], device=rows.device).expand_as(is_open)
        number = self.blocks(rows, place)
        first = number.masked_fill(~is_open, FAR).amin(1, keepdim=True)  # [R, 1]
        return is_open & (number - first < self.window)

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        """Look, choose, and tell the ledger."""
        view = self.look(rows, ask, logits)
        pick = self.choose(view)
        take = pick.take & view.scope
        told = (("cap", pick.cap), ("canvases", pick.canvases))
        tokens = view.value if pick.tokens is None else pick.tokens
        logw = dead = None
        if self.held is not None and view.sums is not None:
            dead = view.sums.log_z().isneginf() & view.scope.any(1)
            if self.sample and self.weighs:
                logw = self.held.weight(rows, ask, view.sums, self.given(rows), tokens, take)
        return Selection(
            tokens,
            take,
            logw=logw,
            dead=dead,
            law=view.logp,
            why=pick.why,
            words=KINDS,
            told=tuple((name, value) for name, value in told if value is not None),
        )

    def look(self, rows: Rows, ask: Proposal, logits: Tensor, scope: Tensor | None = None) -> View:
        """The view of a round; a mask is never predicted, nor an end of the text before a cell that was given."""
        nothing = torch.tensor([self.mask], device=logits.device)
        logits = logits.double().index_fill(2, nothing, -torch.inf)
        early = ask.at < self.given(rows)[:, None]  # [R, K]
        if len(self.eos) and bool((early & (ask.at != NONE)).any()):
            ends = torch.zeros(logits.shape[2], dtype=torch.bool, device=logits.device).index_fill(0, self.eos, True)
            logits = logits.masked_fill(early[..., None] & ends, -torch.inf)
        raw = logits.log_softmax(-1)  # [R, K, V]
        scope = ask.at != NONE if scope is None else scope
        if self.held is not None:
            late = warping.split(self.run.kit.warpers)[1]
            logp, value, sums = self.held.look(rows, ask, raw, self.given(rows), self.sample, late)
            return View(rows, ask, scope, logp, value, raw, sums)
        value = noise.argmax(raw, rows.stream, ask.at) if self.sample else raw.argmax(2)
        return View(rows, ask, scope, raw, value, raw)

    @abstractmethod
    def choose(self, view: View) -> Pick:
        """Which cells of the scope are taken; at least one in every row that has any."""


def first(score: Tensor, scope: Tensor, count: Tensor) -> Tensor:
    """[R, K] bool: the `count` [R] cells of the scope with the highest score [R, K]; equal scores go by position."""
    order = score.masked_fill(~scope, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return scope & (rank < count[:, None])


def _at(law: Tensor, tokens: Tensor) -> Tensor:
    return law.gather(-1, tokens.clamp(min=0)[..., None])[..., 0]
