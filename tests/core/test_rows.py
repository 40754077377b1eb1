"""Rows: ragged text, the frontier of final cells, and the two structural verbs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decodekit.core.rows import NONE, Rows


def make(prompts: list[list[int]], room: int = 100) -> Rows:
    n = len(prompts)
    limit = torch.tensor([len(p) + room for p in prompts])
    return Rows(prompts, limit, torch.arange(n) * 11, torch.arange(n), torch.zeros(n, dtype=torch.int64))


def everywhere(at: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(at, dtype=torch.bool)


def test_a_guess_is_not_final() -> None:
    rows = make([[1, 2, 3], [4]])
    at = torch.tensor([[3, 4], [1, NONE]])
    rows.write(at, torch.tensor([[7, 8], [9, 0]]), at != NONE)
    assert rows.n.tolist() == [3, 1]
    assert rows.tokens[0, :5].tolist() == [1, 2, 3, 7, 8]
    assert rows.tokens[1, :2].tolist() == [4, 9]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 99), st.booleans()), max_size=60))
def test_the_frontier_is_the_first_open_cell(events: list[tuple[int, int, int, bool]]) -> None:
    rows = make([[1, 2, 3], [4], [5, 6]])
    cells: list[dict[int, int]] = [{0: 1, 1: 2, 2: 3}, {0: 4}, {0: 5, 1: 6}]
    for r, offset, token, opens in events:
        p = int(rows.start[r]) + offset
        at = torch.full((3, 1), NONE)
        at[r, 0] = p
        rows.commit(at, torch.full((3, 1), NONE if opens else token), at != NONE)
        if opens:
            cells[r].pop(p, None)
        else:
            cells[r][p] = token
    for r, filled in enumerate(cells):
        frontier = next(p for p in range(len(filled) + 1) if p not in filled)
        assert int(rows.n[r]) == frontier
        assert rows.text(r) == [filled[p] for p in range(frontier)]


def test_a_done_row_keeps_its_cut() -> None:
    rows = make([[1], [2]])
    at = torch.tensor([[1, 2, 3], [1, 2, 3]])
    rows.commit(at, torch.tensor([[5, 6, 7], [5, 6, 7]]), everywhere(at))
    rows.end(torch.tensor([True, False]), torch.tensor([2, 9]), "stop")
    assert rows.text(0) == [1, 5]
    assert rows.why(0) == "stop"
    assert rows.why(1) == ""
    rows.commit(at + 3, at, torch.tensor([[False] * 3, [True] * 3]))
    assert rows.n.tolist() == [2, 7]
    rows.end(torch.tensor([True, True]), torch.tensor([1, 6]), "length")
    assert (rows.why(0), rows.why(1), rows.n.tolist()) == ("stop", "length", [2, 6])


def test_room_grows_without_losing_anything() -> None:
    rows = make([[1, 2]], room=5000)
    for p in range(2, 1000):
        rows.commit(torch.tensor([[p]]), torch.tensor([[p % 7]]), torch.tensor([[True]]))
    assert rows.text(0) == [1, 2] + [p % 7 for p in range(2, 1000)]


def test_a_guess_past_the_room_makes_room() -> None:
    rows = make([[1, 2, 3], [4]])
    at = torch.tensor([[3, rows.tokens.shape[1] + 5], [1, NONE]])
    rows.write(at, torch.tensor([[7, 8], [9, 0]]), at != NONE)
    assert rows.tokens[0, at[0]].tolist() == [7, 8]
    assert rows.tokens[1, 1] == 9


def test_fork_leaves_noise_with_the_slot_and_keep_takes_it_along() -> None:
    rows = make([[1], [2], [3]])
    rows.logw = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    rows.column("seen", torch.tensor([10, 20, 30]))
    rows.fork(torch.tensor([2, 2, 0]))
    assert [rows.text(r) for r in range(3)] == [[3], [3], [1]]
    assert rows.logw.tolist() == [2.0, 2.0, 0.0]
    assert rows.columns["seen"].tolist() == [30, 30, 10]
    assert rows.stream.tolist() == [0, 11, 22]
    rows.keep(torch.tensor([2, 0]))
    assert [rows.text(r) for r in range(2)] == [[1], [3]]
    assert rows.stream.tolist() == [22, 0]
    assert [index.tolist() for index in rows.moves] == [[2, 2, 0], [2, 0]]


def test_an_expansion_needs_streams() -> None:
    rows = make([[1], [2]])
    with pytest.raises(ValueError, match="streams of the new slots"):
        rows.fork(torch.tensor([0, 0, 1]))
    rows.fork(torch.tensor([0, 0, 1]), stream=torch.tensor([5, 6, 7]), sample=torch.tensor([0, 1, 0]))
    assert len(rows) == 3
    assert rows.stream.tolist() == [5, 6, 7]


def test_retired_rows_say_how_they_went() -> None:
    rows = make([[1, 2], [3]])
    rows.commit(torch.tensor([[2], [1]]), torch.tensor([[8], [9]]), torch.tensor([[True], [True]]))
    rows.logw = torch.tensor([-0.5, 0.25], dtype=torch.float64)
    rows.end(torch.tensor([False, True]), rows.n, "eos")
    assert rows.retire(torch.tensor([False, False])) is None
    stay = rows.retire(rows.done)
    assert stay is not None
    assert stay.tolist() == [0]
    (gone,) = rows.retired
    assert (gone.tokens, gone.start, gone.logw, gone.reason, gone.group) == ([3, 9], 1, 0.25, "eos", 1)
    assert rows.text(0) == [1, 2, 8]
