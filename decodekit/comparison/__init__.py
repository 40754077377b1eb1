"""Comparison of strategies over tasks: plan, run, statistics, report. :func:`compare` is the door from Python."""

from __future__ import annotations

import html
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from decodekit.errors import OptionError

if TYPE_CHECKING:
    from decodekit.comparison.plan import Plan
    from decodekit.comparison.stats import Line

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, repr=False)
class Comparison:
    """The outcome of :func:`compare`.

    lines: a line of figures for each task, model and strategy. rows: every answer as plain data. folder: where
    results, manifest and reports are.
    """

    plan: Plan
    lines: list[Line]
    rows: list[dict[str, Any]]
    folder: Path

    def frame(self) -> Any:
        """The lines as a pandas frame; intervals are three columns each. Needs pandas."""
        try:
            import pandas as pd
        except ImportError:
            raise OptionError("frame() needs the package pandas; install decodekit[compare]") from None
        return pd.json_normalize([asdict(line) for line in self.lines], sep="_")

    def _repr_html_(self) -> str:
        """The report for a notebook, in a frame of its own so that its style stays within it."""
        page = (self.folder / "report.html").read_text(encoding="utf-8")
        return f'<iframe srcdoc="{html.escape(page)}" style="width: 100%; height: 40rem; border: 0"></iframe>'

    def __repr__(self) -> str:
        return f"Comparison({len(self.lines)} lines from {len(self.rows)} answers)"

    def __str__(self) -> str:
        return (self.folder / "report.md").read_text(encoding="utf-8")


def compare(
    models: str | Sequence[str],
    tasks: Any,
    strategies: str | Sequence[Any] | Mapping[str, str],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    loading: Mapping[str, Any] | None = None,
    **options: Any,
) -> Comparison:
    """Run strategies over tasks and compare them.

    Args:
        models: paths, hub names or `zoo:NAME`.
        tasks: specs such as `"sql(limit=50)"`, or task plugins.
        strategies: specs, each `[NAME =] [unconstrained:] SPEC [@ MODEL]`, or a mapping of names to specs.
        out: folder of the run; a temporary one if None.
        resume: go on with the run that is in `out`.
        loading: keywords of `decodekit.load` for the models.
        options: seeds, baseline, batch, n, limit, where, examples; see :class:`decodekit.comparison.plan.Plan`.

    Raises:
        DecodekitError: before anything runs, in one sentence.
    """
    from decodekit.comparison import parallel, report, stats
    from decodekit.comparison.plan import plan_of
    from decodekit.comparison.runner import Runner

    listed = [tasks] if isinstance(tasks, str) or (hasattr(tasks, "items") and not isinstance(tasks, list)) else tasks
    named = [strategies] if isinstance(strategies, str) else strategies
    plan = plan_of([models] if isinstance(models, str) else models, listed, named, **options)
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="decodekit-"))
    runner = Runner(plan, **(loading or {}))
    runner.check()
    parallel.here(runner, folder, resume=resume)
    rows, closings = runner.results(folder)
    report.write(folder, plan, rows, closings)
    return Comparison(plan, stats.lines(rows, closings, plan.base), rows, folder)


class _Callable(ModuleType):
    """Makes `decodekit.compare(...)` work whether or not this package was imported before under that very name."""

    def __call__(self, *args: Any, **options: Any) -> Comparison:
        return compare(*args, **options)


sys.modules[__name__].__class__ = _Callable
