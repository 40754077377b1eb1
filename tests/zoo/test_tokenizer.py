"""The shared tokenizer: lossless on any text, and safe at the seam of prompt and answer."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from decodekit import zoo
from decodekit.zoo.data import Example, Split, json_examples, sql_examples, text_examples

TOKENIZER = AutoTokenizer.from_pretrained(str(zoo.path("base")))


@given(st.text())
@example(" two  spaces")
@example("a.b@c.org <x@y> it's\r\n\tüß 日本 \u2028 \U0001f600")
@settings(max_examples=300, deadline=None)
def test_any_text_round_trips(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@pytest.mark.parametrize("make", [json_examples, sql_examples, text_examples])
def test_prompt_and_answer_tokenise_apart_as_together(make: Callable[[Split, int, int], list[Example]]) -> None:
    for item in make("heldout", 200, 6):
        apart = TOKENIZER(item.prompt)["input_ids"] + TOKENIZER(item.answer)["input_ids"]
        assert apart == TOKENIZER(item.prompt + item.answer)["input_ids"], item
        assert len(apart) < 120


def test_names_are_the_same_tokens_in_a_sentence_and_in_quotes() -> None:
    for item in json_examples("heldout", 100, 9):
        if item.kind == "person":
            for value in (item.record["name"], item.record["email"]):
                own = TOKENIZER(str(value))["input_ids"]
                for text in (item.prompt, item.answer):
                    tokens = TOKENIZER(text)["input_ids"]
                    assert any(tokens[at : at + len(own)] == own for at in range(len(tokens))), (value, text)


def test_specials_and_bytes() -> None:
    specials = (TOKENIZER.pad_token, TOKENIZER.eos_token, TOKENIZER.mask_token)
    assert specials == ("<|pad|>", "<|end|>", "<|mask|>")
    assert all(len(TOKENIZER(text)["input_ids"]) == 1 for text in specials)
    assert 1024 <= len(TOKENIZER) <= 2048


OTHERS = ("hops", "sums", "visual", "visual-draft")


@pytest.mark.parametrize("name", [name for name in zoo.names() if name not in OTHERS])
def test_all_models_share_one_tokenizer(name: str) -> None:
    own = (zoo.path(name) / "tokenizer.json").read_bytes()
    assert own == (zoo.path("base") / "tokenizer.json").read_bytes()
