"""Several models over one text: whether they speak the same tokens, and their logits over one width."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core.bound import Model


def same_tokens(one: Model, other: Model) -> bool:
    """Whether id i is the same token in both; only the padding of the embedding matrices may differ."""
    mine, yours = one.tokenizer, other.tokenizer
    if mine is yours and mine is not None:
        return True
    if hasattr(mine, "get_vocab") and hasattr(yours, "get_vocab"):
        return bool(mine.get_vocab() == yours.get_vocab())
    return one.vocab == other.vocab


def fitted(logits: Tensor, vocab: int) -> Tensor:
    """[..., vocab] from [..., V]: ids that a member does not have are impossible for it."""
    short = vocab - logits.shape[-1]
    return torch.nn.functional.pad(logits, (0, short), value=-torch.inf) if short > 0 else logits[..., :vocab]
