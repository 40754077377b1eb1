"""Constraints given as Python types, models without an end token, and masked models, through the same calls."""

from __future__ import annotations

import copy
import re
from typing import Annotated, Any, Literal

import pydantic
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

import decodekit as dk


class User(pydantic.BaseModel):
    """What a text is to be read as."""

    age: Annotated[int, pydantic.Field(ge=0, le=99)]
    member: bool


@pytest.mark.parametrize(
    ("limit", "read"),
    [
        (User, User.model_validate_json),
        (re.compile("[a-c]{2,4}"), str),
        (["yes", "no"], str),
        (Literal["on", "off"], str),
    ],
)
@pytest.mark.parametrize("drafted", [False, True])
def test_types_are_constraints(model: Any, draft: Any, limit: Any, read: Any, drafted: bool) -> None:
    spec = dk.speculative(draft=draft, k=3) | dk.Strategy.of("sample") if drafted else "sample"
    made = dk.Decoder(model, spec, limit, max_tokens=80)  # a random model writes much of the white space there is
    for seed in range(5):
        out = made.generate("hello", seed=seed)
        assert out.finish == "eos"
        assert out.value == read(out.text)
        assert out.message == ""
        pieces = list(made.stream("hello", seed=seed))
        assert "".join(p.text for p in pieces) == out.text
        assert [t for p in pieces for t in p.tokens] == out.tokens


def test_an_unfinished_text_has_no_value(model: Any) -> None:
    out = dk.generate(model, "hello", strategy="sample", constraint=User, max_tokens=3)
    assert (out.finish, out.value) == ("length", None)
    assert out.message == "the text ended by 'length' before it satisfied the constraint"


def test_without_an_end_token_a_complete_text_ends(model: Any) -> None:
    out = dk.generate(model, "hello", strategy="sample", constraint=User, max_tokens=40, eos=())
    assert out.finish == "complete"
    assert out.value == User.model_validate_json(out.text)


def test_several_constraints_must_all_hold(model: Any) -> None:
    limits = [dk.regex("[a-f]{1,3}"), dk.choice(["ab", "fad", "zoo", "abcd"])]
    out = dk.generate(model, "hello", strategy="sample", constraint=limits, n=20, max_tokens=8)
    assert set(out.posterior()) == {"ab", "fad"}
    assert {s.text for s in out.samples if s.finish == "dead end"} <= {"abc"}  # each part looks ahead for itself


@pytest.fixture(scope="module")
def masked(byte_level: Any) -> Any:
    """A random bidirectional model in float64."""
    tokenizer = copy.deepcopy(byte_level)
    tokenizer.mask_token = "<pad>"
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.5,
        type_vocab_size=1,
    )
    return BertForMaskedLM(config).double().eval(), tokenizer


@pytest.mark.parametrize("strategy", [None, "threshold(tau=0.2)", "threshold(tau=1.1)"])
def test_masked_models_fill_a_canvas(masked: Any, strategy: str | None) -> None:
    made = dk.Decoder(masked, strategy, max_tokens=16)
    prompts = ["hello world", "dog", "the quick brown fox"]
    alone = [made.generate(p) for p in prompts]
    for one, other in zip(alone, made.generate(prompts, batch_size=2), strict=True):
        assert one.tokens == other.tokens
        assert one.finish in ("eos", "length")
        assert len(one.tokens) == 16 or one.finish == "eos"
        assert masked[1].mask_token_id not in one.tokens
    pieces = list(made.stream("dog"))
    assert "".join(p.text for p in pieces) == alone[1].text
    assert [t for p in pieces for t in p.tokens] == alone[1].tokens
    if strategy == "threshold(tau=1.1)":
        assert alone[1].cost.rounds == len(alone[1].trace)
