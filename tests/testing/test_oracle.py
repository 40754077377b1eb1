"""The tools that everything else is tested with, tested against the slowest possible reference."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.testing.oracle import FALSE_ALARM, chi_square, enumerate_law, rows_of
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

EVENT = st.tuples(st.sampled_from(["grow", "guess", "fork", "keep"]), st.integers(0, 10**6))


def change(rows: Rows, kind: str, seed: int, vocab: int) -> None:
    """One random thing that may happen to rows."""
    noise = torch.Generator().manual_seed(seed)
    count = len(rows)
    if kind in ("fork", "keep"):
        index = torch.randint(count, (count,), generator=noise)
        if kind == "fork":
            rows.fork(index)
        else:
            rows.keep(torch.randperm(count, generator=noise)[: max(1, count - seed % 2)])
        return
    at = rows.n[:, None] + torch.arange(3)
    tokens = torch.randint(vocab, at.shape, generator=noise)
    where = torch.arange(3) < torch.randint(4, (count, 1), generator=noise)
    if kind == "guess":
        rows.write(at, tokens, where)
    else:
        rows.commit(at, tokens, where)


@given(st.lists(EVENT, max_size=12), st.integers(0, 50))
def test_a_causal_table_read_through_rows_is_the_table(events: list[tuple[str, int]], seed: int) -> None:
    model = TableModel(seed=seed)
    reader = model.reader(Cost(), "target")
    rows = rows_of([[1, 2], [3], [4, 4, 1]])
    for kind, chance in [*events, ("guess", 5)]:
        change(rows, kind, chance, model.vocab)
        at = rows.n[:, None] + torch.arange(2)
        got = reader.read(rows, at)
        for r in range(len(rows)):
            for k in range(2):
                prefix = rows.tokens[r, : int(at[r, k])].tolist()
                assert torch.equal(got[r, k], model.logits(prefix))


@given(st.lists(EVENT, max_size=12), st.integers(0, 50), st.booleans())
def test_a_toy_constraint_on_rows_is_the_automaton(events: list[tuple[str, int]], seed: int, dead: bool) -> None:
    toy = ToyConstraint(seed=seed, dead_ends=dead)
    bound = toy.bind(BindContext(TableModel(), open=lambda thing: TableModel()))
    rows = rows_of([[1, 2], [3], [4, 4, 1]])
    for kind, chance in [*events, ("guess", 5)]:
        change(rows, kind, chance, toy.vocab)
        at = rows.n[:, None] + torch.arange(2)
        mask = bound.mask(rows, at)
        for r in range(len(rows)):
            for k in range(2):
                text = rows.tokens[r, int(rows.start[r]) : int(at[r, k])].tolist()
                legal = all(text[i] in toy.allowed(text[:i]) for i in range(len(text)))
                ended = any(token in toy.eos for token in text)
                want = toy.allowed(text) if legal and not ended else list(range(toy.vocab))
                assert mask[r, k].nonzero()[:, 0].tolist() == want


def test_a_masked_table_read_in_a_batch_is_the_table() -> None:
    model = TableModel(vocab=6, masked=True, seed=3)
    rows = rows_of([[1, 2, 5, 5, 1], [3, 5, 0]], room=2)
    at = torch.tensor([[2, 3, 5], [1, 4, NONE]])
    got = model.reader(Cost(), "target").read(rows, at)
    for r in range(2):
        canvas = rows.tokens[r, : int(rows.limit[r])].tolist()
        for k in range(3):
            if at[r, k] != NONE:
                assert torch.equal(got[r, k], model.cell(canvas, int(at[r, k])))


@pytest.mark.parametrize("dead", [False, True])
def test_laws_add_up(dead: bool) -> None:
    model = TableModel(vocab=4, seed=1)
    toy = ToyConstraint(seed=2, vocab=4, dead_ends=dead)
    laws = enumerate_law(model.logits, [1, 2], 4, model.eos, toy)
    assert math.isclose(sum(laws.plain.values()), 1.0)
    assert math.isclose(sum(laws.masked.values()), 1.0)
    assert math.isclose(sum(laws.posterior.values()), 1.0)
    assert 0 < laws.evidence < 1
    assert any(text[-1] == NONE for text in laws.masked) is dead
    for text, p in laws.posterior.items():  # the definition, text by text
        assert math.isclose(p, laws.plain[text] / laws.evidence)
        assert all(text[i] in toy.allowed(text[:i]) for i in range(len(text)))


def test_the_law_of_one_text_by_hand() -> None:
    model = TableModel(vocab=3, seed=5)
    laws = enumerate_law(model.logits, [2], 3, model.eos)
    first, second = model.logits([2]).softmax(0), model.logits([2, 1]).softmax(0)
    assert math.isclose(laws.plain[(1, 0)], float(first[1] * second[0]))
    assert len(laws.plain) == 1 + 2 + 4 + 8


@pytest.mark.parametrize("seed", range(5))
def test_chi_square_passes_right_samples_and_fails_wrong_ones(seed: int) -> None:
    law = enumerate_law(TableModel(vocab=4, seed=seed).logits, [1], 3, (0,)).plain
    texts, p = list(law), torch.tensor(list(law.values()))
    noise = torch.Generator().manual_seed(seed)
    drawn = [texts[i] for i in torch.multinomial(p, 4000, True, generator=noise).tolist()]
    assert chi_square(law, drawn) > FALSE_ALARM
    bent = (p * (1 + 0.3 * torch.randn(len(p), generator=noise))).clamp(min=0)
    drawn = [texts[i] for i in torch.multinomial(bent, 4000, True, generator=noise).tolist()]
    assert chi_square(law, drawn) < FALSE_ALARM
    assert chi_square(law, [*drawn, (0, 0)]) == 0.0
