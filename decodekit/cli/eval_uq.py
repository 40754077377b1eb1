"""`decodekit eval-uq`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def eval_uq(
    task: Annotated[str, typer.Option(help="Such as 'json(limit=50)'.")] = "json(limit=40)",
    model: Annotated[str, typer.Option(help="A path, a hub name, or zoo:NAME.")] = "zoo:base",
    score: Annotated[list[str] | None, typer.Option(help="A score; all but fitted ones if none is named.")] = None,
    samples: Annotated[int, typer.Option(help="Drawn for scores that compare several.")] = 5,
    temperature: Annotated[float, typer.Option(help="Of these.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the noise field.")] = 0,
    constrained: Annotated[bool, typer.Option(help="Under the constraint of each item.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write figures and items here (JSON).")] = None,
) -> None:
    """How well uncertainty scores predict which answers of a task are right."""
    from rich.console import Console
    from rich.table import Table

    from decodekit.comparison.score_quality import evaluate
    from decodekit.models.load import load

    rows, seen = evaluate(
        load(model), task, scores=score, samples=samples, temperature=temperature, seed=seed, constrained=constrained
    )
    table = Table("score", "AUROC", "PRR", "calibration error", title=f"{task} on {model}, {len(seen)} items")
    for row in sorted(rows, key=lambda row: -(row.prr.value if row.prr else -9)):
        figures = [str(one) if one is not None else "" for one in (row.auroc, row.prr, row.error)]
        table.add_row(row.score, *figures)
    Console().print(table)
    for row in rows:
        if row.problem:
            typer.echo(f"{row.score}: {row.problem}", err=True)
    if out is not None:
        found = {"task": task, "model": model, "seed": seed, "rows": [asdict(row) for row in rows], "items": seen}
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        typer.echo(f"saved: {out}")
