"""A task whose depth is known: a permutation f is listed pair by pair, and asked for f applied k times to a symbol.

A text is ``a>c b>a ... c2?``: six pairs in random order, then queries; the answer to ``c2?`` is f(f(c)). Held out are
permutations (one in ten, by a hash), so that a model which learns them by heart is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from itertools import permutations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from decodekit.zoo.data import Split

SYMBOLS = "abcdef"
HOPS = 4
QUERIES = 16
M = len(SYMBOLS)


def vocabulary() -> list[str]:
    """Every token: the answers, the pairs, the queries by number of hops, the end."""
    pairs = [f"{x}>{y}" for x in SYMBOLS for y in SYMBOLS]
    queries = [f"{x}{k}?" for k in range(1, HOPS + 1) for x in SYMBOLS]
    return [*SYMBOLS, *pairs, *queries, "<|end|>"]


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary())}, unk_token="<|end|>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>", pad_token="<|end|>")


@dataclass(frozen=True)
class Hops:
    """Texts [B, M + Q] of M pairs and Q queries, answers [B, Q], and how many hops each takes [B, Q]."""

    tokens: Tensor
    answers: Tensor
    hops: Tensor


def split(which: Split) -> Tensor:
    """[P, M] the permutations of one split."""
    held = [blake2b(bytes(p), digest_size=8).digest()[0] % 10 == 0 for p in permutations(range(M))]
    return torch.tensor([p for p, out in zip(permutations(range(M)), held, strict=True) if out == (which == "heldout")])


def texts(known: Tensor, count: int, generator: torch.Generator, queries: int = QUERIES) -> Hops:
    """`count` texts over permutations drawn from `known` [P, M]."""
    f = known[torch.randint(len(known), (count,), generator=generator)]  # [B, M]
    order = torch.rand(count, M, generator=generator).argsort(1)  # [B, M]
    pairs = M + order * M + f.gather(1, order)
    asked = torch.randint(M, (count, queries), generator=generator)  # [B, Q]
    hops = torch.randint(1, HOPS + 1, (count, queries), generator=generator)
    answer = asked
    for j in range(1, HOPS + 1):
        answer = torch.where(hops >= j, f.gather(1, answer), answer)
    return Hops(torch.cat([pairs, M + M * M + (hops - 1) * M + asked], 1), answer, hops)
