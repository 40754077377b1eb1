"""A constraint that is small enough to see through: a random finite automaton over token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.follower import Follower
from decodekit.core.rows import NONE, Rows
from decodekit.diffusion.marginals import Lattice
from decodekit.registry.declaration import plugin


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class ToyConstraint:
    """A finite automaton over the generated token ids, drawn at random from a seed.

    Every id except an EOS leads to a state or is refused; an EOS is allowed in the complete states. Without
    `dead_ends` every state that can be reached allows something; with them, some allow nothing at all.

    Args:
        seed: which automaton. states: how many. refuse: probability that a state refuses an id.
        dead_ends: whether to keep states in which nothing is allowed. eos: ids that end a text. vocab: V.
    """

    seed: int = 0
    states: int = 6
    refuse: float = 0.45
    dead_ends: bool = False
    vocab: int = 5
    eos: tuple[int, ...] = (0,)

    def automaton(self) -> Automaton:
        """The tables: the same for equal options."""
        noise = torch.Generator().manual_seed(7_000_003 + self.seed)
        jump = torch.randint(self.states, (self.states, self.vocab), generator=noise)  # [S, V]
        refused = torch.rand(self.states, self.vocab, generator=noise, dtype=torch.float64) < self.refuse
        complete = torch.rand(self.states, generator=noise, dtype=torch.float64) < 0.5
        stuck = torch.zeros(self.states, dtype=torch.bool)
        if self.dead_ends:
            stuck[-2:] = True
            jump[0, -1], refused[0, -1] = self.states - 1, False  # the trap is one step from the start,
            jump[0, 1], refused[0, 1] = 0, False  # and so is a way to live on
        else:  # one way out of every state
            refused[:, -1] = False
        jump = jump.masked_fill(refused | stuck[:, None], NONE)
        if self.eos:
            jump[:, list(self.eos)] = NONE
        return Automaton(jump, complete & ~stuck, self.eos)

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Ids that may follow `generated`, walked from the start: the reference for the bound constraint."""
        return self.automaton().allowed(generated)

    def lattice(self, run: BindContext) -> Lattice:
        """The same automaton for a canvas; after an EOS only an EOS."""
        return self.automaton().lattice(run.model.vocab, "toy_constraint")

    def bind(self, run: BindContext) -> BoundToy:
        """A cursor per row, kept in step with the rows."""
        return BoundToy(self.automaton(), run)


@dataclass(frozen=True)
class Automaton:
    """jump: [S, V] next state or NONE. complete: [S] bool. State 0 is the start."""

    jump: Tensor
    complete: Tensor
    eos: tuple[int, ...]

    def legal(self) -> Tensor:
        """[S, V] bool, what each state allows."""
        out = self.jump != NONE
        if self.eos:
            out[:, list(self.eos)] = self.complete[:, None]
        return out

    def lattice(self, vocab: int, what: str) -> Lattice:
        """Move by move, every class of tokens by itself; `vocab` may be wider than the automaton's."""
        states = len(self.jump)
        table = torch.full((states + 2, vocab), states + 1, dtype=torch.int32)  # one more has ended, and one is nowhere
        width = min(vocab, self.jump.shape[1])
        table[:states, :width] = self.jump[:, :width].masked_fill(self.jump[:, :width] == NONE, states + 1).int()
        accept = torch.nn.functional.pad(self.complete, (0, 1), value=True)
        for end in self.eos:
            table[:-1, end] = torch.where(accept, states, states + 1).int()
        source, token = (table[:-1] != states + 1).nonzero(as_tuple=True)
        both = torch.stack([source, table[source, token].long()])
        moves, kind = torch.unique(both, dim=1, return_inverse=True)
        near = [0 if done else states + 1 for done in accept.tolist()]
        for _ in range(states + 1):
            for here, there in moves.T.tolist():
                near[here] = min(near[here], near[there] + 1)
        return Lattice(table, moves[0], moves[1], torch.arange(moves.shape[1]), token, kind, accept, 0, near[0], what)

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Ids that may follow `generated`; nothing after an EOS or an id that was refused."""
        state = 0
        for token in generated:
            state = int(self.jump[state, token])
            if state == NONE:
                return []
        allowed: list[int] = self.legal()[state].nonzero()[:, 0].tolist()
        return allowed


class BoundToy(Follower):
    """The automaton on rows: the state after each generated token."""

    def __init__(self, automaton: Automaton, run: BindContext) -> None:
        super().__init__()
        self.cost = run.cost
        states = len(automaton.jump)
        lost = torch.full((1, automaton.jump.shape[1]), states)  # one more state: refused, or past the EOS
        self.jump = torch.cat([automaton.jump.masked_fill(automaton.jump == NONE, states), lost])
        self.legal = torch.nn.functional.pad(automaton.legal(), (0, 0, 0, 1), value=True)
        self.done = torch.nn.functional.pad(automaton.complete, (0, 1))
        self.trail: Tensor  # [R, T + 1] state before each position; 0 throughout the prompt

    def fork(self, index: Tensor) -> None:
        """Follow the rows."""
        self.trail = self.trail[index]

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> None:
        """Walk on from `keep`."""
        width = rows.tokens.shape[1]
        old = getattr(self, "trail", torch.zeros(len(rows), 1, dtype=torch.int64))
        self.trail = torch.nn.functional.pad(old, (0, width + 1 - old.shape[1]))
        keep = torch.maximum(keep, rows.start)
        steps = (upto - keep)[only]
        for step in range(int(steps.max()) if len(steps) else 0):
            place = keep + step
            row = (only & (place < upto)).nonzero()[:, 0]
            place = place[row]
            self.trail[row, place + 1] = self.jump[self.trail[row, place], rows.tokens[row, place]]

    def mask(self, rows: Rows, at: Tensor) -> Tensor:
        """See :class:`decodekit.core.protocols.Constraint`."""
        self.cost.masks += int((at != NONE).sum())
        out = self.legal[self._states(rows, at)]  # [R, K, V]
        return out | ((at == NONE) | rows.done[:, None])[..., None]

    def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
        """See :class:`decodekit.core.protocols.Constraint`."""
        self.cost.checks += int((tokens != NONE).sum())
        legal = self.legal[self._states(rows, at[:, None])[:, 0]]  # [R, V]
        return legal.gather(1, tokens.clamp(min=0)) & (tokens != NONE)

    def complete(self, rows: Rows) -> Tensor:
        """See :class:`decodekit.core.protocols.Constraint`."""
        return self.done[self._states(rows, rows.n[:, None])[:, 0]]

    def forced(self, rows: Rows) -> list[list[int]]:
        """The only id that is allowed next, if there is just one."""
        legal = self.legal[self._states(rows, rows.n[:, None])[:, 0]]
        return [ids.nonzero()[:, 0].tolist() if int(ids.sum()) == 1 else [] for ids in legal]

    def _states(self, rows: Rows, at: Tensor) -> Tensor:
        """[R, K] state before each position."""
        asked = (at != NONE).any(1) & ~rows.done
        self.sync(rows, at.amax(1).clamp(min=0), only=asked)
        return self.trail.gather(1, at.clamp(min=0))
