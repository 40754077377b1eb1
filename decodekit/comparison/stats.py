"""From results to statements: quality with paired bootstrap intervals, differences, cost, and the front of both.

Items are the unit of resampling: an item's score in an arm is its mean over seeds, and the same items are drawn for
all arms, so that a hard item is hard for everybody. Intervals are percentile intervals at 95 %. The p-value of a
difference is that of the shifted bootstrap, two-sided, and is corrected by Holm's method over all differences shown
(Efron and Tibshirani 1993, chapters 13 and 16; Holm 1979).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Row = Mapping[str, Any]
Values = npt.NDArray[np.float64]
DRAWS: Final = 10_000
SEED: Final = 20_190_613


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One strategy on one task and model.

    items: how many. score: mean, None for tasks without a score. difference: to the baseline over the same items;
    p: of that difference, corrected. valid: share of results that the constraint calls complete, None without one.
    accepted: share of the guesses that the target looked at, None without any. bits: - log2 p of the text that a round
    settled. rounds: in which an answer grew, per token of it. The rest is cost: per token of the answers (`calls` of
    the target, `fed` tokens and decoder `layers` of all models, `gflops`, `checks`, `masks`), `speed` as ratio to the
    baseline's tokens per second in the same run (median over units, with quartiles), `ess` the mean effective sample
    size, `tokens` per second, `peak_mb` of the process.
    """

    task: str
    model: str
    arm: str
    items: int
    score: Interval | None
    difference: Interval | None
    p: float | None
    valid: float | None
    calls: float
    fed: float
    layers: float
    gflops: float
    checks: float
    masks: float
    rounds: float
    ess: float
    tokens: float
    speed: Interval | None
    peak_mb: float
    front: bool = False
    accepted: float | None = None
    bits: float | None = None


def lines(rows: Sequence[Row], closings: Sequence[Row], baseline: str) -> list[Line]:
    """A line for each task, model and arm, in the order of the results. An arm with a model of its own is compared
    with the baseline on the first model.
    """
    scored, told = _by(rows), _by(closings)
    found: list[Line] = []
    for (task, model, arm), mine in scored.items():
        base = _base(scored, task, model, baseline)
        found.append(_line(task, model, arm, mine, told[task, model, arm], scored.get(base, []), told.get(base, [])))
    return _fronts(_corrected(found, baseline))


def _by(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["task"], row["model"], row["arm"]].append(row)
    return dict(found)


def _base(scored: Mapping[tuple[str, str, str], Any], task: str, model: str, arm: str) -> tuple[str, str, str]:
    if (task, model, arm) in scored:
        return task, model, arm
    return next((key for key in scored if key[0] == task and key[2] == arm), (task, model, arm))


def _line(
    task: str,
    model: str,
    arm: str,
    rows: Sequence[Row],
    told: Sequence[Row],
    base: Sequence[Row],
    base_told: Sequence[Row],
) -> Line:
    mine, other = scores(rows), scores(base)
    shared = [item for item in mine if item in other]
    deltas = np.array([mine[item] - other[item] for item in shared])
    valid = [row["valid"] for row in rows if row["valid"] is not None]
    # Of answers, not of particles: else the more of them a population has, the cheaper it would seem.
    made = max(1, sum(row["length"] for row in rows) * max((row.get("n", 1) for row in told), default=1))
    seconds = sum(row["seconds"] for row in told)
    own = rows is base
    return Line(
        task=task,
        model=model,
        arm=arm,
        items=len({row["item"] for row in rows}),
        score=interval(np.array(list(mine.values()))) if mine else None,
        difference=interval(deltas) if shared and not own else None,
        p=p_value(deltas) if shared and not own else None,
        valid=statistics.fmean(valid) if valid else None,
        calls=_total(told, "calls", "target") / made,
        fed=_total(told, "fed") / made,
        layers=_total(told, "layers") / made,
        gflops=_total(told, "flops") / made / 1e9,
        checks=sum(row["cost"]["checks"] for row in told) / made,
        masks=sum(row["cost"]["masks"] for row in told) / made,
        rounds=_ratio(told, "rounds", "tokens") or sum(row["cost"]["rounds"] for row in told) / made,
        ess=statistics.fmean(row["ess"] for row in rows),
        tokens=sum(row["length"] for row in rows) / seconds if seconds else 0.0,
        speed=None if own else _speed(rows, told, base, base_told),
        peak_mb=max((row["peak_mb"] for row in told), default=0.0),
        accepted=_ratio(told, "accepted", "tried"),
        bits=_ratio(told, "bits", "rounds"),
    )


