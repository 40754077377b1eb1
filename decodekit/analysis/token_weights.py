"""Weights of tokens for trainers, as functions of traces: what some training methods compute, without a trainer.

Each function takes arrays over the tokens of one text (columns of a trace) and gives a weight per token. They follow
the formulas of the papers; whether training with them helps is not tried here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from decodekit.errors import OptionError

Floats = npt.NDArray[np.float64]


def _array(name: str, given: npt.ArrayLike, like: int | None = None) -> Floats:
    found = np.asarray(given, dtype=np.float64)
    if found.ndim != 1 or (like is not None and len(found) != like):
        raise OptionError(f"{name} has the shape {found.shape}; give one number for each of the {like or 'T'} tokens")
    return found


def quadrant(logp: npt.ArrayLike, entropy: npt.ArrayLike, ppl_limit: float, entropy_limit: float) -> str:
    """Where a text stands by mean surprise and mean entropy: "high/high", "high/low", "low/high" or "low/low"."""
    surprise, spread = -_array("logp", logp).mean(), _array("entropy", entropy).mean()
    return f"{'high' if surprise > ppl_limit else 'low'}/{'high' if spread > entropy_limit else 'low'}"


def q_tuning(
    logp: npt.ArrayLike,
    entropy: npt.ArrayLike,
    *,
    ppl_limit: float,
    entropy_limit: float,
    keep: float = 0.5,
    smooth: float = 0.5,
) -> Floats:
    """[T] 0 or 1 (Q-Tuning, arXiv 2509.23873): texts that are noise (high/high) or known (low/low) are dropped, those
    of low surprise and high entropy kept whole; of high surprise and low entropy the share `keep` of tokens with the
    least surprise is kept, each smoothed with its neighbours by `smooth`.
    """
    loss = -_array("logp", logp)
    place = quadrant(logp, entropy, ppl_limit, entropy_limit)
    if place in ("high/high", "low/low"):
        return np.zeros(len(loss))
    if place == "low/high":
        return np.ones(len(loss))
    padded = np.pad(loss, 1, mode="edge")
    smoothed = (1 - smooth) * loss + smooth * (padded[:-2] + padded[2:]) / 2
    return _least(smoothed, keep)


def ss_token(
    logp: npt.ArrayLike, logp_before: npt.ArrayLike, attention: npt.ArrayLike, *, gamma: float = 0.5, rho: float = 0.6
) -> Floats:
    """[T] 0 or 1 (ssToken): the share `rho` of tokens with the highest gamma x loss progress (of an
    earlier model over this one, scaled to 0..1) + (1 - gamma) x attention from the answer to the prompt.
    """
    now = _array("logp", logp)
    progress = now - _array("logp_before", logp_before, len(now))
    spread = np.ptp(progress)
    scaled = (progress - progress.min()) / spread if spread > 0 else np.zeros(len(now))
    return _least(-(gamma * scaled + (1 - gamma) * _array("attention", attention, len(now))), rho)


def cdpo(logp_positive: npt.ArrayLike, logp_negative: npt.ArrayLike, norm: npt.ArrayLike) -> Floats:
    """[T] 0 to 1 (cDPO, arXiv 2411.19943): s = p_pos^2 / p_neg of the token, over the sum of this over the vocabulary,
    whose logarithm is `norm`. In DPO chosen tokens weigh s, rejected ones 1 - s; low s marks a critical token.
    """
    positive = _array("logp_positive", logp_positive)
    negative = _array("logp_negative", logp_negative, len(positive))
    return np.exp(2 * positive - negative - _array("norm", norm, len(positive)))


def lp_reg(
    logp: npt.ArrayLike, top_logps: npt.ArrayLike, *, min_p: float = 0.02, advantage: float = -1.0, share: float = 0.01
) -> Floats:
    """[T] the renormalised mass that the token has under the min-p filtered law (Lp-Reg, arXiv 2510.03222), for tokens
    among the least probable `share` of a text with a negative advantage; 0 elsewhere, and for noise (filtered away).

    top_logps: [T, k] of the likeliest tokens; exact where all tokens above `min_p` times the best are among them.
    """
    own, top = _array("logp", logp), np.asarray(top_logps, dtype=np.float64)
    if advantage >= 0:
        return np.zeros(len(own))
    kept = np.where(top >= top[:, :1] + np.log(min_p), np.exp(top), 0.0).sum(1)
    spark = own >= top[:, 0] + np.log(min_p)
    out: Floats = _least(own, share) * spark * np.exp(own) / kept
    return out


def uncertainty_aware(entropy: npt.ArrayLike, correct: npt.ArrayLike) -> Floats:
    """[T] (uncertainty-aware fine-tuning, arXiv 2412.02904): entropy should be high where the token is wrong and low
    where it is right: tanh H of right tokens, 1 - tanh H of wrong ones.
    """
    high = np.tanh(_array("entropy", entropy))
    right = np.asarray(correct, dtype=np.bool_)
    return np.where(right, high, 1 - high)


def _least(values: Floats, share: float) -> Floats:
    """[T] 1 for the least `share` of values (at least one token), else 0; of equal ones the earlier."""
    out = np.zeros(len(values))
    out[np.argsort(values, kind="stable")[: max(1, round(share * len(values)))]] = 1.0
    return out
