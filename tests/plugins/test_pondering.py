"""Pondering: the paper's formula, exact through caches, and as the scorer of everything else."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor

import decodekit as dk
from decodekit.errors import CompositionError, OptionError
from decodekit.models.load import load
from decodekit.models.model import HFModel
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.mask import Mask
from decodekit.plugins.pondering import Passes, Pondering
from decodekit.plugins.sample import Sample
from decodekit.plugins.smc import SMC
from decodekit.plugins.speculative import Speculative
from decodekit.testing.harness import run
from decodekit.testing.oracle import FALSE_ALARM, Z_ALARM, chi_square, enumerate_law, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

V, HORIZON, N = 5, 3, 4
SMALL: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=V, n_embd=16, n_layer=2, n_head=2, n_positions=32)),
    "gpt_neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SMALL)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, num_key_value_heads=1)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**SMALL, num_key_value_heads=1)),
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(
            vocab_size=V, hidden_size=16, word_embed_proj_dim=16, ffn_dim=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=32,
        )
    ),
}  # fmt: skip


@lru_cache
def small(family: str = "gpt2") -> Any:
    torch.manual_seed(3)
    model = FAMILIES[family]().eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6.0)  # random logits are nearly flat otherwise
    return model


def wrapped(family: str = "gpt2") -> HFModel:
    return HFModel(
        small(family), TableModel(vocab=V, seed=0).tokenizer, family, context=32, eos=(0,), mask=None, masked=False
    )


def by_formula(model: Any, tokens: list[int], steps: int, temperature: float, accumulate: bool) -> Tensor:
    """[T, V] the residual scheme written out, all passes over the whole text."""
    table = model.get_input_embeddings().weight
    with torch.inference_mode():
        start = here = table[torch.tensor([tokens])]
        for _ in range(steps):
            law = (model(inputs_embeds=here).logits / temperature).softmax(-1)
            here = (here if accumulate else start) + law @ table
        logits: Tensor = model(inputs_embeds=here).logits[0]
    return logits


@pytest.mark.parametrize("family", list(FAMILIES))
def test_it_is_the_formula(family: str) -> None:
    text = [1, 4, 2, 3, 3, 1]
    for steps, temperature, residual in (
        (0, 1.0, "accumulate"),
        (1, 0.5, "accumulate"),
        (3, 1.0, "replace"),
        (3, 2.0, "accumulate"),
    ):
        options = Pondering(steps=steps, temperature=temperature, residual=residual)  # type: ignore[arg-type]
        got = Passes(options, small(family), family, 32).alone(torch.tensor([text]))[0]
        want = by_formula(small(family), text, steps, temperature, residual == "accumulate")
        assert float((got - want).abs().max()) < 1e-10
    one = Passes(Pondering(steps=2, top_k=V), small(family), family, 32).alone(torch.tensor([text]))
    every = Passes(Pondering(steps=2), small(family), family, 32).alone(torch.tensor([text]))
    assert float((one - every).abs().max()) < 1e-10
    assert float((every[0] - by_formula(small(family), text, 0, 1.0, True)).abs().max()) > 1e-3  # it does something


def test_a_checkpoint_in_the_authors_layout_loads_with_its_stray_weight(tmp_path: Path) -> None:
    """GPT-NeoX, one linear layer that nothing uses, embeddings scaled by sqrt(H), the first of them also by S."""
    model = small("gpt_neox").float()
    model.save_pretrained(str(tmp_path))
    weights = load_file(str(tmp_path / "model.safetensors"))
    save_file(
        {**weights, "gpt_neox.interpolation.weight": torch.ones(16, 32)},
        str(tmp_path / "model.safetensors"),
        metadata={"format": "pt"},
    )
    opened = load(str(tmp_path), tokenizer=TableModel(vocab=V, seed=0).tokenizer, dtype="float64")
    for options in (Pondering(steps=3, scale="sqrt"), Pondering(steps=2, scale="sqrt", multiply=True)):
        table = opened.hf.get_input_embeddings().weight * 4.0  # sqrt(16)
        text = torch.tensor([[1, 4, 2, 3]])
        with torch.inference_mode():
            here = table[text] * (2 if options.multiply else 1)
            for _ in range(options.steps):
                here = here + opened.hf(inputs_embeds=here).logits.softmax(-1) @ table
            want = opened.hf(inputs_embeds=here).logits
        got = Passes(options, opened.hf, "neox", 32).alone(text)
        assert float((got - want).abs().max()) < 1e-12
    small.cache_clear()


def test_nothing_but_the_likeliest_token_is_mixed_where_it_is_cold() -> None:
    """temperature -> 0 adds the embedding of the argmax."""
    text, model = [1, 4, 2], small()
    cold = Passes(Pondering(steps=1, temperature=1e-9), model, "gpt2", 32).alone(torch.tensor([text]))
    top = Passes(Pondering(steps=1, top_k=1), model, "gpt2", 32).alone(torch.tensor([text]))
    assert float((cold - top).abs().max()) < 1e-9


def test_no_steps_are_the_model_itself() -> None:
    plain = dk.generate("zoo:base", ["Ada Park is 36.", "x"], strategy="sample", max_tokens=16, seed=3)
    none = dk.generate(
        "zoo:base", ["Ada Park is 36.", "x"], strategy="sample | pondering(steps=0)", max_tokens=16, seed=3
    )
    assert [one.text for one in plain] == [one.text for one in none]


@pytest.mark.parametrize(
    "parts",
    [(Sample(),), (Sample(), Speculative(TableModel(vocab=V, eos=(0,), seed=9), k=2)), (Mask(),)],
    ids=["plain", "drafted", "masked"],
)
def test_texts_have_the_law_that_pondering_defines(parts: tuple[Any, ...]) -> None:
    options, rule = Pondering(steps=2), ToyConstraint(seed=6)
    limit = rule if isinstance(parts[0], Mask) else None
    laws = enumerate_law(logits_of(options), [1, 2], HORIZON, eos=(0,), constraint=limit)
    out = run([*parts, options], wrapped(), [[1, 2]], constraint=limit, max_tokens=HORIZON, samples=1500)
    assert chi_square(laws.plain if limit is None else laws.masked, out.texts) > FALSE_ALARM


def logits_of(options: Pondering) -> Any:
    forward = Passes(options, small(), "gpt2", 32)
    return lambda tokens: forward.alone(torch.tensor([list(tokens)]))[0, -1]


@pytest.mark.parametrize("drafted", [False, True])
def test_the_evidence_of_a_population_is_unbiased(drafted: bool) -> None:
    """SMC over pondering: all caches follow the resampled rows."""
    options, rule = Pondering(steps=2), ToyConstraint(seed=6, dead_ends=True)
    laws = enumerate_law(logits_of(options), [1, 2], HORIZON, eos=(0,), constraint=rule)
    guess = [Speculative(TableModel(vocab=V, eos=(0,), seed=9), k=2)] if drafted else []
    parts = [AWRS(), SMC(particles=N, ess=0.9), options, *guess]
    out = run(parts, wrapped(), [[1, 2]], constraint=rule, max_tokens=HORIZON, samples=800)
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    assert abs(z_score(weight.view(-1, N).mean(1), laws.evidence)) < Z_ALARM


def test_it_works_under_a_schema_in_a_ragged_batch() -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["age"],
        "additionalProperties": False,
    }
    prompts = ["Ada Park is 36.", "Bo", "The same person comes from Vienna, and is 41 years old."]
    made = dk.Decoder("zoo:base", "awrs | pondering(steps=1)", schema, max_tokens=24)
    together = made.generate(prompts)
    assert all(isinstance(one.value, dict) for one in together)
    assert [one.text for one in together] == [made.generate([prompt])[0].text for prompt in prompts]


def test_work_is_counted() -> None:
    cost = [
        dk.generate("zoo:base", "Ada", strategy=f"greedy | pondering(steps={s})", max_tokens=6).cost.models["target"]
        for s in (0, 3)
    ]
    assert cost[1].fed == cost[0].fed
    assert cost[1].layers == 4 * cost[0].layers
    assert cost[1].flops > 3.5 * cost[0].flops


def test_what_cannot_ponder_is_refused() -> None:
    with pytest.raises(CompositionError, match="pondering"):
        dk.generate("zoo:masked", "x", strategy="pondering", max_tokens=3)
    with pytest.raises(CompositionError, match="pondering"):
        dk.generate(TableModel(vocab=5, seed=1), [1], strategy="sample | pondering", max_tokens=3)
    with pytest.raises(OptionError, match="steps"):
        Pondering(steps=-1)
