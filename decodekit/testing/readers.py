"""Small models of every family, and random events on rows, after each of which a reader is compared with the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

from decodekit.core.protocols import Scorer
from decodekit.core.rows import NONE, Rows

V = 40
SMALL: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
GQA = {**SMALL, "num_key_value_heads": 2}
SLIDES = {**GQA, "sliding_window": 8, "head_dim": 8}
FAMILIES: dict[str, Callable[[int], Any]] = {
    "gpt2": lambda n: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=V, n_embd=32, n_layer=n, n_head=4, n_positions=128)),
    "gpt_neox": lambda n: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SMALL, num_hidden_layers=n)),
    "llama": lambda n: hf.LlamaForCausalLM(hf.LlamaConfig(**GQA, num_hidden_layers=n)),
    "qwen2": lambda n: hf.Qwen2ForCausalLM(hf.Qwen2Config(**GQA, num_hidden_layers=n)),
    "qwen2 sliding": lambda n: hf.Qwen2ForCausalLM(
        hf.Qwen2Config(**GQA, num_hidden_layers=n, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    ),
    "qwen3": lambda n: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GQA, num_hidden_layers=n, head_dim=8)),
    "opt": lambda n: hf.OPTForCausalLM(
        hf.OPTConfig(
            vocab_size=V,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=64,
            num_hidden_layers=n,
            num_attention_heads=4,
            max_position_embeddings=128,
        )
    ),
    "phi": lambda n: hf.PhiForCausalLM(hf.PhiConfig(**SMALL, num_hidden_layers=n)),
    "olmo2": lambda n: hf.Olmo2ForCausalLM(hf.Olmo2Config(**GQA, num_hidden_layers=n)),
    "mistral": lambda n: hf.MistralForCausalLM(hf.MistralConfig(**SLIDES, num_hidden_layers=n)),
    "gemma2": lambda n: hf.Gemma2ForCausalLM(hf.Gemma2Config(**SLIDES, num_hidden_layers=n)),
    "gemma3": lambda n: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**SLIDES, num_hidden_layers=n)),
}
_BUILT: dict[tuple[str, str, torch.dtype, int, float], Any] = {}


def build(family: str, attention: str, dtype: torch.dtype = torch.float32, layers: int = 2, sharp: float = 1.0) -> Any:
    """A random model of `family`, made once; `attention` is eager or sdpa; the head is multiplied by `sharp`."""
    key = (family, attention, dtype, layers, sharp)
    if key not in _BUILT:
        torch.manual_seed(0)
        model = FAMILIES[family](layers).eval().to(dtype)
        model.set_attn_implementation(attention)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            if parameter.dim() > 1:
                parameter.mul_(3.0)  # random logits are nearly flat otherwise, and hide mistakes
        model.get_output_embeddings().weight.mul_(sharp)
        _BUILT[key] = model
    return _BUILT[key]


def new_rows(prompts: list[list[int]]) -> Rows:
    """Rows of a few prompts, each its own group."""
    n = torch.arange(len(prompts))
    return Rows(prompts, torch.full_like(n, 100), n * 7, n, n * 0)


class Play:
    """Random events on rows, each followed by a read that is compared with what `truth` reads."""

    def __init__(self, truth: Scorer, reader: Scorer, tolerance: float, seed: int) -> None:
        self.truth, self.reader, self.tolerance = truth, reader, tolerance
        self.random = torch.Generator().manual_seed(seed)
        self.rows = new_rows([[1, 5, 3], [1, 4, 4, 6, 7, 2, 9, 11, 12, 3, 8], [1, 9]])

    def tokens(self, *shape: int) -> torch.Tensor:
        """Random ones."""
        return torch.randint(0, V, shape, generator=self.random)

    def step(self, event: tuple[str, int]) -> None:
        """One event, then a read."""
        kind, number = event
        rows, count = self.rows, len(self.rows)
        if kind == "fork":
            rows.fork(torch.randint(0, count, (count,), generator=self.random))
        elif kind == "expand" and count < 6:
            index = torch.arange(count).repeat_interleave(2)
            rows.fork(index, stream=torch.arange(len(index)), sample=index * 0)
        elif kind == "keep" and count > 2:
            rows.keep(torch.randperm(count, generator=self.random)[: count - 1])
        elif kind == "done" and int(rows.done.sum()) < count - 1:
            rows.end(torch.arange(count) == number % count, rows.n, "eos")
        only = None
        if kind == "only":
            only = torch.rand(count, generator=self.random) < 0.5
        self.read(1 + number % 4, only)

    def read(self, k: int, only: torch.Tensor | None) -> None:
        """Compare up to `k` positions of every row, and take some of them."""
        rows = self.rows
        at = rows.n[:, None] + torch.arange(k)
        short = torch.randint(1, k + 1, (len(rows), 1), generator=self.random)
        at = at.masked_fill((torch.arange(k) >= short) | rows.done[:, None], NONE)
        rows.write(at[:, :-1], self.tokens(len(rows), k - 1), at[:, :-1] != NONE)
        got, want = self.reader.read(rows, at, only), self.truth.read(rows, at, only)
        wanted = (at != NONE) & (only[:, None] if only is not None else True)
        scale = want.abs().max().clamp(min=1.0)
        assert float((got - want)[wanted].abs().max() if wanted.any() else 0.0) <= self.tolerance * scale
        take = (torch.rand(at.shape, generator=self.random) < 0.7).long().cumprod(1).bool() & (at != NONE)
        if int(rows.n.max()) < 90:
            guesses = rows.tokens.gather(1, at.clamp(min=0))  # the last one is whatever stood there
            rows.commit(at, guesses, take & ~rows.done[:, None])


def norms_in_double(model: Any) -> Any:
    """Stock RMS norms compute in float32 whatever they are given: take torch's, or ten digits cannot be seen."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("RMSNorm") and not isinstance(child, torch.nn.RMSNorm):
                own = torch.nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon, dtype=torch.float64)
                own.weight.data.copy_(child.weight.data)
                own.requires_grad_(False)
                setattr(parent, name, own)
    return model
