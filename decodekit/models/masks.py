"""Which attention masks a model needs, and which models cannot be served."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from decodekit.errors import ModelError

_LOG = logging.getLogger("decodekit")

KNOWN = frozenset(
    [
        "gpt2",
        "gpt_neox",
        "llama",
        "qwen2",
        "qwen3",
        "opt",
        "phi",
        "olmo2",
        "olmo3",
        "mistral",
        "gemma2",
        "gemma3_text",
        "gptj",
        "smollm3",
        "olmo",
        "starcoder2",
        "cohere",
        "granite",
        "grid_llama",
        "stablelm",
    ]
)
"""Families whose cached logits the tests compare with the plain forward pass, or that share their code path."""

_STATEFUL = frozenset(
    [
        "mamba",
        "mamba2",
        "falcon_mamba",
        "rwkv",
        "jamba",
        "bamba",
        "zamba",
        "zamba2",
        "recurrent_gemma",
        "xlstm",
        "lfm2",
        "lfm2_moe",
        "qwen3_next",
        "granitemoehybrid",
        "nemotron_h",
        "minimax",
        "falcon_h1",
        "kimi_linear",
    ]
)
_ALIBI = frozenset(["bloom", "mpt"])
_FULL, _SLIDING = "full_attention", "sliding_attention"


def refuse(config: Any) -> None:
    """Raise ModelError, by name, if no causal reader can serve this configuration."""
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{kind} is an encoder-decoder model; decodekit serves decoder-only and masked language models"
        )
    if kind in _STATEFUL:
        raise ModelError(f"{kind} keeps a recurrent state, which cannot be rolled back; choose an attention-only model")
    if kind in _ALIBI or getattr(config, "alibi", False):
        raise ModelError(
            f"{kind} adds ALiBi biases that it derives from a 2-D mask, so rows of different length cannot be served; "
            "choose a model with rotary or learned positions"
        )


def settle_attention(model: Any) -> None:
    """Only eager and sdpa attention take a 4-D mask: switch others to one of them, and say so."""
    kind = getattr(model.config, "_attn_implementation", "eager")
    if kind not in ("eager", "sdpa"):
        other = "sdpa" if getattr(model, "_supports_sdpa", True) else "eager"
        _LOG.warning("%s attention takes no 4-D mask, so decodekit switches the model to %s", kind, other)
        model.set_attn_implementation(other)


@dataclass(frozen=True)
class Masks:
    """Builds what the model's attention expects: `eager` ADDS its mask (bool would be silently wrong), sdpa takes bool.

    kinds: attention of the layers. window: tokens that a sliding layer sees, itself included.
    """

    kinds: frozenset[str]
    window: int
    eager: bool

    @classmethod
    def of(cls, model: Any) -> Masks:
        """Read off the configuration of a transformers model."""
        config = model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        types = getattr(config, "layer_types", None)
        if types is None:
            types = [_SLIDING] if window is not None else [_FULL]
        kinds = frozenset(types)
        if not kinds <= {_FULL, _SLIDING}:
            odd = ", ".join(sorted(kinds - {_FULL, _SLIDING}))
            raise ModelError(f"{config.model_type} has layers of kind {odd}, whose state decodekit cannot roll back")
        return cls(kinds, int(window or 0), model.config._attn_implementation == "eager")

    def build(
        self,
        position: Tensor,
        slot: Tensor,
        live: Tensor | None,
        dtype: torch.dtype,
        last_resort: Tensor | None = None,
        tree: Tensor | None = None,
    ) -> Any:
        """The mask of queries at `position` [B, F] over keys at `slot` ([T] or [B, T]), of which `live` [B, T] count.

        One [B, 1, F, T] tensor, or a dict of them by kind of layer where a model has both. Queries that would see
        nothing at all (padding: attention over nothing is NaN) see the keys `last_resort` [B, T]. Within a tree, where
        keys of one position stand side by side, `tree` [B, F, T] says which of them a query may see at all.
        """
        see = slot[..., None, :] <= position[..., None]  # [B, F, T]
        if live is not None:
            see = see & live[:, None]
        if tree is not None:
            see = see & tree
        made = {}
        for kind in self.kinds:
            mask = see
            if kind == _SLIDING:
                mask = see & (slot[..., None, :] > position[..., None] - self.window)
            if last_resort is not None:
                mask = mask | (~mask.any(-1, keepdim=True) & last_resort[:, None])
            if self.eager:
                mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
                    ~mask, torch.finfo(dtype).min
                )
            made[kind] = mask[:, None]
        return made if len(made) > 1 else next(iter(made.values()))
