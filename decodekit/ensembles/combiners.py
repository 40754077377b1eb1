"""From the logits of several models to one: the combiners of fast and slow models, as pure functions.

All take and give [..., V] logits over one vocabulary, and work on log-probabilities where scale matters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def plausible(expert: Tensor, alpha: float, allowed: Tensor | None = None) -> Tensor:
    """[..., V] bool, tokens of at least `alpha` times the probability of the expert's best one.

    (Contrastive decoding, arXiv 2210.15097, equation 3.) With `allowed` [..., V] bool the best allowed one counts, so
    something that a constraint allows always stays. alpha = 0 keeps everything.
    """
    if alpha == 0:
        return torch.ones_like(expert, dtype=torch.bool)
    best = expert if allowed is None else expert.masked_fill(~allowed, -torch.inf)
    return expert >= best.amax(-1, keepdim=True) + math.log(alpha)


def contrastive(expert: Tensor, amateur: Tensor, beta: float) -> Tensor:
    """(1 + beta) log p_expert - beta log p_amateur (arXiv 2309.09117, section 2; beta = 0 is the expert)."""
    return (1.0 + beta) * expert.log_softmax(-1) - beta * amateur.log_softmax(-1)


def interpolated(fast: Tensor, slow: Tensor, beta: float) -> Tensor:
    """Of logits fast + beta (slow - fast): what the code of FS-GEN (arXiv 2406.12295) calls contrastive."""
    return fast + beta * (slow - fast)


def proxy(slow: Tensor, tuned: Tensor, untuned: Tensor, alpha: float) -> Tensor:
    """The shift that tuning gave a small model, added to a large one: slow + alpha (tuned - untuned).

    (Proxy tuning, arXiv 2401.08565, section 2.)
    """
    return slow + alpha * (tuned - untuned)


def ensemble(one: Tensor, other: Tensor, weight: float) -> Tensor:
    """Log of the mean of the laws, `weight` for `other`."""
    shares = [
        law.log_softmax(-1) + (math.log(share) if share > 0 else -math.inf)
        for law, share in ((one, 1.0 - weight), (other, weight))
    ]
    return torch.logaddexp(*shares)


def product(one: Tensor, other: Tensor, weight: float) -> Tensor:
    """Log of the geometric mean of the laws (a product of experts), `weight` for `other`; not normalised."""
    return (1.0 - weight) * one.log_softmax(-1) + weight * other.log_softmax(-1)


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2306.17806, equation 7): log p_u + scale (log p_c - log p_u)."""
    without = unconditional.log_softmax(-1)
    return without + scale * (conditional.log_softmax(-1) - without)
