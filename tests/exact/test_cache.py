"""A model read through followers is the model re-read from the start, token for token, whatever happened to rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from decodekit.models.load import load
from decodekit.plugins.speculative import Speculative
from decodekit.testing.harness import run
from decodekit.testing.tables import ToyTokenizer
from decodekit.testing.toy import ToyConstraint

V = 8
PROMPTS = [[1, 2, 3], [4], [5, 5, 1, 2, 3, 4, 1]]


def tiny(family: str, seed: int, layers: int = 2) -> Any:
    torch.manual_seed(seed)
    model: Any
    if family == "llama":
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=V,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=layers,
                num_attention_heads=2,
                max_position_embeddings=64,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=V, n_embd=16, n_layer=layers, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
            )
        )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6.0)  # random logits are nearly flat otherwise
    return model.double().eval()


STRATEGIES: dict[str, list[Any]] = {
    "sample": ["sample"],
    "mask smc": ["mask", "smc(particles=3, ess=1.0)"],
    "awrs smc": ["awrs", "smc(particles=3, ess=0.9)"],
    "drafted": ["sample", "top_k(5)"],
    "rejection": ["rejection"],
    "mask smc drafted": ["mask", "smc(particles=3, ess=1.0)"],
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(("family", "kind"), [("llama", "slab"), ("gpt2", "slab"), ("llama", "holes")])
def test_a_cache_changes_nothing(family: str, name: str, kind: Any) -> None:
    hf, small = tiny(family, 1), tiny(family, 2, layers=1)
    toy = ToyConstraint(seed=4, vocab=V, refuse=0.3)
    texts = []
    for cache in (kind, "none"):
        target, draft = (load(model, tokenizer=ToyTokenizer(V, 0), cache=cache) for model in (hf, small))
        drafted = name.endswith("drafted") or name == "rejection"
        parts = [*STRATEGIES[name], *([Speculative(draft, k=3)] if drafted else [])]
        constraint = toy if "sm" in name else None
        out = run(parts, target, PROMPTS, constraint=constraint, max_tokens=[9, 14, 6], samples=2, seed=3)
        texts.append([(row.tokens, row.reason) for row in out.rows])
        assert len({tuple(row.tokens) for row in out.rows}) > 3
    assert texts[0] == texts[1]
