"""Deferral curves in the report: what a cascade gained, and what other rates of deferral would have given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from decodekit.analysis import deferral
from decodekit.comparison import plots

Row = Mapping[str, Any]
SCORED: Final = "answer score"
"""What a cascade tells of every first answer: how sure of it the small model was, high is sure."""


def deferrals(task: str, model: str, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(strategy, plot) for every strategy that scored its answers and deferred some.

    The curve needs both models' answers to every item. Noise belongs to the row, so an answer that was kept is the
    very text of `model` alone, and a deferred one that of the large model alone: the arms on this and on another model
    that wrote these texts are the two ends. Without such arms there is no curve.
    """
    by_arm: dict[tuple[str, str], dict[Any, Row]] = {}
    for row in rows:
        if row["task"] == task:
            by_arm.setdefault((row["arm"], row["model"]), {})[row["item"], row["seed"]] = row
    out = []
    for (arm, own), mine in by_arm.items():
        told = [row for row in mine.values() if own == model and len(row["told"].get(SCORED, [])) == 1]
        if not told or len(told) != len(mine):
            continue
        kept, handed = ([row for row in told if _deferred(row) == which] for which in (False, True))
        small = _wrote([one for (name, on), one in by_arm.items() if on == model and name != arm], kept)
        large = _wrote([one for (_, on), one in by_arm.items() if on != model], handed)
        if small is not None and large is not None:
            out.append((arm, _plot(told, small, large)))
    return out


def _deferred(row: Row) -> bool:
    return bool(row["told"].get("deferred at"))


def _wrote(arms: Sequence[dict[Any, Row]], texts: Sequence[Row]) -> dict[Any, Row] | None:
    """The one of `arms` that wrote all of `texts`, with a score for every answer."""
    for theirs in arms:
        same = [theirs.get((row["item"], row["seed"]), {}).get("text") == row["text"] for row in texts]
        if same and all(same) and all(row["score"] is not None for row in theirs.values()):
            return theirs
    return None


def _plot(told: Sequence[Row], small: Mapping[Any, Row], large: Mapping[Any, Row]) -> str:
    keys = [(row["item"], row["seed"]) for row in told]
    worth = [[float(side[key]["score"]) for key in keys] for side in (small, large)]
    unsure = [-row["told"][SCORED][0] for row in told]
    curves = {
        "this rule": deferral.curve(unsure, *worth),
        "oracle": deferral.oracle(*worth),
        "random": deferral.at_random(*worth),
    }
    rate = sum(map(_deferred, told)) / len(told)
    return plots.deferral(curves, rate, sum(row["score"] for row in told) / len(told))
