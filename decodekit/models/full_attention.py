"""Full attention over a stock decoder-only model: the layouts of LLaDA (Llama) and Dream (Qwen2) without remote code.

A diffusion model of this kind is a Llama or a Qwen2 whose queries see every cell of the canvas. So the stock class runs
it, with a mask that we hand in, and its weights are read under the names of the stock class.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from decodekit.errors import ModelError

DIFFUSION: Final = "diffusion"
"""Key of a stock configuration that is meant for this: {"attention": "full" | "block", "shift": bool, "block": int}."""

_LLADA_NAMES: Final = {
    r"^model\.transformer\.wte\.": "model.embed_tokens.",
    r"^model\.transformer\.ln_f\.": "model.norm.",
    r"^model\.transformer\.ff_out\.": "lm_head.",
    r"^model\.transformer\.blocks\.(\d+)\.attn_norm\.": r"model.layers.\1.input_layernorm.",
    r"^model\.transformer\.blocks\.(\d+)\.ff_norm\.": r"model.layers.\1.post_attention_layernorm.",
    r"^model\.transformer\.blocks\.(\d+)\.q_proj\.": r"model.layers.\1.self_attn.q_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.k_proj\.": r"model.layers.\1.self_attn.k_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.v_proj\.": r"model.layers.\1.self_attn.v_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.attn_out\.": r"model.layers.\1.self_attn.o_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.ff_proj\.": r"model.layers.\1.mlp.gate_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.up_proj\.": r"model.layers.\1.mlp.up_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.ff_out\.": r"model.layers.\1.mlp.down_proj.",
}
"""What LLaDA's files call the weights of a Llama. `ff_proj` is the half that goes through the activation."""


class Full(nn.Module):
    """A causal class of transformers, read without the causal mask.

    shift: the model was made from a causal one and predicts cell i at index i - 1, as Dream does; logits are moved to
    the cell that they are about, and the first cell gets those of index 0, as its authors do.
    block: cells see the blocks (counted from position 0) up to their own; None where all cells see each other.
    """

    def __init__(self, hf: Any, shift: bool = False, block: int | None = None) -> None:
        super().__init__()
        self.hf, self.shift, self.block = hf, shift, block
        self.config = hf.config

    @classmethod
    def of(cls, hf: Any) -> Full:
        """By what the configuration says under :data:`DIFFUSION`.

        Raises:
            ModelError: it says something else than we know.
        """
        said = getattr(hf.config, DIFFUSION)
        attention, block = said.get("attention", "full"), said.get("block")
        if attention not in ("full", "block") or (attention == "block") != (isinstance(block, int) and block > 0):
            raise ModelError(
                f"the configuration asks for {DIFFUSION}={said!r}; attention is 'full', or 'block' with block=N cells"
            )
        return cls(hf, bool(said.get("shift", False)), block)

    def get_input_embeddings(self) -> Any:
        """Of the stock model."""
        return self.hf.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        """Of the stock model."""
        return self.hf.get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Any:
        """`.logits` [B, T, V] of whole canvases; `attention_mask` [B, T], 1 where a cell belongs to the row."""
        given = input_ids if inputs_embeds is None else inputs_embeds
        assert given is not None
        rows, cells = given.shape[:2]
        inside = torch.ones(rows, cells, dtype=torch.bool, device=given.device)
        if attention_mask is not None:
            inside = attention_mask.bool()
        place = torch.arange(cells, device=given.device)
        see = inside[:, None, None] & self.sees(place, place)[None, None]  # [B, 1, T, T]
        logits = self.through(given, None, see, None)
        return SimpleNamespace(logits=self.moved(logits))

    def sees(self, query: Tensor, key: Tensor) -> Tensor:
        """[..., F, T] bool, which `key` positions [..., T] a `query` position [..., F] may see."""
        if self.block is None:
            return torch.ones(*query.shape, key.shape[-1], dtype=torch.bool, device=query.device)
        return key[..., None, :] // self.block <= query[..., None] // self.block

    def moved(self, logits: Tensor) -> Tensor:
        """Logits [B, T, V] of a whole canvas at the cells that they are about."""
        return torch.cat([logits[:, :1], logits[:, :-1]], 1) if self.shift else logits

    def through(self, given: Tensor, position: Tensor | None, see: Tensor, cache: Any) -> Tensor:
        """One pass over ids [B, F] or embeddings [B, F, H] at `position` [B, F], seeing keys `see` [B, 1, F, T] bool.

        Logits [B, F, V] are the stock class's own, not yet moved. Queries that see nothing (padding) see all.
        """
        see = see | ~see.any(-1, keepdim=True)
        mask: Tensor = see
        if self.config._attn_implementation == "eager":  # eager attention adds its mask
            mask = torch.zeros(see.shape, dtype=self.hf.dtype, device=see.device)
            mask = mask.masked_fill(~see, torch.finfo(self.hf.dtype).min)
        words = {"inputs_embeds": given} if given.is_floating_point() else {"input_ids": given}
        extra = {} if position is None else {"position_ids": position}
        out = self.hf(**words, **extra, attention_mask=mask, past_key_values=cache, use_cache=cache is not None)
        logits: Tensor = out.logits
        return logits


