"""The statistics against closed forms and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from decodekit.comparison import stats


def test_the_interval_of_a_mean_agrees_with_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = stats.interval(values)
    low, high = scipy.stats.norm.interval(0.95, values.mean(), values.std() / 20)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)


def test_p_values_are_calibrated() -> None:
    rng = np.random.default_rng(2)
    null = [stats.p_value(rng.normal(0.0, 1.0, 60)) for _ in range(150)]
    assert 0.0 < np.mean(np.array(null) < 0.05) < 0.12
    assert stats.p_value(rng.normal(1.0, 1.0, 60)) < 0.001
    assert stats.p_value(np.zeros(10)) == 1.0


def test_holm_against_its_definition() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert stats.holm([]) == []


FIXED = {
    "task": "t",
    "model": "m",
    "seed": 0,
    "valid": True,
    "tokens": 2,
    "length": 2,
    "ess": 1.0,
    "peak_mb": 1.0,
}


def _rows(arm: str, score: dict[str, list[float]]) -> list[dict[str, object]]:
    return [
        {**FIXED, "arm": arm, "item": item, "score": one, "unit": f"t | {arm}"}
        for item, values in score.items()
        for one in values
    ]


def _told(arm: str, flops: float, seconds: float) -> dict[str, object]:
    one = {"calls": 4, "fed": 8, "computed": 8, "layers": 8, "flops": flops}
    cost = {"rounds": 4, "tokens": 4, "checks": 2, "masks": 1, "models": {"target": one}}
    return {**FIXED, "arm": arm, "closes": f"t | {arm}", "items": 2, "seconds": seconds, "cost": cost}


def test_lines_pair_items_and_find_the_front() -> None:
    rows = [
        *_rows("base", {"a": [0.0, 1.0], "b": [0.0, 0.0]}),
        *_rows("better", {"a": [1.0, 1.0], "b": [0.0, 1.0]}),
        *_rows("worse", {"a": [0.0, 0.0], "b": [0.0, 0.0]}),
    ]
    told = [_told("base", 4e9, 2.0), _told("better", 8e9, 1.0), _told("worse", 8e9, 4.0)]
    base, better, worse = stats.lines(rows, told, "base")
    assert base.score is not None
    assert base.score.value == 0.25
    assert base.difference is None
    assert better.difference is not None
    assert better.difference.value == 0.5
    assert better.speed is not None
    assert better.speed.value == pytest.approx(2.0)
    assert (base.front, better.front, worse.front) == (True, True, False)
    assert base.gflops == pytest.approx(4.0 / 8)


def test_particles_do_not_make_a_token_cheaper() -> None:
    rows = [{**row, "tokens": 32} for row in _rows("base", {"a": [1.0], "b": [1.0]})]
    (one,) = stats.lines(rows, [_told("base", 4e9, 2.0)], "base")
    assert one.gflops == pytest.approx(4.0 / 4)
    (two,) = stats.lines(rows, [{**_told("base", 4e9, 2.0), "n": 2}], "base")
    assert two.gflops == pytest.approx(4.0 / 8)
