"""Sums over fillings against the enumeration of every filling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import decodekit as dk
from decodekit.constraints.canvas.unrolled import automaton_of
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.core.bound import BindContext
from decodekit.core.rows import NONE
from decodekit.diffusion.marginals import Cells, Lattice, Sums
from decodekit.testing.oracle import FALSE_ALARM, chi_square
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

V, EOS = 5, 0


def lattice(seed: int) -> Lattice:
    return ToyConstraint(seed=seed, vocab=V, states=4, refuse=0.4).automaton().lattice(V, "toy")


def cells(token: list[int], read: list[bool], rows: int = 1, length: int | None = None) -> Cells:
    size = len(token)
    number = torch.tensor(read).cumsum(0) - 1
    return Cells(
        token=torch.tensor([token] * rows),
        read=number.masked_fill(~torch.tensor(read), NONE).expand(rows, -1).clone(),
        length=torch.full((rows,), size if length is None else length),
        stream=torch.arange(rows) * 977 + 5,
        at=torch.arange(size).expand(rows, -1),
        number=torch.zeros(rows, dtype=torch.int64),
    )


def laws(seed: int, count: int) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.rand(1, count, V, generator=noise, dtype=torch.float64).pow(2).softmax(2)


def fillings(made: Lattice, token: list[int], read: list[bool], p: Tensor) -> dict[tuple[int, ...], float]:
    """Every accepted filling of the cells that are read (all others are committed), and its probability."""
    out = {}
    number = [sum(read[:t]) for t in range(len(token))]
    for text in itertools.product(range(V), repeat=len(token)):
        if any(not ask and one != given for ask, one, given in zip(read, text, token, strict=True)):
            continue
        state = made.start
        for one in text:
            state = int(made.table[state, one])
        if state < made.states and bool(made.accept[state]):
            out[text] = math.prod(float(p[0, number[t], text[t]]) for t in range(len(text)) if read[t])
    return out


CANVASES = [
    ([NONE] * 4, [True] * 4),
    ([NONE, 3, NONE, NONE], [True, False, True, True]),
    ([4, NONE, NONE, 0], [False, True, True, False]),
    ([NONE] * 5, [True] * 5),
]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("canvas", range(len(CANVASES)))
def test_sums_are_those_of_the_enumeration(seed: int, canvas: int) -> None:
    token, read = CANVASES[canvas]
    made, p = lattice(seed), laws(seed, sum(read))
    every = fillings(made, token, read, p)
    sums = Sums(made, cells(token, read), p)
    if not every:
        assert sums.log_z().item() == -math.inf
        return
    total = sum(every.values())
    assert sums.log_z().exp().item() == pytest.approx(total, rel=1e-12)
    marginals = sums.marginals()[0]
    places = [t for t in range(len(token)) if read[t]]
    for k, t in enumerate(places):
        for v in range(V):
            due = sum(w for text, w in every.items() if text[t] == v) / total
            assert float(marginals[k, v]) == pytest.approx(due, abs=1e-12)
    best = tuple(sums.best()[0].tolist())
    found = next(w for text, w in every.items() if tuple(text[t] for t in places) == best)
    assert found == pytest.approx(max(every.values()), rel=1e-12)
    first = places[0]
    for v in range(V):
        after = torch.tensor([[v if t == first else one for t, one in enumerate(token)]])
        due = sum(w / float(p[0, 0, v]) for text, w in every.items() if text[first] == v)
        assert sums.log_z(after).exp().item() == pytest.approx(due, abs=1e-12)


@pytest.mark.parametrize("seed", [1, 4])
def test_joint_draws_have_the_law(seed: int) -> None:
    token, read = CANVASES[1]
    made, p = lattice(seed), laws(seed, 3)
    every = fillings(made, token, read, p)
    total = sum(every.values())
    rows = 6000
    sums = Sums(made, cells(token, read, rows), p.expand(rows, -1, -1))
    drawn = [(a, 3, b, c) for a, b, c in sums.draw().tolist()]
    assert chi_square({text: w / total for text, w in every.items()}, drawn) > FALSE_ALARM
    assert len({tuple(one) for one in drawn}) > 1


def test_a_second_draw_is_another_one() -> None:
    made, p = lattice(1), laws(3, 4).expand(300, -1, -1)
    one = cells([NONE] * 4, [True] * 4, 300)
    other = Cells(one.token, one.read, one.length, one.stream, one.at, one.number + 1)
    first, second = Sums(made, one, p).draw(), Sums(made, other, p).draw()
    same = (first == second).all(1).double().mean().item()
    assert torch.equal(first, Sums(made, one, p).draw())
    assert same < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_cells_without_a_law_only_ask_whether_a_text_can_be_completed(seed: int) -> None:
    made, p = lattice(seed), laws(seed, 2)
    token, read = [NONE] * 4, [True, True, False, False]
    sums, total = Sums(made, cells(token, read), p), 0.0
    for a, b in itertools.product(range(V), repeat=2):
        state = int(made.table[int(made.table[made.start, a]), b])
        ends = {state}
        for _ in range(2):
            ends = {int(made.table[s, v]) for s in ends if s < made.states for v in range(V)}
        if any(s < made.states and bool(made.accept[s]) for s in ends):
            total += float(p[0, 0, a] * p[0, 1, b])
    assert sums.log_z().exp().item() == pytest.approx(total, abs=1e-12)


def test_a_gap_without_a_law_is_crossed() -> None:
    made, p = lattice(3), laws(3, 2)
    token, read = [NONE] * 4, [True, False, False, True]
    sums = Sums(made, cells(token, read, 200), p.expand(200, -1, -1))
    for a, d in [*sums.draw().tolist(), sums.best()[0].tolist()]:
        ways = [made.start]
        ways = [int(made.table[s, a]) for s in ways]
        for _ in range(2):
            ways = sorted({int(made.table[s, v]) for s in ways if s < made.states for v in range(V)})
        ends = [int(made.table[s, d]) for s in ways if s < made.states]
        assert any(s < made.states and bool(made.accept[s]) for s in ends)


def test_rows_of_several_lengths_do_not_know_each_other() -> None:
    made = lattice(2)
    p = laws(5, 5)
    whole = cells([NONE] * 5, [True] * 5, 3)
    length = torch.tensor([5, 3, 4])
    read = whole.read.masked_fill(torch.arange(5) >= length[:, None], NONE)
    both = Sums(made, Cells(whole.token, read, length, whole.stream, whole.at, whole.number), p.expand(3, -1, -1))
    for r, size in enumerate(length.tolist()):
        one = cells([NONE] * size, [True] * size)
        alone = Sums(made, Cells(one.token, one.read, one.length, whole.stream[r : r + 1], one.at, one.number), p)
        assert torch.equal(both.log_z()[r], alone.log_z()[0])
        assert torch.equal(both.marginals()[r, :size], alone.marginals()[0, :size])
        assert torch.equal(both.draw()[r, :size], alone.draw()[0, :size])


def test_a_canvas_that_hangs_by_a_thread_is_not_dead() -> None:
    """Forced tokens of next to no probability, where an end of the text would have nearly all."""
    rule = dk.regex("a{40,60}")
    model = TableModel(vocab=4, masked=True, eos=(0,), tokenizer=Vocabulary((b"", b"a", b"b", b"")))
    made = automaton_of((rule,), BindContext(model, lambda thing: model, eos=(0,)))
    assert isinstance(made, Lattice)
    p = torch.tensor([1.0, 1e-250, 1e-3, 0.0], dtype=torch.float64).expand(1, 50, 4)
    sums = Sums(made, Cells.blank(1, 50), p)
    assert sums.log_z().item() == pytest.approx(40 * math.log(1e-250), rel=1e-12)
    assert sums.best()[0].tolist() == sums.draw()[0].tolist() == [1] * 40 + [0] * 10
    assert torch.equal(sums.marginals()[0].argmax(1), sums.best()[0])