def foreign(described: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a diffusion model that transformers knows by remote code only."""
    return described.get("model_type", "").lower() in ("llada", "dream")


def from_foreign(source: str, described: Mapping[str, Any], placed: Mapping[str, Any], attn: str | None) -> Any:
    """A LLaDA or Dream checkpoint in the stock class, its weights under the stock names.

    Raises:
        ModelError: the checkpoint uses a part of its architecture that the stock class has not.
    """
    more = dict(placed) | ({} if attn is None else {"attn_implementation": attn})
    hf: Any
    if described["model_type"].lower() == "dream":
        config = Qwen2Config(**_dream(described))
        hf, info = Qwen2ForCausalLM.from_pretrained(source, config=config, output_loading_info=True, **more)
    else:
        more["key_mapping"] = _LLADA_NAMES
        like = LlamaConfig(**_llada(described))
        hf, info = LlamaForCausalLM.from_pretrained(source, config=like, output_loading_info=True, **more)
    lost = sorted({*info["missing_keys"], *info["unexpected_keys"]})
    if lost:
        raise ModelError(
            f"the checkpoint {source!r} does not fit its configuration: {len(lost)} weights have no counterpart, such "
            f"as {lost[0]}; give a complete checkpoint in the layout of LLaDA-8B or Dream-7B"
        )
    return hf


def _dream(described: Mapping[str, Any]) -> dict[str, Any]:
    """Dream's configuration is Qwen2's, with a mask token and logits one place early."""
    dropped = ("model_type", "architectures", "auto_map", "transformers_version", "rope_scaling", "rope_theta")
    kept = {name: value for name, value in described.items() if name not in dropped}
    rope = {"rope_type": "default", "rope_theta": float(described.get("rope_theta", 10000.0))}
    return {**kept, "rope_parameters": rope, DIFFUSION: {"attention": "full", "shift": True}}


def _llada(described: Mapping[str, Any]) -> dict[str, Any]:
    """LLaDA's configuration (OLMo's words) in those of Llama."""
    c = described
    odd = [f"{name}={c[name]!r}" for name, usual in _LLADA_USUAL.items() if name in c and c[name] not in usual]
    if odd:
        raise ModelError(
            f"this LLaDA checkpoint has {', '.join(odd)}, which a Llama has not; decodekit reads those with the layout "
            "of LLaDA-8B"
        )
    hidden, heads = int(c["d_model"]), int(c["n_heads"])
    return {
        "vocab_size": int(c.get("embedding_size") or c["vocab_size"]),
        "hidden_size": hidden,
        "intermediate_size": int(c.get("mlp_hidden_size") or c.get("mlp_ratio", 4) * hidden),
        "num_hidden_layers": int(c["n_layers"]),
        "num_attention_heads": heads,
        "num_key_value_heads": int(c.get("n_kv_heads") or heads),
        "max_position_embeddings": int(c.get("max_sequence_length", 4096)),
        "rms_norm_eps": float(c.get("rms_norm_eps", 1e-5)),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(c.get("rope_theta", 10000.0))},
        "attention_bias": bool(c.get("include_bias", False)),
        "mlp_bias": bool(c.get("include_bias", False)),
        "tie_word_embeddings": bool(c.get("weight_tying", False)),
        "eos_token_id": c.get("eos_token_id"),
        "pad_token_id": c.get("pad_token_id"),
        "bos_token_id": None,
        "mask_token_id": c.get("mask_token_id"),
        DIFFUSION: {"attention": "full", "shift": False},
    }


_LLADA_USUAL: Final = {
    "block_type": ("llama",),
    "layer_norm_type": ("rms",),
    "activation_type": ("silu",),
    "rope": (True,),
    "alibi": (False,),
    "include_qkv_bias": (False,),
    "attention_layer_norm": (False,),
    "scale_logits": (False,),
    "input_emb_norm": (False,),
    "block_group_size": (1,),
}
"""Values of LLaDA's options for which its blocks are those of a Llama."""
