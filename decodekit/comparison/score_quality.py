"""How well scores predict which answers are right: AUROC, prediction-rejection ratio, calibration, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decodekit.errors import OptionError

Floats = npt.NDArray[np.float64]
RIGHT: Final = 0.999
"""Quality from which an answer counts as right."""


@dataclass(frozen=True)
class Figure:
    """A number with the 95 % interval of a bootstrap over the items."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True)
class Row:
    """One score. auroc: of right answers against wrong ones. prr: see :func:`prr`. error: expected calibration error of
    the score made a probability by two-fold logistic calibration. None where answers are all right or all wrong.
    """

    score: str
    items: int
    auroc: Figure | None
    prr: Figure | None
    error: Figure | None
    problem: str = ""


def auroc(unsure: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Probability that a wrong answer is more uncertain than a right one; ties count half. NaN without either."""
    wrong, fine = unsure[~right], unsure[right]
    if not len(wrong) or not len(fine):
        return float("nan")
    order = np.sort(fine)
    below, upto = np.searchsorted(order, wrong, "left"), np.searchsorted(order, wrong, "right")
    return float((below + upto).mean() / 2 / len(fine))


def rejection_area(unsure: Floats, quality: Floats) -> float:
    """Mean over rejection rates of the quality of what is kept, when the most uncertain answers are rejected first.

    As `PredictionRejectionArea` of lm-polygraph: quality is scaled to 0..1, and at every rate from none to all but one
    rejected answer the mean of the kept ones counts once.
    """
    low, high = float(quality.min()), float(quality.max())
    if np.isclose(low, high):
        low, high = low - 1, high + 1
    scaled = (quality - low) / (high - low)
    kept = np.cumsum(scaled[np.argsort(unsure, kind="quicksort")])
    return float((kept / np.arange(1, len(kept) + 1)).mean())


def prr(unsure: Floats, quality: Floats) -> float:
    """Prediction-rejection ratio: (area - random) / (oracle - random), 1 for the oracle's order, 0 for a random one.

    Random is the expected area of a random order, which is the mean quality; lm-polygraph estimates it by 1,000
    shuffles, and passes near to it.
    """
    oracle = rejection_area(-quality, quality)
    low, high = float(quality.min()), float(quality.max())
    if np.isclose(low, high):
        return float("nan")
    chance = float(((quality - low) / (high - low)).mean())
    return (rejection_area(unsure, quality) - chance) / (oracle - chance) if oracle != chance else float("nan")


def calibration_error(unsure: Floats, right: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error in equally filled bins, after a logistic calibration fitted on the other half."""
    from decodekit.scores.fitted_rules import balanced

    chance = np.full(len(unsure), float(right.mean()))
    half = np.arange(len(unsure)) % 2 == 0
    for train in (half, ~half):
        labels = right[train]
        if labels.all() or not labels.any():
            continue
        weights, bias, mean, scale = balanced({"s": unsure[train]}, labels, decay=1e-2)
        share = float(labels.mean())
        logit = bias + weights["s"] * (unsure[~train] - mean["s"]) / scale["s"] + np.log(share / (1 - share))
        chance[~train] = 1 / (1 + np.exp(-np.clip(logit, -50, 50)))
    order = np.argsort(chance, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return float(sum(len(p) * abs(chance[p].mean() - right[p].mean()) for p in parts if len(p)) / len(order))


def row(name: str, unsure: Sequence[float], quality: Sequence[float], bootstraps: int = 200, seed: int = 0) -> Row:
    """The figures of one score over items; `unsure` grows with uncertainty."""
    value, good = np.asarray(unsure, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    right = good >= RIGHT
    random = np.random.default_rng(seed)
    drawn = [random.integers(len(value), size=len(value)) for _ in range(bootstraps)]

    def figure(measure: Callable[[npt.NDArray[Any]], float]) -> Figure | None:
        whole = measure(np.arange(len(value)))
        if np.isnan(whole):
            return None
        each = [found for index in drawn if not np.isnan(found := measure(index))]
        low, high = np.quantile(each, [0.025, 0.975]) if each else (whole, whole)
        return Figure(whole, float(low), float(high))

    both = not right.all() and right.any()
    return Row(
        name,
        len(value),
        figure(lambda i: auroc(value[i], right[i])),
        figure(lambda i: prr(value[i], good[i])),
        figure(lambda i: calibration_error(value[i], right[i])) if both else None,
    )


def evaluate(
    model: Any,
    task: Any,
    *,
    scores: Sequence[Any] | None = None,
    samples: int = 5,
    temperature: float = 1.0,
    seed: int = 0,
    constrained: bool = False,
    **tools: Any,
) -> tuple[list[Row], list[dict[str, Any]]]:
    """(figures of every score, what each item gave) on the items of a task.

    The answer that is judged is the greedy one; scores of single texts are its scores, scores of several samples those
    of `samples` drawn at `temperature`. A score that fails on an item is named, and left out of the table.

    Raises:
        OptionError: the task has no items.
    """
    from decodekit.api import Decoder
    from decodekit.comparison.plan import task_of
    from decodekit.registry import discovery
    from decodekit.scores.evaluate import evaluated
    from decodekit.scores.needs import union
    from decodekit.scores.plan import scores_of
    from decodekit.scores.tools import Tools

    named = scores or [name for name in discovery.names(discovery.SCORES) if name not in ("wepr", "inv_entropy")]
    wanted = scores_of(named)
    chosen = task_of(task)
    items = list(chosen.items())
    if not items:
        raise OptionError("eval-uq: the task has no items")
    several = {name: one for name, one in wanted.items() if one.needs().samples > 1}
    single = {name: one for name, one in wanted.items() if name not in several}
    needs = union(one.needs() for one in wanted.values())
    seen: list[dict[str, Any]] = []
    asked = Tools().having(tools)
    for item in items:
        limit = item.constraint if constrained else None
        common: dict[str, Any] = {"max_tokens": item.most, "seed": seed, "top_k": max(20, needs.top)}
        best = Decoder(model, "greedy", limit, **common).generate(item.prompt)
        found = evaluated([best], single, asked)[0]
        if several:
            spec = f"sample | temperature({temperature})"
            drawn = Decoder(model, spec, limit, n=samples, **common).generate(item.prompt)
            more = evaluated([drawn], several, asked)[0]
            found.update(more)
            found.problems.update(more.problems)
        quality = chosen.score(item, best.text) or 0.0
        seen.append({"item": item.id, "quality": quality, "scores": dict(found), "problems": found.problems})
    return [_row(name, one, seen) for name, one in wanted.items()], seen


def _row(name: str, one: Any, seen: Sequence[dict[str, Any]]) -> Row:
    problems = [item["problems"][name] for item in seen if name in item["problems"]]
    kept = [item for item in seen if name in item["scores"] and np.isfinite(item["scores"][name])]
    if len(kept) < 2:
        return Row(name, len(kept), None, None, None, problems[0] if problems else "too few items")
    sign = 1.0 if one.rising else -1.0
    made = row(name, [sign * item["scores"][name] for item in kept], [item["quality"] for item in kept])
    said = f"{len(problems)} items without it: {problems[0]}" if problems else ""
    return Row(made.score, made.items, made.auroc, made.prr, made.error, said)
