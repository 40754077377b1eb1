"""Plots of what happened along the answers: entropy and acceptance by position, and what a round settled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from decodekit.analysis.drawing import GREY, colour, drawn, mark, short, svg
from decodekit.comparison.stats import Line

BINS: Final = 24
Profile = Mapping[str, Any]


def of(told: Mapping[str, Sequence[Profile]]) -> str:
    """Mean entropy of the laws by position, and below it the share of tried guesses that were accepted, by strategy.

    told: profiles (:func:`decodekit.comparison.example_traces.profile`) of every strategy's units.
    """
    longest = max((len(one["count"]) for many in told.values() for one in many), default=0)
    if not longest:
        return ""
    step = max(1, math.ceil(longest / BINS))
    guessed = any(one["tried"] for many in told.values() for one in many)
    figure, axes = drawn(5.0 if guessed else 3.2, 2 if guessed else 1)
    upper, lower = axes if guessed else (axes, None)
    for i, (arm, many) in enumerate(told.items()):
        for panel, over, under in ((upper, "entropy", "count"), (lower, "accepted", "tried")):
            high, low = (_binned(many, name, step, longest) for name in (over, under))
            if panel is None or not low.any():
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.where(low > 0, high / low, np.nan) * (1 if over == "entropy" else 100)
            where = (np.arange(len(low)) + 0.5) * step
            label = short(arm) if panel is upper else None
            panel.plot(where, share, "-" + mark(i), ms=2.5, lw=1.2, color=colour(i), label=label)
    upper.set_ylabel("entropy (nats)")
    upper.set_ylim(bottom=0)
    if lower is not None:
        lower.set_ylabel("guesses accepted (%)")
        lower.set_ylim(0, 103)
        lower.set_xlim(upper.get_xlim())
    (upper if lower is None else lower).set_xlabel("position in the answer")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=GREY, fontsize=8)
    return svg(figure)


def rounds(found: Sequence[Line]) -> str:
    """Rounds per token of the answers, and bits that a round settled, by strategy."""
    figure, (left, right) = drawn(0.9 + 0.24 * len(found), 2, beside=True)
    for place, (i, line) in enumerate(reversed(list(enumerate(found)))):
        left.barh(place, line.rounds, 0.6, color=colour(i))
        right.barh(place, line.bits or 0.0, 0.6, color=colour(i))
    left.set_yticks(range(len(found)), [short(line.arm, 22) for line in reversed(found)], fontsize=8)
    right.set_yticks([])
    left.set_xlabel("rounds per token")
    right.set_xlabel("bits per round")
    return svg(figure)


def _binned(many: Sequence[Profile], name: str, step: int, longest: int) -> Any:
    """[bins] sums of `step` positions each."""
    total = np.zeros(step * math.ceil(longest / step))
    for one in many:
        total[: len(one[name])] += one[name]
    return total.reshape(-1, step).sum(1)
