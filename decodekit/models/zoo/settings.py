"""What each zoo model is and how it is trained: every number that decides the weights is here."""

from dataclasses import dataclass, field

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

#: Cells of the canvas of the masked model; the answer is written in, then ``<|end|>`` to the last cell.
CANVAS = 48
CONTEXT = 512


@dataclass(frozen=True)
class Settings:
    """Shape and schedule of one model. ``batch`` examples a step, computed ``chunk`` at a time in order of length.

    ``distil`` is the share of the loss that a trained ``base`` teaches; ``easy`` is the number of first chunks in which
    the masked model sees fewer masks.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    inner: int
    steps: int
    batch: int
    chunk: int
    rate: float
    seed: int = 1
    warmup: int = 200
    decay: float = 0.05
    prompt_weight: float = 0.1
    distil: float = 0.0
    easy: int = 0
    mixture: dict[str, float] = field(default_factory=lambda: {"json": 0.5, "sql": 0.44, "text": 0.06})


SETTINGS: dict[str, Settings] = {
    "base": Settings("base", hidden=192, layers=5, heads=6, inner=512, steps=3600, batch=32, chunk=8, rate=3e-3),
    "draft": Settings("draft", hidden=64, layers=2, heads=2, inner=176, steps=2400, batch=32, chunk=8, rate=4e-3),
    # Deep and narrow: what SkipDecode and early exit are tuned on (`depth_recipe`).
    "deep": Settings("deep", hidden=96, layers=8, heads=3, inner=256, steps=3200, batch=32, chunk=8, rate=4e-3),
    "masked": Settings(
        "masked",
        hidden=128,
        layers=4,
        heads=4,
        inner=256,
        steps=14000,
        batch=16,
        chunk=8,
        rate=3e-3,
        prompt_weight=0.0,
        mixture={"json": 0.5, "sql": 0.5},
        easy=3000,
    ),
}


def build(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A randomly initialised model; seed torch before calling it."""
    return _masked(settings, tokenizer) if settings.name == "masked" else _causal(settings, tokenizer)


def _causal(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=settings.inner,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        # Texts are short: a small base gives every head frequencies that tell near positions apart.
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        initializer_range=0.04,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def _masked(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    rope = {"rope_type": "default", "rope_theta": 1000.0}
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=settings.inner,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=CONTEXT,
        layer_types=["full_attention"] * settings.layers,
        rope_parameters={"full_attention": rope, "sliding_attention": rope},
        initializer_range=0.04,
        initializer_cutoff_factor=3.0,
        attention_bias=True,
        attention_dropout=0.0,
        embedding_dropout=0.0,
        mlp_dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        cls_token_id=None,
        sep_token_id=None,
        tie_word_embeddings=True,
        canvas=CANVAS,
    )
    model = ModernBertForMaskedLM(config)
    # Random biases of queries and keys make, through the rotary embedding, random preferences for relative positions:
    # without them training stays for thousands of steps where every field is guessed by itself.
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.attn.Wqkv.bias[: 2 * settings.hidden], std=1.0)
    return model
