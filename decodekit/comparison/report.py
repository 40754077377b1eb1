"""What a comparison says, for people: `report.html` (one file, no network), `report.md`, and `report.csv`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import jinja2

from decodekit.analysis import drawing
from decodekit.comparison import plots, position_plots, stats
from decodekit.comparison.deferral_plots import deferrals
from decodekit.comparison.manifest import NAME
from decodekit.comparison.plan import Plan
from decodekit.comparison.stats import Interval, Line
from decodekit.registry.metadata import form
from decodekit.view.page import style

SHOWN: Final = 6
"""Items of each task that the report shows side by side."""
Row = Mapping[str, Any]


def write(folder: Path, plan: Plan, rows: Sequence[Row], closings: Sequence[Row]) -> list[str]:
    """Write the three reports into `folder`, and return what to tell the user: the table, and where they are."""
    found = stats.lines(rows, closings, plan.base)
    manifest = json.loads((folder / NAME).read_text(encoding="utf-8"))
    notes = [*aggregates(plan, rows), *NOTES]
    (folder / "report.md").write_text(markdown(found, plan, manifest, notes), encoding="utf-8")
    (folder / "report.csv").write_text(table(found), encoding="utf-8", newline="")
    (folder / "report.html").write_text(page(found, plan, manifest, rows, closings, notes), encoding="utf-8")
    return [*_grid(found, plan), *notes[: -len(NOTES)], "", f"report: {folder / 'report.html'}"]


def aggregates(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """A sentence for each task that judges all answers of a strategy together, each model and strategy."""
    out = []
    for task in plan.tasks:
        judge = getattr(task, "aggregate", None)
        mine: dict[tuple[str, str], list[Row]] = {}
        for row in rows if judge is not None else ():
            if row["task"] == form(task):
                mine.setdefault((row["model"], row["arm"]), []).append(row)
        for (model, arm), answers in mine.items():
            figures = ", ".join(f"{name} {value:.4g}" for name, value in judge(answers).items())  # type: ignore[misc]
            out += [f"{form(task)} on {model}, {arm}, all answers together: {figures}."] if figures else []
    return out


def cells(line: Line, base: str, model: str) -> list[str]:
    """The columns of the summary, as text; `model` is the section's, and an arm on another one says so."""
    mark = " *" if line.front else ""
    return [
        _named(line, model) + mark,
        _percent(line.score),
        "baseline" if line.arm == base else _signed(line.difference, line.p),
        "" if line.valid is None else f"{100 * line.valid:.0f} %",
        f"{line.calls:.2f}",
        f"{line.rounds:.2f}",
        "" if line.bits is None else f"{line.bits:.2f}",
        "" if line.accepted is None else f"{100 * line.accepted:.0f} %",
        f"{line.layers:.1f}",
        f"{line.gflops:.3g}",
        f"{line.checks:.1f}",
        f"{line.masks:.2f}",
        "" if line.speed is None else f"{line.speed.value:.2f} ({line.speed.low:.2f}-{line.speed.high:.2f})",
        f"{line.ess:.1f}",
    ]


HEAD: Final = (
    "strategy",
    "score (95 %)",
    "against baseline",
    "complete",
    "calls/token",
    "rounds/token",
    "bits/round",
    "accepted",
    "layers/token",
    "GFLOP/token",
    "checks/token",
    "masks/token",
    "speed ratio",
    "ESS",
)


def _percent(value: Interval | None) -> str:
    return "" if value is None else f"{100 * value.value:.1f} ({100 * value.low:.1f}-{100 * value.high:.1f})"


def _signed(value: Interval | None, p: float | None) -> str:
    if value is None or p is None:
        return ""
    said = f"p < {p:.1g}" if p < 0.001 else f"p = {p:.2g}"
    return f"{100 * value.value:+.1f} ({100 * value.low:+.1f} to {100 * value.high:+.1f}), {said}"


def _named(line: Line, model: str) -> str:
    return line.arm if line.model == model or f"@ {line.model}" in line.arm else f"{line.arm} @ {line.model}"


def groups(found: Iterable[Line], plan: Plan) -> dict[tuple[str, str], list[Line]]:
    """Lines by task and model, in order; an arm with a model of its own stands with those of the first model."""
    alone = {arm.name for arm in plan.arms if arm.model}
    out: dict[tuple[str, str], list[Line]] = {}
    for line in found:
        out.setdefault((line.task, plan.models[0] if line.arm in alone else line.model), []).append(line)
    return out


def markdown(found: Sequence[Line], plan: Plan, manifest: Row, notes: Sequence[str] | None = None) -> str:
    """The summary tables as Markdown, with what made them."""
    out = ["# Comparison of decoding strategies", ""]
    for (task, model), mine in groups(found, plan).items():
        out += [f"## {task} on {model}, {mine[0].items} items", "", "| " + " | ".join(HEAD) + " |"]
        out += ["|" + " --- |" * len(HEAD)]
        rows = [cells(line, plan.base, model) for line in mine]
        out += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        out.append("")
    return "\n".join([*out, *(NOTES if notes is None else notes), "", "Versions: " + _versions(manifest) + ".", ""])


NOTES: Final = (
    "Score: mean over items with a paired bootstrap interval. p: of the difference, corrected by Holm's method.",
    "Costs are per token of the answers; what particles and rejected guesses cost is part of it.",
    "Bits: - log2 of the plain model's probability. Accepted: of the guesses that the target came to look at.",
    "Speed ratio: tokens per second of an answer over the baseline's, unit by unit; median and quartiles.",
    "ESS: effective sample size of an answer's samples. * no other strategy scores as much with less computation.",
)


