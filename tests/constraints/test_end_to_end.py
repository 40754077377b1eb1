"""Constraints in whole runs of a tiny random model: every finished text is valid, masks and walks give one text."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import decodekit as dk
from decodekit.constraints.json_schema.constraint import JsonSchema
from decodekit.constraints.kinds.choice import Choice
from decodekit.constraints.kinds.regex import Regex
from decodekit.constraints.sql.constraint import Sql

DDL = "CREATE TABLE pets (name TEXT, age INTEGER); CREATE TABLE owners (name TEXT, city TEXT)"
KINDS: list[Any] = [
    Regex(r"(the|café|[0-9]{1,3})( (quick|日本|name)){0,3}"),
    Regex(r"(the|café|[0-9]{1,3})( (quick|日本|name)){0,3}", "outlines_core"),
    Choice(("a", "ab", "abc", "the quick", "the", "日本")),
    JsonSchema({"type": "object", "properties": {"a": {"enum": [1, "é"]}, "b": {"type": "boolean"}}, "required": ["b"],
                "additionalProperties": False}),
    Sql(DDL),
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=416, n_positions=256, n_embd=16, n_layer=1, n_head=2, eos_token_id=1, pad_token_id=0)
    return GPT2LMHeadModel(config).double().eval()


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_finished_text_is_valid_and_masks_agree_with_walks(kind: int, tools: ModuleType, model: Any) -> None:
    constraint, tokenizer = KINDS[kind], tools.small_tokenizer()
    texts = dict[str, list[str]]()
    for strategy in ("mask", "awrs", "awrs | smc(particles=3)"):
        outs = [
            dk.generate(
                model, "the", constraint=constraint, strategy=strategy, tokenizer=tokenizer, max_tokens=40, seed=seed
            )
            for seed in range(3)
        ]
        texts[strategy] = [out.text for out in outs if not isinstance(out, list)]
        finished = [out for out in outs if out.finish == "eos"]
        assert finished or isinstance(constraint, Sql)
        for out in finished:
            assert constraint.judge(out.text), out.text
            assert out.value is not None
    assert texts["mask"] == texts["awrs"]
    assert len(set(texts["mask"])) > 1


def test_a_text_that_was_cut_has_no_value(tools: ModuleType, model: Any) -> None:
    out = dk.generate(
        model, "the", constraint=Regex("[a-z]{50}"), strategy="mask", tokenizer=tools.small_tokenizer(), max_tokens=2
    )
    assert out.finish == "length"
    assert out.value is None


def test_without_an_end_of_text_the_constraint_ends_the_row(tools: ModuleType) -> None:
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=400, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    model = GPT2LMHeadModel(config).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tools.small_tokenizer().backend_tokenizer)
    out = dk.generate(
        model, "the", constraint=Regex("a[0-9]{3}|b"), strategy="mask", tokenizer=tokenizer, max_tokens=20
    )
    assert out.value == out.text
    assert Regex("a[0-9]{3}|b").judge(out.text)
