"""Sampling, greedy and masked sampling: their laws by enumeration, and verification of guesses."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from decodekit.core import noise, selection
from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.protocols import Proposal, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError
from decodekit.plugins.mask import Mask
from decodekit.plugins.sample import Greedy, Sample
from decodekit.testing.harness import run
from decodekit.testing.oracle import FALSE_ALARM, Z_ALARM, chi_square, enumerate_law, rows_of, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

MODEL = TableModel(vocab=5, eos=(0,), seed=3)
HORIZON = 3


def test_sampling_law() -> None:
    laws = enumerate_law(MODEL.logits, [1, 2], HORIZON, eos=(0,))
    out = run(Sample(), MODEL, [[1, 2]], max_tokens=HORIZON, samples=20000)
    assert chi_square(laws.plain, out.texts) > FALSE_ALARM


@pytest.mark.parametrize("dead_ends", [False, True])
def test_masked_law_and_its_weights(dead_ends: bool) -> None:
    rule = ToyConstraint(seed=5, dead_ends=dead_ends)
    laws = enumerate_law(MODEL.logits, [1, 2], HORIZON, eos=(0,), constraint=rule)
    out = run(Mask(), MODEL, [[1, 2]], constraint=rule, max_tokens=HORIZON, samples=20000)
    texts = [(*t, NONE) if row.reason == "dead end" else t for t, row in zip(out.texts, out.rows, strict=True)]
    assert chi_square(laws.masked, texts) > FALSE_ALARM
    assert any(t[-1] == NONE for t in texts) == dead_ends
    for text, row in zip(texts, out.rows, strict=True):  # weight x masked law = plain law, text by text
        truth = laws.posterior.get(text, 0.0) * laws.evidence
        assert math.isclose(laws.masked[text] * math.exp(row.logw), truth, rel_tol=1e-9, abs_tol=1e-300)
    weights = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    assert abs(z_score(weights, laws.evidence)) < Z_ALARM


def test_sample_under_a_constraint_is_mask_without_weights() -> None:
    rule = ToyConstraint(seed=5)
    prompts = [[1, 2], [3], [4, 4, 1]]
    plain = run(Sample(), MODEL, prompts, constraint=rule, samples=30, max_tokens=8)
    weighed = run(Mask(), MODEL, prompts, constraint=rule, samples=30, max_tokens=8)
    assert plain.texts == weighed.texts
    assert {row.logw for row in plain.rows} == {0.0}
    greedy = run(Greedy(), MODEL, prompts, constraint=rule, max_tokens=8)
    assert greedy.texts == run(Mask(greedy=True), MODEL, prompts, constraint=rule, max_tokens=8).texts


def test_greedy_takes_the_first_of_the_most_probable() -> None:
    out = run(Greedy(), MODEL, [[1, 2], [4]], max_tokens=6, eos=())
    for prompt, text in zip([[1, 2], [4]], out.texts, strict=True):
        for i, token in enumerate(text):
            assert token == int(MODEL.logits([*prompt, *text[:i]]).argmax())
    flat = torch.zeros(1, 1, 7)
    at = torch.tensor([[2]])
    bound = BindContext(model=MODEL, open=lambda thing: MODEL)
    choice = Greedy().bind(bound).select(rows_of([[1, 2]]), Proposal(at, torch.full_like(at, NONE)), flat, None)
    assert choice.tokens.tolist() == [[0]]


@pytest.mark.parametrize("selector", [Sample(), Greedy(), Mask()])
def test_a_batch_is_its_single_runs(selector: object) -> None:
    rule = ToyConstraint(seed=2, dead_ends=True)
    prompts = [[1, 2], [3], [4, 4, 1, 2, 3], [1, 2], [2]]
    most = [5, 1, 9, 3, 7]
    batch = run(selector, MODEL, prompts, constraint=rule, max_tokens=most, seed=11, samples=2)
    singles = [
        run(selector, MODEL, [p], constraint=rule, max_tokens=m, seed=11, samples=2)
        for p, m in zip(prompts, most, strict=True)
    ]
    assert batch.texts == [text for single in singles for text in single.texts]
    assert [row.logw for row in batch.rows] == [row.logw for single in singles for row in single.rows]


def guessed(rows: Rows, guesses: list[list[int]]) -> Proposal:
    """A proposal of these guesses and one position more, written into the rows as the loop does."""
    width = max(map(len, guesses)) + 1
    guess = torch.tensor([g + [NONE] * (width - len(g)) for g in guesses])
    at = rows.n[:, None] + torch.arange(width)
    at = at.masked_fill(torch.arange(width) > torch.tensor([[len(g)] for g in guesses]), NONE)
    rows.write(at, guess, guess != NONE)
    return Proposal(at, guess)


@pytest.mark.parametrize("selector", [Sample(), Greedy(), Mask()])
@pytest.mark.parametrize("constrained", [False, True])
def test_guesses_decide_how_much_is_taken_and_never_what(selector: object, constrained: bool) -> None:
    if isinstance(selector, Mask) and not constrained:
        with pytest.raises(CompositionError, match="mask"):
            run(selector, MODEL, [[1]])
        return
    rule = ToyConstraint(seed=5) if constrained else None
    prompts = [[1, 2], [3], [4, 4, 1]]
    plain = run(selector, MODEL, prompts, constraint=rule, max_tokens=4, eos=(), seed=4)
    wrong = itertools.product(range(3), range(4))
    for r, i in wrong:  # row r guesses i right tokens and a wrong one, the others all of them
        rows = rows_of(prompts)
        rows.stream = stream_of(prompts, 4)
        guesses = [list(text[:3]) for text in plain.texts]
        if i < 3:
            guesses[r] = [*plain.texts[r][:i], (plain.texts[r][i] + 1) % 5]
        choice = judge(selector, rows, guessed(rows, guesses), rule)
        for row, text in enumerate(plain.texts):
            most = i + 1 if row == r and i < 3 else 4
            assert choice.tokens[row][choice.take[row]].tolist() == list(text[:most])
        assert choice.dead is None or not choice.dead.any()


def stream_of(prompts: list[list[int]], seed: int) -> Tensor:
    return torch.cat([noise.streams(seed, p, 1) for p in prompts])


def judge(selector: Any, rows: Rows, ask: Proposal, rule: ToyConstraint | None) -> Selection:
    bound = BindContext(model=MODEL, open=lambda thing: MODEL)
    logits = MODEL.reader(Cost(), "target").read(rows, ask.at)
    choice: Selection = selector.bind(bound).select(rows, ask, logits, None if rule is None else rule.bind(bound))
    return choice


@pytest.mark.parametrize("selector", [Sample(), Greedy(), Mask()], ids=str)
def test_logp_is_that_of_the_processed_law(selector: object) -> None:
    rule = ToyConstraint(seed=5, eos=())
    prompts = [[1, 2], [3], [4, 1]]
    texts = run(selector, MODEL, prompts, constraint=rule, max_tokens=3, eos=()).texts
    rows = rows_of(prompts)
    rows.stream = stream_of(prompts, 0)
    choice = judge(selector, rows, guessed(rows, [list(text[:2]) for text in texts]), rule)
    assert choice.law is not None
    logp = choice.law.log_softmax(-1).gather(2, choice.tokens[..., None])[..., 0]
    for r, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        for k, token in enumerate(text):
            p = MODEL.logits([*prompt, *text[:k]]).softmax(-1)
            expected = p[token] / p[rule.allowed(text[:k])].sum()
            assert math.isclose(float(logp[r, k]), float(expected.log()), rel_tol=1e-9, abs_tol=1e-12)


def test_a_dead_end_behind_agreeing_guesses_keeps_them() -> None:
    tokens = torch.tensor([[1, NONE, 3], [1, NONE, 3], [NONE, 2, 3], [1, 2, 3], [1, 2, NONE], [1, NONE, 3]])
    guess = torch.tensor([[1, 2, NONE], [2, 2, NONE], [1, 2, NONE], [NONE, 2, NONE], [1, 2, NONE], [1, NONE, NONE]])
    at = torch.tensor([[5, 6, 7]] * 4 + [[5, 6, NONE], [5, 6, 7]])
    ask = Proposal(at, guess)
    assert selection.agreeing(tokens, ask).tolist() == [
        [True, False, False],
        [True, False, False],
        [False, False, False],
        [True, False, False],
        [True, True, False],
        [True, False, False],
    ]
    assert selection.stuck(tokens, ask).tolist() == [True, False, True, False, False, True]
