"""Temperature, top-k, top-p, min-p and repetition penalty: equal to those of transformers, position by position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import logits_process as reference

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Warper
from decodekit.core.rows import NONE, Rows
from decodekit.errors import OptionError
from decodekit.plugins.min_p import MinP
from decodekit.plugins.repetition_penalty import RepetitionPenalty
from decodekit.plugins.sample import Greedy, Sample
from decodekit.plugins.temperature import Temperature
from decodekit.plugins.top_h import TopH
from decodekit.plugins.top_k import TopK
from decodekit.plugins.top_p import TopP
from decodekit.testing.harness import opened, run
from decodekit.testing.oracle import FALSE_ALARM, chi_square, enumerate_law, rows_of
from decodekit.testing.tables import TableModel

FREE = BindContext(TableModel(vocab=5, seed=0), opened)
PAIRS: list[tuple[Any, Any]] = [
    *((Temperature(t), reference.TemperatureLogitsWarper(t)) for t in (0.3, 1.0, 2.5)),
    *((TopK(k), reference.TopKLogitsWarper(k)) for k in (1, 2, 7, 300)),
    *((TopP(p), reference.TopPLogitsWarper(p)) for p in (0.01, 0.5, 0.9, 1.0)),
    *((MinP(p), reference.MinPLogitsWarper(p)) for p in (0.0, 0.02, 0.3, 1.0)),
    *((TopH(a, mode="hf"), reference.TopHLogitsWarper(a)) for a in (0.05, 0.4, 0.9, 1.0)),
    *((RepetitionPenalty(p), reference.RepetitionPenaltyLogitsProcessor(p)) for p in (0.8, 1.0, 1.3)),
]


def drafted(prompts: list[list[int]], width: int, vocab: int, seed: int) -> tuple[Rows, Proposal]:
    """Rows with `width` guesses and one position more; the last row asks for one position less."""
    rows = rows_of(prompts)
    at = rows.n[:, None] + torch.arange(width + 1)
    guess = torch.randint(vocab, at.shape, generator=torch.Generator().manual_seed(seed))
    guess[:, -1] = NONE
    at[-1, -1], guess[-1, -2] = NONE, NONE
    rows.write(at, guess, guess != NONE)
    return rows, Proposal(at, guess)


def each_alone(process: Any, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
    """The reference, asked for one position at a time with the drafted text before it."""
    out = logits.clone()
    for r, k in (ask.at != NONE).nonzero().tolist():
        out[r, k] = process(rows.tokens[r : r + 1, : int(ask.at[r, k])], logits[r, k][None])[0]
    return out


@pytest.mark.parametrize(("warper", "process"), PAIRS, ids=lambda x: str(x)[:40])
@given(seed=st.integers(0, 2**31), vocab=st.sampled_from([2, 9, 200]), ties=st.booleans())
def test_equal_to_transformers(warper: Any, process: Any, seed: int, vocab: int, ties: bool) -> None:
    rows, ask = drafted([[1, 0, 1], [0], [1, 1, 1, 0, 1, 0]], 3, vocab, seed)
    logits = torch.randn(*ask.at.shape, vocab, generator=torch.Generator().manual_seed(seed)) * 3
    logits = logits.round() if ties else logits
    before = logits.clone()
    there = ask.at != NONE
    out = warper.bind(FREE).warp(rows, ask, logits)
    expected = each_alone(process, rows, ask, logits)
    if isinstance(warper, MinP):  # the cut is decided on logits: a ratio within rounding of p may go either way
        ratio = logits.softmax(-1) / logits.softmax(-1).amax(-1, keepdim=True)
        there = there[..., None] & ((ratio / max(warper.p, 1e-30) - 1).abs() > 1e-5)
    assert torch.equal(out[there], expected[there])
    assert torch.equal(logits, before)


def test_the_penalty_sees_guesses_but_not_what_lies_behind_them() -> None:
    rows = rows_of([[1], [2, 2, 2]])
    rows.write(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[3, 4], [3, 4]]), torch.ones(2, 2, dtype=torch.bool))
    ask = Proposal(torch.tensor([[1, 2, 3], [3, NONE, NONE]]), torch.tensor([[3, 4, NONE], [NONE, NONE, NONE]]))
    out = RepetitionPenalty(2.0).warp(rows, ask, torch.ones(2, 3, 5))
    assert (out == 0.5).long().tolist() == [
        [[0, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0, 1, 0, 1, 1]],
        [[0, 0, 1, 0, 0], [0] * 5, [0] * 5],
    ]


def test_a_chain_of_warpers_gives_the_warped_law() -> None:
    model = TableModel(seed=8)
    chain: list[Warper] = [Temperature(0.7), RepetitionPenalty(1.5), TopP(0.9)]
    laws = enumerate_law(model.logits, [1, 2], 3, eos=(0,), warpers=chain)
    out = run([Sample(), *chain], model, [[1, 2]], max_tokens=3, samples=20000)
    assert chi_square(laws.plain, out.texts) > FALSE_ALARM


def test_low_temperature_tends_to_greedy() -> None:
    model = TableModel(seed=9)
    cold = run([Sample(), Temperature(1e-6)], model, [[1], [2, 3]], max_tokens=8)
    assert cold.texts == run(Greedy(), model, [[1], [2, 3]], max_tokens=8).texts


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Temperature(0), "use greedy"),
        (lambda: Temperature(-1.0), "greater than or equal to 0"),
        (lambda: Temperature(float("nan")), "temperature"),
        (lambda: TopK(0), "top_k"),
        (lambda: TopP(0.0), "top_p"),
        (lambda: TopP(1.5), "top_p"),
        (lambda: MinP(-0.1), "min_p"),
        (lambda: RepetitionPenalty(0.0), "repetition_penalty"),
    ],
)
def test_options_out_of_range(make: Any, sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        make()
