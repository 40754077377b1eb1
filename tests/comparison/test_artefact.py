"""The report that README quotes is the one that lies in docs, and README quotes nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from decodekit.comparison.plan import from_toml, plan_of
from perf import comparison

README = comparison.ROOT / "README.md"


def test_readme_has_the_table_of_the_report() -> None:
    text = README.read_text(encoding="utf-8")
    assert comparison.write(text) == text
    assert text.count("\n| greedy | ") == 1


def test_the_report_is_that_of_the_plan() -> None:
    said = from_toml(comparison.FOLDER / "plan.toml")
    plan = plan_of(said.pop("models"), said.pop("tasks"), said.pop("strategies"), **said)
    manifest = json.loads((comparison.FOLDER / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["plan"] == json.loads(json.dumps(plan.described()))
    assert len(plan.arms) >= 8


def test_nothing_in_it_names_a_machine() -> None:
    for file in Path(comparison.FOLDER).iterdir():
        text = file.read_text(encoding="utf-8")
        assert "/home/" not in text
        assert "/tmp/" not in text
