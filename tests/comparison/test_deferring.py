"""The report of cascades and of several models: sections, deferral curves, thresholds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from decodekit.comparison import compare
from decodekit.comparison.deferral_plots import deferrals

ARMS = [
    "greedy",
    "large = greedy @ zoo:base",
    "handed = greedy | cascade(slow='zoo:base', threshold=-0.12)",
    "asked = greedy | fast_slow(slow='zoo:base', route='entropy', threshold=0.5)",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    folder = tmp_path_factory.mktemp("run") / "out"
    found = compare("zoo:draft", "json(limit=8)", ARMS, out=folder)
    return (folder / "report.html").read_text(encoding="utf-8"), found


def test_an_arm_on_another_model_stands_in_the_same_table(page: tuple[str, Any]) -> None:
    html, found = page
    assert html.count("<table>") == 1
    assert "large @ zoo:base" in html
    assert {line.model for line in found.lines} == {"zoo:draft", "zoo:base"}


def test_a_cascade_has_its_deferral_curve(page: tuple[str, Any]) -> None:
    html, found = page
    handed = [row for row in found.rows if row["arm"] == "handed"]
    kept = [row for row in handed if not row["told"].get("deferred at")]
    assert 0 < len(kept) < len(handed)  # or the test says nothing
    assert "What deferring is worth" in html
    assert re.search(r"oracle \(area [\d.]+\)", html)
    (named,) = deferrals("json(limit=8)", "zoo:draft", found.rows)
    assert named[0] == "handed"


def test_without_the_ends_there_is_no_curve(page: tuple[str, Any]) -> None:
    rows = [row for row in page[1].rows if row["arm"] != "large"]
    assert deferrals("json(limit=8)", "zoo:draft", rows) == []


def test_the_threshold_stands_in_the_histogram(page: tuple[str, Any]) -> None:
    html, found = page
    told = [row["told"]["entropy threshold"] for row in found.rows if row["arm"] == "asked"]
    assert told == [[0.5]] * 8
    assert ">threshold<" in html
