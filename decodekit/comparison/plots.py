"""Plots of the report as inline SVG, legible on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from decodekit.analysis.drawing import GREY, colour, drawn, mark, short, svg
from decodekit.comparison.stats import Line


def of(found: Sequence[Line]) -> list[str]:
    """Quality against cost, and speed, of the strategies of one task."""
    return [one for one in (_front(found), _speed(found)) if one]


def _front(found: Sequence[Line]) -> str:
    """Score with its interval against operations per token; the front is joined."""
    known = [(i, line) for i, line in enumerate(found) if line.score is not None]
    if not known:
        return ""
    figure, axes = drawn(3.4)
    for i, line in known:
        score = line.score
        assert score is not None
        bars = [[100 * (score.value - score.low)], [100 * (score.high - score.value)]]
        axes.errorbar(
            [line.gflops],
            [100 * score.value],
            bars,
            fmt=mark(i),
            ms=6,
            capsize=2,
            color=colour(i),
            label=short(line.arm),
        )
    best = sorted((line.gflops, 100 * line.score.value) for _, line in known if line.front and line.score)
    axes.plot([x for x, _ in best], [y for _, y in best], "--", color=GREY, lw=1)
    axes.set_xlabel("GFLOP per generated token")
    axes.set_ylabel("score")
    if max(line.gflops for _, line in known) > 8 * min(line.gflops for _, line in known) > 0:
        axes.set_xscale("log")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=GREY, fontsize=8)
    return svg(figure)


def _speed(found: Sequence[Line]) -> str:
    """Tokens per second over the baseline's, with quartiles."""
    known = [(i, line) for i, line in enumerate(found) if line.speed is not None]
    if not known:
        return ""
    figure, axes = drawn(0.9 + 0.28 * len(known))
    for place, (i, line) in enumerate(reversed(known)):
        speed = line.speed
        assert speed is not None
        bars = [[speed.value - speed.low], [speed.high - speed.value]]
        axes.barh(place, speed.value, 0.6, xerr=bars, color=colour(i), ecolor=GREY, capsize=2)
    axes.set_yticks(range(len(known)), [short(line.arm) for _, line in reversed(known)], fontsize=8)
    axes.axvline(1, color=GREY, lw=1, ls="--")
    axes.set_xlabel("tokens per second, as ratio to the baseline")
    return svg(figure)


def collaboration(rows: Sequence[Any]) -> str:
    """Share of tokens asked for and changed by position, and the fast model's entropy where they were and were not."""
    lengths = [row["length"] for row in rows]
    told = {name: [v for row in rows for v in row["told"].get(name, [])] for name in _TOLD}
    figure, (upper, lower) = drawn(4.2, 2)
    step = max(1, math.ceil(max(lengths, default=1) / 24))
    edges = range(0, max(lengths, default=1) + step, step)
    for i, name in enumerate(("position asked", "position changed")):
        share = []
        for low in edges:
            there = sum(min(max(n - low, 0), step) for n in lengths)
            share.append(100 * sum(low <= v < low + step for v in told[name]) / there if there else math.nan)
        upper.step(list(edges), share, where="post", color=colour(i), label=name.removeprefix("position "))
    upper.set_xlabel("position in the answer")
    upper.set_ylabel("% of tokens")
    upper.legend(frameon=False, labelcolor=GREY, fontsize=8)
    top = max([1.0, *told["entropy, kept"], *told["entropy, changed"]])
    for i, name in enumerate(("entropy, kept", "entropy, changed")):
        if told[name]:
            lower.hist(told[name], bins=30, range=(0, top), density=True, alpha=0.6, color=colour(i), label=name[9:])
    if told["entropy threshold"]:
        lower.axvline(told["entropy threshold"][0], color=GREY, ls="--", label="threshold")
    lower.set_yscale("log")
    lower.set_xlabel("entropy of the fast model (nats)")
    lower.set_ylabel("density")
    lower.legend(frameon=False, labelcolor=GREY, fontsize=8)
    return svg(figure)


def deferral(curves: dict[str, Any], rate: float, score: float) -> str:
    """Quality against the share of answers deferred (:class:`decodekit.analysis.deferral.Curve`), and where the run
    stood.
    """
    figure, axes = drawn(3.2)
    for i, (name, curve) in enumerate(curves.items()):
        style = "-" if i == 0 else ":"
        said = f"{name} (area {100 * curve.area:.1f})"
        axes.plot(100 * curve.rates, 100 * curve.quality, style, color=colour(i), label=said)
    axes.plot([100 * rate], [100 * score], "o", color=colour(0))
    axes.set_xlabel("answers deferred (%)")
    axes.set_ylabel("score")
    axes.legend(frameon=False, labelcolor=GREY, fontsize=8)
    return svg(figure)


_TOLD: Final = ("position asked", "position changed", "entropy, kept", "entropy, changed", "entropy threshold")
