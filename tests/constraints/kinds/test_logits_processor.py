"""The logits processor inside model.generate of a tiny model."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LogitsProcessorList

from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.json_schema.constraint import JsonSchema
from decodekit.constraints.kinds.choice import Choice
from decodekit.constraints.kinds.logits_processor import LogitsProcessorOf
from decodekit.constraints.kinds.regex import Regex
from decodekit.errors import ConstraintError

KINDS: list[Any] = [
    Regex(r"[a-z]{1,4}( \d{2}|é)"),
    Choice(("the", "the quick", "日本")),
    JsonSchema({"type": "object", "properties": {"a": {"enum": [1, "é"]}}, "additionalProperties": False}),
    ["yes", "no"],
]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=416, n_positions=64, n_embd=16, n_layer=1, n_head=2, eos_token_id=1, pad_token_id=0)
    return GPT2LMHeadModel(config).eval()


def texts(tools: ModuleType, out: torch.Tensor, start: int) -> list[str]:
    vocabulary = vocabulary_of(tools.small_tokenizer())
    return [vocabulary.text(row).decode() for row in out[:, start:].tolist()]


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_generate_keeps_to_the_constraint(kind: int, sample: bool, tools: ModuleType, model: Any) -> None:
    tokenizer = tools.small_tokenizer()
    tokenizer.padding_side = "left"
    inputs = tokenizer(["the", "a much longer prompt", "q"], return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    processor = LogitsProcessorOf(KINDS[kind], tokenizer)
    made = KINDS[kind] if hasattr(KINDS[kind], "judge") else Choice(("yes", "no"))
    torch.manual_seed(1)
    for _ in range(2):  # the same processor again
        with torch.no_grad():
            out = model.generate(
                **inputs, logits_processor=LogitsProcessorList([processor]), do_sample=sample, max_new_tokens=40
            )
        found = texts(tools, out, inputs["input_ids"].shape[1])
        assert all(made.judge(text) for text in found), found
        assert bool((out[:, inputs["input_ids"].shape[1] :] == 1).any(1).all())


def test_the_processor_follows_whatever_rows_it_is_shown(tools: ModuleType) -> None:
    tokenizer, pattern = tools.small_tokenizer(), r"(a|b)(c|d)"
    vocabulary = vocabulary_of(tokenizer, 410, (1,))
    a, b, c, d = (tokenizer(letter)["input_ids"][0] for letter in "abcd")
    processor = LogitsProcessorOf(Regex(pattern), tokenizer)

    def allowed(ids: list[list[int]]) -> list[set[str]]:
        scores = processor(torch.tensor(ids), torch.zeros(len(ids), 410))
        finite = [row.isfinite().nonzero()[:, 0].tolist() for row in scores]
        return [{vocabulary.tokens[i].decode(errors="replace") or str(i) for i in row} for row in finite]

    assert allowed([[9], [9]]) == [{"a", "b"}] * 2
    assert allowed([[9, a], [9, b]]) == [{"c", "d"}] * 2
    assert allowed([[9, b], [9, a]]) == [{"c", "d"}] * 2  # rows changed places
    assert allowed([[9, b, c], [9, a, d]]) == [{"1"}] * 2  # nothing but the end
    assert allowed([[9, b, c, 1], [9, a, d, 1]])[0] > {"a", "b", "c", "d"}  # after the end nothing matters
    assert allowed([[9, a], [9, a]]) == [{"c", "d"}] * 2  # shorter again, as in assisted decoding
    assert allowed([[8], [9]]) == [{"a", "b"}] * 2  # another prompt begins anew


def test_a_dead_end_can_only_end() -> None:
    processor = LogitsProcessorOf(Regex("xé|y"), Vocabulary((b"x", b"y", b"")), eos=2)
    scores = torch.zeros(1, 3)
    assert processor(torch.tensor([[0]]), scores).isfinite().tolist() == [[True, True, False]]
    assert processor(torch.tensor([[0, 0]]), scores).isfinite().tolist() == [[False, False, True]]


def test_a_text_must_be_able_to_end(tools: ModuleType) -> None:
    with pytest.raises(ConstraintError, match="a constrained text must be able to end: pass eos="):
        LogitsProcessorOf(["a"], tools.small_tokenizer().backend_tokenizer)
    LogitsProcessorOf(["a"], tools.small_tokenizer().backend_tokenizer, eos=1)
