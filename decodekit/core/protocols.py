"""The questions of a round, as typed protocols, and the frozen records that pass between their answers.

Glossary: R rows, K positions a row decides in this round, V vocabulary. *at* = position whose token is decided (the
model predicts it from what stands before it), *guess* = token written there beforehand, *draft* = guesses of a
cheaper model, *take* = becomes final, *row* = one sequence in flight (a sample, a particle, a beam), *slot* = the
place of a row in its population, which owns the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from decodekit.core.rows import NONE, Rows


@dataclass(frozen=True, slots=True)
class Proposal:
    """Which positions this round decides, and what is guessed there.

    at: [R, K] int64 positions in increasing order; NONE pads rows that ask for fewer than K, and rows that are done.
    guess: [R, K] int64 token or NONE.
    logq: [R, K, V] the guesser's log-probabilities, or None; meaningful where `guess` is a token. For a tree
        [R, 1 + K, V]: the law from which the guesses after the text (0) and after guess k (1 + k) were drawn, one after
        another without replacement (or fewer, if nothing was guessed after the last ones); None: they were not drawn.
    parent: [R, K] index into the K guesses of the one before it, always a smaller one, NONE after the text: a tree
        of guesses (:mod:`decodekit.core.trees`); None for a chain. Guesses with one parent are tried in their order,
        and after each the position that follows is decided too, if the row may be so long.
    only: [R] bool, rows that ask for a model at all (routing), or None for all. Reserved.
    depth: how many layers are asked for, or None for all. Reserved.
    by: who guessed, a word for the trace.
    pinned: [R, K] bool, guesses that are taken as they are where allowed, weighed like a free choice, or None.
    who, words: where several guess, [R, K] index into `words` of who guessed, instead of `by`.
    siblings: in one step of a tree (K = 1), [R, C] all guesses for this position in the order in which they are tried,
        NONE pads; `guess` is the first. A selector that knows nothing of them just decides the position.
    known: [R, K, V] logits of the tokens at `at` that the proposer has read already (looking ahead): the loop reads
        nothing. None as a rule.
    """

    at: Tensor
    guess: Tensor
    logq: Tensor | None = None
    parent: Tensor | None = None
    only: Tensor | None = None
    depth: int | None = None
    by: str = ""
    pinned: Tensor | None = None
    who: Tensor | None = None
    words: tuple[str, ...] = ()
    siblings: Tensor | None = None
    known: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Nodes:
    """A tree of guesses past the text of each row, as a model reads it.

    base: [R] length of the text before it, NONE for rows that ask for nothing. token: [R, N], NONE is no node.
    above: [R, N] index of the node before it, always a smaller one; NONE directly after the text.
    """

    base: Tensor
    token: Tensor
    above: Tensor

    @property
    def depth(self) -> Tensor:
        """[R, N] nodes before it on its path."""
        depth, up = torch.zeros_like(self.above), self.above
        while bool((up != NONE).any()):
            depth = depth + (up != NONE)
            up = torch.where(up != NONE, self.above.gather(1, up.clamp(min=0)), NONE)
        return depth

    @property
    def height(self) -> int:
        """Nodes on the longest path."""
        return int((self.depth + 1).masked_fill(self.token == NONE, 0).max()) if self.token.shape[1] else 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Guesses of a tree that were never reached, for the trace: at, token [R, M] (NONE pads), their log-probability
    under the model and under the guesser (None: it gave none), who as in :class:`Proposal`.
    """

    at: Tensor
    token: Tensor
    logp: Tensor
    logq: Tensor | None
    who: Tensor | None


@dataclass(frozen=True, slots=True)
class Selection:
    """What a selector decided.

    tokens: [R, K] int64. NONE with `take` opens a cell of a canvas again.
    take: [R, K] bool, which become final. Whatever is taken where `at` is NONE or the row is done is ignored.
    logw: [R, K] float64 contribution of each taken token to the row's log importance weight, or None for none.
    law: [R, K, V] logits of the processed target (after warpers and constraint), borrowed for the trace, or None where
        the selector never makes them.
    dead: [R] bool, rows in which no token is allowed, or None. The loop ends them with weight zero.
    why: [R, K] index into `words`, why each was taken, for the trace; or None.
    told: numbers about this round's rows for the trace, each a name and [R].
    """

    tokens: Tensor
    take: Tensor
    logw: Tensor | None = None
    law: Tensor | None = None
    dead: Tensor | None = None
    why: Tensor | None = None
    words: tuple[str, ...] = ()
    told: tuple[tuple[str, Tensor], ...] = ()


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that happened in one round, for observers. Tensors are borrowed: copy what must outlive the call.

    number: counts from 0. logits: [R, K, V] of the model, before warpers. warped: [R, K, V] after them, restricted to
    what is allowed where a warper acted within that.
    take: [R, K] what became final after all cuts. before: [R] rows.n when the round began. rows: after the commit,
    before survivors move. ended: [R] bool, rows that this round finished. refused: what a tree guessed beside the chain
    that is seen here.
    """

    number: int
    rows: Rows
    ask: Proposal
    logits: Tensor
    warped: Tensor
    choice: Selection
    take: Tensor
    before: Tensor
    ended: Tensor
    refused: Refused | None = None


@runtime_checkable
class Proposer(Protocol):
    """Which positions, with which guesses? Exactly one per composition."""

    def start(self, rows: Rows) -> None:
        """Once, before the first round. A canvas is laid here, as far as `rows.limit`."""

    def propose(self, rows: Rows) -> Proposal:
        """Called once a round. May write guesses into `rows` beforehand; the loop writes those of the answer."""


@runtime_checkable
class Scorer(Protocol):
    """What does the model say there? Exactly one per composition."""

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] logits of the tokens AT `at` [R, K], given all tokens before (causal) or around them (masked LM).

        float32, or float64 for a float64 model. Undefined where `at` is NONE, and outside `only` [R] bool.

        A scorer that can read a whole tree in one pass says so by an attribute `reads_trees` (true) and has a method
        `read_tree(rows, nodes, since, only)`: see :func:`decodekit.core.trees.read`, which reads path by path
        otherwise.
        """


