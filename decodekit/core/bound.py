"""What one run is made of: the bound answers (:class:`BoundStrategy`) and what they were bound with
(:class:`BindContext`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.protocols import (
    Constraint,
    Observer,
    Population,
    Proposal,
    Proposer,
    Scorer,
    Selection,
    Selector,
    Stop,
    Warper,
)
from decodekit.core.rows import Rows
from decodekit.core.selection import allowed
from decodekit.core.warping import Reshaped, processed, reshape, split


class Model(Protocol):
    """A loaded model as plugins see it. Readers are independent: each has its own cache and follows rows by itself.

    provides: capabilities, of `causal_lm`, `masked_lm`, `hidden`, `embeddings`, `codebook`.
    vocab: width V of the logits, which may exceed the tokenizer's. context: most positions, or None for no limit.
    eos: ids that end a text. mask: id of the mask token of a masked LM, else None.
    """

    name: str
    vocab: int
    context: int | None
    eos: tuple[int, ...]
    mask: int | None
    provides: frozenset[str]
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """Where the logits are."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""

    def reader(self, cost: Cost, label: str) -> Scorer:
        """A new reader over an empty cache; its work is counted under `label`."""


@dataclass(frozen=True)
class BoundStrategy:
    """The bound answers to the questions of a round."""

    proposer: Proposer
    scorer: Scorer
    selector: Selector
    population: Population
    warpers: tuple[Warper, ...] = ()
    constraint: Constraint | None = None
    stops: tuple[Stop, ...] = ()
    observers: tuple[Observer, ...] = ()

    @property
    def restricts(self) -> bool:
        """Whether every round restricts the logits before the selector sees them: a warper acts on what is left."""
        if self.constraint is None or getattr(self.selector, "restricts", False):
            return False
        return bool(split(self.warpers)[1])

    def prepare(self, rows: Rows, at: Tensor) -> None:
        """Begin, while the model reads, the masks that the round will ask for: the selector says so by `masks`."""
        if getattr(self.selector, "masks", False) or self.restricts:
            begin = getattr(self.constraint, "prepare", None)
            if begin is not None:
                begin(rows, at)

    def judge(self, rows: Rows, ask: Proposal, logits: Tensor) -> tuple[Tensor, Selection]:
        """Warp and select: (warped logits [R, K, V], choice). A drafter calls it too: same rules for both."""
        found = self.reshape(rows, ask, logits)
        choice = self.selector.select(rows, ask, found.logits, found.constraint)
        if choice.logw is not None:  # what the selector weighed is what it saw: the truncated distribution
            choice = replace(choice, logw=choice.logw + found.mass())
        return found.logits, choice

    def reshape(self, rows: Rows, ask: Proposal, logits: Tensor) -> Reshaped:
        """What the selector gets for `logits` [R, K, V]: see :mod:`decodekit.core.warping`.

        A selector that restricts by itself (`restricts`: canvases) gets the leading warpers only, where there is a
        constraint, and applies the others within its own restriction.
        """
        warpers = self.warpers
        if self.constraint is not None and getattr(self.selector, "restricts", False):
            warpers = split(warpers)[0]
        return reshape(warpers, rows, ask, logits, self.constraint)

    def processed(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None = None) -> Tensor:
        """The logits of the processed target, [R, K, V]: warped and restricted.

        constraint: instead of the kit's own, which follows the rows of the run, for rows of one's own.
        """
        limit = self.constraint if constraint is None else constraint
        return processed(self.warpers, rows, ask, logits, lambda before: allowed(rows, ask, before, limit))


@dataclass
class BindContext:
    """What a plugin's `bind(run)` may use. `kit` is set after everything is bound: use it while decoding only.

    open: opens another model by path, hub name, `zoo:NAME`, or passes a loaded one through.
    eos: ids that end a text in this run (empty: none does).
    requires: capabilities that some plugin of the composition reads.
    limits: the constraint plugins of the run, for whoever needs one more bound instance (:func:`another_constraint`).
    label: under which the work of the model is counted.
    hidden: whether the trace wants hidden states; a scorer that can tells them (:data:`decodekit.trace.recorder.Told`).
    watchers: observers that parts add while they are bound (running scores); None where nobody would ask them.
    """

    model: Model
    open: Callable[[object], Model]
    eos: tuple[int, ...] = ()
    seed: int = 0
    cost: Cost = field(default_factory=Cost)
    constraint: Constraint | None = None
    requires: frozenset[str] = frozenset()
    label: str = "target"
    limits: tuple[Any, ...] = ()
    hidden: bool = False
    watchers: list[Any] | None = None
    kit: BoundStrategy = field(init=False)
