"""Checkpoints in LlamaGen's layout (arXiv 2406.06525, class-conditional), made into folders that `load` reads.

    from decodekit.vision.llamagen import convert
    state = torch.load("c2i_B_256.pt", weights_only=True)      # the published files are pickles: you open them
    convert(state, "llamagen-b", vq=torch.load("vq_ds16_c2i.pt", weights_only=True))
    dk.generate("llamagen-b", [[16384 + 207]], strategy="sample | guidance(4.0, prompt=(17384,))", max_tokens=256)

Token ids: the codes, then the classes, then no class. The weights are LlamaGen's own, with fused matrices taken apart
and the rows of queries and keys reordered (pairs of neighbours become halves); see :mod:`decodekit.models.grid_llama`.
Images are decoded by LlamaGen's own decoder: only its codebook is taken over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from decodekit.errors import ModelError
from decodekit.models.codebook import FILE
from decodekit.models.grid_llama import GridLlamaConfig, GridLlamaForCausalLM

HEADS: Final = {
    (12, 768): 12,
    (24, 1024): 16,
    (36, 1280): 20,
    (48, 1536): 24,
    (48, 2560): 40,
    (22, 2048): 32,
    (24, 3200): 32,
    (32, 4096): 32,
}
"""(layers, width) -> attention heads of the published sizes B, L, XL, XXL, XXXL, 1B, 3B, 7B."""
_CLASSES: Final = "cls_embedding.embedding_table.weight"
_NESTED: Final = ("model", "module", "state_dict")
_PLAIN: Final = {
    "attention.wo.weight": "self_attn.o_proj.weight",
    "feed_forward.w1.weight": "mlp.gate_proj.weight",
    "feed_forward.w3.weight": "mlp.up_proj.weight",
    "feed_forward.w2.weight": "mlp.down_proj.weight",
    "attention_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}


def convert(
    state: Mapping[str, Any] | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    vq: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    heads: int | None = None,
    grid: int = 16,
    base: float = 10000.0,
    eps: float = 1e-5,
) -> Path:
    """Write a folder that `decodekit.load` reads; returns its path.

    Args:
        state: state dict of the transformer (also nested under `model`, `module` or `state_dict`), or the path of a
            safetensors file.
        folder: where to write.
        vq: the same of the image tokenizer, for the codebook; its vectors are normalised, as its decoder does.
        heads: attention heads; None for those of the published size.
        grid: codes of a side: 16 for pictures of 256 pixels, 24 for 384.
        base: of the rotary embedding.
        eps: of the norms.

    Raises:
        ModelError: a file that is no safetensors file, a text-conditional checkpoint, missing or misshapen weights.
    """
    weights = _opened(state, "the checkpoint")
    if _CLASSES not in weights:
        text = any(name.startswith("cls_embedding.") for name in weights)
        why = "is conditioned on text features, which are no tokens" if text else f"has no {_CLASSES}"
        raise ModelError(f"the checkpoint {why}; give a class-conditional LlamaGen checkpoint (c2i)")
    config = _config(weights, heads, grid, base, eps)
    made = GridLlamaForCausalLM(config).to(weights["output.weight"].dtype)
    try:
        made.load_state_dict(_renamed(weights, config))
    except (RuntimeError, KeyError) as problem:
        said = " ".join(str(problem).split())[:300]
        raise ModelError(f"the checkpoint does not fit LlamaGen's layout: {said}") from None
    out = Path(folder)
    made.save_pretrained(str(out))
    _tokenizer(config.codes, config.vocab_size - config.codes - 1).save_pretrained(str(out))
    if vq is not None:
        table = _opened(vq, "the image tokenizer").get("quantize.embedding.weight")
        if table is None:
            raise ModelError("the image tokenizer has no quantize.embedding.weight; give LlamaGen's VQ checkpoint")
        vectors = torch.nn.functional.normalize(table.float(), dim=-1)
        save_file({"codebook": vectors.contiguous()}, str(out / FILE), {"format": "pt"})
    return out


def _opened(given: Mapping[str, Any] | str | os.PathLike[str], what: str) -> dict[str, Tensor]:
    if isinstance(given, str | os.PathLike):
        if Path(given).suffix != ".safetensors":
            raise ModelError(
                f"{what} {os.fspath(given)!r} is no safetensors file, and decodekit opens no pickles; open it yourself "
                "(torch.load with weights_only=True) and give the dictionary"
            )
        return dict(load_file(str(given)))
    for name in _NESTED:
        if isinstance(given.get(name), Mapping):
            return dict(given[name])
    return dict(given)


def _config(weights: Mapping[str, Tensor], heads: int | None, grid: int, base: float, eps: float) -> GridLlamaConfig:
    found = [re.fullmatch(r"layers\.(\d+)\.attention\.wqkv\.weight", name) for name in weights]
    layers = 1 + max((int(match[1]) for match in found if match), default=-1)
    if not layers or "tok_embeddings.weight" not in weights or "output.weight" not in weights:
        raise ModelError("the checkpoint lacks layers, tok_embeddings or output of LlamaGen's layout")
    codes, width = weights["tok_embeddings.weight"].shape
    heads = HEADS.get((layers, width)) if heads is None else heads
    if heads is None:
        raise ModelError(f"{layers} layers of width {width} are no published size of LlamaGen; give heads=")
    head = width // heads
    shared = weights["layers.0.attention.wqkv.weight"].shape[0] // head - heads
    if head * heads != width or head % 4 or shared % 2:
        raise ModelError(f"heads={heads} does not divide the checkpoint's matrices; give the model's own number")
    return GridLlamaConfig(
        vocab_size=codes + weights[_CLASSES].shape[0],
        hidden_size=width,
        intermediate_size=weights["layers.0.feed_forward.w1.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared // 2,
        max_position_embeddings=1 + grid * grid,
        rms_norm_eps=eps,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        grid=grid,
        codes=codes,
        prefix=1,
        rope_base=base,
    )


def _renamed(weights: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    head = config.hidden_size // heads
    classes = weights[_CLASSES]
    out = {
        "model.embed_tokens.weight": torch.cat([weights["tok_embeddings.weight"], classes]),
        "model.norm.weight": weights["norm.weight"],
        "lm_head.weight": torch.cat([weights["output.weight"], torch.zeros_like(classes)]),
    }
    for layer in range(config.num_hidden_layers):
        old, new = f"layers.{layer}.", f"model.layers.{layer}."
        for theirs, ours in _PLAIN.items():
            out[new + ours] = weights[old + theirs]
        q, k, v = torch.split(weights[old + "attention.wqkv.weight"], [heads * head, shared * head, shared * head])
        out[new + "self_attn.q_proj.weight"] = _halves(q, head)
        out[new + "self_attn.k_proj.weight"] = _halves(k, head)
        out[new + "self_attn.v_proj.weight"] = v.contiguous()
    return out


def _halves(rows: Tensor, head: int) -> Tensor:
    """Rows of each head from pairs (2i, 2i + 1) to halves (i, i + D / 2)."""
    return rows.view(-1, head // 2, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape).contiguous()


def _tokenizer(codes: int, classes: int) -> PreTrainedTokenizerFast:
    words = [*(f"c{i}" for i in range(codes)), *(f"<{i}>" for i in range(classes)), "<none>"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<none>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made)
