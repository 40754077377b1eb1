"""Losses of the three models: next token, next token with a teacher, and masked cells."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decodekit.models.full_attention import Full
from training.batches import Chunk

#: Sum of weighted losses of a chunk and the sum of its weights.
Objective = Callable[[nn.Module, Chunk], tuple[Tensor, Tensor]]


def causal(model: nn.Module, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of every next token."""
    logits = model(input_ids=chunk.tokens, use_cache=False).logits[:, :-1]  # [B, T-1, V]
    losses = F.cross_entropy(logits.flatten(0, 1), chunk.tokens[:, 1:].flatten(), reduction="none")  # [B*(T-1)]
    weights = chunk.weights[:, 1:].flatten()  # [B*(T-1)]
    return (losses * weights).sum(), weights.sum()


def distilled(teacher: nn.Module, share: float) -> Objective:
    """Cross-entropy with the data (``1 - share``) and with the teacher's distribution (``share``) on answer tokens."""

    def objective(model: nn.Module, chunk: Chunk) -> tuple[Tensor, Tensor]:
        logits = model(input_ids=chunk.tokens, use_cache=False).logits[:, :-1].flatten(0, 1)  # [B*(T-1), V]
        with torch.no_grad():
            goal = teacher(input_ids=chunk.tokens, use_cache=False).logits[:, :-1].flatten(0, 1).softmax(-1)
        hard = F.cross_entropy(logits, chunk.tokens[:, 1:].flatten(), reduction="none")  # [B*(T-1)]
        soft = -(goal * logits.log_softmax(-1)).sum(-1)  # [B*(T-1)]
        weights = chunk.weights[:, 1:].flatten()  # [B*(T-1)]
        return (((1 - share) * hard + share * soft) * weights).sum(), weights.sum()

    return objective


def masked(mask: int, generator: torch.Generator, easy: int = 0) -> Objective:
    """Masked diffusion: of the N cells of a row k ~ U{1..N} are masked; mean cross-entropy over them.

    N times its expectation bounds the negative log-likelihood in any order (LLaDA, arXiv 2502.09992, equation 3, with
    the number of masks drawn instead of the ratio, which has the lower variance). The first ``easy`` calls draw fewer
    masks: copying from the prompt is found sooner where most neighbours are visible.
    """
    calls = 0

    def objective(model: nn.Module, chunk: Chunk) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        power = 1.0 if calls > easy else 2.0 - calls / easy
        rows, cells = len(chunk.tokens), int(chunk.weights[0].sum())
        # Stratified: every step sees few and many masks alike; shuffled, because rows come in order of length.
        strata = torch.randperm(rows, generator=generator)  # [B]
        ratio = (strata + torch.rand(rows, generator=generator)) / rows  # [B]
        count = (ratio**power * cells).long().clamp(0, cells - 1) + 1  # [B]
        rank = torch.rand(rows, cells, generator=generator).argsort(1).argsort(1)  # [B, N]
        hidden = rank < count[:, None]  # [B, N]
        answer = chunk.tokens[:, -cells:]  # [B, N]
        tokens = torch.cat([chunk.tokens[:, :-cells], answer.masked_fill(hidden, mask)], 1)  # [B, T]
        logits = model(input_ids=tokens, attention_mask=chunk.attention).logits[:, -cells:]  # [B, N, V]
        losses = F.cross_entropy(logits.transpose(1, 2), answer, reduction="none")  # [B, N]
        return ((losses * hidden).sum(1) / count).sum(), torch.tensor(float(rows))

    return objective


def full(objective: Objective) -> Objective:
    """``objective`` of a causal class that is read without its causal mask."""

    def through(model: nn.Module, chunk: Chunk) -> tuple[Tensor, Tensor]:
        return objective(Full.of(model), chunk)

    return through