def _versions(manifest: Row) -> str:
    said = [f"{name} {version}" for name, version in manifest["versions"].items()]
    return ", ".join([*said, f"revision {manifest['revision'] or 'unknown'}"])


def table(found: Sequence[Line]) -> str:
    """All columns of all lines as CSV; an interval becomes three columns."""
    out = io.StringIO()
    writer = csv.writer(out)
    spread = ("score", "difference", "speed")
    names = [field.name for field in fields(Line)]
    writer.writerow([part for name in names for part in _split(name, spread)])
    for line in found:
        values: list[object] = []
        for name in names:
            value = getattr(line, name)
            if name in spread:
                values += ["", "", ""] if value is None else [value.value, value.low, value.high]
            else:
                values.append("" if value is None else value)
        writer.writerow(values)
    return out.getvalue()


def _split(name: str, spread: tuple[str, ...]) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"] if name in spread else [name]


def _grid(found: Sequence[Line], plan: Plan) -> list[str]:
    """The scores as a small text table for the terminal."""
    out = []
    for (task, model), mine in groups(found, plan).items():
        wide = max(len(_named(line, model)) for line in mine)
        out.append(f"{task} on {model}")
        for line in mine:
            ratio = "" if line.speed is None else f"  speed x {line.speed.value:.2f}"
            out.append(f"  {_named(line, model):<{wide}}  {_percent(line.score) or 'no score':>20}{ratio}")
    return out


def page(
    found: Sequence[Line],
    plan: Plan,
    manifest: Row,
    rows: Sequence[Row],
    closings: Sequence[Row],
    notes: Sequence[str] = (),
) -> str:
    """The whole report as one HTML page that needs no network."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("decodekit.comparison"), autoescape=True)
    tasks = [
        {
            "title": f"{task} on {model}",
            "items": mine[0].items,
            "lines": [{"cells": cells(line, plan.base, model), "front": line.front} for line in mine],
            "plots": [*plots.of(mine), *_profiles(task, model, mine, closings)],
            "populations": _populations(task, model, closings),
            "collaborations": _collaborations(task, model, rows),
            "deferrals": deferrals(task, model, rows),
            "examples": _examples(task, rows, closings),
        }
        for (task, model), mine in groups(found, plan).items()
    ]
    return environment.get_template("report.html").render(
        tasks=tasks,
        head=HEAD,
        notes=notes or NOTES,
        baseline=plan.base,
        manifest=json.dumps(manifest, indent=1, ensure_ascii=False),
        versions=_versions(manifest),
        style=style(),
        told=any(row.get("stories") for row in closings),
    )


def _profiles(task: str, model: str, found: Sequence[Line], closings: Sequence[Row]) -> list[str]:
    """Plots of entropy and acceptance by position, and of what rounds settled."""
    told: dict[str, list[Row]] = {line.arm: [] for line in found}
    for row in closings:
        alone = row["model"] != model and any(line.arm == row["arm"] and line.model == row["model"] for line in found)
        if row["task"] == task and (row["model"] == model or alone) and row.get("profile"):
            told[row["arm"]].append(row["profile"])
    return [one for one in (position_plots.of(told), position_plots.rounds(found)) if one]


def _populations(task: str, model: str, closings: Sequence[Row]) -> list[tuple[str, str]]:
    """(strategy, plot) of the particles of the first item, for every strategy that has some."""
    first: dict[str, str] = {}
    for row in closings:
        if row["task"] == task and row["model"] == model and row.get("population") and row["arm"] not in first:
            first[row["arm"]] = drawing.population(row["population"])
    return list(first.items())


def _collaborations(task: str, model: str, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(strategy, plot) of where several models worked together, for every strategy that told of it."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["task"] == task and row["model"] == model and "position asked" in row.get("told", {}):
            found.setdefault(row["arm"], []).append(row)
    return [(arm, plots.collaboration(mine)) for arm, mine in found.items()]


def _examples(task: str, rows: Sequence[Row], closings: Sequence[Row]) -> list[dict[str, Any]]:
    """The first items with every strategy's answer: those told token by token, and among them those on which
    strategies disagree.
    """
    stories = {
        (row["arm"], row["model"], item): told
        for row in closings
        if row["task"] == task
        for item, told in (row.get("stories") or {}).items()
    }
    known = {item for _, _, item in stories}
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["task"] == task and row["seed"] == rows[0]["seed"]:
            found.setdefault(row["item"], []).append(row)
    ranked = sorted(found.items(), key=lambda one: (one[0] not in known, len({row["text"] for row in one[1]}) < 2))
    return [
        {
            "item": item,
            "answers": [
                {
                    "arm": row["arm"],
                    "text": row["text"],
                    "score": "" if row["score"] is None else f"{100 * row['score']:.0f}",
                    "finish": row["finish"],
                    "good": row["score"] is not None and row["score"] > 0.999,
                    "posterior": [(text, f"{100 * share:.0f} %") for text, share in row["posterior"][:5]],
                    "story": _embedded(stories.get((row["arm"], row["model"], item))),
                }
                for row in mine
            ],
        }
        for item, mine in ranked[:SHOWN]
    ]


def _embedded(story: Row | None) -> str:
    """JSON that may stand in a script element."""
    if story is None:
        return ""
    said = json.dumps(story, ensure_ascii=False, separators=(",", ":"))
    return said.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
