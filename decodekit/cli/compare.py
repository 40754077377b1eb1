"""`decodekit compare`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from decodekit.errors import OptionError

if TYPE_CHECKING:
    from decodekit.comparison.plan import Plan
    from decodekit.comparison.runner import Runner

_PLAN = "What to compare"
_RUN = "Run"


def compare(
    out: Annotated[Path, typer.Option(help="Folder for results, manifest and report.")],
    model: Annotated[list[str] | None, typer.Option(help="A path or zoo:NAME.", rich_help_panel=_PLAN)] = None,
    task: Annotated[list[str] | None, typer.Option(help="Such as 'sql(limit=50)'.", rich_help_panel=_PLAN)] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="[NAME =] [unconstrained:] SPEC [@ MODEL].", rich_help_panel=_PLAN),
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="All of this from a TOML file.", rich_help_panel=_PLAN)] = None,
    baseline: Annotated[str, typer.Option(help="Name of a strategy; else the first.", rich_help_panel=_PLAN)] = "",
    seed: Annotated[list[int] | None, typer.Option(help="Of the noise; several repeat.", rich_help_panel=_PLAN)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Items of each task.", rich_help_panel=_PLAN)] = None,
    where: Annotated[str, typer.Option(help="Items of this kind, id or prompt.", rich_help_panel=_PLAN)] = "",
    batch: Annotated[int | None, typer.Option(min=1, help="Items in one call.", rich_help_panel=_RUN)] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="Samples per item.", rich_help_panel=_RUN)] = None,
    examples: Annotated[
        int | None, typer.Option(min=0, help="Items of each task kept token by token.", rich_help_panel=_RUN)
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.", rich_help_panel=_RUN)] = False,
    dry_run: Annotated[bool, typer.Option(help="Check, show what it would cost, stop.", rich_help_panel=_RUN)] = False,
    ray: Annotated[str | None, typer.Option(help="Run on this Ray cluster.", rich_help_panel=_RUN)] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers on --ray.", rich_help_panel=_RUN)] = None,
    dtype: Annotated[str | None, typer.Option(help="Such as bfloat16.", rich_help_panel=_RUN)] = None,
    device: Annotated[str | None, typer.Option(help="Such as cuda.", rich_help_panel=_RUN)] = None,
) -> None:
    """Run strategies over tasks and say which is better at what cost."""
    given = {
        "baseline": baseline or None,
        "seeds": tuple(seed) if seed else None,
        "limit": limit,
        "where": where or None,
    }
    made = _plan(plan, model, task, strategy, {**given, "batch": batch, "n": n, "examples": examples})

    from decodekit.comparison import parallel
    from decodekit.comparison.report import write
    from decodekit.comparison.runner import Runner

    loading = {"dtype": dtype, "device": device or parallel.device()}
    loading = {name: value for name, value in loading.items() if value is not None}
    runner = Runner(made, **loading)
    runner.check()
    if dry_run:
        typer.echo(_prediction(runner))
        return
    if ray is not None:
        parallel.on_ray(runner, out, ray, workers, resume=resume, tell=_bar(len(runner.units)), loading=loading)
    elif not parallel.here(runner, out, resume=resume, tell=_bar(len(runner.units))):
        return  # a worker that is not the first: the first writes the report
    rows, closings = runner.results(out)
    for line in write(out, made, rows, closings):
        typer.echo(line)


def _plan(
    file: Path | None,
    model: list[str] | None,
    task: list[str] | None,
    strategy: list[str] | None,
    options: dict[str, Any],
) -> Plan:
    from decodekit.comparison.plan import from_toml, plan_of

    said = from_toml(file) if file else {}
    said |= {name: value for name, value in options.items() if value is not None}
    models = model or said.pop("models", None) or ["zoo:base"]
    tasks = task or said.pop("tasks", None)
    strategies = strategy or said.pop("strategies", None)
    if not tasks or not strategies:
        missing = "--task" if not tasks else "--strategy"
        raise OptionError(f"a comparison needs tasks and strategies; give {missing}, or --plan FILE.toml")
    for name in ("models", "tasks", "strategies"):
        said.pop(name, None)
    return plan_of(models, tasks, strategies, **said)


def _bar(total: int) -> Any:
    """A function that shows progress with the time left on a terminal, and a line a tenth of the way elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not sys.stderr.isatty():
        return _lines(total)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    name = bar.add_task("", total=total)
    bar.start()

    def tell(done: int, said: str) -> None:
        bar.update(name, completed=done, description=said[:60])
        if done >= total:
            bar.stop()

    return tell


def _lines(total: int) -> Any:
    """A function that says ten times in a run how far it is, and about how long the rest takes."""
    begun, said_at = time.monotonic(), [0, 0]  # tenths that were told; units that an earlier run had done

    def tell(done: int, said: str) -> None:
        if not said_at[1]:
            said_at[1] = done
        if 10 * done // total > said_at[0]:
            said_at[0] = 10 * done // total
            fresh = max(1, done - said_at[1] + 1)
            left = (time.monotonic() - begun) / fresh * (total - done)
            typer.echo(f"{done} of {total} calls, about {left:.0f} s left ({said[:60]})", err=True)

    return tell


def _prediction(runner: Runner) -> str:
    """What a run would do at most, in a few lines."""
    units = runner.units
    asked = sum(len(unit.items) for unit in units)
    most = sum(len(unit.items) * unit.items[0].most * runner.width(unit) for unit in units)
    flops = sum(runner.predicted(unit) for unit in units)
    said = [f"{len(units)} calls, {asked} answers, at most {most:,} tokens and {flops / 1e12:,.2f} TFLOP of the target"]
    for arm in runner.plan.arms:
        mine = [unit for unit in units if unit.arm is arm]
        said.append(f"  {arm.name}: {len(mine)} calls, at most {sum(map(runner.predicted, mine)) / 1e12:,.2f} TFLOP")
    return "\n".join(said)