def _ratio(told: Sequence[Row], over: str, under: str) -> float | None:
    """Of two sums of the profiles; None where the lower one is 0."""
    profiles = [row["profile"] for row in told if row.get("profile")]
    high, low = (sum(float(np.sum(one[name])) for one in profiles) for name in (over, under))
    return high / low if low else None


def _total(told: Sequence[Row], field: str, label: str = "") -> float:
    models = [cost for row in told for name, cost in row["cost"]["models"].items() if not label or name == label]
    return float(sum(cost[field] for cost in models))


def scores(rows: Sequence[Row]) -> dict[str, float]:
    """Score of each item, the mean over its seeds; empty where the task has none."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["score"] is not None:
            found[row["item"]].append(row["score"])
    return {item: statistics.fmean(values) for item, values in found.items()}


def interval(values: Values) -> Interval:
    """Mean of `values` [N] with its percentile bootstrap interval; the same draws for equal N, so arms are paired."""
    means = _means(values)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))


def p_value(deltas: Values) -> float:
    """Two-sided p-value of a mean difference of 0, by the bootstrap of the centred differences; never exactly 0."""
    if not deltas.any():
        return 1.0
    means = _means(deltas - deltas.mean())
    return float((1 + (np.abs(means) >= abs(deltas.mean()) - 1e-12).sum()) / (len(means) + 1))


def _means(values: Values) -> Values:
    rng = np.random.default_rng(SEED)
    out = np.empty(DRAWS)
    step = max(1, 2_000_000 // max(1, len(values)))
    for start in range(0, DRAWS, step):  # in pieces: 10,000 draws of 1,000 items are 80 MB at once
        picks = rng.integers(0, len(values), (min(step, DRAWS - start), len(values)))
        out[start : start + step] = values[picks].mean(1)
    return out


def holm(p: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given."""
    out, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        out[i] = worst
    return out


def _speed(rows: Sequence[Row], told: Sequence[Row], base: Sequence[Row], base_told: Sequence[Row]) -> Interval | None:
    """Tokens per second over the baseline's, unit by unit: median and quartiles."""
    mine, other = _rates(rows, told), _rates(base, base_told)
    each = sorted(mine[key] / other[key] for key in mine if key in other)
    if not each:
        return None
    low, high = np.quantile(each, (0.25, 0.75))
    return Interval(statistics.median(each), float(low), float(high))


def _rates(rows: Sequence[Row], told: Sequence[Row]) -> dict[tuple[str, int], float]:
    """Tokens per second of each batch and seed."""
    made: dict[str, int] = defaultdict(int)
    for row in rows:
        made[row["unit"]] += row["length"]
    return {
        (row["closes"].split(" | ")[0], row["seed"]): made[row["closes"]] / row["seconds"]
        for row in told
        if row["seconds"] and made[row["closes"]]
    }


def _corrected(found: list[Line], baseline: str) -> list[Line]:
    places = [i for i, line in enumerate(found) if line.p is not None and line.arm != baseline]
    fixed = holm([found[i].p or 0.0 for i in places])
    for i, p in zip(places, fixed, strict=True):
        found[i] = replace(found[i], p=p)
    return found


def _fronts(found: list[Line]) -> list[Line]:
    """Mark the arms that no other of the same task beats in score without costing more operations."""
    out = []
    for line in found:
        rivals = [other for other in found if other.task == line.task and other.score and other is not line]
        beaten = line.score is None or any(_beats(other, line) for other in rivals)
        out.append(replace(line, front=not beaten))
    return out


def _beats(one: Line, other: Line) -> bool:
    mine, theirs = (one.score or Interval(0, 0, 0)).value, (other.score or Interval(0, 0, 0)).value
    return mine >= theirs and one.gflops <= other.gflops and (mine > theirs or one.gflops < other.gflops)
