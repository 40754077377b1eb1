"""dk.hf inside transformers' generate: the same ids as its own loop, with the caller's processors and criteria."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.generation import LogitsProcessor, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

import decodekit as dk
from decodekit.errors import CompositionError, OptionError, PromptError


@pytest.fixture(scope="module")
def batch(byte_level: Any) -> Any:
    texts = ["hello world", "the quick brown fox jumps", "dog"]
    return byte_level(texts, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)


def specs(draft: Any) -> dict[str, Any]:
    return {
        "none": None,
        "greedy": "greedy",
        "speculative": dk.speculative(draft=draft, k=3) | dk.Strategy.of("greedy"),
    }


class Seen(LogitsProcessor):  # type: ignore[misc]
    """Forbids what was seen before, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.shown += [tuple(row) for row in input_ids.tolist()]
        return scores.scatter(1, input_ids, -torch.inf)


class AfterTwo(StoppingCriteria):  # type: ignore[misc]
    """Ends a row at its second token below 150."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return (input_ids[:, self.length :] < 150).sum(1) >= 2


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no end": {"eos_token_id": None},
    "penalty": {"repetition_penalty": 1.7},
    "no repeats": {"no_repeat_ngram_size": 2},
    "least": {"min_new_tokens": 6},
    "forced end": {"forced_eos_token_id": 2},
    "bad words": {"bad_words_ids": [[100], [101, 102]]},
    "max length": {"max_length": 20, "max_new_tokens": None},
}


@pytest.mark.parametrize("spec", ["none", "greedy", "speculative"])
@pytest.mark.parametrize("case", CASES)
def test_greedy_ids_are_those_of_transformers(model: Any, draft: Any, batch: Any, case: str, spec: str) -> None:
    options = {"max_new_tokens": 9, "do_sample": False, **CASES[case]}
    ours = model[0].generate(**batch, **options, custom_generate=dk.hf(specs(draft)[spec], tokenizer=model[1]))
    theirs = model[0].generate(**batch, **options)
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("spec", ["none", "speculative"])
def test_processors_and_criteria_of_the_caller(model: Any, draft: Any, batch: Any, spec: str) -> None:
    outs, seen = [], []
    for bridge in (dk.hf(specs(draft)[spec], tokenizer=model[1]), None):
        processor = Seen()
        outs.append(
            model[0]
            .generate(
                **batch,
                max_new_tokens=10,
                do_sample=False,
                logits_processor=LogitsProcessorList([processor]),
                stopping_criteria=StoppingCriteriaList([AfterTwo(batch["input_ids"].shape[1])]),
                custom_generate=bridge,
            )
            .tolist()
        )
        seen.append(set(processor.shown))
    assert outs[0] == outs[1]
    lines = [tuple(row) for row in outs[1]]
    length = batch["input_ids"].shape[1]
    for line in lines:  # every prefix that was decided on was shown as it is, padding included
        kept = next((i for i in range(length, len(line)) if line[i] == 0), len(line))
        assert all(line[:i] in seen[0] for i in range(length, kept))


def test_sampling_follows_the_generation_config(model: Any, batch: Any) -> None:
    def draw(seed: int, **more: Any) -> list[list[int]]:
        torch.manual_seed(seed)
        options = {"max_new_tokens": 8, "do_sample": True, "custom_generate": dk.hf(tokenizer=model[1]), **more}
        out: list[list[int]] = model[0].generate(**batch, **options).tolist()
        return out

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert draw(0, custom_generate=dk.hf(seed=4)) == draw(1, custom_generate=dk.hf(seed=4))
    greedy = model[0].generate(**batch, max_new_tokens=8, do_sample=False).tolist()
    assert draw(0, top_k=1) == greedy
    assert draw(0, temperature=1e-4) == greedy
    many = draw(0, num_return_sequences=4)
    assert len(many) == 12
    assert len({tuple(row) for row in many}) == 12


def test_top_p_restricts_the_draws(model: Any, byte_level: Any) -> None:
    ids = byte_level("hello", return_tensors="pt")["input_ids"].repeat(200, 1)
    law = torch.softmax(model[0](ids[:1]).logits[0, -1].detach(), -1)
    order = law.argsort(descending=True)
    kept = set(order[: int((law[order].cumsum(0) < 0.3).sum()) + 1].tolist())
    out = model[0].generate(ids, do_sample=True, top_p=0.3, top_k=0, max_new_tokens=1, custom_generate=dk.hf(seed=0))
    drawn = set(out[:, -1].tolist())
    assert drawn <= kept
    assert len(drawn) > 1


def test_a_constraint_inside_transformers(model: Any, batch: Any) -> None:
    bridge = dk.hf(constraint=dk.regex(r"[0-9]{3}x*"), tokenizer=model[1], seed=1)
    out = model[0].generate(**batch, max_new_tokens=12, do_sample=True, top_k=0, custom_generate=bridge)
    for text in model[1].batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True):
        assert text[:3].isdigit()
        assert not text[3:].strip("x")


@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 0.1, "top_k": 0}, {}, {"temperature": 0.01}])
def test_its_processors_truncate_what_a_constraint_allows(model: Any, batch: Any, cut: dict[str, Any]) -> None:
    for strategy in ("sample", "awrs"):
        bridge = dk.hf(strategy, constraint=dk.regex(r"[0-9]{3}x*"), tokenizer=model[1], seed=1)
        out = model[0].generate(**batch, max_new_tokens=5, do_sample=True, custom_generate=bridge, **cut)
        for text in model[1].batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True):
            assert text[:3].isdigit()


def test_temperature_alone_needs_no_mask(model: Any, batch: Any) -> None:
    bridge = dk.hf("awrs", constraint=dk.regex(r"[0-9]{3}x*"), tokenizer=model[1], seed=1)
    options = {"max_new_tokens": 5, "do_sample": True, "custom_generate": bridge, "temperature": 0.8}
    model[0].generate(**batch, top_k=0, **options)
    assert bridge.cost.checks > 0 == bridge.cost.masks
    model[0].generate(**batch, top_k=20, **options)
    assert bridge.cost.checks == 0  # masks that were made before are not counted again


def test_the_callable_keeps_cost_and_trace(model: Any, draft: Any, batch: Any) -> None:
    bridge = dk.hf(specs(draft)["speculative"], tokenizer=model[1])
    model[0].generate(**batch, max_new_tokens=6, do_sample=False, custom_generate=bridge)
    assert bridge.trace is not None
    assert set(bridge.cost.models) == {"target", "draft"}
    assert len(bridge.trace) >= 6


def test_streamer_and_dictionary(model: Any, byte_level: Any) -> None:
    class Kept(BaseStreamer):  # type: ignore[misc]
        def __init__(self) -> None:
            self.got: list[int] = []
            self.ended = 0

        def put(self, value: Tensor) -> None:
            self.got += value.flatten().tolist()

        def end(self) -> None:
            self.ended += 1

    ids = byte_level("hello", return_tensors="pt")["input_ids"]
    kept = Kept()
    out = model[0].generate(
        ids,
        max_new_tokens=5,
        do_sample=False,
        return_dict_in_generate=True,
        custom_generate=dk.hf(streamer=kept, tokenizer=byte_level),
    )
    assert kept.got == out.sequences[0, ids.shape[1] :].tolist()
    assert kept.ended == 1


def test_what_is_not_offered_is_refused(model: Any, batch: Any) -> None:
    def call(**more: Any) -> Any:
        options: dict[str, Any] = {"max_new_tokens": 3, "custom_generate": dk.hf(tokenizer=model[1]), **more}
        return model[0].generate(**batch, **options)

    with pytest.raises(CompositionError, match="num_beams=3 is transformers' own search; drop it, or custom_generate"):
        call(num_beams=3)
    with pytest.raises(CompositionError, match="output_scores=True is not offered"):
        call(output_scores=True, return_dict_in_generate=True)
    with pytest.raises(OptionError, match=r"a constraint needs the model's tokenizer.*tokenizer=tokenizer"):
        call(custom_generate=dk.hf("regex('a')"))
    with pytest.raises(OptionError, match="this is for the argument custom_generate"):
        dk.hf()(model[0], batch["input_ids"])
    padding = copy.copy(batch)
    padding["attention_mask"] = batch["attention_mask"].clone()
    padding["attention_mask"][1] = 0
    with pytest.raises(PromptError, match="row 1 of input_ids is all padding"):
        model[0].generate(**padding, max_new_tokens=3, custom_generate=dk.hf(tokenizer=model[1]))
