"""Regular constraints on a canvas: exact sums and maxima over all fillings that an automaton accepts.

An automaton over tokens and one law per cell, independent of each other, define a law over fillings: the product,
given that the filling is accepted. Its normaliser, the marginal of each cell, joint draws and the best filling come
from one pass forward and one backward over (cell, state), in any order of commits: a committed cell is a law with one
token. (The best filling is what DINGO computes, arXiv 2505.23061, section 4; sums and draws are the textbook's.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from decodekit.core import noise
from decodekit.core.noise import TRIAL, Salt
from decodekit.core.rows import NONE

LEAST: Final = 1e-300
"""What a token that the law does not exclude is worth at least: rounding excludes nothing."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """An automaton over tokens: S states, V tokens; S itself, as a target, is nowhere.

    table: [S + 1, V] int32, the state after a token. source, target, kind: [P] every move between states and the class
    of tokens that make it; tokens, of: [N] the tokens of all classes, and the class of each. accept: [S] bool.
    least: cells of the shortest text. what: the constraint, for messages.
    """

    table: Tensor
    source: Tensor
    target: Tensor
    kind: Tensor
    tokens: Tensor
    of: Tensor
    accept: Tensor
    start: int
    least: int
    what: str

    @property
    def states(self) -> int:
        """S."""
        return len(self.accept)

    @cached_property
    def classes(self) -> int:
        """How many classes of tokens there are."""
        return int(self.kind.max()) + 1 if len(self.kind) else 0

    @cached_property
    def members(self) -> Tensor:
        """[C, V] sparse, 1 where a token belongs to a class."""
        where = torch.stack([self.of, self.tokens])
        size = (self.classes, self.table.shape[1])
        one = torch.ones(len(self.of), dtype=torch.float64, device=self.of.device)
        return torch.sparse_coo_tensor(where, one, size, check_invariants=False).coalesce()


@dataclass(frozen=True)
class Cells:
    """The canvas of R rows, T cells each.

    token: [R, T] what stands there, NONE where nothing does. read: [R, T] index into the K laws of the row, or NONE.
    length: [R] cells that count. stream: [R] noise. at: [R, T] positions. number: [R] how often the row was drawn.

    A cell that is open and not read (beyond the window of blocks) has no law: every move counts alike there, and behind
    the last cell that was read only whether the text can still be completed.
    """

    token: Tensor
    read: Tensor
    length: Tensor
    stream: Tensor
    at: Tensor
    number: Tensor

    @classmethod
    def blank(cls, rows: int, size: int) -> Cells:
        """`rows` canvases of `size` open cells, all of which are read; a noise stream for each."""
        place = torch.arange(size).expand(rows, -1)
        none, zero = torch.full((rows, size), NONE), torch.zeros(rows, dtype=torch.int64)
        return cls(none, place.clone(), zero + size, torch.arange(rows), place, zero)

    @cached_property
    def last(self) -> Tensor:
        """[R] the last cell that was read, NONE for none."""
        place = torch.arange(self.read.shape[1], device=self.read.device)
        return place.masked_fill(self.read == NONE, NONE).amax(1)


class Sums:
    """Both passes, for laws `p` [R, K, V] (probabilities, float64), in logarithms: a canvas may hang by a thread."""

    def __init__(self, lattice: Lattice, cells: Cells, p: Tensor) -> None:
        self.lattice, self.cells, self.p = lattice, cells, p
        rows, known = p.shape[:2]
        flat = torch.sparse.mm(lattice.members, p.flatten(0, 1).T.contiguous())  # [C, R * K]
        self._mass = flat.T.reshape(rows, known, lattice.classes).log()  # [R, K, C]
        self._beta = self._backward(cells.token)

    def log_z(self, token: Tensor | None = None, length: Tensor | None = None) -> Tensor:
        """[R] log probability that independent draws from the laws are accepted.

        With `token` [R, T] committed as well, in canvases of `length` [R].
        """
        beta = self._beta if token is None else self._backward(token, length=length)
        return beta[0][:, self.lattice.start]

    def marginals(self) -> Tensor:
        """[R, K, V] the law of each cell that was read, given that the filling is accepted."""
        lattice = self.lattice
        weight = torch.zeros_like(self._mass)  # [R, K, C] of a class at a cell, its own law apart
        alpha = torch.full_like(self._beta[0], -torch.inf)
        alpha[:, lattice.start] = 0.0
        for t in range(self.cells.token.shape[1]):
            read = self.cells.read[:, t]
            rows = (read != NONE).nonzero()[:, 0]
            if len(rows):
                both = alpha[rows][:, lattice.source] + self._beta[t + 1][rows][:, lattice.target]  # [B, P]
                most = (both + self._mass[rows, read[rows]][:, lattice.kind]).amax(1, keepdim=True)
                both = (both - torch.where(most > -torch.inf, most, 0.0)).clamp(max=700.0).exp()
                found = both.new_zeros(len(rows), lattice.classes).index_add_(1, lattice.kind, both)
                weight[rows, read[rows]] = found
            alpha = self._forward(alpha, t)
        flat = torch.sparse.mm(lattice.members.t(), weight.flatten(0, 1).T.contiguous())  # [V, R * K]
        out = self.p * flat.T.reshape(self.p.shape)
        total = out.sum(2, keepdim=True)
        return torch.where(total > 0, out / total, self.p)

    def draw(self) -> Tensor:
        """[R, K] tokens of one joint draw; cells that were not read are decided on the way and forgotten."""
        fresh = self.cells.stream + self.cells.number * _STEP  # a draw must not know an earlier one's noise
        stream = noise.renewed(fresh)

        def pick(t: int, weight: Tensor) -> Tensor:
            return noise.argmax(weight[:, None], stream, self.cells.at[:, t : t + 1], Salt.TOKEN + TRIAL)[:, 0]

        return self._walk(self._beta, pick)

    def best(self) -> Tensor:
        """[R, K] tokens of the most probable filling; of equals, the lowest ids."""
        lattice = self.lattice
        top = torch.zeros_like(self._mass)  # [R, K, C] the best token of each class
        for begin in range(0, self.p.shape[1], 8):  # eight cells at a time: [R, 8, N] may be large
            part = self.p[:, begin : begin + 8, lattice.tokens]
            top[:, begin : begin + 8].scatter_reduce_(2, lattice.of.expand_as(part), part, "amax")
        beta = self._backward(self.cells.token, top.log(), best=True)
        return self._walk(beta, lambda t, weight: weight.argmax(1))

    def _backward(
        self, token: Tensor, mass: Tensor | None = None, best: bool = False, length: Tensor | None = None
    ) -> list[Tensor]:
        """Per cell and one more, [R, S + 1] log of what the completions of each state are worth."""
        lattice, cells = self.lattice, self.cells
        mass = self._mass if mass is None else mass
        length = cells.length if length is None else length
        rows, width = token.shape
        end = torch.full((rows, lattice.states + 1), -torch.inf, dtype=torch.float64, device=token.device)
        end[:, :-1][:, lattice.accept] = 0.0
        out = [end]
        for t in range(width - 1, -1, -1):
            after = out[-1]
            here = _gathered(self._weights(mass, t) + after[:, lattice.target], lattice.source, after.shape[1], best)
            here = torch.where((t > cells.last)[:, None] & (here > -torch.inf), 0.0, here)
            stands = token[:, t] != NONE
            if bool(stands.any()):
                moved = after.gather(1, lattice.table[:, token[:, t].clamp(min=0)].T.long())
                here = torch.where(stands[:, None], moved, here)
            out.append(torch.where((t >= length)[:, None], after, here))
        return out[::-1]

    def _forward(self, alpha: Tensor, t: int) -> Tensor:
        """[R, S + 1] log of what reaches each state after cell `t`."""
        lattice, cells = self.lattice, self.cells
        moved = self._weights(self._mass, t) + alpha[:, lattice.source]
        here = _gathered(moved, lattice.target, alpha.shape[1])
        stands = cells.token[:, t] != NONE
        if bool(stands.any()):
            to = lattice.table[:, cells.token[:, t].clamp(min=0)].T.long()  # [R, S + 1]
            here = torch.where(stands[:, None], _gathered(alpha, to, alpha.shape[1]), here)
            here[:, -1] = -torch.inf
        return torch.where((t >= cells.length)[:, None], alpha, here)

    def _weights(self, mass: Tensor, t: int) -> Tensor:
        """[R, P] log weight of every move at cell `t`."""
        read = self.cells.read[:, t]
        here = mass.gather(1, read.clamp(min=0)[:, None, None].expand(-1, 1, mass.shape[2]))[:, 0]  # [R, C]
        return torch.where((read != NONE)[:, None], here[:, self.lattice.kind], 0.0)

    def _walk(self, beta: list[Tensor], pick: Callable[[int, Tensor], Tensor]) -> Tensor:
        """[R, K] tokens along a path from the start; `pick` chooses by log weights [R, V] or [R, S + 1]."""
        lattice, cells, p = self.lattice, self.cells, self.p
        rows, width = cells.token.shape
        state = torch.full((rows,), lattice.start, device=p.device)
        out = torch.full(p.shape[:2], NONE, device=p.device)
        for t in range(width):
            after, token, read = beta[t + 1], cells.token[:, t], cells.read[:, t]
            asked = read != NONE
            if bool(asked.any()):
                law = p.gather(1, read.clamp(min=0)[:, None, None].expand(-1, 1, p.shape[2]))[:, 0]  # [R, V]
                chosen = pick(t, law.log() + after.gather(1, lattice.table[state].long()))
                row = asked.nonzero()[:, 0]
                out[row, read[row]] = chosen[row]
                token = torch.where(asked, chosen, token)
            blank = (token == NONE) & (t < cells.length) & (t < cells.last)
            jump = pick(t, self._ways(state, after)) if bool(blank.any()) else state
            moved = lattice.table[state, token.clamp(min=0)].long()
            state = torch.where(token != NONE, moved, torch.where(blank, jump, state))
            state = torch.where(t >= cells.length, lattice.start, state).clamp(min=0, max=lattice.states)
        return out

    def _ways(self, state: Tensor, after: Tensor) -> Tensor:
        """[R, S + 1] log weight of every state that a cell without a law may lead to from `state` [R]."""
        lattice = self.lattice
        worth = after[:, lattice.target].masked_fill(lattice.source != state[:, None], -torch.inf)
        return _gathered(worth, lattice.target, after.shape[1])


def _gathered(worth: Tensor, to: Tensor, size: int, best: bool = False) -> Tensor:
    """[R, size] log of the sum (or the most) of exp `worth` [R, P] by where it goes, `to` [P] or [R, P]."""
    to = to.expand_as(worth)
    most = torch.full((len(worth), size), -torch.inf, dtype=worth.dtype, device=worth.device)
    most.scatter_reduce_(1, to, worth, "amax")
    if best:
        return most
    base = torch.where(most > -torch.inf, most, 0.0)
    return torch.zeros_like(most).scatter_add_(1, to, (worth - base.gather(1, to)).exp()).log() + base


_STEP: Final = 0x5851F42D4C957F2D
"""Between the streams of one joint draw and the next."""