@runtime_checkable
class Warper(Protocol):
    """How is that reshaped? Any number, in the order given.

    With a constraint a warper sees the logits restricted to what is allowed (-inf elsewhere), so that what it keeps is
    among that. Two attributes of the bound warper, both false where they are missing, say otherwise. `pointwise`: what
    it makes of a token depends on no other token, so it commutes with the restriction, and acts before it, which
    spares a mask. `before_constraint`: it was asked to look at all tokens of the model, and may leave nothing of what
    is allowed. Either holds up to the first warper with neither: from there on all act on what is restricted.
    """

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V] -> [R, K, V]; never in place. Position ask.at[r, k] sees the guesses before it as its text.

        A token at -inf counts for nothing and stays there; of the others at least one is kept.
        """


@runtime_checkable
class Constraint(Protocol):
    """What is allowed? At most one is bound per run (a product of several is itself a constraint)."""

    def mask(self, rows: Rows, at: Tensor) -> Tensor:
        """[R, K, V] bool, True where the token may stand AT `at` [R, K], along the guesses already written before it.

        All False at a dead end. All True where `at` is NONE or a guess before it is itself not allowed.
        """

    def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
        """[R, C] bool for candidates `tokens` [R, C] at position `at` [R]; False where a token is NONE."""

    def complete(self, rows: Rows) -> Tensor:
        """[R] bool, whether the final text of each row (without its EOS) satisfies the constraint as it stands."""

    def forced(self, rows: Rows) -> list[list[int]]:
        """For each row the tokens that must come next whatever the model says; often empty."""


@runtime_checkable
class Selector(Protocol):
    """Which tokens are taken? Exactly one per composition."""

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        """Decide from warped `logits` [R, K, V]. For a chain of guesses: take the agreeing ones and one token more.

        Where warpers act within the constraint the logits are restricted already, and `constraint` knows it
        (:class:`decodekit.core.warping.Settled`). Weights are towards `logits` under `constraint`; the mass that was
        allowed before is added to them. A selector that restricts by itself says so by an attribute `restricts`.
        """


@runtime_checkable
class Population(Protocol):
    """Which rows go on? Exactly one per composition."""

    @property
    def width(self) -> int:
        """Rows per prompt and asked sample."""

    def survivors(self, rows: Rows) -> Tensor | None:
        """[R] int64 index of the row that each slot continues (within its group), or None. May reset `rows.logw`."""

    def leaving(self, rows: Rows) -> Tensor:
        """[R] bool, rows that are done and that nobody needs any more: they leave the batch."""


@runtime_checkable
class Stop(Protocol):
    """When is a row done? Any number; the earliest cut wins."""

    @property
    def reason(self) -> str:
        """A word for users: why the row is done."""

    def ended(self, rows: Rows, before: Tensor) -> Tensor | None:
        """[R] int64 length at which each row ends (at most its `n`), or -1 while it goes on; None if no row ends.

        `before` [R] is `n` when the round began: only `tokens[before:n]` are new, unless rows were moved.
        """


@runtime_checkable
class Watcher(Protocol):
    """A stop that judges by the laws: it is shown what was taken before it is asked."""

    def watch(self, rows: Rows, ask: Proposal, logits: Tensor, choice: Selection, take: Tensor) -> None:
        """After the commit: `logits` [R, K, V] of the model, `take` [R, K] bool what became final, before any cut."""


@runtime_checkable
class Observer(Protocol):
    """Who watches? Any number. Never changes anything."""

    def round(self, what: Round) -> None:
        """After the commit of every round."""

    def moved(self, rows: Rows, index: Tensor) -> None:
        """After rows were rearranged: new row j was row `index[j]`."""
