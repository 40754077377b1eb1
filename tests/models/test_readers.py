"""Readers of every family: whatever happened to the rows before, logits are those of the plain forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit.cost import Cost
from decodekit.models.causal import CausalReader
from decodekit.models.forward import Forward
from decodekit.models.holes import HolesReader
from decodekit.models.plain import PlainReader
from decodekit.plugins.pondering import Passes, Pondering
from decodekit.rows import NONE, Rows

V = 40
SMALL: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
GQA = {**SMALL, "num_key_value_heads": 2}
FAMILIES: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=128)),
    "gpt_neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SMALL)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GQA)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**GQA)),
    "qwen2 sliding": lambda: hf.Qwen2ForCausalLM(
        hf.Qwen2Config(**GQA, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    ),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GQA, head_dim=8)),
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(
            vocab_size=V,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
        )
    ),
    "phi": lambda: hf.PhiForCausalLM(hf.PhiConfig(**SMALL)),
    "olmo2": lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**GQA)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GQA, sliding_window=8, head_dim=8)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GQA, sliding_window=8, head_dim=8)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GQA, sliding_window=8, head_dim=8)),
}
READERS: dict[str, Callable[[Forward], Any]] = {
    "slab": lambda forward: CausalReader(forward, Cost(), "target"),
    "holes": lambda forward: HolesReader(forward, Cost(), "target"),
}
_BUILT: dict[tuple[str, str, torch.dtype], Any] = {}


def build(family: str, attention: str, dtype: torch.dtype = torch.float32) -> Any:
    key = (family, attention, dtype)
    if key not in _BUILT:
        torch.manual_seed(0)
        model = FAMILIES[family]().eval().to(dtype)
        model.set_attn_implementation(attention)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            if parameter.dim() > 1:
                parameter.mul_(3.0)  # random logits are nearly flat otherwise, and hide mistakes
        _BUILT[key] = model
    return _BUILT[key]


def new_rows(prompts: list[list[int]]) -> Rows:
    n = torch.arange(len(prompts))
    return Rows(prompts, torch.full_like(n, 100), n * 7, n, n * 0)


class Play:
    """Random events on rows, each followed by a read that is compared with the plain forward pass of every row."""

    def __init__(self, forward: Forward, reader: Any, tolerance: float, seed: int) -> None:
        self.truth = PlainReader(forward, Cost(), "truth")
        self.reader, self.tolerance = reader, tolerance
        self.random = torch.Generator().manual_seed(seed)
        self.rows = new_rows([[1, 5, 3], [1, 4, 4, 6, 7, 2, 9, 11, 12, 3, 8], [1, 9]])

    def tokens(self, *shape: int) -> torch.Tensor:
        return torch.randint(0, V, shape, generator=self.random)

    def step(self, event: tuple[str, int]) -> None:
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


EVENTS = st.lists(
    st.tuples(st.sampled_from(["go", "go", "fork", "expand", "keep", "done", "only"]), st.integers(0, 7)), max_size=14
)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("cache", list(READERS))
@pytest.mark.parametrize("family", list(FAMILIES))
def test_reading_through_a_cache_is_reading_plainly(family: str, cache: str, attention: str) -> None:
    if (family, attention) == ("gemma2", "sdpa"):
        pytest.skip("transformers offers no sdpa attention for gemma2")
    model = build(family, attention)

    @settings(max_examples=6)
    @given(events=EVENTS, seed=st.integers(0, 999))
    def run(events: list[tuple[str, int]], seed: int) -> None:
        forward = Forward(model, family, None)
        play = Play(forward, READERS[cache](forward), 1e-5, seed)
        for event in [("go", 2), *events]:
            play.step(event)

    run()


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


@pytest.mark.parametrize("cache", list(READERS))
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "phi", "llama", "qwen3", "mistral"])
def test_in_double_precision_to_ten_digits(family: str, cache: str) -> None:
    # sdpa: stock eager attention takes its softmax in float32 in most families
    model = norms_in_double(build(family, "sdpa", torch.float64))

    @settings(max_examples=8)
    @given(events=EVENTS, seed=st.integers(0, 999))
    def run(events: list[tuple[str, int]], seed: int) -> None:
        forward = Forward(model, family, None)
        play = Play(forward, READERS[cache](forward), 1e-10, seed)
        for event in [("go", 2), *events]:
            play.step(event)

    run()


@pytest.mark.parametrize("options", [{"steps": 2}, {"steps": 1, "top_k": 3, "temperature": 0.7}], ids=["all", "top-k"])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "llama", "qwen2", "qwen3", "gemma3"])
def test_pondering_through_its_caches_is_pondering_anew(family: str, options: dict[str, Any]) -> None:
    """Whatever happens to the rows, each pass over its own cache gives what recomputing all passes gives."""
    single = family == "gemma3"  # its scale is a float32 number
    model = build(family, "eager") if single else norms_in_double(build(family, "sdpa", torch.float64))
    forward = Passes(Pondering(**options), model, family, None)

    @settings(max_examples=6)
    @given(events=EVENTS, seed=st.integers(0, 999))
    def run(events: list[tuple[str, int]], seed: int) -> None:
        play = Play(forward, CausalReader(forward, Cost(), "target"), 1e-4 if single else 1e-9, seed)
        for event in [("go", 2), *events]:
            play.step(event)

    run()
