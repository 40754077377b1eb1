"""Critics: they guide, what stays is what they say of whole texts, and the evidence remains unbiased."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from decodekit.errors import CompositionError, OptionError
from decodekit.particles import potentials
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.mask import Mask
from decodekit.plugins.smc import SMC
from decodekit.plugins.speculative import Speculative
from decodekit.testing.harness import run
from decodekit.testing.oracle import Z_ALARM, enumerate_law, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

MODEL = TableModel(vocab=5, eos=(0,), seed=4)
DRAFT = TableModel(vocab=5, eos=(0,), seed=9)
RULE = ToyConstraint(seed=6, dead_ends=True)
HORIZON, N = 4, 4


def likes_b(text: str) -> float:
    """Log potential: 0.8 for each letter b, forbidden with three letters c."""
    return -math.inf if text.count("c") >= 3 else 0.8 * text.count("b")


def letters(tokens: Any) -> str:
    """What the toy tokenizer makes of a text without its end (id 0)."""
    return "".join(chr(ord("a") + t) for t in tokens if t != 0)


@pytest.mark.parametrize("at", ["token", "word", "end"])
@pytest.mark.parametrize("scheme", ["systematic", "residual"])
@pytest.mark.parametrize(
    "selector",
    [(Mask(),), (AWRS(),), (AWRS(weight="exact"), Speculative(DRAFT, k=2)), (AWRS(proposal=DRAFT),)],
    ids=["mask", "awrs", "drafted", "proposal"],
)
def test_evidence_with_a_critic_is_unbiased(selector: tuple[Any, ...], scheme: Any, at: Any) -> None:
    """Mean evidence = sum over allowed texts of p(text) exp(potential(text)), twisted or judged at the end only."""
    laws = enumerate_law(MODEL.logits, [1, 2], HORIZON, eos=(0,), constraint=RULE)
    worth = {text: p * laws.evidence * math.exp(likes_b(letters(text))) for text, p in laws.posterior.items()}
    smc = SMC(particles=N, ess=0.8, resampling=scheme, critic=likes_b, at=at)
    out = run([*selector, smc], MODEL, [[1, 2]], constraint=RULE, max_tokens=HORIZON, samples=1200)
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    assert abs(z_score(weight.view(-1, N).mean(1), sum(worth.values()))) < Z_ALARM
    best = max(worth, key=lambda text: worth[text])
    hit = torch.tensor([text == best for text in out.texts])
    assert abs(z_score((weight * hit).view(-1, N).mean(1), worth[best])) < Z_ALARM


def test_a_twist_guides() -> None:
    """With the same number of particles, more of them end where the potential is high if it is asked on the way."""
    spread = {}
    for at in ("token", "end"):
        smc = SMC(particles=16, ess=0.9, critic=lambda text: 3.0 * text.count("b"), at=at)
        out = run([Mask(), smc], MODEL, [[1, 2]], constraint=RULE, max_tokens=6, samples=40)
        spread[at] = sum(letters(text).count("b") for text in out.texts)
    assert spread["token"] > 1.3 * spread["end"]


def test_refilling_leaves_nobody_dead_before_the_end() -> None:
    def dead(refill: bool) -> int:
        smc = SMC(particles=8, ess=0.2, refill=refill)
        out = run([Mask(), smc], MODEL, [[1, 2]], constraint=RULE, max_tokens=6, samples=200)
        weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
        laws = enumerate_law(MODEL.logits, [1, 2], 6, eos=(0,), constraint=RULE)
        assert abs(z_score(weight.view(-1, 8).mean(1), laws.evidence)) < Z_ALARM
        return int((weight == 0).sum())

    assert dead(True) < dead(False) / 2


def test_a_failing_critic_forbids_that_text_only() -> None:
    def fails(text: str) -> bool:
        if text.endswith("d"):
            raise KeyError("d is unknown")
        return True

    smc = SMC(particles=6, ess=0.5, critic=fails)
    out = run([Mask(), smc], MODEL, [[1, 2]], constraint=RULE, max_tokens=5, samples=30)
    assert len(out.rows) == 180
    assert any(row.reason == "refused" for row in out.rows)
    for row, text in zip(out.rows, out.texts, strict=True):
        assert row.logw == -math.inf or "d" not in letters(text)


def test_groups_with_a_critic_do_not_depend_on_their_batch() -> None:
    smc = SMC(particles=3, ess=0.9, critic=likes_b)
    prompts = [[1, 2], [3], [4, 4, 1]]
    batch = run([AWRS(), smc], MODEL, prompts, constraint=RULE, max_tokens=5, seed=5)
    alone = [run([AWRS(), smc], MODEL, [one], constraint=RULE, max_tokens=5, seed=5) for one in prompts]
    assert batch.texts == [text for one in alone for text in one.texts]
    assert [row.logw for row in batch.rows] == pytest.approx([row.logw for one in alone for row in one.rows], rel=1e-9)


def test_potentials_combine() -> None:
    b, short = potentials.potential_of(likes_b), potentials.potential_of(lambda text: len(text) < 4)
    both = b * short
    assert both.score("bb", False) == pytest.approx(1.6)
    assert both.score("bbbb", False) == -math.inf
    assert (b**0.5).score("bb", True) == pytest.approx(0.8)
    assert (short**0.0).score("bbbb", True) == -math.inf
    assert potentials.at_end(b).score("bb", False) == 0.0
    scores, why = potentials.safely(potentials.potential_of(lambda text: 1 / len(text)), ["a", ""], [False, False])
    assert scores == [1.0, -math.inf]
    assert why == ["", "ZeroDivisionError: division by zero"]
    _, why = potentials.safely(potentials.potential_of(lambda text: math.nan), ["a"], [True])
    assert why == ["ValueError: a potential of nan"]


def test_a_slow_function_runs_in_processes() -> None:
    slow = potentials.Function(len, workers=2)
    assert slow.many(["a", "bcd"], [False, True]) == [1.0, 3.0]


def test_what_is_no_critic_is_refused() -> None:
    with pytest.raises(OptionError, match="is no potential"):
        run([Mask(), SMC(particles=2, critic=3)], MODEL, [[1]], constraint=RULE, max_tokens=2)


def test_a_critic_needs_text() -> None:
    silent = TableModel(vocab=5, eos=(0,), seed=4)
    silent.tokenizer = None
    with pytest.raises(CompositionError, match="has no tokenizer"):
        run([Mask(), SMC(particles=2, critic=likes_b)], silent, [[1]], constraint=RULE, max_tokens=2)
