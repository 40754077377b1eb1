"""Readers of every family: whatever happened to the rows before, logits are those of the plain forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit.core.cost import Cost
from decodekit.models.append_only_cache import HolesReader
from decodekit.models.causal import CausalReader
from decodekit.models.forward import Forward
from decodekit.models.plain import PlainReader
from decodekit.plugins.pondering import Passes, Pondering
from decodekit.testing.readers import FAMILIES, Play, build, norms_in_double

READERS: dict[str, Callable[[Forward], Any]] = {
    "slab": lambda forward: CausalReader(forward, Cost(), "target"),
    "holes": lambda forward: HolesReader(forward, Cost(), "target"),
}


def truth(forward: Forward) -> PlainReader:
    return PlainReader(forward, Cost(), "truth")


EVENTS = st.lists(
    st.tuples(st.sampled_from(["go", "go", "fork", "expand", "keep", "done", "only"]), st.integers(0, 7)), max_size=14
)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("cache", list(READERS))
@pytest.mark.parametrize("family", list(FAMILIES))
def test_reading_through_a_cache_is_reading_plainly(family: str, cache: str, attention: str) -> None:
    if (family, attention) == ("gemma2", "sdpa"):
        pytest.skip("transformers offers no sdpa attention for gemma2")
    model = build(family, attention)

    @settings(max_examples=6)
    @given(events=EVENTS, seed=st.integers(0, 999))
    def run(events: list[tuple[str, int]], seed: int) -> None:
        forward = Forward(model, family, None)
        play = Play(truth(forward), READERS[cache](forward), 1e-5, seed)
        for event in [("go", 2), *events]:
            play.step(event)

    run()


@pytest.mark.parametrize("cache", list(READERS))
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "phi", "llama", "qwen3", "mistral"])
def test_in_double_precision_to_ten_digits(family: str, cache: str) -> None:
    # sdpa: stock eager attention takes its softmax in float32 in most families
    model = norms_in_double(build(family, "sdpa", torch.float64))

    @settings(max_examples=8)
    @given(events=EVENTS, seed=st.integers(0, 999))
    def run(events: list[tuple[str, int]], seed: int) -> None:
        forward = Forward(model, family, None)
        play = Play(truth(forward), READERS[cache](forward), 1e-10, seed)
        for event in [("go", 2), *events]:
            play.step(event)

    run()


@pytest.mark.parametrize("options", [{"steps": 2}, {"steps": 1, "top_k": 3, "temperature": 0.7}], ids=["all", "top-k"])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "llama", "qwen2", "qwen3", "gemma3"])
def test_pondering_through_its_caches_is_pondering_anew(family: str, options: dict[str, Any]) -> None:
    """Whatever happens to the rows, each pass over its own cache gives what recomputing all passes gives."""
    single = family == "gemma3"  # its scale is a float32 number
    model = build(family, "eager") if single else norms_in_double(build(family, "sdpa", torch.float64))
    forward = Passes(Pondering(**options), model, family, None)

    @settings(max_examples=6)
    @given(events=EVENTS, seed=st.integers(0, 999))
    def run(events: list[tuple[str, int]], seed: int) -> None:
        play = Play(truth(forward), CausalReader(forward, Cost(), "target"), 1e-4 if single else 1e-9, seed)
        for event in [("go", 2), *events]:
            play.step(event)

    run()
