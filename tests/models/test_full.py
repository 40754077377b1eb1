"""LLaDA- and Dream-type checkpoints: read under stock names, seeing every cell, logits at the cell they are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import decodekit as dk
from decodekit import zoo
from decodekit.core.cost import Cost
from decodekit.errors import ModelError, UnknownModel
from decodekit.models.full_attention import Full
from decodekit.models.load import load
from decodekit.testing.oracle import rows_of
from training import tokenizer

WORDS = tokenizer.load(zoo.path("masked"))
V, H, L, A, KV, INNER = len(WORDS), 16, 2, 4, 2, 24
LLADA = {
    "model_type": "llada",
    "architectures": ["LLaDAModelLM"],
    "auto_map": {"AutoConfig": "configuration_llada.LLaDAConfig"},
    "d_model": H,
    "n_heads": A,
    "n_kv_heads": KV,
    "n_layers": L,
    "mlp_hidden_size": INNER,
    "vocab_size": V,
    "embedding_size": V,
    "max_sequence_length": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope": True,
    "block_type": "llama",
    "layer_norm_type": "rms",
    "activation_type": "silu",
    "include_bias": False,
    "include_qkv_bias": False,
    "weight_tying": False,
    "mask_token_id": WORDS.mask_token_id,
    "eos_token_id": WORDS.eos_token_id,
    "pad_token_id": WORDS.pad_token_id,
}


def llada_weights() -> dict[str, Tensor]:
    """Random weights under LLaDA's names."""
    g = torch.Generator().manual_seed(5)

    def new(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g) * 0.2

    head = H // A
    made = {"wte.weight": new(V, H), "ln_f.weight": 1 + new(H), "ff_out.weight": new(V, H)}
    for n in range(L):
        block = {
            "attn_norm.weight": 1 + new(H),
            "ff_norm.weight": 1 + new(H),
            "q_proj.weight": new(H, H),
            "k_proj.weight": new(KV * head, H),
            "v_proj.weight": new(KV * head, H),
            "attn_out.weight": new(H, H),
            "ff_proj.weight": new(INNER, H),
            "up_proj.weight": new(INNER, H),
            "ff_out.weight": new(H, INNER),
        }
        made |= {f"blocks.{n}.{name}": value for name, value in block.items()}
    return {f"model.transformer.{name}": value for name, value in made.items()}


