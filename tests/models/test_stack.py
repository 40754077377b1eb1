"""Sub-stacks of stock models: split anywhere they give the whole, and what cannot be split is refused by name."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from decodekit.errors import ModelError
from decodekit.models.masks import Masks
from decodekit.models.slab import Slabs
from decodekit.models.stack import FAMILIES, Stack
from decodekit.testing.readers import build, norms_in_double

SERVED = ["gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "opt"]


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize("cached", [False, True])
def test_two_halves_are_the_whole(family: str, cached: bool) -> None:
    model = norms_in_double(build(family, "sdpa", torch.float64))
    ids = torch.tensor([[1, 5, 3, 9, 12, 2], [4, 4, 7, 8, 1, 3]])
    stack, cache = Stack(model), Slabs() if cached else None
    with torch.inference_mode():
        want = model(input_ids=ids, use_cache=False).logits
        parts = [(0, 6)] if not cached else [(0, 4), (4, 5), (5, 6)]
        for begin, end in parts:
            position = torch.arange(begin, end)[None]
            here = ids[:, begin:end]
            if cache is not None:
                cache.aim(None, 2, begin, end - begin, end)
            for layers in ([0], [1]):
                here = stack.run(layers, here, position, None, cache)
            got = stack.logits(here)
            assert float((got - want[:, begin:end]).abs().max()) < 1e-12
        again = model(input_ids=ids, use_cache=False).logits
    assert torch.equal(again, want)  # the model is as it was
    assert Masks.of(model).kinds


def test_a_pass_that_fails_leaves_the_model_whole() -> None:
    model = build("gpt2", "sdpa")
    before = dict(model.transformer._modules)
    with pytest.raises(IndexError):
        Stack(model).run([1], torch.tensor([[10**6]]), torch.zeros(1, 1, dtype=torch.int64), None, None)
    assert model.transformer._modules == before


def test_what_cannot_be_split_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="layers of gemma2 cannot be run apart; strategies of depth serve gpt2, "):
        Stack(build("gemma2", "eager"))
    with pytest.raises(ModelError, match="mixes kinds of attention"):
        Stack(build("qwen2 sliding", "sdpa"))
    small = {"vocab_size": 9, "hidden_size": 8, "ffn_dim": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    odd = hf.OPTForCausalLM(hf.OPTConfig(**small, word_embed_proj_dim=4, do_layer_norm_before=False))
    with pytest.raises(ModelError, match="OPT-350m"):
        Stack(odd)
    assert set(SERVED) <= set(FAMILIES)
