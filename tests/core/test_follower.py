"""A follower that only records what it absorbed always holds the text it was asked for, whatever happened before."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from decodekit.core.follower import Follower
from decodekit.core.rows import NONE, Rows


class Recorder(Follower):
    """State = the tokens absorbed, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[list[int]] = []
        self.fed = 0
        self.fail = False

    def fork(self, index: Tensor) -> None:
        self.held = [list(self.held[i]) for i in index.tolist()]

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> None:
        self.held = self.held or [[] for _ in range(len(rows))]
        for r in only.nonzero()[:, 0].tolist():
            assert 0 <= keep[r] <= len(self.held[r])
            self.held[r] = self.held[r][: int(keep[r])]
            if self.fail:
                raise KeyboardInterrupt
            self.held[r] += rows.tokens[r, int(keep[r]) : int(upto[r])].tolist()
            self.fed += int(upto[r] - keep[r])


def new(prompts: list[list[int]]) -> Rows:
    n = torch.arange(len(prompts))
    return Rows(prompts, torch.full_like(n, 500), n, n, n * 0)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["take", "guess", "fork", "expand", "keep", "done", "grow", "fail"]),
        st.integers(0, 10**6),
        st.booleans(),
    ),
    max_size=25,
)


@given(EVENTS)
def test_it_holds_what_the_rows_say(events: list[tuple[str, int, bool]]) -> None:
    rows, follower = new([[1, 2, 3], [1, 2], [3, 3, 3, 3]]), Recorder()
    for kind, seed, some in events:
        random, count = torch.Generator().manual_seed(seed), len(rows)
        tokens = torch.randint(0, 3, (count, 3), generator=random)
        at = rows.n[:, None] + torch.arange(3)
        open_ = (torch.rand(count, 3, generator=random) < 0.7).long().cumprod(1).bool() & ~rows.done[:, None]
        upto = rows.n
        if kind == "take":
            rows.commit(at, tokens, open_)
            upto = rows.n
        elif kind == "guess":
            rows.write(at, tokens, open_)
            upto = rows.n + open_.sum(1)
        elif kind == "fork":
            rows.fork(torch.randint(0, count, (count,), generator=random))
            upto = rows.n
        elif kind == "expand" and count < 12:
            index = torch.arange(count).repeat_interleave(2)
            rows.fork(index, stream=torch.arange(len(index)), sample=index * 0)
            upto = rows.n
        elif kind == "keep" and count > 1:
            rows.keep(torch.randperm(count, generator=random)[:-1])
            upto = rows.n
        elif kind == "done":
            rows.end(torch.arange(count) == seed % count, rows.n, "eos")
        elif kind == "grow":
            rows.reserve(rows.tokens.shape[1] + 5)
        only = torch.rand(len(rows), generator=random) < 0.5 if some else ~rows.done
        if kind == "fail":
            follower.fail = True
            if only.any():
                with pytest.raises(KeyboardInterrupt):
                    follower.sync(rows, upto, only=only)
            follower.fail = False
        follower.sync(rows, upto, only=only if some else None)
        for r in only.nonzero()[:, 0].tolist():
            assert follower.held[r] == rows.tokens[r, : int(upto[r])].tolist()


def test_only_what_is_new_is_absorbed() -> None:
    rows, follower = new([[1, 2, 3], [4, 5]]), Recorder()
    follower.sync(rows, rows.n)
    assert follower.fed == 5
    follower.sync(rows, rows.n)
    assert follower.fed == 5
    at = rows.n[:, None] + torch.arange(2)
    rows.write(at, torch.tensor([[7, 8], [7, 8]]), at != NONE)
    follower.sync(rows, rows.n + 2)
    rows.commit(at, torch.tensor([[7, 9], [6, 9]]), at != NONE)  # the first guess of row 0 stands, all else was wrong
    assert follower.fed == 9
    follower.sync(rows, rows.n)
    assert follower.fed == 9 + 1 + 2
    rows.fork(torch.tensor([1, 1]))
    follower.sync(rows, rows.n)
    assert follower.fed == 12  # the copies know their text
    follower.sync(rows, rows.n, again=rows.n - 2)
    assert follower.fed == 16


def test_a_row_without_a_guess_is_not_absorbed_anew() -> None:
    """The spare column, where guesses that are none are written, is no part of the text."""
    rows, follower = new([[1, 2, 3], [1, 2]]), Recorder()
    follower.sync(rows, rows.n)
    at = torch.stack([rows.n, rows.n + 1], 1)
    guess = torch.tensor([[4, NONE], [NONE, NONE]])
    rows.write(at, guess, guess != NONE)
    follower.sync(rows, rows.n + torch.tensor([1, 0]))
    rows.write(at, guess, guess != NONE)
    follower.sync(rows, rows.n + torch.tensor([1, 0]))
    assert follower.fed == 5 + 1
