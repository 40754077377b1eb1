"""The law of the texts that strategies write, against the enumeration of every text."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from decodekit.core.rows import NONE, Retired
from decodekit.plugins.speculative import Speculative
from decodekit.plugins.threshold import Threshold
from decodekit.testing.harness import kit_for, run
from decodekit.testing.oracle import FALSE_ALARM, Z_ALARM, Laws, Text, chi_square, enumerate_law, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

TARGET = TableModel(vocab=4, seed=21, scale=1.0)
WEAK = TableModel(vocab=4, seed=4, scale=1.5)
STRONG = TableModel(vocab=4, seed=21, scale=1.0, blur=0.5)
TOY = ToyConstraint(seed=7, vocab=4, refuse=0.3)
TRAPS = ToyConstraint(seed=7, vocab=4, refuse=0.3, dead_ends=True)
HORIZON = 4
SAMPLES = 1200

WARPED = "temperature(0.7) | top_k(3)"
NUCLEUS = "repetition_penalty(1.5) | top_p(0.8) | min_p(0.1)"


def written(rows: Sequence[Retired]) -> list[Text]:
    """Generated ids; a dead row ends with NONE, as in the enumeration."""
    return [(*row.tokens[row.start :], *((NONE,) if row.reason == "dead end" else ())) for row in rows]


def laws(strategy: Any, prompt: Sequence[int], constraint: ToyConstraint | None) -> Laws:
    """By enumeration, with the warpers of the strategy applied to one prefix at a time."""
    kit, _ = kit_for(strategy, TARGET, constraint=constraint)
    return enumerate_law(TARGET.logits, prompt, HORIZON, TARGET.eos, constraint, kit.warpers)


STRATEGIES: dict[str, Any] = {
    "sample": "sample",
    "sample warped": f"sample | {WARPED}",
    "sample nucleus": f"sample | {NUCLEUS}",
    "shared noise, weak draft": ["sample", Speculative(WEAK, k=2)],
    "shared noise, strong draft, warped": [f"sample | {WARPED}", Speculative(STRONG, k=3)],
    "shared noise, nucleus": [f"sample | {NUCLEUS}", Speculative(STRONG, k=3)],
    "rejection, weak draft": ["rejection", Speculative(WEAK, k=3)],
    "rejection, strong draft, warped": [f"rejection | {WARPED}", Speculative(STRONG, k=2)],
    "rejection, nucleus": [f"rejection | {NUCLEUS}", Speculative(STRONG, k=3)],
}
CONSTRAINED: dict[str, Any] = {
    **STRATEGIES,
    "mask": "mask",
    "mask warped": f"mask | {WARPED}",
    "awrs": "awrs(weight='none')",
    "awrs weighing, warped": f"awrs | {WARPED}",
    "mask, speculative": ["mask", Speculative(STRONG, k=3)],
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_plain_law(name: str) -> None:
    prompts = [[1, 2, 2], [3]]
    out = run(STRATEGIES[name], TARGET, prompts, max_tokens=HORIZON, samples=SAMPLES)
    for i, prompt in enumerate(prompts):
        texts = written(out.rows[i * SAMPLES : (i + 1) * SAMPLES])
        assert chi_square(laws(STRATEGIES[name], prompt, None).plain, texts) > FALSE_ALARM


@pytest.mark.parametrize(
    ("name", "toy"), [*((name, TRAPS) for name in CONSTRAINED), *((name, TOY) for name in ("sample", "mask", "awrs"))]
)
def test_locally_constrained_law(name: str, toy: ToyConstraint) -> None:
    prompts = [[1, 2], [3]]
    out = run(CONSTRAINED[name], TARGET, prompts, constraint=toy, max_tokens=HORIZON, samples=SAMPLES, seed=1)
    for i, prompt in enumerate(prompts):
        texts = written(out.rows[i * SAMPLES : (i + 1) * SAMPLES])
        assert chi_square(laws(CONSTRAINED[name], prompt, toy).masked, texts) > FALSE_ALARM


def test_one_row_at_a_time_has_the_law_too() -> None:
    toy, strategy = TOY, ["rejection", Speculative(STRONG, k=2)]
    texts = [
        text
        for seed in range(150)
        for text in written(run(strategy, TARGET, [[1]], constraint=toy, max_tokens=2, seed=seed).rows)
    ]
    assert chi_square(enumerate_law(TARGET.logits, [1], 2, TARGET.eos, toy).masked, texts) > FALSE_ALARM


WEIGHTED: dict[str, Any] = {
    "mask": "mask",
    "awrs": "awrs",
    "awrs exact": "awrs(weight='exact') | temperature(0.7)",
    "awrs impatient": "awrs(max_rejects=2)",
    "mask smc": "mask | smc(particles=5, ess=1.0)",
    "awrs smc": "awrs | smc(particles=4, ess=0.8)",
    "awrs smc stratified, warped": f"awrs | smc(particles=3, ess=1.0, resampling='stratified') | {WARPED}",
    "mask, speculative": ["mask", Speculative(STRONG, k=2)],
    "mask smc, speculative": ["mask | smc(particles=4, ess=1.0)", Speculative(STRONG, k=2)],
    "awrs smc, speculative": ["awrs | smc(particles=4, ess=0.9)", Speculative(WEAK, k=2)],
}


@pytest.mark.parametrize(
    ("name", "toy"),
    [*((name, TRAPS) for name in WEIGHTED), *((name, TOY) for name in ("awrs", "mask smc", "awrs smc"))],
)
def test_weighted_estimates_are_unbiased_for_the_model_given_the_constraint(name: str, toy: ToyConstraint) -> None:
    prompts, groups = [[1, 2], [3]], 1200
    out = run(WEIGHTED[name], TARGET, prompts, constraint=toy, max_tokens=HORIZON, samples=groups, seed=2)
    width = len(out.rows) // (2 * groups)
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp().view(2, groups, width)
    texts = out.texts
    for i, prompt in enumerate(prompts):
        truth = laws(WEIGHTED[name], prompt, toy)
        assert abs(z_score(weight[i].mean(1), truth.evidence)) < Z_ALARM  # the evidence
        often = [text for text, p in truth.masked.items() if p * groups * width > 60 and text in truth.posterior]
        assert often
        mine = texts[i * groups * width : (i + 1) * groups * width]
        for text in often[:8]:  # mean weight at a text: its probability under the model
            here = torch.tensor([t == text for t in mine], dtype=torch.float64).view(groups, width)
            due = truth.posterior[text] * truth.evidence
            assert abs(z_score((weight[i] * here).mean(1), due)) < Z_ALARM
        assert all(text in truth.posterior for text, w in zip(mine, weight[i].flatten().tolist(), strict=True) if w > 0)


def test_the_posterior_is_not_the_local_law_here() -> None:
    """Else the test above could not tell weighted from unweighted."""
    truth = laws("mask", [1, 2], TOY)
    assert 0.5 * sum(abs(p - truth.masked.get(text, 0.0)) for text, p in truth.posterior.items()) > 0.05


@pytest.mark.parametrize("seed", range(4))
def test_a_canvas_filled_in_one_round_is_the_product_of_its_cells(seed: int) -> None:
    model = TableModel(vocab=4, masked=True, seed=seed, eos=(), scale=0.8)
    assert model.mask is not None
    canvas = [random.Random(seed).randrange(3), *[model.mask] * 3]
    cells = [model.cell(canvas, i).softmax(0).tolist() for i in (1, 2, 3)]
    law: dict[Text, float] = {}
    for a, b, c in itertools.product(range(3), repeat=3):
        law[a, b, c] = cells[0][a] * cells[1][b] * cells[2][c]
    out = run(Threshold(tau=0.0, sample=True), model, [canvas[:1]], max_tokens=3, samples=SAMPLES, seed=seed)
    assert out.rounds == 1
    assert chi_square(law, out.texts) > FALSE_ALARM
