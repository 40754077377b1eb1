"""Caches of canvases: exact where that is claimed, and measured where it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import decodekit as dk
from decodekit import zoo
from decodekit.core.cost import Cost
from decodekit.errors import CompositionError
from decodekit.models.canvas_cache import CanvasReader
from decodekit.models.load import load
from decodekit.testing.oracle import rows_of
from decodekit.zoo import sums
from training import tokenizer

WORDS = tokenizer.load(zoo.path("masked"))


def tiny(kind: str, **diffusion: Any) -> Any:
    torch.manual_seed(7)
    shape = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96}
    config: Any = LlamaConfig(**shape) if kind == "llama" else Qwen2Config(**shape)
    config.diffusion = diffusion
    hf: Any = (LlamaForCausalLM if kind == "llama" else Qwen2ForCausalLM)(config)
    for weight in hf.parameters():
        weight.data.mul_(8.0)  # so that cells matter to each other
    return load((hf, WORDS), dtype=torch.float64)


PROMPTS = [[5, 9, 12], [7], [3, 4, 5, 6, 7, 8, 9], [40, 41]]
FULL = {"attention": "full"}


def both(model: Any, one: str, two: str, most: int = 18) -> tuple[Any, Any]:
    return tuple(dk.Decoder(model, spec).generate(PROMPTS, max_tokens=most) for spec in (one, two))


@pytest.mark.parametrize("kind", ["prefix", "dual"])
@pytest.mark.parametrize(("family", "shift"), [("llama", False), ("qwen", True)])
@pytest.mark.parametrize("rule", ["threshold(tau=0.3, block=5)", "unmask(per_round=2, block=6)"])
def test_read_again_every_round_it_is_no_cache(kind: str, family: str, shift: bool, rule: str) -> None:
    model = tiny(family, attention="full", shift=shift)
    plain, cached = both(model, rule, f"{rule} | canvas_cache(kind='{kind}', refresh=1)")
    for a, b in zip(plain, cached, strict=True):
        assert a.tokens == b.tokens
        assert a.logp == pytest.approx(b.logp, abs=1e-9)


@pytest.mark.parametrize("rule", ["threshold(tau=0.3)", "unmask(per_round=3)", "unmask", "wino_like"])
@pytest.mark.parametrize(("family", "shift"), [("llama", False), ("qwen", True)])
def test_block_causal_models_are_read_exactly(rule: str, family: str, shift: bool) -> None:
    model = tiny(family, attention="block", block=4, shift=shift)
    rule = "ete(explore=2, window=1)" if rule == "wino_like" else rule
    plain, cached = both(model, rule, f"{rule} | canvas_cache(kind='block')")
    for a, b in zip(plain, cached, strict=True):
        assert a.tokens == b.tokens
        assert a.logp == pytest.approx(b.logp, abs=1e-9)
    fed = [one[0].cost.models["target"].fed for one in (plain, cached)]
    assert fed[1] < fed[0] / 2


@pytest.mark.parametrize("kind", ["prefix", "dual"])
def test_cached_rows_do_not_depend_on_the_batch(kind: str) -> None:
    decoder = dk.Decoder(tiny("llama", **FULL), f"threshold(tau=0.25, block=4) | canvas_cache(kind='{kind}')")
    together = decoder.generate([*PROMPTS, *PROMPTS], max_tokens=13)
    for prompt, one in zip(PROMPTS, together, strict=False):
        alone = decoder.generate(prompt, max_tokens=13)
        assert alone.tokens == one.tokens
        assert alone.logp == pytest.approx(one.logp, abs=1e-9)


def test_a_block_begins_exactly_and_drifts_from_then_on() -> None:
    for kind in ("prefix", "dual"):
        spec = f"unmask(per_round=2, block=16) | canvas_cache(kind='{kind}', audit=True)"
        out = dk.Decoder("zoo:sums", spec, dtype="float64").generate(sums.PROMPT)
        kl = out.trace.told("cache.kl", 0)
        drift = dict(zip(kl["round"].tolist(), kl["value"].tolist(), strict=True))
        assert len(drift) == out.cost.rounds
        assert drift[0] < 1e-12  # the whole canvas was read
        assert max(drift.values()) > 1e-9
        exact = [number for number, value in drift.items() if value < 1e-12]
        assert 1 < len(exact) <= 5  # once a block, of which there are four


def test_without_a_change_the_dual_cache_feeds_the_block_alone() -> None:
    def fed(spec: str) -> int:
        return int(dk.Decoder("zoo:sums", spec).generate(sums.PROMPT).cost.models["target"].fed)

    rule = "unmask(block=16)"
    none, prefix, dual = fed(rule), fed(f"{rule} | canvas_cache"), fed(f"{rule} | canvas_cache(kind='dual')")
    assert none == 62 * 64
    assert dual < 4 * 64 + 58 * 16 + 1
    assert dual < prefix < none


def test_revoked_cells_outside_the_span_are_read_again() -> None:
    out = dk.Decoder("zoo:sums", "ete(explore=1, revoke=0.2, sample=True)", dtype="float64").generate(sums.PROMPT)
    assert "<" not in out.text


def test_what_cannot_be_cached_is_refused_in_a_sentence() -> None:
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = BertForMaskedLM(BertConfig(vocab_size=len(WORDS), **shape))
    with pytest.raises(CompositionError, match=r"canvas_cache: .* keeps no keys"):
        dk.generate((bert, WORDS), [5], strategy="threshold | canvas_cache", max_tokens=4)
    with pytest.raises(CompositionError, match="sees the whole canvas; use kind='prefix'"):
        dk.generate("zoo:sums", "a=", strategy="threshold | canvas_cache(kind='block')", max_tokens=4)
    with pytest.raises(CompositionError, match="sees no later block; use kind='block'"):
        dk.generate(tiny("llama", attention="block", block=4), [5], strategy="threshold | canvas_cache", max_tokens=4)
    with pytest.raises(CompositionError, match="hypotheses=1"):
        dk.generate("zoo:sums", "a=", strategy="ete(hypotheses=2) | canvas_cache", max_tokens=8)
    with pytest.raises(CompositionError, match="masked language model"):
        dk.generate("zoo:base", "a=", strategy="sample | canvas_cache", max_tokens=8)


def test_guidance_reads_the_prompt_masked_and_filled_cells_as_they_are() -> None:
    model = load("zoo:masked", dtype="float64")
    prompt = "Ada Park lives in Paris, is aged 36.\nperson as JSON:\n"
    plain = dk.generate(model, prompt, strategy="threshold", max_tokens=40)
    none = dk.generate(model, prompt, strategy="threshold | mask_guidance(0.0)", max_tokens=40)
    some = dk.generate(model, prompt, strategy="threshold | mask_guidance(1.5)", max_tokens=40)
    assert plain.tokens == none.tokens
    assert some.cost.models["target"].fed == some.cost.calls * 2 * (len(some.prompt.tokens) + 40)
    ids = [*some.prompt.tokens, *[model.mask] * 40]
    with torch.inference_mode():
        conditional = model.hf(input_ids=torch.tensor([ids])).logits[0, -40:]
        without = model.hf(input_ids=torch.full((1, len(ids)), model.mask)).logits[0, -40:]
    guided = without + 2.5 * (conditional - without)
    guided[:, model.mask] = -torch.inf
    best = guided.double().softmax(-1).max(-1)
    first = some.trace.events["position"][some.trace.events["round"] == 0]
    sure = {len(some.prompt.tokens) + i for i in range(32) if best.values[i] >= 0.9}
    assert sure <= set(first.tolist()) or 1 in some.tokens


def test_guidance_of_templates_masks_what_was_given() -> None:
    out = dk.generate("zoo:sums", "a=3,b={mask},sum=11;\n", strategy="threshold | mask_guidance(0.5)")
    assert out.text == "a=3,b=8,sum=11;\n"
    batch = dk.Decoder("zoo:sums", "threshold | mask_guidance(0.5)", dtype="float64")
    prompts = ["a={mask*14}", "a=3,b={mask},sum=11;\n"]
    assert [one.text for one in batch.generate(prompts)] == [batch.generate(p).text for p in prompts]


@pytest.mark.parametrize("kind", ["prefix", "dual"])
def test_a_change_outside_the_block_makes_it_read_everything(kind: Any) -> None:
    model = tiny("llama", **FULL)
    reader = CanvasReader(model.hf, model.mask, Cost(), "target", kind)
    rows = rows_of([[5, 9, 12, *[model.mask] * 9]], start=3)
    rows.limit = torch.tensor([12])
    at = torch.tensor([[4, 5]])
    exact = model.reader(Cost(), "plain")
    assert torch.allclose(reader.read(rows, at), exact.read(rows, at), atol=1e-10)
    rows.tokens[0, 4] = 33  # within the block that is being filled: the rest is kept as it was
    assert not torch.allclose(reader.read(rows, at), exact.read(rows, at), atol=1e-10)
    rows.tokens[0, 1] = 77  # before it: nothing that is kept is right
    assert torch.allclose(reader.read(rows, at), exact.read(rows, at), atol=1e-10)
