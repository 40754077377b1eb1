"""One noise field (law 2): randomness as a pure function of (stream, position, token, salt), evaluated where needed.

There is no generator and no state. The value at a place depends on nothing but its name, so it is the same alone and in
any batch, in any order of evaluation, for any vocabulary width and on every device (up to the last bits of `log`).

The field is one of exponentials E(stream, position, token, salt), i.i.d. Exp(1); Gumbel noise is G = -log E, and the
argmax of log-probability + G is a sample (Gumbel-max trick; Yellott 1977; the race of exponentials min E / p).

It is laid out in blocks of 64 consecutive tokens so that a block's smallest E costs ONE hash. With
i.i.d. e ~ Exp(1) and J uniform, all independent:

    m = e_b / 64        and        E_J = m,   E_i = m + e_i for the 63 others.

Why these are again 64 i.i.d. Exp(1): the minimum of 64 of them is Exp(64) = Exp(1) / 64, its place is uniform and
independent of it, and given both, what the others have in excess of the minimum is i.i.d. Exp(1) since the exponential
law has no memory. The construction draws exactly these three, so the joint law is the same. Blocks are disjoint, hence
independent. A vocabulary that ends inside a block simply looks at a part of that block: any subset of i.i.d. values is
i.i.d., the minimum is then only a lower bound, and no value depends on where the vocabulary ends.

So max over a block of (logit + G) is at most (its largest logit) - log m, and :func:`argmax` and :func:`order` evaluate
only the blocks whose bound can still win, with the very answer of the dense evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import torch
from torch import Tensor

from decodekit.rows import NONE

BLOCK: Final = 64
_FIRST: Final = 16  # blocks looked into for a first bound
_SLACK: Final = 1e-9  # bounds and keys come from different logarithms; an ulp must not hide a winner


class Salt(IntEnum):
    """Uses of the field that must be independent of each other. Third parties: any number from 1000 on."""

    TOKEN = 0
    ACCEPT = 1
    RESIDUAL = 2
    BONUS = 3
    RESAMPLE = 4
    WEIGHT = 5
    ORDER = 6


def _signed(x: int) -> int:
    """The int64 with the bits of `x` modulo 2^64."""
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


# Constants of SplitMix64 (Steele, Lea, Flood 2014): the odd Weyl step and the two multipliers of its finaliser.
_WEYL: Final = _signed(0x9E3779B97F4A7C15)
_MULTIPLY_1: Final = _signed(0xBF58476D1CE4E5B9)
_MULTIPLY_2: Final = _signed(0x94D049BB133111EB)
_SALTED: Final = _signed(0xD1342543DE82EF95)  # another odd multiplier, so that salts and counters do not meet
_SCALAR: Final = 1 << 62  # counter of the one value that a place has apart from its tokens (>= 0) and blocks (< 0)


def _mix_(x: Tensor) -> Tensor:
    """SplitMix64's finaliser in place; int64 wraps, and the shift is made logical by masking off the sign's copies."""
    x ^= (x >> 30) & ((1 << 34) - 1)
    x *= _MULTIPLY_1
    x ^= (x >> 27) & ((1 << 37) - 1)
    x *= _MULTIPLY_2
    x ^= (x >> 31) & ((1 << 33) - 1)
    return x


def _exponential(bits: Tensor) -> Tensor:
    """Exp(1) from the upper 52 bits: u = (2k + 1) / 2^53 is exact in float64, never 0, never 1."""
    return _uniform(bits).log_().neg_()


def _uniform(bits: Tensor) -> Tensor:
    return ((bits >> 12) & ((1 << 52) - 1)).double().add_(0.5).mul_(2.0**-52)


def _key(stream: Tensor, at: Tensor, salt: int) -> Tensor:
    """One 64-bit key per place: `stream` [R] and `at` [R, ...] -> the shape of `at`."""
    slot = _mix_(stream + _signed(_SALTED * (int(salt) + 1)))  # [R]
    slot = slot.view(-1, *[1] * (at.dim() - 1))
    return _mix_(slot ^ _mix_((at + 1) * _WEYL))


def _hash(key: Tensor, counter: Tensor) -> Tensor:
    """64 fresh bits per counter; a SplitMix64 sequence that starts at the key."""
    return _mix_(key + counter * _WEYL)


def streams(seed: int, prompt: Sequence[int], samples: int) -> Tensor:
    """The noise streams [samples] int64 of one request: equal requests are equal, different ones independent.

    seed: any integer, modulo 2^64. prompt: its token ids. samples: number of slots.
    """
    text = torch.as_tensor(list(prompt), dtype=torch.int64)  # [T]
    place = _mix_((torch.arange(len(text)) + 1) * _WEYL)
    # A wrapping sum of hashed (place, token) pairs: any change of any token, or of the length, changes every bit.
    digest = int(_mix_(place ^ _mix_(text * _SALTED + 1)).sum()) + len(text) * _WEYL
    root = _mix_(_mix_(torch.tensor([_signed(seed + 1)])) ^ _signed(digest))  # [1]
    return _hash(root, torch.arange(samples))


def uniform(stream: Tensor, at: Tensor, salt: int) -> Tensor:
    """One uniform in (0, 1) per place: `stream` [R], `at` [R, K] -> [R, K] float64."""
    return _uniform(_mix_(_key(stream, at, salt) + _signed(_SCALAR * _WEYL)))


def exponential(stream: Tensor, at: Tensor, salt: int) -> Tensor:
    """One Exp(1) variable per place: `stream` [R], `at` [R, K] -> [R, K] float64; -log of :func:`uniform`."""
    return uniform(stream, at, salt).log_().neg_()


def gumbel(stream: Tensor, at: Tensor, vocab: int, salt: int = Salt.TOKEN) -> Tensor:
    """The whole field at some places: `stream` [R], `at` [R, K] -> Gumbel noise [R, K, vocab] float64.

    This is the reference; :func:`argmax` and :func:`order` give the same answers without evaluating all of it.
    """
    block = torch.arange(-(-vocab // BLOCK), device=at.device).expand(*at.shape, -1)  # [R, K, B]
    return _race(_key(stream, at, salt), block).flatten(-2)[..., :vocab].log().neg_()


def argmax(logits: Tensor, stream: Tensor, at: Tensor, salt: int = Salt.TOKEN) -> Tensor:
    """One sample per place: argmax of `logits` [R, K, V] + noise, for `stream` [R] and `at` [R, K] -> tokens [R, K].

    Equal to `(logits.double() + gumbel(...)).argmax(-1)`. NONE where no logit is above -inf.
    """
    tokens, _ = _first(logits.flatten(0, 1), _key(stream, at, salt).flatten(), 1)
    return tokens.view(at.shape)


def order(logits: Tensor, stream: Tensor, at: Tensor, count: int, salt: int = Salt.TOKEN) -> tuple[Tensor, Tensor]:
    """The first `count` tokens in descending order of logit + noise: draws without replacement, in order.

    `logits` [R, V], `stream` [R], `at` [R] -> tokens [R, count] and their keys [R, count] float64; NONE and -inf where
    fewer tokens have a logit above -inf. To walk on, ask again for more: the order is a pure function, so a larger
    count begins with the same tokens (double it, and the whole walk costs at most twice its last step).
    The first one is :func:`argmax` of the same place.
    """
    return _first(logits, _key(stream, at, salt), count)


def _race(key: Tensor, block: Tensor) -> Tensor:
    """The exponentials of whole blocks: `key` [...], `block` [..., C] -> [..., C, 64]."""
    low, place = _lowest(key, block)
    token = block[..., None] * BLOCK + torch.arange(BLOCK, device=key.device)  # [..., C, 64]
    excess = _exponential(_hash(key[..., None, None], token))
    return excess.scatter_(-1, place[..., None], 0.0).add_(low[..., None])


def _lowest(key: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest exponential of each block and its place there: `key` [...], `block` [..., C] -> [..., C] each."""
    bits = _hash(key[..., None], ~block)
    return _exponential(bits).div_(BLOCK), bits & (BLOCK - 1)  # disjoint bits, hence independent


