"""Runs the units of a plan: generates, scores, writes; goes on where an earlier run stopped."""

from __future__ import annotations

import resource
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from decodekit.analysis import diagnostics
from decodekit.api import Decoder
from decodekit.comparison import example_traces, manifest, store
from decodekit.comparison.plan import Plan, Unit
from decodekit.comparison.task import Item, Task
from decodekit.core.bound import Model
from decodekit.errors import DecodekitError
from decodekit.models.load import load
from decodekit.registry.compose import copies
from decodekit.run.results import Result, Sample

Row = dict[str, Any]
PREPARED: Final = 64
"""Decoders (a strategy bound to a model and a compiled constraint) kept at once."""


class Runner:
    """A plan with its models loaded.

    Args:
        plan: what to run.
        loading: keywords of :func:`decodekit.models.load.load` (device, dtype ...).
    """

    def __init__(self, plan: Plan, **loading: Any) -> None:
        self.plan = plan
        names = dict.fromkeys([*plan.models, *(arm.model for arm in plan.arms if arm.model)])
        self.models: dict[str, Model] = {name: load(name, **loading) for name in names}
        self.units: list[Unit] = list(plan.units())
        self._tasks = {unit.task: task for task in plan.tasks for unit in self.units if unit.task == _name(task)}
        self._examples = {_name(task): {item.id for item in plan.chosen(task)[: plan.examples]} for task in plan.tasks}
        self._decoders: OrderedDict[tuple[str, str, int], Decoder] = OrderedDict()

    def check(self) -> None:
        """Prepare the first unit of every strategy, task and model: what cannot work is said before anything runs.

        Raises:
            DecodekitError: in one sentence that names the strategy.
        """
        seen = set[tuple[str, str, str]]()
        for unit in self.units:
            if (key := (unit.task, unit.arm.name, unit.model)) not in seen:
                seen.add(key)
                self._decoder(unit)

    def run(self, folder: Path, *, resume: bool = False, worker: int = 0, workers: int = 1) -> Iterator[Unit]:
        """Run what is not done yet of the units of this worker, writing each as soon as it is done, and yield it."""
        manifest.keep(folder, manifest.manifest_of(self.plan, self.models), resume or workers > 1)
        with store.Part(folder, worker) as part:
            done = {row["closes"] for row in store.read(folder)[1]}
            for number, unit in enumerate(self.units):
                if number % workers == worker and unit.key not in done:
                    part.add(*self.do(unit))
                    yield unit

    def results(self, folder: Path) -> tuple[list[Row], list[Row]]:
        """(rows, closing rows) in the order of the plan, written to one file as well."""
        return store.merge(folder, (unit.key for unit in self.units))

    def do(self, unit: Unit) -> tuple[list[Row], Row]:
        """The rows of one unit, and the row that closes it."""
        decoder = self._decoder(unit)
        before = time.perf_counter()
        results = decoder.generate(
            [item.prompt for item in unit.items],
            max_tokens=unit.items[0].most,
            seed=unit.seed,
            n=self._samples(unit),
            progress=False,
        )
        seconds = time.perf_counter() - before
        task = self._tasks[unit.task]
        rows = [_row(unit, task, item, result) for item, result in zip(unit.items, results, strict=True)]
        cost = dict(results[0].cost.as_dict())
        cost.pop("seconds", None)
        return rows, {
            "closes": unit.key,
            "task": unit.task,
            "arm": unit.arm.name,
            "model": unit.model,
            "seed": unit.seed,
            "items": len(unit.items),
            "n": self._samples(unit),
            "seconds": round(seconds, 6),
            "peak_mb": _peak(),
            "cost": cost,
            "spec": results[0].spec,
            "population": _population(results[0]),
            "profile": example_traces.profile(results),
            "stories": self._stories(unit, results),
        }

    def _stories(self, unit: Unit, results: Sequence[Result]) -> Row:
        """Token by token, by item: answers to the task's first examples under the first seed."""
        if unit.seed != self.plan.seeds[0] or not self.plan.examples:
            return {}
        wanted = self._examples[unit.task]
        found = {
            item.id: example_traces.story(result)
            for item, result in zip(unit.items, results, strict=True)
            if item.id in wanted
        }
        return {item: story for item, story in found.items() if story is not None}

    def width(self, unit: Unit) -> int:
        """Rows that one item of the unit takes."""
        return self._decoder(unit).width * self._samples(unit)

    def _samples(self, unit: Unit) -> int:
        """Samples per item: those of the plan, or one of a strategy whose texts would all be the same."""
        return 1 if copies(self._decoder(unit).setup_for(self.plan.n > 1).composition, self.plan.n) else self.plan.n

    def predicted(self, unit: Unit) -> float:
        """Floating-point operations of the target at most, were every answer as long as it may be."""
        model = self.models[unit.model]
        module = getattr(model, "hf", None)
        size = sum(p.numel() for p in module.parameters()) if module is not None else 0
        read = sum(len(str(item.prompt)) / 4 + item.most * self.width(unit) for item in unit.items)
        return 2.0 * size * read

    def _decoder(self, unit: Unit) -> Decoder:
        limit = unit.items[0].constraint if unit.arm.constrained else None
        key = (unit.arm.name, unit.model, id(limit))
        if key not in self._decoders:
            try:
                self._decoders[key] = Decoder(self.models[unit.model], unit.arm.strategy, limit)
            except DecodekitError as error:
                raise type(error)(f"strategy {unit.arm.name!r} on {unit.model}, {unit.task}: {error}") from error
            if len(self._decoders) > PREPARED:
                self._decoders.popitem(last=False)
        self._decoders.move_to_end(key)
        return self._decoders[key]


