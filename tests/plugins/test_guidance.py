"""Classifier-free guidance: the formula, in batches, under guesses, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.errors import CompositionError, OptionError
from decodekit.testing import FALSE_ALARM, TableModel, chi_square, run

MODEL = TableModel(vocab=5, seed=3, eos=(), scale=1.0)
DRAFT = TableModel(vocab=5, seed=3, eos=(), scale=1.0, blur=0.5)


def law_of_texts(scale: float, prompt: list[int], null: list[int], horizon: int) -> dict[tuple[int, ...], float]:
    law: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(horizon):
        grown = {}
        for text, chance in law.items():
            c, u = (MODEL.logits([*before, *text]).log_softmax(-1) for before in (prompt, null))
            for y, p in enumerate((u + scale * (c - u)).softmax(-1).tolist()):
                grown[(*text, y)] = chance * p
        law = grown
    return law


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_texts_have_the_guided_law(scale: float) -> None:
    out = run([dk.sample(), dk.guidance(scale, prompt=(4, 4))], MODEL, [[1, 2, 3]], max_tokens=2, samples=2500)
    assert chi_square(law_of_texts(scale, [1, 2, 3], [4, 4], 2), out.texts) > FALSE_ALARM


def test_guesses_of_a_guided_draft_change_nothing() -> None:
    guided = dk.guidance(2.0, prompt=(0,))
    given: dict[str, Any] = {"prompts": [[1], [2, 3, 1]], "max_tokens": [9, 6], "samples": 2, "seed": 3}
    plain = run([dk.sample(), guided], MODEL, **given)
    drafted = run([dk.sample(), guided, dk.speculative(draft=DRAFT, k=3, scorer=guided)], MODEL, **given)
    assert plain.texts == drafted.texts
    assert drafted.rounds < plain.rounds


def test_what_no_model_says_stays_unsaid() -> None:
    never = TableModel(vocab=5, seed=3, eos=(), scale=1.0)
    never.table[:, 2] = -torch.inf
    out = run([dk.sample(), dk.guidance(2.0, prompt=(4,))], never, [[1]], max_tokens=6, samples=50)
    assert all(2 not in text for text in out.texts)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(CompositionError, match="no tokens"):
        run([dk.guidance(2.0, prompt=())], MODEL, [[1]])
    with pytest.raises(CompositionError, match="go from 0 to 4"):
        run([dk.guidance(2.0, prompt=(5,))], MODEL, [[1]])
    with pytest.raises(OptionError, match="scale"):
        dk.guidance(-1.0, prompt=(1,))