def _first(logits: Tensor, key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of logit + noise: `logits` [N, V], `key` [N] -> tokens and keys [N, count].

    First a bound from below on the last key wanted, then only the tokens that can reach it, block by block.
    """
    top = _tops(logits).double()  # [N, B]
    low, place = _lowest(key, torch.arange(top.shape[1], device=key.device).expand_as(top))  # [N, B]
    lift = -low.log()  # [N, B] the most that noise can add within a block
    least = _at_least(logits, key, top + lift, place, lift, count) - _SLACK  # [N]
    row, block = ((top + lift >= least[:, None]) & (top > -torch.inf)).nonzero(as_tuple=True)  # [P]
    token = block[:, None] * BLOCK + torch.arange(BLOCK, device=key.device)  # [P, 64]
    logit = _gather(logits, row[:, None].expand_as(token), token)
    pair, col = ((logit + lift[row, block, None] >= least[row, None]) & (logit > -torch.inf)).nonzero(as_tuple=True)
    row, block, token, logit = row[pair], block[pair], token[pair, col], logit[pair, col]  # [Q]
    race = _exponential(_hash(key[row], token)).masked_fill_(place[row, block] == col, 0.0).add_(low[row, block])
    return _best(row, token, logit - race.log_(), len(key), count)


def _at_least(logits: Tensor, key: Tensor, bound: Tensor, place: Tensor, lift: Tensor, count: int) -> Tensor:
    """[N] something that `count` keys reach: best of two cheap looks, each exact about the tokens that it sees.

    The winners of all blocks (nothing left to hash; sharp where logits are flat) and all tokens of the most
    promising blocks (sharp where they are peaked). `bound`, `place`, `lift` are [N, B].
    """
    row = torch.arange(len(key), device=key.device)[:, None]
    winner = place + torch.arange(place.shape[1], device=key.device) * BLOCK  # [N, B]
    winners = _gather(logits, row.expand_as(winner), winner) + lift
    chosen = bound.topk(min(_FIRST, bound.shape[1])).indices  # [N, C]
    token = (chosen[..., None] * BLOCK + torch.arange(BLOCK, device=key.device)).flatten(1)  # [N, C * 64]
    inside = _gather(logits, row.expand_as(token), token) - _race(key, chosen).flatten(1).log_()
    least = torch.full_like(key, -torch.inf, dtype=torch.float64)
    for seen in (winners, inside):
        if count <= seen.shape[1]:
            least = torch.maximum(least, seen.topk(count).values[:, -1])
    return least


def _gather(logits: Tensor, row: Tensor, token: Tensor) -> Tensor:
    """Logits as float64; -inf past the end of the vocabulary."""
    vocab = logits.shape[1]
    return logits[row, token.clamp(max=vocab - 1)].double().masked_fill_(token >= vocab, -torch.inf)


def _best(row: Tensor, token: Tensor, value: Tensor, rows: int, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best of each row from a flat list sorted by row (all [Q]) -> tokens and values [rows, count]."""
    each = row.bincount(minlength=rows)  # [rows]
    column = torch.arange(len(row), device=row.device) - (each.cumsum(0) - each)[row]
    width = max(count, int(each.max()) if rows else 0)
    values = torch.full((rows, width), -torch.inf, dtype=torch.float64, device=row.device)
    tokens = torch.full((rows, width), NONE, dtype=torch.int64, device=row.device)
    values[row, column], tokens[row, column] = value, token
    best, where = values.topk(count)
    return tokens.gather(1, where), best


def _tops(logits: Tensor) -> Tensor:
    """Largest logit of each block: [N, V] -> [N, B]."""
    full = logits.shape[1] // BLOCK * BLOCK
    tops = logits[:, :full].view(len(logits), full // BLOCK, BLOCK).amax(-1)
    return tops if full == logits.shape[1] else torch.cat([tops, logits[:, full:].amax(-1, keepdim=True)], 1)
