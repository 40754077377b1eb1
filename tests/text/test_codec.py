"""Text piece by piece: the same characters as the tokenizer's own decoding, and none that has to be taken back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from decodekit.text.codec import Codec, earliest_stop, held_back

KINDS = ("byte_level", "sentencepiece", "word_piece")


@pytest.fixture(scope="session")
def codecs(request: pytest.FixtureRequest) -> dict[str, Codec]:
    return {kind: Codec(request.getfixturevalue(kind)) for kind in KINDS}


def pushed(codec: Codec, tokens: Sequence[int], context: Sequence[int] = ()) -> list[str]:
    state = codec.start(context)
    return [*(state.push(t) for t in tokens), state.flush()]


def test_bytes_are_read_where_the_tokenizer_allows_it(codecs: dict[str, Codec]) -> None:
    assert {kind: codec.exact for kind, codec in codecs.items()} == {
        "byte_level": True,
        "sentencepiece": True,
        "word_piece": False,
    }


@given(data=st.data())
def test_any_byte_level_tokens_give_the_text_of_decode(codecs: dict[str, Codec], data: st.DataObject) -> None:
    codec = codecs["byte_level"]
    tokens = data.draw(st.lists(st.integers(0, len(codec.tokenizer) - 1), max_size=30))
    assert "".join(pushed(codec, tokens)) == codec.decode(tokens)


@given(text=st.text(max_size=30), split=st.integers(0, 30))
@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_what_follows_a_prompt_is_the_rest_of_the_text(
    codecs: dict[str, Codec], kind: str, text: str, split: int
) -> None:
    codec = codecs[kind]
    tokens = codec.tokenizer.encode(text, add_special_tokens=False)
    prompt, rest = tokens[:split], tokens[split:]
    data = b"".join(codec.bytes_of(t) for t in rest).decode("utf-8", "replace")
    whole = "".join(pushed(codec, rest, prompt))
    assert whole == (data.removeprefix(" ") if kind == "sentencepiece" and not prompt else data)
    if "\ufffd" not in codec.decode(prompt) + codec.decode(rest):
        assert codec.decode(prompt) + whole == codec.decode(tokens)


@given(data=st.data())
def test_words_join_as_in_the_whole_text(codecs: dict[str, Codec], data: st.DataObject) -> None:
    codec = codecs["word_piece"]
    tokens = data.draw(st.lists(st.integers(1, len(codec.tokenizer) - 1), max_size=20))
    assert "".join(pushed(codec, tokens)) == codec.decode(tokens)


@given(text=st.text(max_size=20))
def test_an_incomplete_character_waits(codecs: dict[str, Codec], text: str) -> None:
    codec = codecs["byte_level"]
    byte = {codec.bytes_of(t): t for t in range(3, 259)}
    tokens = [byte[bytes([b])] for b in text.encode()]  # the finest tokens: one byte each
    *parts, rest = pushed(codec, tokens)
    assert "".join(parts) == text
    assert rest == ""
    if tokens:
        assert all("\ufffd" not in part or "\ufffd" in text for part in parts)


def test_the_end_of_a_text_shows_what_was_left_open(codecs: dict[str, Codec]) -> None:
    codec = codecs["byte_level"]
    byte = {codec.bytes_of(t): t for t in range(3, 259)}
    assert pushed(codec, [byte[b"\xe2"], byte[b"\x82"]]) == ["", "", "\ufffd"]


def test_a_first_space_is_dropped_only_at_the_beginning_of_everything(codecs: dict[str, Codec]) -> None:
    codec = codecs["sentencepiece"]
    dog = codec.tokenizer.convert_tokens_to_ids("▁dog")
    assert codec.text([dog, dog]) == "dog dog"
    assert codec.text([dog], [codec.tokenizer.bos_token_id]) == "dog"
    assert codec.text([dog], [dog]) == " dog"


def test_special_and_unknown_ids_have_no_text(codecs: dict[str, Codec]) -> None:
    for codec in codecs.values():
        assert codec.text([codec.tokenizer.eos_token_id, codec.tokenizer.pad_token_id]) == ""
        assert codec.bytes_of(len(codec.tokenizer) + 3) == b""


def test_a_copy_goes_on_by_itself(codecs: dict[str, Codec]) -> None:
    for codec in codecs.values():
        tokens = codec.tokenizer.encode("hello world", add_special_tokens=False)
        one = codec.start()
        head = one.push(tokens[0])
        two = one.copy()
        ends = [head + "".join(map(state.push, tokens[1:])) + state.flush() for state in (one, two)]
        assert ends == [codec.decode(tokens)] * 2


WORDS = st.text(alphabet="abc", min_size=1, max_size=4)


def character_by_character(text: str, stops: Sequence[str]) -> str:
    for end in range(1, len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            return text[: end - max(map(len, done))]
    return text


@given(text=st.text(alphabet="abc", max_size=15), stops=st.lists(WORDS, min_size=1, max_size=3))
def test_the_stop_completed_first_cuts(text: str, stops: list[str]) -> None:
    found = earliest_stop(text, stops)
    assert (text if found is None else text[: found[0]]) == character_by_character(text, stops)


@given(text=st.text(alphabet="abc", max_size=8), stops=st.lists(WORDS, min_size=1, max_size=3))
def test_exactly_what_may_begin_a_stop_is_held(text: str, stops: list[str]) -> None:
    size = held_back(text, stops)
    tails = [n for n in range(len(text) + 1) if any(s.startswith(text[len(text) - n :]) and n < len(s) for s in stops)]
    assert size == max(tails)


@pytest.mark.parametrize("name", ["tok-gpt2", "tok-neox20b", "tok-cl100k", "tok-mistral-v1", "tok-mistral-v3"])
def test_real_tokenizers_are_read_as_bytes(data: Path, name: str) -> None:
    if not (data / name).is_dir():
        pytest.skip(f"{name} is not among the real data")
    tokenizer = AutoTokenizer.from_pretrained(data / name)
    codec = Codec(tokenizer)
    assert codec.exact
    text = "Hello  world,\n\tnaïve 漢字 🙂👩‍💻 x_y = {'a': 1};  done"
    tokens = tokenizer.encode(text, add_special_tokens=False)
    assert "".join(pushed(codec, tokens)) == codec.decode(tokens) == text
    for cut in range(1, len(tokens)):
        rest = "".join(pushed(codec, tokens[cut:], tokens[:cut]))
        if "\ufffd" not in rest:
            assert text.endswith(rest)
            assert codec.decode(tokens[:cut]).rstrip("\ufffd") + rest == text