def by_hand(w: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Logits [T, V] of one canvas by the definition of LLaDA's blocks, float64."""
    w = {name.removeprefix("model.transformer."): value.double() for name, value in w.items()}
    head, place = H // A, torch.arange(len(ids)).double()
    angle = place[:, None] / 10000.0 ** (torch.arange(0, head, 2).double() / head)
    cos, sin = (torch.cat([f(angle)] * 2, -1) for f in (torch.cos, torch.sin))

    def norm(x: Tensor, scale: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * scale

    def turned(x: Tensor) -> Tensor:  # [heads, T, D]
        half = head // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    x = w["wte.weight"][ids]
    for n in range(L):
        b = {name: w[f"blocks.{n}.{name}"] for name in ("attn_norm.weight", "ff_norm.weight")}
        p = {name: w[f"blocks.{n}.{name}.weight"] for name in ("q_proj", "k_proj", "v_proj", "attn_out", "ff_proj")}
        y = norm(x, b["attn_norm.weight"])
        q, k, v = ((y @ p[one].T).view(len(ids), -1, head).transpose(0, 1) for one in ("q_proj", "k_proj", "v_proj"))
        q, k = turned(q), turned(k).repeat_interleave(A // KV, 0)
        seen = (q @ k.transpose(1, 2) / head**0.5).softmax(-1) @ v.repeat_interleave(A // KV, 0)
        x = x + seen.transpose(0, 1).reshape(len(ids), H) @ p["attn_out"].T
        y = norm(x, b["ff_norm.weight"])
        up, down = w[f"blocks.{n}.up_proj.weight"], w[f"blocks.{n}.ff_out.weight"]
        x = x + (F.silu(y @ p["ff_proj"].T) * (y @ up.T)) @ down.T
    return norm(x, w["ln_f.weight"]) @ w["ff_out.weight"].T


def folder(path: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> str:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    save_file({name: value.contiguous() for name, value in weights.items()}, str(path / "model.safetensors"))
    WORDS.save_pretrained(str(path))
    return str(path)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_a_llada_checkpoint_gives_the_logits_of_its_definition(tmp_path: Path, attn: str) -> None:
    weights = llada_weights()
    model = load(folder(tmp_path / "llada", LLADA, weights), dtype="float64", attn=attn)
    assert model.provides >= {"masked_lm"}
    assert (model.mask, model.eos, model.context) == (WORDS.mask_token_id, (WORDS.eos_token_id,), 64)
    ids = torch.tensor([5, 9, WORDS.mask_token_id, 700, WORDS.mask_token_id, 31])
    want = by_hand(weights, ids)
    rows = rows_of([ids.tolist()], start=1)
    rows.limit = torch.tensor([6])
    got = model.reader(Cost(), "target").read(rows, torch.tensor([[2, 4]]))[0]
    want[:, WORDS.mask_token_id] = -torch.inf
    assert torch.allclose(got, want[[2, 4]], atol=1e-5)  # the stock class turns and normalises in float32


def test_a_llada_checkpoint_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="layer_norm_type='default'"):
        load(folder(tmp_path / "odd", {**LLADA, "layer_norm_type": "default"}, llada_weights()))


def dream(path: Path) -> tuple[str, Qwen2ForCausalLM]:
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=V,
        hidden_size=H,
        intermediate_size=INNER,
        num_hidden_layers=L,
        num_attention_heads=A,
        num_key_value_heads=KV,
        max_position_embeddings=64,
    )
    stock = Qwen2ForCausalLM(config)
    described = config.to_dict() | {
        "model_type": "Dream",
        "architectures": ["DreamModel"],
        "auto_map": {"AutoModel": "modeling_dream.DreamModel"},
        "rope_theta": 10000.0,
        "mask_token_id": WORDS.mask_token_id,
        "eos_token_id": WORDS.eos_token_id,
    }
    described.pop("rope_parameters", None)
    return folder(path / "dream", described, dict(stock.state_dict())), stock


def test_a_dream_checkpoint_predicts_a_cell_from_the_index_before(tmp_path: Path) -> None:
    source, stock = dream(tmp_path)
    model = load(source, dtype="float64")
    ids = torch.tensor([[5, 9, WORDS.mask_token_id, 700, WORDS.mask_token_id]])
    see = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    want = stock.double()(input_ids=ids, attention_mask=see, use_cache=False).logits[0]
    rows = rows_of([ids[0].tolist()], start=1)
    rows.limit = torch.tensor([5])
    got = model.reader(Cost(), "target").read(rows, torch.tensor([[0, 2, 4]]))[0]
    want[:, WORDS.mask_token_id] = -torch.inf
    assert torch.allclose(got, want[[0, 1, 3]], atol=1e-10)


def test_a_stock_model_marked_as_diffusion_is_one_and_what_is_marked_wrongly_is_refused() -> None:
    config = LlamaConfig(
        vocab_size=V, hidden_size=H, intermediate_size=INNER, num_hidden_layers=1, num_attention_heads=2
    )
    config.diffusion = {"attention": "block", "block": 4}
    model = load((LlamaForCausalLM(config), WORDS))
    assert isinstance(model.hf, Full)
    assert (model.block, model.mask) == (4, WORDS.mask_token_id)
    config.diffusion = {"attention": "block"}
    with pytest.raises(ModelError, match="block=N"):
        load((LlamaForCausalLM(config), WORDS))


def test_block_causal_cells_do_not_depend_on_later_blocks() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V, hidden_size=H, intermediate_size=INNER, num_hidden_layers=2, num_attention_heads=2
    )
    full = Full(LlamaForCausalLM(config).double().eval(), block=4)
    ids = torch.randint(3, V, (1, 12))
    other = ids.clone()
    other[0, 8:] = 7
    with torch.no_grad():
        a, b = full(input_ids=ids).logits, full(input_ids=other).logits
    assert torch.equal(a[:, :8], b[:, :8])
    assert not torch.allclose(a[:, 8:], b[:, 8:])


@pytest.mark.parametrize("kind", ["llada", "dream", "zoo"])
def test_texts_do_not_depend_on_the_batch(tmp_path: Path, kind: str) -> None:
    source = {"llada": lambda: folder(tmp_path / "l", LLADA, llada_weights()), "dream": lambda: dream(tmp_path)[0]}
    name = source[kind]() if kind in source else "zoo:masked"
    decoder = dk.Decoder(name, "threshold(tau=0.02, block=5) | temperature(0.7)", dtype="float64")
    prompts = [[5, 9, 12], [7], [3, 4, 5, 6, 7, 8, 9], [40, 41]]
    together = decoder.generate([*prompts, *prompts], max_tokens=14)
    for prompt, one in zip(prompts, together[:4], strict=True):
        alone = decoder.generate(prompt, max_tokens=14)
        assert (alone.tokens, alone.finish) == (one.tokens, one.finish)
        assert alone.logp == pytest.approx(one.logp, abs=1e-9)


def test_a_missing_folder_is_still_one_sentence() -> None:
    with pytest.raises(UnknownModel, match="no model folder"):
        load("/no/such/llada")
