"""A small tokenizer, a run, random walks: what the tests of constraints share."""

from __future__ import annotations

import functools
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from decodekit.constraints.core.cursor import Compiled, Cursor, tokens_of
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.rows import Rows

CORPUS = [
    '{"name": "Ada", "age": 36, "tags": ["a", "b"], "ok": true, "none": null}',
    "SELECT name, count(*) FROM pets JOIN owners ON pets.owner_id = owners.id WHERE age >= 3 GROUP BY name",
    "the quick brown fox jumps over the lazy dog 0123456789 naïve café 日本語 true false null",
] * 20


@pytest.fixture(scope="session")
def tools() -> ModuleType:
    """This module, whatever name it was imported under."""
    return sys.modules[__name__]


@functools.cache
def small_tokenizer(size: int = 400) -> PreTrainedTokenizerFast:
    """Byte-level BPE with one pad and one end token in front."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")


@functools.cache
def real_tokenizer(folder: Path) -> Any:
    """A tokenizer from disk, loaded once."""
    return AutoTokenizer.from_pretrained(str(folder))


def run_of(tokenizer: Any, vocab: int, eos: tuple[int, ...] = (1,)) -> BindContext:
    """A run over a model of which only the vocabulary matters."""
    model = SimpleNamespace(name="tiny", vocab=vocab, tokenizer=tokenizer, eos=eos)
    return BindContext(model=model, open=lambda what: model, eos=eos, cost=Cost())


def rows_of(prompts: list[list[int]], limit: int = 10_000) -> Rows:
    """Rows that each are a group of their own."""
    zeros = torch.zeros(len(prompts), dtype=torch.int64)
    number = torch.arange(len(prompts))
    return Rows(prompts, torch.full_like(zeros, limit), number, number, zeros)


def walk(
    compiled: Compiled, seed: int, vocabulary: Vocabulary, steps: int = 200, stop: float = 0.3
) -> tuple[Cursor, list[int]]:
    """Allowed tokens at random; short tokens are as likely as long ones. Ends at a complete text by a coin."""
    rng, cursor, out = random.Random(seed), compiled.start(), list[int]()
    for _ in range(steps):
        allowed = tokens_of(cursor.mask(), len(vocabulary))
        if len(allowed) == 0 or (cursor.is_complete() and rng.random() < stop):
            break
        out.append(int(allowed[rng.randrange(len(allowed))]))
        cursor.advance(out[-1])
    return cursor, out


def by_checks(cursor: Cursor, size: int) -> list[int]:
    """The allowed tokens, one check each."""
    found: list[int] = np.flatnonzero(cursor.allows_many(range(size))).tolist()
    return found
