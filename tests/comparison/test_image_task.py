"""The task of pictures: items, scores, and what all pictures of a strategy are worth together."""

from __future__ import annotations

from pathlib import Path

import pytest

import decodekit as dk
from decodekit.comparison.task import Task
from decodekit.errors import OptionError
from decodekit.registry.spec import parse_task
from decodekit.vision import images


def test_items_and_scores() -> None:
    task = parse_task("image(limit=4)")
    assert isinstance(task, Task)
    items = task.items()
    assert [(item.prompt, item.gold, item.most) for item in items] == [(f"<{k}>", k, 49) for k in range(4)]
    drawn = dk.generate("zoo:visual", "<3>", strategy="sample | guidance(1.5, prompt='<none>')", max_tokens=49, seed=1)
    assert int(images.judged(images.decoded(drawn))[0]) == 3
    assert task.score(items[3], drawn.text) == 1.0
    assert task.score(items[2], drawn.text) == 0.0
    assert task.score(items[2], "") == 0.0
    with pytest.raises(OptionError, match="knows 10 classes"):
        parse_task("image(limit=11)").items()


def test_a_comparison_reports_the_distance_of_all_pictures(tmp_path: Path) -> None:
    exact = "exact = sample | speculative('zoo:visual-draft', k=6)"
    relaxed = "transport = lantern(16, 0.2, 'transport') | speculative('zoo:visual-draft', k=6)"
    found = dk.compare("zoo:visual", "image(limit=3)", [exact, relaxed], seeds=(0, 1), batch=8, out=tmp_path)
    text = str(found)
    assert "image(limit=3) on zoo:visual, exact, all answers together: Fréchet distance" in text
    assert "transport, all answers together" in text
    assert "pictures 6" in text
    assert "Fréchet distance" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert {line.arm for line in found.lines} == {"exact", "transport"}
