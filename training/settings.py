"""What each zoo model is and how it is trained: every number that decides the weights is here."""

from dataclasses import dataclass, field

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

#: Cells of the canvas of the masked model; the answer is written in, then ``<|end|>`` to the last cell.
CANVAS = 48
CONTEXT = 512


@dataclass(frozen=True)
class Settings:
    """Shape and schedule of one model. ``batch`` examples a step, computed ``chunk`` at a time in order of length.

    ``distil`` is the share of the loss that a trained ``base`` teaches; ``start`` names the model whose weights it
    begins with.
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
    start: str = ""
    mixture: dict[str, float] = field(default_factory=lambda: {"json": 0.5, "sql": 0.44, "text": 0.06})


SETTINGS: dict[str, Settings] = {
    "base": Settings("base", hidden=192, layers=5, heads=6, inner=512, steps=3600, batch=32, chunk=8, rate=3e-3),
    "draft": Settings("draft", hidden=64, layers=2, heads=2, inner=176, steps=2400, batch=32, chunk=8, rate=4e-3),
    # Deep and narrow: what SkipDecode and early exit are tuned on (`depth_recipe`).
    "deep": Settings("deep", hidden=96, layers=8, heads=3, inner=256, steps=3200, batch=32, chunk=8, rate=4e-3),
    # A causal model that can copy, taught to see both ways, needs a tenth of the steps of one that begins at random.
    "masked": Settings(
        "masked",
        hidden=192,
        layers=5,
        heads=6,
        inner=512,
        steps=6000,
        batch=16,
        chunk=8,
        rate=1.5e-3,
        prompt_weight=0.0,
        mixture={"json": 0.6, "sql": 0.4},
        start="base",
    ),
}


def build(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A randomly initialised model; seed torch before calling it."""
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
        **(_masked(tokenizer) if settings.name == "masked" else {}),
    )
    return LlamaForCausalLM(config)


def _masked(tokenizer: PreTrainedTokenizerFast) -> dict[str, object]:
    """What makes it a diffusion model: cells see each other, and, as in Dream, each is predicted one place early."""
    return {
        "diffusion": {"attention": "full", "shift": True},
        "mask_token_id": tokenizer.mask_token_id,
        "canvas": CANVAS,
    }
