"""The bytes of tokens, against the text that was encoded, published byte tables, and decode where it is exact."""

from __future__ import annotations

import base64
import functools
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from decodekit.constraints.core.vocabulary import SPACE, byte_alphabet, vocabulary_of
from decodekit.errors import ConstraintError

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters=SPACE), max_size=40)
REAL = ["tok-gpt2", "tok-neox20b", "tok-mistral-v1", "tok-mistral-v3", "tok-cl100k", "lm-stories260k"]


@functools.cache
def sentence_tokenizer() -> PreTrainedTokenizerFast:
    """The kind that Llama 2 and Mistral use: BPE over characters, bytes for the rest, U+2581 for a space."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), SPACE, *"abcdehilnot é日"]
    merges = [("h", "e"), ("t", "he"), (SPACE, "the"), ("i", "n"), (SPACE, "a"), (SPACE, SPACE)]
    pieces += ["he", "the", SPACE + "the", "in", SPACE + "a", SPACE + SPACE]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    core = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    core.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@functools.cache
def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece unigram with Metaspace, as T5 and Gemma-like models use it."""
    pieces = [("<unk>", 0.0), *((f"<0x{i:02X}>", -9.0) for i in range(256))]
    pieces += [(SPACE, -3.0), *((letter, -4.0) for letter in "abcdehilnotw"), (SPACE + "the", -2.0), ("one", -2.5)]
    core = Tokenizer(models.Unigram(pieces, 0, True))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def check(tokenizer: Any, text: str, normal: Literal["NFC"] | None = None) -> None:
    vocabulary = vocabulary_of(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    written = text if normal is None else unicodedata.normalize(normal, text)
    lead = b" " * vocabulary.leading if written else b""
    assert vocabulary.text(ids) == lead + written.encode()


@given(TEXTS)
def test_byte_level(text: str) -> None:
    check(BYTE_LEVEL[0], text)


BYTE_LEVEL: list[Any] = []


@pytest.fixture(autouse=True, scope="module")
def _byte_level(tools: ModuleType) -> None:
    BYTE_LEVEL.append(tools.small_tokenizer())


@given(TEXTS)
def test_sentencepiece_with_byte_fallback(text: str) -> None:
    check(sentence_tokenizer(), text)


@given(st.text(alphabet="abcdehilnotw é日\n", max_size=30))
def test_unigram_with_metaspace(text: str) -> None:
    tokenizer = unigram_tokenizer()
    vocabulary = vocabulary_of(tokenizer)
    written = vocabulary.text(tokenizer(text)["input_ids"])
    assert written == (text if not text or text.startswith(" ") else " " + text).encode()


@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers(name: str, data: Path, tools: ModuleType) -> None:
    tokenizer = tools.real_tokenizer(data / name)

    @settings(max_examples=30)
    @given(TEXTS)
    def encoded_is_bytes(text: str) -> None:
        check(tokenizer, text, "NFC" if name == "tok-neox20b" else None)

    encoded_is_bytes()
    check(tokenizer, "  two spaces,\ttab\r\n\n" + " " * 90 + "naïve 日本語 👩‍👩‍👧")


def test_cl100k_is_its_published_table(data: Path, tools: ModuleType) -> None:
    lines = (data / "tok-cl100k" / "cl100k_base.tiktoken").read_text().split("\n")
    table = {int(rank): base64.b64decode(token) for token, rank in (line.split() for line in lines if line)}
    vocabulary = vocabulary_of(tools.real_tokenizer(data / "tok-cl100k"))
    assert len(table) == 100_256
    assert all(vocabulary.tokens[i] == token for i, token in table.items())
    assert not any(vocabulary.tokens[100_256:])


@pytest.mark.parametrize("name", ["tok-gpt2", "tok-mistral-v3"])
def test_bytes_agree_with_decode_where_it_is_exact(name: str, data: Path, tools: ModuleType) -> None:
    tokenizer = tools.real_tokenizer(data / name)
    vocabulary = vocabulary_of(tokenizer)
    front = tokenizer("a", add_special_tokens=False)["input_ids"]  # so that no leading space is stripped
    begin, compared = tokenizer.decode(front), 0
    for i, token in enumerate(vocabulary.tokens):
        text = token.decode(errors="replace")
        if token and "\ufffd" not in text:
            assert tokenizer.decode([*front, i], clean_up_tokenization_spaces=False) == begin + text
            compared += 1
    assert compared > 30_000


def test_the_alphabet_is_a_bijection() -> None:
    alphabet = byte_alphabet()
    assert sorted(alphabet.values()) == list(range(256))
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())


def test_special_control_and_ending_ids_have_no_bytes(tools: ModuleType) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tools.small_tokenizer().backend_tokenizer, eos_token="<end>")
    tokenizer.add_tokens(["   ", "<|tool|>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["[INST]"]})
    vocabulary = vocabulary_of(tokenizer)
    named = {name: vocabulary.tokens[tokenizer.convert_tokens_to_ids(name)] for name in tokenizer.get_added_vocab()}
    assert named == {"<pad>": b"", "<end>": b"", "   ": b"   ", "<|tool|>": b"", "[INST]": b""}
    letter = tokenizer("a")["input_ids"][0]
    fitted = vocabulary_of(tokenizer, 500, (letter,))
    assert len(fitted) == 500
    assert fitted.tokens[letter] == b""
    assert not any(fitted.tokens[len(tokenizer) :])
    assert len(vocabulary_of(tokenizer, 7)) == 7


def test_a_vocabulary_is_made_once_per_tokenizer(tools: ModuleType) -> None:
    tokenizer = tools.small_tokenizer()
    assert vocabulary_of(tokenizer, 450, (1,)) is vocabulary_of(tokenizer, 450, (1,))
    assert vocabulary_of(tokenizer, 450, (1,)) is not vocabulary_of(tokenizer, 451, (1,))


def test_spell_writes_any_text(tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer())
    ids = vocabulary.spell("the café 日本".encode())
    assert ids is not None
    assert vocabulary.text(ids) == "the café 日本".encode()


def test_tokenizers_without_exact_bytes_are_refused() -> None:
    with pytest.raises(ConstraintError, match=r"needs a fast tokenizer .* and object is not one; load it with"):
        vocabulary_of(object())
    bert = BertTokenizerFast(vocab={"[UNK]": 0, "a": 1, "##b": 2, "[CLS]": 3, "[SEP]": 4, "[PAD]": 5, "[MASK]": 6})
    with pytest.raises(ConstraintError, match="WordPiece tokenizer drops the spaces"):
        vocabulary_of(bert)
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(ConstraintError, match="has no decoder"):
        vocabulary_of(words)
