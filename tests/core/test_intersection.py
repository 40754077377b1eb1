"""Several constraints at once allow what each of them allows, along guesses too."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from decodekit.core.bound import BindContext
from decodekit.core.intersection import Product
from decodekit.core.rows import NONE, Rows
from decodekit.testing.harness import rows_for, run
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

VOCAB = 4


def toys(*seeds: int, **more: Any) -> list[ToyConstraint]:
    return [ToyConstraint(seed=seed, vocab=VOCAB, refuse=0.3, **more) for seed in seeds]


def product(parts: list[ToyConstraint]) -> Product:
    about = BindContext(model=TableModel(vocab=VOCAB), open=lambda thing: TableModel())
    return Product([part.bind(about) for part in parts])


def both(parts: list[ToyConstraint], generated: list[int]) -> list[int]:
    """The reference: walked from the start for every prefix."""
    return sorted(set.intersection(*(set(part.allowed(generated)) for part in parts)))


def walked(parts: list[ToyConstraint], seed: int, lengths: list[int]) -> tuple[Rows, list[list[int]]]:
    """Ragged rows whose final text all parts allow."""
    rows = rows_for([[1], [2, 3], [0]], max_tokens=12)
    dice = torch.Generator().manual_seed(seed)
    texts: list[list[int]] = []
    for r, length in enumerate(lengths):
        text: list[int] = []
        while len(text) < length and (may := [t for t in both(parts, text) if t]):
            text.append(may[int(torch.randint(len(may), (), generator=dice))])
            at = torch.full((3, 1), int(rows.start[r]) + len(text) - 1)
            where = torch.arange(3)[:, None] == r
            rows.commit(at, torch.full((3, 1), text[-1]), where)
        texts.append(text)
    return rows, texts


@pytest.mark.parametrize("seed", range(12))
def test_mask_along_guesses(seed: int) -> None:
    parts = toys(seed, seed + 50, dead_ends=seed % 2 == 1)
    rows, texts = walked(parts, seed, [0, 3, 5])
    guesses = torch.randint(VOCAB, (3, 4), generator=torch.Generator().manual_seed(seed))
    at = rows.n[:, None] + torch.arange(5)
    at[0, 3:] = NONE
    rows.write(at[:, :4], guesses, at[:, :4] != NONE)
    mask = product(parts).mask(rows, at)
    seen_refusal = False
    for r in range(3):
        along, refused = list(texts[r]), False
        for k in range(5):
            expected = list(range(VOCAB)) if refused or at[r, k] == NONE else both(parts, along)
            assert mask[r, k].nonzero()[:, 0].tolist() == expected, (r, k, along)
            if k < 4:
                guess = int(guesses[r, k])
                refused = refused or guess not in both(parts, along) or guess == 0  # after an EOS nothing matters
                along.append(guess)
        seen_refusal |= refused
    assert seen_refusal


@pytest.mark.parametrize("seed", range(6))
def test_admits_and_complete(seed: int) -> None:
    parts = toys(seed, seed + 50, seed + 90)
    rows, texts = walked(parts, seed, [2, 0, 4])
    made = product(parts)
    tokens = torch.tensor([[0, 1, 2, 3, NONE]] * 3)
    admitted = made.admits(rows, rows.n, tokens)
    for r in range(3):
        assert admitted[r].tolist() == [t in both(parts, texts[r]) for t in range(VOCAB)] + [False]
    complete = [all(0 in part.allowed(text) for part in parts) for text in texts]
    assert made.complete(rows).tolist() == complete
    assert made.finished(rows).tolist() == [False] * 3  # automata of this kind cannot tell


def test_later_parts_are_asked_only_about_what_is_left() -> None:
    parts = toys(3, 53)
    rows, texts = walked(parts, 0, [1, 2, 3])
    left = sum(len(parts[0].allowed(text)) for text in texts)
    assert left < 3 * VOCAB
    about = BindContext(model=TableModel(vocab=VOCAB), open=lambda thing: TableModel())
    made = Product([part.bind(about) for part in parts])
    made.admits(rows, rows.n, torch.arange(VOCAB).expand(3, -1))
    assert about.cost.checks == 3 * VOCAB + left


class Fixed:
    """Allows exactly one text (after which only the EOS 0 may follow); knows what is forced."""

    def __init__(self, *texts: list[int]) -> None:
        self.texts = texts

    def _next(self, rows: Rows, r: int, at: int) -> set[int]:
        said = rows.tokens[r, int(rows.start[r]) : at].tolist()
        return {(*text, 0)[len(said)] for text in self.texts if text[: len(said)] == said}

    def mask(self, rows: Rows, at: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def admits(self, rows: Rows, at: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[int(t) in self._next(rows, r, int(at[r])) for t in tokens[r]] for r in range(len(rows))])

    def complete(self, rows: Rows) -> torch.Tensor:
        return torch.tensor([rows.text(r)[int(rows.start[r]) :] in self.texts for r in range(len(rows))])

    def finished(self, rows: Rows) -> torch.Tensor:
        return self.complete(rows)

    def forced(self, rows: Rows) -> list[list[int]]:
        return [self.texts[0] if len(self.texts) == 1 else [] for _ in range(len(rows))]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([Fixed([1, 2, 3])], [1, 2, 3]),
        ([Fixed([1, 2, 3]), Fixed([1, 2, 3], [2])], [1, 2, 3]),
        ([Fixed([1, 2, 3], [2]), Fixed([1, 2, 3])], [1, 2, 3]),
        ([Fixed([1, 2, 3]), Fixed([1, 2, 1], [2])], [1, 2]),
        ([Fixed([1, 2, 3]), Fixed([2], [3])], []),
        ([Fixed([1], [2]), Fixed([2], [3])], []),
    ],
)
def test_forced(parts: list[Fixed], expected: list[int]) -> None:
    rows = rows_for([[1], [2, 3]], max_tokens=9)
    rows.write(rows.n[:, None], torch.tensor([[3], [2]]), torch.tensor([[True], [True]]))
    before = rows.tokens.clone()
    assert Product(parts).forced(rows) == [expected] * 2
    assert torch.equal(rows.tokens, before), "guesses are the proposer's to write"


def test_finished() -> None:
    rows = rows_for([[1]], max_tokens=9)
    rows.commit(rows.n[:, None], torch.tensor([[2]]), torch.tensor([[True]]))
    assert Product([Fixed([2]), Fixed([2])]).finished(rows).tolist() == [True]
    assert Product([Fixed([2]), Fixed([2, 1])]).finished(rows).tolist() == [False]


def test_two_constraints_in_a_run() -> None:
    """Every text that is drawn is allowed by both; the product of a constraint with itself changes nothing."""
    one, two = toys(3, 53)
    model = TableModel(vocab=VOCAB)
    alone = run([one, "sample"], model, [[1]], samples=40, max_tokens=6)
    assert run([one, one, "sample"], model, [[1]], samples=40, max_tokens=6).texts == alone.texts
    for text in run([one, two, "sample"], model, [[1]], samples=40, max_tokens=6).texts:
        for j, token in enumerate(text):
            assert token in both([one, two], list(text[:j]))
    assert any(t not in both([one, two], list(x[:j])) for x in alone.texts for j, t in enumerate(x))
