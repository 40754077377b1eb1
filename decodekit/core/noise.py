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

from decodekit.core.rows import NONE

BLOCK: Final = 64
_FIRST: Final = 64  # blocks evaluated at first: enough for nearly every draw from a language model
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


TRIAL: Final = 32
"""Between the salts of one use at one place that is needed several times: `Salt.ACCEPT + TRIAL * i`, i below 30."""


def _signed(x: int) -> int:
    """The int64 with the bits of `x` modulo 2^64."""
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


# Constants of SplitMix64 (Steele, Lea, Flood 2014): the odd Weyl step and the two multipliers of its finaliser.
_WEYL: Final = _signed(0x9E3779B97F4A7C15)
_MULTIPLY_1: Final = _signed(0xBF58476D1CE4E5B9)
_MULTIPLY_2: Final = _signed(0x94D049BB133111EB)
_SALTED: Final = _signed(0xD1342543DE82EF95)  # another odd multiplier, so that salts and counters do not meet
_ONE: Final = 0x3FF << 52  # the bits of 1.0
_SCALAR: Final = 1 << 62  # counter of the one value that a place has apart from its tokens (>= 0) and blocks (< 0)


def _mix_(x: Tensor) -> Tensor:
    """SplitMix64's finaliser in place; int64 wraps, and the shift is made logical by masking off the sign's copies."""
    x ^= (x >> 30).bitwise_and_((1 << 34) - 1)
    x *= _MULTIPLY_1
    x ^= (x >> 27).bitwise_and_((1 << 37) - 1)
    x *= _MULTIPLY_2
    x ^= (x >> 31).bitwise_and_((1 << 33) - 1)
    return x


def _exponential(bits: Tensor) -> Tensor:
    return _uniform(bits).log_().neg_()


def _uniform(bits: Tensor) -> Tensor:
    """(2k + 1) / 2^53, k being the upper 52 bits: exact in float64, never 0, never 1.

    k is put into the fraction of a float64 in [1, 2), which is then shifted down; no rounding anywhere.
    """
    fraction = (bits >> 12).bitwise_and_((1 << 52) - 1).bitwise_or_(_ONE)
    return fraction.view(torch.float64).sub_(1.0 - 2.0**-53)


def _key(stream: Tensor, at: Tensor, salt: int) -> Tensor:
    """One 64-bit key per place: `stream` [R] and `at` [R, ...] -> the shape of `at`."""
    slot = _mix_(stream + _signed(_SALTED * (int(salt) + 1)))  # [R]
    return _mix_(slot.view(-1, *[1] * (at.dim() - 1)) + (at + 1) * _WEYL)


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


def renewed(stream: Tensor) -> Tensor:
    """[R] int64, for each stream another one that is independent of it: for a slot whose noise has been used."""
    return _mix_(stream * _SALTED + _signed(_WEYL >> 1))


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

    Evaluates the blocks with the highest bounds; rows in which another block might still reach the last key found
    (rare for one token, common for many) look at exactly the tokens that can.
    """
    top = _tops(logits).double()  # [N, B]
    low, place = _lowest(key, torch.arange(top.shape[1], device=key.device).expand_as(top))  # [N, B]
    lift = -low.log()  # [N, B] the most that noise can add within a block
    width = min(_FIRST + count, top.shape[1])
    bound, block = (top + lift).topk(min(width + 1, top.shape[1]))
    block = block[:, :width]
    token = (block[..., None] * BLOCK + torch.arange(BLOCK, device=key.device)).flatten(1)  # [N, width * 64]
    every = torch.arange(len(key), device=key.device)[:, None].expand_as(token)
    tokens, keys = _sorted(token, _gather(logits, every, token) - _race(key, block).flatten(1).log_(), count)
    if bound.shape[1] > width:
        rest = bound[:, width]  # the highest bound that was not looked at
        row = ((rest >= keys[:, -1] - _SLACK) & (rest > -torch.inf)).nonzero()[:, 0]
        if len(row):
            parts = low[row], place[row], lift[row]
            tokens[row], keys[row] = _reach(logits, row, key[row], parts, keys[row, -1], count)
    return tokens, keys


def _reach(
    logits: Tensor, of: Tensor, key: Tensor, parts: tuple[Tensor, ...], least: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """The `count` best of the rows `of` [M] among all tokens that can reach `least` [M], which `count` keys do.

    `parts`: smallest exponential of each block, its place, and -log of it, all [M, B].
    """
    low, place, lift = parts
    winner = place + torch.arange(place.shape[1], device=key.device) * BLOCK  # [M, B] known without another hash
    if count <= winner.shape[1]:
        known = (_gather(logits, of[:, None].expand_as(winner), winner) + lift).topk(count).values[:, -1]
        least = torch.maximum(least, known)
    row, token = _at_least(logits[of], least[:, None] - _SLACK - lift).nonzero(as_tuple=True)  # [Q]
    block = token // BLOCK
    race = _exponential(_hash(key[row], token)).masked_fill_(winner[row, block] == token, 0.0).add_(low[row, block])
    value = logits[of[row], token].double() - race.log_()
    each = row.bincount(minlength=len(of))  # [M]
    column = torch.arange(len(row), device=key.device) - (each.cumsum(0) - each)[row]
    values = torch.full((len(of), int(each.max())), -torch.inf, dtype=torch.float64, device=key.device)
    tokens = torch.full(values.shape, NONE, dtype=torch.int64, device=key.device)
    values[row, column], tokens[row, column] = value, token
    return _sorted(tokens, values, count)


def _sorted(token: Tensor, value: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best [N, count] of `token` and `value` [N, C]; NONE and -inf where there are fewer above -inf."""
    if token.shape[1] < count:
        value = torch.nn.functional.pad(value, (0, count - value.shape[1]), value=-torch.inf)
        token = torch.nn.functional.pad(token, (0, count - token.shape[1]))
    best, where = value.topk(count)
    return token.gather(1, where).masked_fill_(best == -torch.inf, NONE), best


def _gather(logits: Tensor, row: Tensor, token: Tensor) -> Tensor:
    """Logits as float64; -inf past the end of the vocabulary."""
    vocab = logits.shape[1]
    return logits[row, token.clamp(max=vocab - 1)].double().masked_fill_(token >= vocab, -torch.inf)


def _tops(logits: Tensor) -> Tensor:
    """Largest logit of each block: [N, V] -> [N, B]."""
    full = logits.shape[1] // BLOCK * BLOCK
    tops = logits[:, :full].view(len(logits), full // BLOCK, BLOCK).amax(-1)
    return tops if full == logits.shape[1] else torch.cat([tops, logits[:, full:].amax(-1, keepdim=True)], 1)


def _at_least(logits: Tensor, least: Tensor) -> Tensor:
    """[M, V] bool, which `logits` [M, V] above -inf are at least `least` [M, B], given by block as float64."""
    least = torch.nextafter(least.to(logits.dtype), least.new_full((), -torch.inf).to(logits.dtype))  # never too high
    least = least.clamp(min=torch.finfo(logits.dtype).min)
    full = logits.shape[1] // BLOCK * BLOCK
    blocks = logits[:, :full].view(len(logits), full // BLOCK, BLOCK) >= least[:, : full // BLOCK, None]
    if full == logits.shape[1]:
        return blocks.flatten(1)
    return torch.cat([blocks.flatten(1), logits[:, full:] >= least[:, -1:]], 1)