def _name(task: Task) -> str:
    from decodekit.registry.metadata import form

    return form(task)


def _row(unit: Unit, task: Task, item: Item, result: Result) -> Row:
    """One item's result as plain data. score: the weighted mean over samples or particles; None without a score."""
    scores: dict[str, float | None] = {}
    for sample in result.samples:
        if sample.weight > 0 and sample.text not in scores:
            scores[sample.text] = task.score(item, sample.text)
    return {
        "unit": unit.key,
        "task": unit.task,
        "arm": unit.arm.name,
        "model": unit.model,
        "seed": unit.seed,
        "item": item.id,
        "kind": item.kind,
        "score": _expected(result.samples, scores),
        "text": result.text,
        "valid": result.value is not None if unit.arm.constrained and item.constraint is not None else None,
        "finish": result.finish,
        "tokens": sum(len(sample.tokens) for sample in result.samples),
        "length": len(result.tokens),
        "logp": _finite(result.logp),
        "evidence": None if result.evidence is None else _finite(result.evidence),
        "ess": _ess(result.samples),
        "posterior": list(result.posterior().items())[:20] if len(result.samples) > 1 else [],
        "message": result.message,
        "told": _told(result),
    }


def _told(result: Result) -> dict[str, list[float]]:
    """What plugins told of this answer, by name; of populations see :func:`_population`."""
    trace = result.trace
    if trace is None:
        return {}
    names = [name for name in trace.header["facts"] if not name.startswith("smc.")]
    found = {
        name: [value for g in trace.groups or () for value in trace.told(name, g)["value"].tolist()] for name in names
    }
    return {name: [round(value, 4) for value in values if value == value] for name, values in found.items() if values}


def _expected(samples: tuple[Sample, ...], scores: dict[str, float | None]) -> float | None:
    """Mean score under the weights; a result whose particles all died scores 0."""
    if not scores:
        return 0.0
    if any(value is None for value in scores.values()):
        return None
    return sum(sample.weight * (scores[sample.text] or 0.0) for sample in samples if sample.weight > 0)


def _population(result: Result) -> Row | None:
    """How the particles of the unit's first item fared; None where there are none."""
    trace = result.trace
    if trace is None or "smc.ess" not in trace.header["facts"]:
        return None
    return diagnostics.data(trace)


def _ess(samples: tuple[Sample, ...]) -> float:
    squares = sum(sample.weight**2 for sample in samples)
    return 1 / squares if squares else 0.0


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _peak() -> float:
    """Most memory that the process has held, in MB (Linux counts in kB, macOS in bytes)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3), 1)
