"""Canonical so far: against the tokenizer's own encoding of whole texts, for every kind of tokenizer."""

from __future__ import annotations

import functools
import os
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

from decodekit.errors import ConstraintError
from decodekit.models.load import load
from decodekit.text.canonical import Canonicality, canonicality_of
from decodekit.text.codec import Codec

TEXT = 'Once upon a time, don\'t  x\n\n  1 there\té was 12345 中文 SELECT  *\n  ada@example.org {"a": [1, 2]} ’t \n'
KINDS = ["zoo", "tok-gpt2", "tok-cl100k", "tok-neox20b", "tok-mistral-v1", "lm-stories260k"]


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "zoo":
        return load("zoo:base").tokenizer
    root = os.environ.get("DECODEKIT_DATA")
    if not root:
        pytest.skip("DECODEKIT_DATA is not set: no real tokenizers")
    return loaded(Path(root) / request.param)


@functools.cache
def loaded(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(folder))


def own(tokenizer: Any, text: str) -> list[int]:
    """What the tokenizer writes for `text` after a prompt: without the space that some put before a text."""
    if canonicality_of(tokenizer).pairs is False:  # byte-level: no space is put anywhere
        plain: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return plain
    border = "\n"  # joined to nothing but the newline itself
    ids: list[int] = tokenizer.encode(border + text, add_special_tokens=False)
    head: list[int] = tokenizer.encode(border, add_special_tokens=False)
    assert ids[: len(head)] == head
    return ids[len(head) :]


def test_what_the_tokenizer_writes_is_canonical(tokenizer: Any) -> None:
    ids = own(tokenizer, TEXT)
    canon = canonicality_of(tokenizer)
    assert all(canon.so_far(ids))
    window: Any = canon.first()
    for token in ids:
        window = canon.step(window, token)
    assert canon.whole(window)
    assert canonicality_of(tokenizer) is canon


def test_a_text_is_canonical_iff_the_tokenizer_writes_it_so(tokenizer: Any) -> None:
    """Random walks and random triples, against an encoding of the whole text."""
    canon, codec, rng = canonicality_of(tokenizer), Codec(tokenizer), random.Random(3)
    pool = [t for t in dict.fromkeys(own(tokenizer, TEXT)) if codec.bytes_of(t)]
    pool += [t for t in rng.sample(range(len(tokenizer)), 120) if codec.bytes_of(t)]
    agreed = canonical = 0
    for trial in range(150):
        tokens, window = list[int](), canon.first()
        for _ in range(8):
            token = rng.choice(pool)
            after = canon.step(window, token)
            if after is None and trial % 3:
                continue
            tokens.append(token)
            try:
                text = b"".join(map(codec.bytes_of, tokens)).decode()
            except UnicodeDecodeError:
                text = "\n"
            if not text.startswith("\n"):  # would join the border of `own`
                whole = own(tokenizer, text) == tokens
                assert (after is not None and canon.whole(after)) == whole, tokens
                agreed, canonical = agreed + 1, canonical + whole
            if after is None:
                break
            window = after
    assert agreed > 300
    assert 30 < canonical < agreed


def test_a_split_word_is_not_canonical_and_stays_so() -> None:
    tokenizer = load("zoo:base").tokenizer
    whole = tokenizer.encode(" name", add_special_tokens=False)
    split = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in " name"]
    canon = canonicality_of(tokenizer)
    assert all(canon.so_far(whole))
    seen = canon.so_far(split + whole)
    assert not seen[-1]
    assert seen == sorted(seen, reverse=True)


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ConstraintError, match="of the kind Unigram"):
        Canonicality(Tokenizer(models.Unigram([("a", 0.0)], 0, False)))
    with pytest.raises(ConstraintError, match="fast tokenizer"):
        Canonicality(object())
