"""Pictures of the visual models: decoding, grids, quality, prompts, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.errors import CompositionError, ModelError, PromptError
from decodekit.vision import images

GIVEN: dict[str, Any] = {"max_tokens": images.CODES, "seed": 1}


@pytest.fixture(scope="module")
def drawn() -> list[dk.Result]:
    prompts = [images.prompt(kind) for kind in range(10)]
    return list(dk.generate("zoo:visual", prompts, strategy="sample | guidance(1.5, prompt='<none>')", **GIVEN))


def test_pictures_are_of_their_class(drawn: list[dk.Result]) -> None:
    shown = images.decoded(drawn)
    assert shown.shape == (10, 28, 28)
    assert float(shown.min()) >= 0.0
    assert float(shown.max()) <= 1.0
    seen, features = images.judged(shown)
    assert int((seen == torch.arange(10)).sum()) >= 8
    assert features.shape == (10, 64)
    found = images.quality(shown, range(10), resamples=20)
    assert found.accuracy >= 0.8
    assert found.count == 10


def test_the_text_names_the_codes(drawn: list[dk.Result]) -> None:
    assert images.codes_of(drawn[0].text) == drawn[0].tokens
    assert images.codes_of("c3 <4> c999 x") == [3, -1, -1, -1]
    by_text = dk.generate("zoo:visual", "<7>", strategy="sample", **GIVEN)
    by_ids = dk.generate("zoo:visual", images.prompt(7), strategy="sample", **GIVEN)
    assert by_text.tokens == by_ids.tokens


def test_speculation_draws_the_same_pictures() -> None:
    prompts = [images.prompt(3), images.prompt()]
    plain = dk.generate("zoo:visual", prompts, strategy="sample", **GIVEN)
    drafted = dk.generate("zoo:visual", prompts, strategy="sample | speculative('zoo:visual-draft', k=6)", **GIVEN)
    assert [one.tokens for one in drafted] == [one.tokens for one in plain]
    assert drafted[0].cost.rounds < plain[0].cost.rounds
    relaxed = "lantern(16, 0.2, 'transport') | speculative('zoo:visual-draft', k=6)"
    out = dk.generate("zoo:visual", prompts, strategy=relaxed, **GIVEN)
    assert all(len(one.tokens) == images.CODES for one in out)


def test_decoding_of_any_kind_of_answer(drawn: list[dk.Result]) -> None:
    every = images.decoded(drawn)
    torch.testing.assert_close(images.decoded(drawn[2])[0], every[2])
    torch.testing.assert_close(images.decoded(drawn[2].tokens)[0], every[2])
    torch.testing.assert_close(images.decoded(torch.tensor([drawn[2].tokens]))[0], every[2])
    torch.testing.assert_close(images.decoded(drawn[2].samples)[0], every[2])
    short = images.decoded([drawn[0].tokens[:21]])[0]
    assert bool((short[12:] == 0.5).all())
    assert images.decoded([]).shape == (0, 28, 28)
    stray = list(drawn[0].tokens)
    stray[0] = 512
    assert bool((images.decoded(stray)[0][:4, :4] == 0.5).all())


def test_grids_and_pictures_in_a_terminal(drawn: list[dk.Result], tmp_path: Path) -> None:
    from matplotlib.image import imread

    shown = images.decoded(drawn)
    assert images.grid(shown, columns=4).shape == (3 * 29 - 1, 4 * 29 - 1)
    path = images.png(tmp_path / "a.png", shown, columns=5, scale=3)
    assert imread(path).shape[:2] == ((2 * 29 - 1) * 3, (5 * 29 - 1) * 3)
    lines = images.half_blocks(shown[0]).plain.splitlines()
    assert len(lines) == 14
    assert {len(line) for line in lines} == {28}
    assert len(images.half_blocks(torch.zeros(3, 2)).plain.splitlines()) == 2


def test_the_distance_of_gaussians() -> None:
    noise = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=noise, dtype=torch.float64)
    mean, one = torch.zeros(4, dtype=torch.float64), root @ root.T
    assert images.frechet(mean, one, mean, one) == pytest.approx(0.0, abs=1e-9)
    assert images.frechet(mean, one, mean + 2, one) == pytest.approx(16.0)
    diagonal, other = torch.tensor([1.0, 4.0]).double().diag(), torch.tensor([9.0, 1.0]).double().diag()
    assert images.frechet(mean[:2], diagonal, mean[:2], other) == pytest.approx((1 - 3) ** 2 + (2 - 1) ** 2)


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no class 10"):
        images.prompt(10)
    with pytest.raises(PromptError, match=r"token 1 of answer 0 is 600"):
        images.decoded([[3, 600]])
    with pytest.raises(PromptError, match="has 50 tokens"):
        images.decoded([[3] * 50])
    with pytest.raises(PromptError, match="two or more"):
        images.quality(torch.zeros(1, 28, 28), [1])
    with pytest.raises(ModelError, match="no visual model"):
        images.parts("zoo:base")
    book = dk.load("zoo:visual").codebook.vectors
    from safetensors.torch import save_file

    save_file({"codebook": book.contiguous()}, tmp_path / "codebook.safetensors")
    with pytest.raises(ModelError, match=r"lacks vq\.safetensors"):
        images.parts(str(tmp_path))
    with pytest.raises(CompositionError, match="at most 511"):
        dk.generate("zoo:visual", "<1>", strategy="lantern(512, 0.1) | speculative('zoo:visual-draft')", **GIVEN)
    with pytest.raises(CompositionError, match="has none"):
        dk.generate("zoo:base", "a", strategy="lantern(8, 0.1) | speculative('zoo:draft')")
    with pytest.raises(CompositionError, match="other tokens"):
        dk.generate("zoo:visual", "<1>", strategy="sample | speculative('zoo:draft')", **GIVEN)
