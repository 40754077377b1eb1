"""The loop alone, with answers written down beforehand: cuts, weights, dead ends, survivors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from decodekit.core.bound import BoundStrategy
from decodekit.core.defaults import Alone, Next
from decodekit.core.loop import decode
from decodekit.core.protocols import Constraint, Proposal, Round, Selection
from decodekit.core.rows import NONE, Rows


def make(prompts: list[list[int]], limit: int = 50) -> Rows:
    n = len(prompts)
    group = torch.arange(n)
    return Rows(prompts, torch.full((n,), limit), torch.arange(n), group, torch.zeros_like(group))


class Silent:
    """Scorer whose logits nobody reads."""

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        return torch.zeros(*at.shape, 4)


class Chunk(Next):
    """Proposer of k positions, without guesses."""

    def __init__(self, k: int) -> None:
        object.__setattr__(self, "k", k)
        self.k: int

    def propose(self, rows: Rows) -> Proposal:
        at = rows.n[:, None] + torch.arange(self.k)
        at = at.masked_fill(rows.done[:, None], NONE)
        return Proposal(at, torch.full_like(at, NONE))


class Scripted:
    """Selector that writes what `says(row tokens' positions)` says, all of it."""

    def __init__(self, says: Callable[[Tensor], Tensor], logw: float | None = None, dead_at: int | None = None) -> None:
        self.says, self.logw, self.dead_at = says, logw, dead_at

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        logw = None if self.logw is None else torch.full(ask.at.shape, self.logw, dtype=torch.float64)
        dead = None if self.dead_at is None else rows.n == self.dead_at
        take = torch.ones_like(ask.at, dtype=torch.bool)
        if dead is not None:
            take = take & ~dead[:, None]
        return Selection(self.says(ask.at), take, logw=logw, dead=dead)


class At:
    """Stop at a given length."""

    def __init__(self, length: int, reason: str) -> None:
        self.length, self.reason = length, reason

    def ended(self, rows: Rows, before: Tensor) -> Tensor:
        return torch.where(rows.n >= self.length, self.length, NONE)


class Watch:
    """Observer that keeps what it was told."""

    def __init__(self) -> None:
        self.takes: list[list[list[bool]]] = []
        self.moves: list[list[int]] = []

    def round(self, what: Round) -> None:
        self.takes.append(what.take.tolist())

    def moved(self, rows: Rows, index: Tensor) -> None:
        self.moves.append(index.tolist())


def run(kit: BoundStrategy, rows: Rows) -> dict[int, tuple[list[int], float, str]]:
    for _ in decode(kit, rows):
        pass
    return {row.group: (row.tokens, row.logw, row.reason) for row in rows.retired}


def test_every_row_goes_to_its_own_length_and_leaves() -> None:
    watch = Watch()
    kit = BoundStrategy(
        Next(), Silent(), Scripted(lambda at: at), Alone(), stops=(At(5, "length"),), observers=(watch,)
    )
    out = run(kit, make([[9, 9, 9], [9]]))
    assert out == {0: ([9, 9, 9, 3, 4], 0.0, "length"), 1: ([9, 1, 2, 3, 4], 0.0, "length")}
    assert [len(take) for take in watch.takes] == [2, 2, 1, 1]
    assert watch.moves == [[1], []]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_the_earliest_cut_wins_and_weighs_only_what_stands_before_it(order: tuple[str, str]) -> None:
    stops = {"a": At(7, "a"), "b": At(4, "b")}
    kit = BoundStrategy(
        Chunk(6),
        Silent(),
        Scripted(lambda at: at, logw=-0.5),
        Alone(),
        stops=tuple(stops[name] for name in order),
    )
    out = run(kit, make([[9, 9]]))
    assert out == {0: ([9, 9, 2, 3], -1.0, "b")}


def test_nothing_is_taken_past_the_limit() -> None:
    kit = BoundStrategy(Chunk(4), Silent(), Scripted(lambda at: at), Alone(), stops=(At(3, "length"),))
    rows = make([[9]], limit=3)
    assert run(kit, rows)[0][0] == [9, 1, 2]


def test_a_dead_end_is_a_status_of_one_row() -> None:
    kit = BoundStrategy(Next(), Silent(), Scripted(lambda at: at, 0.0, dead_at=3), Alone(), stops=(At(6, "length"),))
    out = run(kit, make([[9], [9, 9, 9, 9]]))
    assert out[0] == ([9, 1, 2], -float("inf"), "dead end")
    assert out[1] == ([9, 9, 9, 9, 4, 5], 0.0, "length")


class FirstTakesAll(Alone):
    """Population in which row 0 is cloned over the others after the first round."""

    def survivors(self, rows: Rows) -> Tensor | None:
        return torch.zeros_like(rows.n) if len(rows.moves) == 0 else None


def test_survivors_are_copied_with_their_weight() -> None:
    kit = BoundStrategy(Next(), Silent(), Scripted(lambda at: at * 10, 1.0), FirstTakesAll(), stops=(At(3, "length"),))
    out = sorted(run(kit, make([[1], [2]])).values())
    assert out == [([1, 10, 20], 2.0, "length")]  # both rows now belong to the group of row 0


class Shift(Alone):
    """Population in which slot 1 goes on with row 0 after every round."""

    def survivors(self, rows: Rows) -> Tensor | None:
        return torch.tensor([0, 0, 2]) if len(rows) == 3 else None


def test_a_slot_that_changes_rows_gets_noise_that_it_has_not_used() -> None:
    kit = BoundStrategy(Next(), Silent(), Scripted(lambda at: at), Shift(), stops=(At(9, "length"),))
    rows = make([[7], [7, 7], [7]])
    seen = [rows.stream.tolist()]
    steps = decode(kit, rows)
    for _ in range(4):
        next(steps)
        seen.append(rows.stream.tolist())
    assert {one[0] for one in seen} == {0}
    assert {one[2] for one in seen} == {2}
    assert len({one[1] for one in seen}) == 4  # renewed after each of the three rounds that have moved rows


def test_the_loop_can_be_stepped_and_left() -> None:
    kit = BoundStrategy(Next(), Silent(), Scripted(lambda at: at), Alone(), stops=(At(9, "length"),))
    rows = make([[7]])
    steps = decode(kit, rows)
    assert [next(steps).number for _ in range(3)] == [0, 1, 2]
    steps.close()
    assert rows.text(0) == [7, 1, 2, 3]
