"""Stops on rows that grow by several tokens a round, fork, and fall back."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.core.stopping import Budget, Complete, Deadline, EndOfText, Length, StopStrings
from decodekit.text.codec import Codec, earliest_stop


def rows_of(prompts: list[list[int]], limit: int = 50) -> Rows:
    r = len(prompts)
    line = torch.arange(r)
    return Rows(prompts, torch.full((r,), limit), stream=line, group=line, sample=torch.zeros_like(line))


def grow(rows: Rows, new: list[list[int]]) -> Tensor:
    width = max(map(len, new))
    at = rows.n[:, None] + torch.arange(width)
    tokens = torch.tensor([one + [NONE] * (width - len(one)) for one in new])
    return rows.commit(at, tokens, tokens != NONE)


def lengths(cut: torch.Tensor | None) -> list[int] | None:
    return None if cut is None else cut.tolist()


def test_the_first_of_several_end_tokens_counts_and_the_prompt_does_not() -> None:
    rows = rows_of([[7, 2], [7], [9, 9, 9]])
    stop = EndOfText([2, 3], rows.device)
    before = grow(rows, [[5, 3, 2], [5, 6], [2]])
    assert lengths(stop.ended(rows, before)) == [4, NONE, 4]
    before = grow(rows, [[1], [], []])
    assert lengths(stop.ended(rows, before)) is None


def test_length_cuts_at_the_limit() -> None:
    rows = rows_of([[1, 1], [1]], limit=4)
    before = grow(rows, [[5, 5], [5, 5]])
    assert lengths(Length().ended(rows, before)) == [4, NONE]


def test_clock_and_budget_end_every_row() -> None:
    rows = rows_of([[1, 1], [1]])
    now = [0.0]
    clock = Deadline(10.0, lambda: now[0])
    assert lengths(clock.ended(rows, rows.n)) is None
    now[0] = 10.0
    assert lengths(clock.ended(rows, rows.n)) == [2, 1]
    cost = Cost()
    budget = Budget(cost, 5)
    cost.model("draft").fed = 100
    assert lengths(budget.ended(rows, rows.n)) is None
    cost.model("target").fed = 5
    assert lengths(budget.ended(rows, rows.n)) == [2, 1]


def test_complete_asks_the_constraint() -> None:
    rows = rows_of([[1, 1], [1]])
    assert lengths(Complete(lambda r: torch.tensor([False, True])).ended(rows, rows.n)) == [NONE, 1]


@pytest.fixture(scope="session")
def codec(byte_level: Any) -> Codec:
    return Codec(byte_level)


@given(data=st.data())
def test_stop_strings_are_found_wherever_they_lie(codec: Codec, data: st.DataObject) -> None:
    text = st.text(alphabet="ab€", min_size=1, max_size=3)
    stops = data.draw(st.lists(text, min_size=1, max_size=3))
    byte = {codec.bytes_of(t): t for t in range(3, 259)}
    one = st.text(alphabet="ab€", max_size=8).map(lambda s: [byte[bytes([b])] for b in s.encode()])
    prompts = [p or [5] for p in data.draw(st.lists(one, min_size=2, max_size=2))]
    rows = rows_of(prompts, limit=500)
    stop = StopStrings(stops, codec)
    said = [NONE, NONE]
    for _ in range(4):
        new = [data.draw(one), data.draw(one)]
        if not any(new):
            continue
        before = grow(rows, new)
        ended = lengths(stop.ended(rows, before)) or [NONE, NONE]
        said = [now if old == NONE else old for old, now in zip(said, ended, strict=True)]
        if data.draw(st.booleans()):
            index = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=2, max_size=2)))
            rows.fork(index)
            said = [said[i] for i in index.tolist()]
    for r in range(2):
        generated = rows.text(r)[int(rows.start[r]) :]
        first = next(
            (j for j in range(1, len(generated) + 1) if earliest_stop(settled(codec, generated[:j]), stops)), None
        )
        assert said[r] == (NONE if first is None else int(rows.start[r]) + first)


def settled(codec: Codec, tokens: list[int]) -> str:
    state = codec.start([5])
    return "".join(map(state.push, tokens))


def test_a_stop_string_that_was_taken_back_is_forgotten(codec: Codec) -> None:
    byte = {codec.bytes_of(t): t for t in range(3, 259)}
    a, b = byte[b"a"], byte[b"b"]
    rows = rows_of([[a, b]])
    stop = StopStrings(["ab"], codec)
    assert lengths(stop.ended(rows, grow(rows, [[b, a]]))) == [NONE]
    assert lengths(stop.ended(rows, grow(rows, [[b]]))) == [5]
    rows.commit(torch.tensor([[4]]), torch.tensor([[NONE]]), torch.tensor([[True]]))
    assert rows.n.tolist() == [4]
    assert lengths(stop.ended(rows, rows.n)) == [NONE]
    assert lengths(stop.ended(rows, grow(rows, [[a]]))) == [NONE]


def test_reasons_are_words_of_the_results() -> None:
    from decodekit.run.results import FINISHES

    for kind in (EndOfText, Length, Complete, Deadline, Budget, StopStrings):
        assert kind.reason in FINISHES
    assert all(re.fullmatch(r"[a-z ]+", word) for word in FINISHES)
