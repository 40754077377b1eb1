"""Examples to tensors: causal batches sorted by length (next to no padding), and canvases for the masked model."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from decodekit.zoo.data import Example, mixture
from training.settings import CANVAS, Settings


@dataclass(frozen=True)
class Chunk:
    """One forward pass: tokens, attention (1 = real) and the loss weight of each token as a target."""

    tokens: Tensor  # [B, T] int64
    attention: Tensor  # [B, T] int64
    weights: Tensor  # [B, T] float32


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt and of its answer, the end token included."""

    prompt: list[int]
    answer: list[int]


def encode(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    """Prompts and answers are tokenised apart: their seam is a border of pieces, so together would be the same."""
    prompts = tokenizer([e.prompt for e in examples])["input_ids"]
    answers = tokenizer([e.answer for e in examples])["input_ids"]
    end = [tokenizer.eos_token_id]
    return [Encoded(p, a + end) for p, a in zip(prompts, answers, strict=True)]


def causal(encoded: list[Encoded], pad: int, prompt_weight: float) -> Chunk:
    """Right-padded rows: under a causal mask the padding is never seen, so positions start at 0 in every row."""
    length = max(len(e.prompt) + len(e.answer) for e in encoded)
    tokens = torch.full((len(encoded), length), pad)  # [B, T]
    weights = torch.zeros(len(encoded), length)  # [B, T]
    for row, e in enumerate(encoded):
        seam, stop = len(e.prompt), len(e.prompt) + len(e.answer)
        tokens[row, :stop] = torch.tensor(e.prompt + e.answer)
        weights[row, :seam] = prompt_weight
        weights[row, seam:stop] = 1.0
    return Chunk(tokens, (tokens != pad).long(), weights)


def canvas(encoded: list[Encoded], pad: int, end: int, cells: int = CANVAS) -> Chunk:
    """Left-padded prompts, then ``cells`` cells: the answer, and ``end`` up to the last cell. Weights: 1 there."""
    length = max(len(e.prompt) for e in encoded) + cells
    tokens = torch.full((len(encoded), length), pad)  # [B, T]
    for row, e in enumerate(encoded):
        filled = e.prompt + e.answer + [end] * (cells - len(e.answer))
        tokens[row, length - len(filled) :] = torch.tensor(filled)
    weights = torch.zeros(tokens.shape)  # [B, T]
    weights[:, -cells:] = 1.0
    return Chunk(tokens, (tokens != pad).long(), weights)


def room(encoded: list[Encoded]) -> int:
    """Cells that hold the longest answer, in whole eights: short SQL statements are not drowned in end tokens."""
    return min(CANVAS, -(-max(len(e.answer) for e in encoded) // 8) * 8)


def steps(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Chunk]]:
    """Endless training steps, each a list of chunks of rows of like length."""
    examples = mixture("train", settings.seed, settings.mixture)
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    while True:
        rows = encode(list(islice(examples, settings.batch)), tokenizer)
        if settings.name == "masked":
            rows = [row for row in rows if len(row.answer) <= CANVAS]
        rows.sort(key=lambda e: len(e.prompt) + len(e.answer))
        parts = [rows[at : at + settings.chunk] for at in range(0, len(rows), settings.chunk)]
        if settings.name == "masked":
            yield [canvas(part, pad, end, room(part)) for part in parts]
        else:
            yield [causal(part, pad, settings.prompt_weight) for part in parts]


def data_hash(settings: Settings, n: int = 2000) -> str:
    """Hash of the first ``n`` training examples: says whether two trainings saw the same data."""
    digest = blake2b(digest_size=8)
    for example in islice(mixture("train", settings.seed, settings.mixture), n):
        digest.update(f"{example.prompt}\0{example.answer}\0".encode())
    return digest.hexdigest()
