"""The comparison that README quotes: runs `docs/comparison/plan.toml`, keeps the report, rewrites README's table.

    python -m perf.comparison            # minutes on one core; writes docs/comparison and the README's table
    python -m perf.comparison --table    # the table alone, from the report that is there

Everything in `docs/comparison` but the plan is output: `report.html`, `report.md`, `report.csv`, `manifest.json` (what
made it) and `results.jsonl` (every answer).
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from decodekit.comparison import compare, store
from decodekit.comparison.plan import from_toml

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "comparison"
KEPT = ("report.html", "report.md", "report.csv", "manifest.json", store.RESULTS)
BEGIN, END = "<!-- comparison -->", "<!-- /comparison -->"


def run() -> None:
    """Run the plan and keep what came of it."""
    said = from_toml(FOLDER / "plan.toml")
    models, tasks, strategies = (said.pop(name) for name in ("models", "tasks", "strategies"))
    with tempfile.TemporaryDirectory() as folder:
        compare(models, tasks, strategies, out=Path(folder) / "run", **said)
        for name in KEPT:
            shutil.copyfile(Path(folder) / "run" / name, FOLDER / name)


def table() -> str:
    """The README's table, from `report.csv`."""
    with (FOLDER / "report.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    tasks = list(dict.fromkeys(line["task"] for line in lines))
    out = ["| strategy | " + " | ".join(f"{_short(task)}: score | GFLOP/token | speed" for task in tasks) + " |"]
    out.append("| --- |" + " --- |" * (3 * len(tasks)))
    for arm in dict.fromkeys(line["arm"] for line in lines):
        found = {line["task"]: line for line in lines if line["arm"] == arm}
        models = {line["model"] for line in found.values()} - {lines[0]["model"]}
        named = f"{arm} ({', '.join(sorted(models))})" if models else arm
        out.append(f"| {named} | " + " | ".join(_cells(found.get(task)) for task in tasks) + " |")
    return "\n".join(out)


def _short(task: str) -> str:
    return task.split("(")[0]


def _cells(line: dict[str, Any] | None) -> str:
    if line is None:
        return " | | "
    score, low, high = (100 * float(line[f"score{part}"]) for part in ("", "_low", "_high"))
    speed = f"{float(line['speed']):.2f}" if line["speed"] else "1"
    return f"{score:.1f} ({low:.1f}-{high:.1f}) | {float(line['gflops']):.2g} | {speed}"


def write(text: str) -> str:
    """The README with the table between its marks."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The README's comparison.")
    parser.add_argument("--table", action="store_true", help="rewrite the README's table alone")
    torch.set_num_threads(1)
    if not parser.parse_args().table:
        run()
    readme = ROOT / "README.md"
    readme.write_text(write(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
