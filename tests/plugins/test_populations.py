"""Conditional SMC leaves the posterior as it is; best of n keeps the best."""

from __future__ import annotations

import math

import pytest
import torch

import decodekit as dk
from decodekit.errors import CompositionError, DecodekitError, OptionError
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.best_of import BestOf
from decodekit.plugins.mask import Mask
from decodekit.plugins.retained import Retained
from decodekit.plugins.sample import Sample
from decodekit.plugins.smc import SMC
from decodekit.testing.harness import run
from decodekit.testing.oracle import Z_ALARM, enumerate_law, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

MODEL = TableModel(vocab=4, eos=(0,), seed=8, scale=0.7)
RULE = ToyConstraint(seed=5, vocab=4, dead_ends=True)
HORIZON = 3


@pytest.mark.parametrize("particles", [2, 5])
def test_a_step_of_particle_gibbs_keeps_the_posterior(particles: int) -> None:
    """From each text of the posterior in proportion, one conditional run, one draw by weight: the posterior again."""
    law = enumerate_law(MODEL.logits, [1, 2], HORIZON, eos=(0,), constraint=RULE).posterior
    runs = 400
    mean = dict.fromkeys(law, 0.0)
    square = dict.fromkeys(law, 0.0)
    for seed, (text, p) in enumerate(law.items()):
        parts = [Mask(), SMC(particles=particles, ess=1.0), Retained(tuple(text))]
        out = run(parts, MODEL, [[1, 2]], constraint=RULE, max_tokens=HORIZON, samples=runs, seed=seed)
        logw = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).view(runs, particles)
        share = logw.softmax(1)
        texts = [tuple(one) for one in out.texts]
        assert texts[::particles] == [tuple(text)] * runs  # the first slot wrote what it was told
        for other in law:
            hit = torch.tensor([one == tuple(other) for one in texts]).view(runs, particles)
            draws = (share * hit).sum(1)
            mean[other] += p * float(draws.mean())
            square[other] += p**2 * float(draws.var()) / runs
    assert math.isclose(sum(mean.values()), 1.0, rel_tol=1e-9)
    likely = {text: p for text, p in law.items() if p > 0.02}  # of others, hits are too few for a standard error
    assert len(likely) > 4
    for text, p in likely.items():
        assert abs(mean[text] - p) < Z_ALARM * math.sqrt(square[text]) + 1e-12


def test_a_retained_text_that_cannot_be_is_refused() -> None:
    law = enumerate_law(MODEL.logits, [1, 2], HORIZON, eos=(0,), constraint=RULE).posterior
    text = max(law, key=lambda one: (len(one), law[one]))
    banned = [t for t in range(1, 4) if not any(one[0] == t for one in law)]
    with pytest.raises(CompositionError, match="retained refuses awrs"):
        run([AWRS(), SMC(particles=2), Retained(text)], MODEL, [[1, 2]] * 8, constraint=RULE, max_tokens=HORIZON)
    with pytest.raises(CompositionError, match="more than may be written"):
        run([Mask(), SMC(particles=2), Retained((1,) * 9)], MODEL, [[1, 2]], constraint=RULE, max_tokens=HORIZON)
    with pytest.raises(OptionError, match="99 is no token"):
        run([Mask(), SMC(particles=2), Retained((99,))], MODEL, [[1, 2]], constraint=RULE, max_tokens=HORIZON)
    for token in banned[:1]:  # noticed in the next round, so some particle must live to see one
        with pytest.raises(CompositionError, match="that the constraint allows"):
            run([Mask(), SMC(particles=9), Retained((token, 0))], MODEL, [[1, 2]] * 9, constraint=RULE, max_tokens=3)
    with pytest.raises(DecodekitError, match="particles"):
        dk.generate("zoo:base", "x\n", strategy="retained('SELECT 1')", constraint=["SELECT 1"])


def test_a_retained_text_on_a_real_model() -> None:
    out = dk.generate(
        "zoo:base",
        "Which pets are there?\nvet as SQL:\n",
        strategy="smc(particles=4) | retained('SELECT name FROM owners')",
        constraint=dk.regex(r"SELECT name FROM (pets|owners)"),
    )
    assert out.samples[0].text == "SELECT name FROM owners"
    assert {sample.text for sample in out.samples} == {"SELECT name FROM owners", "SELECT name FROM pets"}
    assert math.isfinite(out.samples[0].logw)


def test_best_of_takes_the_most_probable() -> None:
    plain = run([Sample()], MODEL, [[1, 2]], max_tokens=5, samples=6, seed=2)
    best = run([Sample(), BestOf(n=6, score="logp")], MODEL, [[1, 2]], max_tokens=5, seed=2)
    assert best.texts == plain.texts  # the same draws, none of them resampled
    law = enumerate_law(MODEL.logits, [1, 2], 5, eos=(0,)).posterior
    most = max(range(6), key=lambda i: law[tuple(best.texts[i])])
    assert [row.logw > -math.inf for row in best.rows] == [i == most for i in range(6)]


def test_best_of_by_a_function_and_by_its_failure() -> None:
    best = run([Sample(), BestOf(n=5, score=lambda text: float(text.count("b")))], MODEL, [[1, 2], [3]], max_tokens=6)
    for group in (range(5), range(5, 10)):
        counts = [list(best.texts[i]).count(1) for i in group]
        winner = [best.rows[i].logw > -math.inf for i in group].index(True)
        assert counts[winner] == max(counts)
        assert counts.index(max(counts)) == winner
    none = run([Sample(), BestOf(n=3, score=lambda text: 1 / 0)], MODEL, [[1, 2]], max_tokens=4)
    assert all(row.logw == -math.inf for row in none.rows)


def test_sample_and_rerank_is_importance_sampling() -> None:
    """smc(ess=0, critic, at="end") never moves anybody, and its mean weight is the expected potential."""
    smc = SMC(particles=4, ess=0.0, critic=lambda text: text.count("b") > 0, at="end")
    laws = enumerate_law(MODEL.logits, [1, 2], HORIZON, eos=(0,), constraint=RULE)
    expected = sum(p * laws.evidence for text, p in laws.posterior.items() if 1 in text)
    out = run([Mask(), smc], MODEL, [[1, 2]], constraint=RULE, max_tokens=HORIZON, samples=800)
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    assert abs(z_score(weight.view(-1, 4).mean(1), expected)) < Z_ALARM
