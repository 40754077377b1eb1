"""Every registered score that is known while a text grows drives every option that decides by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import decodekit as dk
from decodekit.errors import CompositionError
from decodekit.registry import discovery
from decodekit.scores.methods.entropy import fit_wepr

RUNNING = [name for name in discovery.names(discovery.SCORES) if hasattr(discovery.load(name, discovery.SCORES), "add")]
WHOLE = [name for name in discovery.names(discovery.SCORES) if name not in RUNNING]
STEERED = {
    "router": "greedy | fast_slow('zoo:base', route='score', score={score}, threshold={limit})",
    "adadec": "adadec(signal='score', score={score}, threshold={limit}, steps=2)",
    "early exit": "greedy | early_exit(rule='score', score={score}, threshold={limit})",
    "abstain": "greedy | abstain({score}, {side}={limit})",
    "cascade": "greedy | cascade('zoo:base', rule='score', score={score}, threshold={limit})",
}
MODEL = {"router": "zoo:draft", "adadec": "zoo:base", "early exit": "zoo:exits", "abstain": "zoo:base",
         "cascade": "zoo:draft"}  # fmt: skip
MADE: dict[str, Any] = {}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("fitted") / "wepr.json"
    tops = [np.log(np.random.default_rng(seed).dirichlet(np.ones(9), 4)) for seed in range(6)]
    fit_wepr(tops, [True, False] * 3, k=4).save(path)
    return str(Path(path))


def outcome(consumer: str, score: str, limit: float, side: str) -> tuple[str, str, dict[str, Any]]:
    spec = STEERED[consumer].format(score=repr(score), limit=limit, side=side)
    found = dk.generate(MODEL[consumer], "Ada Park is", strategy=spec, max_tokens=6, eos=())
    return found.text, found.finish, {key: one.fed for key, one in found.cost.models.items()}


@pytest.mark.parametrize("consumer", list(STEERED))
@pytest.mark.parametrize("name", RUNNING)
def test_any_running_score_drives_any_threshold(name: str, consumer: str, fitted: str) -> None:
    score = f"wepr(fitted={fitted!r})" if name == "wepr" else name
    rising = discovery.load(name, discovery.SCORES).rising
    sure, unsure = (1e6, -1e6) if rising else (-1e6, 1e6)  # thresholds that are never met, and always
    side = "above" if rising else "below"
    never, always = outcome(consumer, score, sure, side), outcome(consumer, score, unsure, side)
    assert never != always, spec_of(consumer, score)
    if consumer == "abstain":
        assert (never[1], always[1]) == ("length", "abstain")
    if consumer in ("router", "cascade"):
        assert always[2].get("slow", 0) > never[2].get("slow", 0)


def spec_of(consumer: str, score: str) -> str:
    return f"{consumer} by {score} does the same whatever its threshold"


@pytest.mark.parametrize("consumer", list(STEERED))
def test_scores_of_whole_texts_are_refused_by_name(consumer: str) -> None:
    for name in WHOLE:
        with pytest.raises(CompositionError, match=f"{name} is known of whole texts only"):
            outcome(consumer, name, 1.0, "above")
