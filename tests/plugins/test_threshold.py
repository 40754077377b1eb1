"""Threshold unmasking against an implementation that knows one row and no tensors."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from decodekit.errors import CompositionError, OptionError
from decodekit.plugins.threshold import Threshold
from decodekit.testing.harness import run
from decodekit.testing.oracle import FALSE_ALARM, chi_square
from decodekit.testing.tables import TableModel


def by_hand(
    model: TableModel, prompt: Sequence[int], cells: int, tau: float, block: int, eos: Sequence[int]
) -> tuple[tuple[int, ...], int]:
    """(generated ids up to the first end token, rounds), one row, cell by cell."""
    assert model.mask is not None
    canvas = [*prompt, *([model.mask] * cells)]
    rounds = 0
    for first in range(len(prompt), len(canvas), block):
        while True:
            cell_range = range(first, min(first + block, len(canvas)))
            ends = [i for i in cell_range if canvas[i] in eos]
            todo = [i for i in cell_range if canvas[i] == model.mask and (not ends or i < ends[0])]
            if not todo:
                break
            rounds += 1
            law = {i: model.cell(canvas, i).softmax(0) for i in todo}
            best = max(todo, key=lambda i: (float(law[i].max()), -i))
            for i in todo:
                if float(law[i].max()) >= tau or i == best:
                    canvas[i] = int(law[i].argmax())
        if ends:
            return tuple(canvas[len(prompt) : ends[0] + 1]), rounds
    return tuple(canvas[len(prompt) :]), rounds


@pytest.mark.parametrize("seed", range(30))
def test_equal_to_the_hand_written_one_cell_for_cell_alone_and_in_a_ragged_batch(seed: int) -> None:
    luck = random.Random(seed)
    eos = (0,) if luck.random() < 0.6 else ()
    model = TableModel(vocab=luck.randint(4, 8), masked=True, seed=seed, eos=eos, scale=luck.choice([0.7, 1.5, 3.0]))
    prompts = [[luck.randrange(1, model.vocab - 1) for _ in range(luck.randint(1, 6))] for _ in range(4)]
    cells = [luck.randint(1, 17) for _ in prompts]
    plugin = Threshold(tau=luck.choice([0.0, 0.4, 0.6, 0.9, 1.5]), block=luck.choice([1, 3, 4, 32]))
    want = [by_hand(model, p, c, plugin.tau, plugin.block, eos) for p, c in zip(prompts, cells, strict=True)]
    batch = run(plugin, model, prompts, max_tokens=cells)
    assert batch.texts == [text for text, _ in want]
    assert batch.rounds == max(rounds for _, rounds in want)
    for prompt, c, (text, rounds) in zip(prompts, cells, want, strict=True):
        alone = run(plugin, model, [prompt], max_tokens=c)
        assert (alone.texts, alone.rounds) == ([text], rounds)


def test_above_one_every_round_commits_one_cell_and_zero_fills_a_block_at_once() -> None:
    model = TableModel(vocab=6, masked=True, seed=1, eos=())
    slow = run(Threshold(tau=1.1, block=4), model, [[1, 2]], max_tokens=10)
    assert slow.takes == [[1]] * 10
    fast = run(Threshold(tau=0.0, block=4), model, [[1, 2]], max_tokens=10)
    assert fast.takes == [[4], [4], [2]]
    assert fast.cost.calls == 3


def test_rows_end_at_the_end_token_or_when_the_canvas_is_full() -> None:
    model = TableModel(vocab=5, masked=True, seed=4)
    out = run("threshold", model, [[1], [2], [3, 1], [2, 2]], max_tokens=9)
    reasons = {row.reason for row in out.rows}
    assert reasons == {"eos", "length"}
    for row in out.rows:
        text = row.tokens[row.start :]
        assert model.mask not in text
        assert (0 in text) is (row.reason == "eos")
        assert len(text) == 9 or text.index(0) == len(text) - 1


def drawn_law(model: TableModel, canvas: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Law of the canvas if the surest cell is drawn first, by enumeration."""
    todo = [i for i, token in enumerate(canvas) if token == model.mask]
    if not todo:
        return {canvas: 1.0}
    best = max(todo, key=lambda i: (float(model.cell(canvas, i).softmax(0).max()), -i))
    law: dict[tuple[int, ...], float] = {}
    for token, p in enumerate(model.cell(canvas, best).softmax(0).tolist()):
        if p > 0:
            for text, rest in drawn_law(model, (*canvas[:best], token, *canvas[best + 1 :])).items():
                law[text] = law.get(text, 0.0) + p * rest
    return law


def test_sampled_one_cell_a_round_is_an_exact_draw_in_the_order_of_confidence() -> None:
    model = TableModel(vocab=4, masked=True, seed=8, eos=(), scale=0.8)
    assert model.mask is not None
    law = {text[1:]: p for text, p in drawn_law(model, (1, *[model.mask] * 4)).items()}
    out = run(Threshold(tau=1.1, block=8, sample=True), model, [[1]], max_tokens=4, samples=4000)
    assert chi_square(law, out.texts) > FALSE_ALARM
    greedy = run(Threshold(tau=1.1, block=8), model, [[1]], max_tokens=4, samples=3)
    assert chi_square(law, out.texts[:2000] + greedy.texts * 200) < FALSE_ALARM  # the test sees a difference


def test_what_it_cannot_work_with_is_refused_in_a_sentence() -> None:
    with pytest.raises(CompositionError, match="threshold"):
        run("threshold", TableModel(), [[1]])
    with pytest.raises(OptionError, match="tau"):
        Threshold(tau=-0.1)
    with pytest.raises(OptionError, match="block"):
        Threshold(block=0)


def test_a_model_without_a_mask_token_is_refused() -> None:
    model = TableModel(masked=True)
    model.mask = None
    with pytest.raises(CompositionError, match="no mask token"):
        run("threshold", model, [[1]])


def test_the_canvas_is_laid_as_far_as_the_limit_only() -> None:
    model = TableModel(vocab=5, masked=True, seed=2, eos=())
    out = run(Threshold(tau=0.0, block=2), model, [[1, 1, 1], [2]], max_tokens=[1, 5])
    assert [len(text) for text in out.texts] == [1, 5]
    assert torch.tensor(out.takes[0]).tolist() == [1, 2]
