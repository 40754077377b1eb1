"""Populations and weights: particles, evidence, posterior, and the draw among them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

import decodekit as dk
from decodekit.core.weights import drawn, log_mean, normalised

DIGITS = r"[0-9]{2}"


@pytest.fixture(scope="module")
def decoder(model: Any) -> dk.Decoder:
    return dk.Decoder(model, "awrs | smc(particles=6)", dk.regex(DIGITS), max_tokens=8)


def test_particles_are_the_samples(decoder: dk.Decoder) -> None:
    out = decoder.generate("hello")
    assert len(out.samples) == 6
    assert sum(s.weight for s in out.samples) == pytest.approx(1.0)
    assert sum(out.posterior().values()) == pytest.approx(1.0)
    assert list(out.posterior().values()) == sorted(out.posterior().values(), reverse=True)
    assert out.evidence == pytest.approx(math.log(sum(math.exp(s.logw) for s in out.samples) / 6))
    assert out.text in out.posterior()
    assert out.value == out.text
    assert all(len(text) == 2 and text.isdigit() for text in out.posterior())


def test_several_populations_are_pooled(decoder: dk.Decoder) -> None:
    out = decoder.generate("hello", n=3)
    assert [s.population for s in out.samples] == [0] * 6 + [1] * 6 + [2] * 6
    single = decoder.generate("hello").samples
    assert [s.tokens for s in out.samples[:6]] == [s.tokens for s in single]
    assert [s.logw for s in out.samples[:6]] == pytest.approx([s.logw for s in single], abs=1e-9)
    assert out.evidence == pytest.approx(math.log(sum(math.exp(s.logw) for s in out.samples) / 18))


@pytest.mark.parametrize("batch_size", [6, 7, 13, 64])
def test_populations_do_not_depend_on_their_batch(decoder: dk.Decoder, batch_size: int) -> None:
    prompts = ["hello", "the quick brown fox", "dog"]
    alone = [decoder.generate(p) for p in prompts]
    together = decoder.generate(prompts, batch_size=batch_size)
    for one, other in zip(alone, together, strict=True):
        assert [s.tokens for s in one.samples] == [s.tokens for s in other.samples]
        assert [s.logw for s in one.samples] == pytest.approx([s.logw for s in other.samples], abs=1e-9)
        assert one.text == other.text


def test_the_own_text_is_drawn_by_weight(model: Any) -> None:
    made = dk.Decoder(model, "awrs", dk.regex("[0-9]"), max_tokens=4)
    own: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    for out in made.generate([[3 + i] for i in range(200)], n=4, batch_size=200):
        own[out.text] += 1
        for text, weight in out.posterior().items():
            expected[text] += weight
    heavy = [text for text, count in expected.items() if count > 10]
    assert heavy
    for text in heavy:
        assert own[text] == pytest.approx(expected[text], abs=5 * math.sqrt(expected[text]))
    assert made.generate("hello", n=4, seed=3).text == made.generate("hello", n=4, seed=3).text


def test_weights() -> None:
    assert normalised([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])
    assert normalised([-math.inf, -1000.0]) == [0.0, 1.0]
    assert normalised([-math.inf, -math.inf]) == [0.0, 0.0]
    assert log_mean([0.0, math.log(3)]) == pytest.approx(math.log(2))
    assert log_mean([-math.inf]) == -math.inf
    assert [drawn([0.0, 0.25, 0.0, 0.75], u) for u in (0.01, 0.24, 0.26, 0.999, 1.0)] == [1, 1, 3, 3, 3]
