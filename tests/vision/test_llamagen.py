"""LlamaGen's layout: a random checkpoint, read by us and by a forward pass written here from the paper's plan."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import decodekit as dk
from decodekit.errors import ModelError
from decodekit.vision.llamagen import convert

CODES, CLASSES, WIDTH, LAYERS, HEADS, SHARED, INNER, GRID = 24, 3, 32, 2, 4, 2, 48, 3
HEAD = WIDTH // HEADS


def checkpoint() -> dict[str, Tensor]:
    noise = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=noise) / math.sqrt(shape[-1]) * 2

    out = {
        "tok_embeddings.weight": drawn(CODES, WIDTH) * 3,
        "cls_embedding.embedding_table.weight": drawn(CLASSES + 1, WIDTH) * 3,
        "norm.weight": 1 + drawn(WIDTH) / 4,
        "output.weight": drawn(CODES, WIDTH),
    }
    for i in range(LAYERS):
        out |= {
            f"layers.{i}.attention.wqkv.weight": drawn((HEADS + 2 * SHARED) * HEAD, WIDTH),
            f"layers.{i}.attention.wo.weight": drawn(WIDTH, WIDTH),
            f"layers.{i}.feed_forward.w1.weight": drawn(INNER, WIDTH),
            f"layers.{i}.feed_forward.w3.weight": drawn(INNER, WIDTH),
            f"layers.{i}.feed_forward.w2.weight": drawn(WIDTH, INNER),
            f"layers.{i}.attention_norm.weight": 1 + drawn(WIDTH) / 4,
            f"layers.{i}.ffn_norm.weight": 1 + drawn(WIDTH) / 4,
        }
    return out


def turned(x: Tensor) -> Tensor:
    """[T, n, D]: neighbouring pairs as complex numbers, turned by row and column; the class is nulled."""
    pairs = torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))  # [T, n, D / 2]
    out = torch.zeros_like(pairs)
    for t in range(1, len(x)):
        row, column = divmod(t - 1, GRID)
        for j in range(HEAD // 2):
            place, index = (row, j) if j < HEAD // 4 else (column, j - HEAD // 4)
            angle = place / 10000.0 ** (2 * index / (HEAD // 2))
            out[t, :, j] = pairs[t, :, j] * complex(math.cos(angle), math.sin(angle))
    return torch.view_as_real(out).flatten(-2)


def forward(state: dict[str, Tensor], kind: int, codes: list[int]) -> Tensor:
    """[T, CODES] logits after the class and each code."""
    w = {name: value.double() for name, value in state.items()}

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    h = torch.cat([w["cls_embedding.embedding_table.weight"][[kind]], w["tok_embeddings.weight"][codes]])
    size = len(h)
    for i in range(LAYERS):
        x = norm(h, w[f"layers.{i}.attention_norm.weight"]) @ w[f"layers.{i}.attention.wqkv.weight"].T
        q, k, v = torch.split(x, [HEADS * HEAD, SHARED * HEAD, SHARED * HEAD], -1)
        q, k = turned(q.reshape(size, HEADS, HEAD)), turned(k.reshape(size, SHARED, HEAD))
        k, v = (part.reshape(size, SHARED, HEAD).repeat_interleave(HEADS // SHARED, 1) for part in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(HEAD)
        scores = scores.masked_fill(~torch.ones(size, size, dtype=torch.bool).tril(), -torch.inf)
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(size, WIDTH)
        h = h + mixed @ w[f"layers.{i}.attention.wo.weight"].T
        x = norm(h, w[f"layers.{i}.ffn_norm.weight"])
        gate, up = x @ w[f"layers.{i}.feed_forward.w1.weight"].T, x @ w[f"layers.{i}.feed_forward.w3.weight"].T
        h = h + (torch.nn.functional.silu(gate) * up) @ w[f"layers.{i}.feed_forward.w2.weight"].T
    return norm(h, w["norm.weight"]) @ w["output.weight"].T


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    book = torch.randn(CODES, 4, generator=torch.Generator().manual_seed(2))
    out = tmp_path_factory.mktemp("llamagen")
    return convert({"model": checkpoint()}, out, vq={"quantize.embedding.weight": book}, heads=HEADS, grid=GRID)


def test_logits_are_those_of_the_layout(folder: Path) -> None:
    model = dk.load(folder, dtype="float64")
    codes = [3, 17, 5, 5, 22, 0, 9, 11]
    want = forward(checkpoint(), 1, codes)
    with torch.inference_mode():
        got = model.hf(input_ids=torch.tensor([[CODES + 1, *codes]])).logits[0]
    torch.testing.assert_close(got[:, :CODES], want, atol=2e-5, rtol=1e-4)  # stock norms are float32 inside
    assert bool(got[:, CODES:].isneginf().all())


def test_decoding_with_guidance_and_lantern(folder: Path) -> None:
    model = dk.load(folder, dtype="float64")
    assert "codebook" in model.provides
    norms = model.codebook.vectors.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    prompts = [[CODES], [CODES + 2], [CODES + CLASSES]]
    guided = dk.guidance(3.0, prompt=(CODES + CLASSES,))
    given: dict[str, Any] = {"max_tokens": GRID * GRID, "seed": 4}
    plain = dk.generate(model, prompts, strategy=[dk.sample(), guided], **given)
    assert all(token < CODES for out in plain for token in out.tokens)
    assert all(len(out.tokens) == GRID * GRID for out in plain)
    drafted = dk.generate(model, prompts, strategy=[dk.sample(), guided, dk.speculative(draft=model, k=3)], **given)
    assert [out.tokens for out in drafted] == [out.tokens for out in plain]
    relaxed = [dk.speculative(draft=model, k=3), dk.lantern(neighbours=4, delta=0.3, rule="transport"), guided]
    out = dk.generate(model, prompts, strategy=relaxed, **given)
    assert all(token < CODES for one in out for token in one.tokens)
    # The text by hand: what the guided law of this layout says, token after token, by the noise of the run.
    text: list[int] = []
    for token in dk.generate(model, prompts[:1], strategy=["greedy", guided], **given)[0].tokens:
        c, u = (forward(checkpoint(), kind, text)[-1].log_softmax(-1) for kind in (0, CLASSES))
        assert token == int((u + 3.0 * (c - u)).argmax())
        text.append(token)


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    state = checkpoint()
    with pytest.raises(ModelError, match="opens no pickles"):
        convert("c2i_B_256.pt", tmp_path)
    text = {name: value for name, value in state.items() if not name.startswith("cls")}
    with pytest.raises(ModelError, match="conditioned on text"):
        convert(text | {"cls_embedding.cap_proj.fc1.weight": torch.zeros(1)}, tmp_path)
    with pytest.raises(ModelError, match=r"has no cls_embedding.*c2i"):
        convert(text, tmp_path)
    with pytest.raises(ModelError, match="give heads="):
        convert(state, tmp_path, grid=GRID)
    with pytest.raises(ModelError, match="does not divide"):
        convert(state, tmp_path, heads=5, grid=GRID)
    with pytest.raises(ModelError, match="lacks layers"):
        convert({n: v for n, v in state.items() if not n.startswith("layers")}, tmp_path)
    with pytest.raises(ModelError, match="does not fit"):
        convert({n: v for n, v in state.items() if "1.ffn_norm" not in n}, tmp_path, heads=HEADS, grid=GRID)
    with pytest.raises(ModelError, match=r"quantize.embedding"):
        convert(state, tmp_path, vq={"other": torch.zeros(1)}, heads=HEADS, grid=GRID)
    save_file(state, tmp_path / "state.safetensors")
    assert convert(tmp_path / "state.safetensors", tmp_path / "made", heads=HEADS, grid=GRID).is_dir()
