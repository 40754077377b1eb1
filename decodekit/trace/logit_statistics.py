"""What the trace keeps of a law, read off its logits in one pass: never the whole row.

On a CPU the row is taken in blocks that stay in the cache: one exponential per token, and every sum from it. The best
tokens are found from the best of blocks, so nothing of the size of the vocabulary is sorted.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

_BLOCK: Final = 1 << 15
"""Numbers that are looked at together: three arrays of these stay in a core's own cache."""
_CELL: Final = 64
"""Tokens whose best one stands for them while the best of all are sought."""
_LEAST: Final = -1e4  # stands for -inf, which times the probability 0 would be NaN


_KNOWN: Final = "_decodekit_digest"


class Digest(NamedTuple):
    """Of laws [..., V], natural logarithms, in the type of the logits.

    norm: log of the sum of exponentials; a logit minus it is a log-probability. entropy: nats. varentropy: variance of
    -ln p, nats squared. s2, s3, s4: sums of p to these powers (kurtosis without the row). top_ids, top_logps: [..., k]
    the likeliest tokens and their log-probabilities, None for k = 0.
    """

    norm: Tensor
    entropy: Tensor
    varentropy: Tensor
    s2: Tensor
    s3: Tensor
    s4: Tensor
    top_ids: Tensor | None = None
    top_logps: Tensor | None = None


def digest_of(logits: Tensor, k: int = 0) -> Digest:
    """The same as :func:`digest`, computed once for every tensor: recorder, routers and stops share it."""
    known: Digest | None = getattr(logits, _KNOWN, None)
    have = 0 if known is None or known.top_ids is None else known.top_ids.shape[-1]
    if known is None or have < min(k, logits.shape[-1]):
        known = digest(logits, k)
        setattr(logits, _KNOWN, known)
    if have <= k or known.top_ids is None or known.top_logps is None:
        return known
    return known._replace(top_ids=known.top_ids[..., :k], top_logps=known.top_logps[..., :k]) if k else known


@torch.inference_mode()
def digest(logits: Tensor, k: int = 0) -> Digest:
    """The figures of laws with `logits` [..., V]; NaN where nothing is allowed (all -inf)."""
    flat = logits.reshape(-1, logits.shape[-1])  # [N, V]
    vocab = flat.shape[1]
    values, ids, most = _best(flat, min(k, vocab))
    large = flat.device.type == "cpu" and flat.numel() > _BLOCK
    sums = _blocked(flat, most) if large else _sums(flat - most[:, None])
    norm = sums[0].log() + most
    # With x = logit - most and Z = sum exp x: -ln p = ln Z - x, so entropy = ln Z - E x, and varentropy = Var x.
    mass, first, second, two, three, four = sums
    mean = first / mass
    shape = logits.shape[:-1]
    figures = (
        norm,
        (mass.log() - mean).clamp(min=0.0),
        (second / mass - mean.square()).clamp(min=0.0),
        two / mass**2,
        three / mass**3,
        four / mass**4,
    )
    found = Digest(*(figure.to(logits.dtype).reshape(shape) for figure in figures))
    if not k:
        return found
    logp = (values - norm[:, None]).to(logits.dtype)
    return found._replace(top_ids=ids.reshape(*shape, -1), top_logps=logp.reshape(*shape, -1))


def _sums(x: Tensor) -> Tensor:
    """[6, N] of x [N, B], at most 0, which is overwritten: sums of e, e x, e x x, e^2, e^3 and e^4 with e = exp x."""
    x = x.clamp_(min=_LEAST)
    e = x.exp()
    ex, square = e * x, e * e
    dot = torch.linalg.vecdot
    return torch.stack([e.sum(1), ex.sum(1), dot(ex, x), square.sum(1), dot(square, e), dot(square, square)]).double()


def _blocked(flat: Tensor, most: Tensor) -> Tensor:
    """The same, block by block."""
    rows, vocab = flat.shape
    total = torch.zeros(6, rows, dtype=torch.float64)
    for row in range(rows):
        for begin in range(0, vocab, _BLOCK):
            total[:, row : row + 1] += _sums(flat[row : row + 1, begin : begin + _BLOCK] - most[row])
    return total


def _best(flat: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """(values [N, k], ids [N, k], the most [N]) of flat [N, V]."""
    rows, vocab = flat.shape
    if not k:
        none = flat.new_zeros(rows, 0)
        return none, none.long(), flat.amax(1)
    whole = vocab // _CELL * _CELL
    if flat.device.type != "cpu" or whole // _CELL < 2 * k:
        values, ids = flat.topk(k, 1)
        return values, ids, values[:, 0]
    # Each of the k best tokens of all is among the k best cells, or ties with one that is.
    cells = flat[:, :whole].view(rows, -1, _CELL).amax(2)  # [N, V // C]
    chosen = cells.topk(k, 1).indices  # [N, k]
    candidates = (chosen[..., None] * _CELL + torch.arange(_CELL)).view(rows, -1)
    if whole < vocab:
        candidates = torch.cat([candidates, torch.arange(whole, vocab).expand(rows, -1)], 1)
    values, place = flat.gather(1, candidates).topk(k, 1)
    return values, candidates.gather(1, place), values[:, 0]
