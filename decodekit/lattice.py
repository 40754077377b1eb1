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

import torch
from torch import Tensor

from decodekit import noise
from decodekit.noise import TRIAL, Salt
from decodekit.rows import NONE

LEAST = 1e-200
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

    @cached_property
    def last(self) -> Tensor:
        """[R] the last cell that was read, NONE for none."""
        place = torch.arange(self.read.shape[1], device=self.read.device)
        return place.masked_fill(self.read == NONE, NONE).amax(1)


class Sums:
    """Both passes, for laws `p` [R, K, V] (probabilities, float64)."""

    def __init__(self, lattice: Lattice, cells: Cells, p: Tensor) -> None:
        self.lattice, self.cells, self.p = lattice, cells, p
        rows, known = p.shape[:2]
        flat = torch.sparse.mm(lattice.members, p.flatten(0, 1).T.contiguous())  # [C, R * K]
        self._mass = flat.T.reshape(rows, known, lattice.classes)  # [R, K, C]
        self._beta = self._backward(cells.token)

    def log_z(self, token: Tensor | None = None) -> Tensor:
        """[R] log probability that the laws' independent draws are accepted; with `token` [R, T] committed as well."""
        beta, scale = self._beta if token is None else self._backward(token)
        return beta[0][:, self.lattice.start].log() + scale

    def marginals(self) -> Tensor:
        """[R, K, V] the law of each cell that was read, given that the filling is accepted."""
        lattice, beta = self.lattice, self._beta[0]
        weight = torch.zeros_like(self._mass)  # [R, K, C] of a class at a cell, its own law apart
        alpha = torch.zeros_like(beta[0])
        alpha[:, lattice.start] = 1.0
        for t in range(self.cells.token.shape[1]):
            read = self.cells.read[:, t]
            rows = (read != NONE).nonzero()[:, 0]
            if len(rows):
                both = alpha[rows][:, lattice.source] * beta[t + 1][rows][:, lattice.target]  # [B, P]
                found = both.new_zeros(len(rows), lattice.classes).index_add_(1, lattice.kind, both)
                weight[rows, read[rows]] = found
            alpha = self._forward(alpha, t)
        flat = torch.sparse.mm(lattice.members.t(), weight.flatten(0, 1).T.contiguous())  # [V, R * K]
        out = self.p * flat.T.reshape(self.p.shape)
        total = out.sum(2, keepdim=True)
        return torch.where(total > 0, out / total, self.p)

    def draw(self) -> Tensor:
        """[R, K] tokens of one joint draw; cells that were not read are decided on the way and forgotten."""
        beta, salt = self._beta[0], Salt.TOKEN + TRIAL
        fresh = (
            self.cells.stream + self.cells.number * 0x5851F42D4C957F2D
        )  # a draw must not know an earlier one's noise
        stream = noise.renewed(fresh)

        def pick(t: int, weight: Tensor) -> Tensor:
            place = self.cells.at[:, t : t + 1]
            return noise.argmax(weight.log()[:, None], stream, place, salt)[:, 0]

        return self._walk(beta, self.p, pick)

    def best(self) -> Tensor:
        """[R, K] tokens of the most probable filling; of equals, the lowest ids."""
        lattice = self.lattice
        top = torch.zeros_like(self._mass)  # [R, K, C] the best token of each class
        for begin in range(0, self.p.shape[1], 8):  # eight cells at a time: [R, 8, N] may be large
            part = self.p[:, begin : begin + 8, lattice.tokens]
            index = lattice.of.expand_as(part)
            top[:, begin : begin + 8].scatter_reduce_(2, index, part, "amax")
        beta = self._backward(self.cells.token, top, best=True)[0]
        return self._walk(beta, self.p, lambda t, weight: weight.argmax(1))

    def _backward(self, token: Tensor, mass: Tensor | None = None, best: bool = False) -> tuple[list[Tensor], Tensor]:
        """Per cell and one more, [R, S + 1] what completions are worth (scaled to at most 1); [R] log of the scales."""
        lattice, cells = self.lattice, self.cells
        mass = self._mass if mass is None else mass
        rows, width = token.shape
        end = torch.zeros(rows, lattice.states + 1, dtype=torch.float64, device=token.device)
        end[:, :-1] = lattice.accept.double()
        out, scale = [end], torch.zeros(rows, dtype=torch.float64, device=token.device)
        for t in range(width - 1, -1, -1):
            after = out[-1]
            worth = self._weights(mass, t) * after[:, lattice.target]  # [R, P]
            here = torch.zeros_like(after)
            if best:
                here.scatter_reduce_(1, lattice.source.expand(rows, -1), worth, "amax")
            else:
                here.index_add_(1, lattice.source, worth)
            here = torch.where((t > cells.last)[:, None], (here > 0).double(), here)
            stands = token[:, t] != NONE
            if bool(stands.any()):
                moved = after.gather(1, lattice.table[:, token[:, t].clamp(min=0)].T.long())
                here = torch.where(stands[:, None], moved, here)
            here = torch.where((t >= cells.length)[:, None], after, here)
            most = here.amax(1)
            safe = torch.where(most > 0, most, 1.0)
            scale = scale + safe.log()
            out.append(here / safe[:, None])
        return out[::-1], scale

    def _forward(self, alpha: Tensor, t: int) -> Tensor:
        """[R, S + 1] what reaches each state after cell `t`, scaled."""
        lattice, cells = self.lattice, self.cells
        moved = self._weights(self._mass, t) * alpha[:, lattice.source]
        here = torch.zeros_like(alpha).index_add_(1, lattice.target, moved)
        stands = cells.token[:, t] != NONE
        if bool(stands.any()):
            to = lattice.table[:, cells.token[:, t].clamp(min=0)].T.long()  # [R, S + 1]
            here = torch.where(stands[:, None], torch.zeros_like(alpha).scatter_add_(1, to, alpha), here)
            here[:, -1] = 0.0
        here = torch.where((t >= cells.length)[:, None], alpha, here)
        return here / here.amax(1, keepdim=True).clamp(min=1e-300)

    def _weights(self, mass: Tensor, t: int) -> Tensor:
        """[R, P] of every move at cell `t`."""
        read = self.cells.read[:, t]
        here = mass.gather(1, read.clamp(min=0)[:, None, None].expand(-1, 1, mass.shape[2]))[:, 0]  # [R, C]
        return torch.where((read != NONE)[:, None], here[:, self.lattice.kind], 1.0)

    def _walk(self, beta: list[Tensor], p: Tensor, pick: Callable[[int, Tensor], Tensor]) -> Tensor:
        """[R, K] tokens along a path from the start; `pick` chooses by weights [R, V] or [R, S]."""
        lattice, cells = self.lattice, self.cells
        rows, width = cells.token.shape
        state = torch.full((rows,), lattice.start, device=p.device)
        out = torch.full(p.shape[:2], NONE, device=p.device)
        for t in range(width):
            after, token, read = beta[t + 1], cells.token[:, t], cells.read[:, t]
            asked = read != NONE
            if bool(asked.any()):
                law = p.gather(1, read.clamp(min=0)[:, None, None].expand(-1, 1, p.shape[2]))[:, 0]  # [R, V]
                chosen = pick(t, law * after.gather(1, lattice.table[state].long()))
                row = asked.nonzero()[:, 0]
                out[row, read[row]] = chosen[row]
                token = torch.where(asked, chosen, token)
            blank = (token == NONE) & (t < cells.length) & (t < cells.last)
            if bool(blank.any()):
                ways = torch.zeros_like(after).index_add_(
                    1, lattice.target, (lattice.source == state[:, None]).double() * after[:, lattice.target]
                )
                jump = pick(t, ways)
            else:
                jump = state
            moved = lattice.table[state, token.clamp(min=0)].long()
            state = torch.where(token != NONE, moved, torch.where(blank, jump, state))
            state = torch.where(t >= cells.length, lattice.start, state).clamp(max=lattice.states)
        return out
