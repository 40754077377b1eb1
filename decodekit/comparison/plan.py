"""What a comparison consists of: models, tasks, arms, seeds; and its division into units of work."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from decodekit.comparison.task import Item, Task
from decodekit.errors import OptionError, SpecError
from decodekit.registry.metadata import form, info_of
from decodekit.registry.spec import Strategy, parse, parse_task

FREE: Final = "unconstrained:"
"""Before a strategy: the task's constraint is not given to it (the base model of the AWRS paper)."""
_NAME: Final = re.compile(r"\s*([A-Za-z][^=()|'\"]*?)\s*=(?!=)\s*(.*)", re.DOTALL)
_MODEL: Final = re.compile(r"(.*\S)\s+@\s*(\S+)\s*", re.DOTALL)


@dataclass(frozen=True)
class Arm:
    """One contender: a strategy, on the plan's models or on one of its own, with the task's constraint or without."""

    name: str
    strategy: Strategy
    model: str | None = None
    constrained: bool = True

    @staticmethod
    def of(text: str) -> Arm:
        """Read `[NAME =] [unconstrained:] STRATEGY [@ MODEL]`, such as `lcd = awrs(weight='none')`.

        Raises:
            SpecError, UnknownPlugin, OptionError: of the strategy.
        """
        name, rest = "", text.strip()
        if found := _NAME.fullmatch(rest):
            name, rest = found[1], found[2]
        free = rest.startswith(FREE)
        rest = rest.removeprefix(FREE).strip()
        model = None
        if found := _MODEL.fullmatch(rest):
            rest, model = found[1], found[2]
        strategy = parse(rest)
        shown = (FREE + " " if free else "") + str(strategy) + (f" @ {model}" if model else "")
        return Arm(name or shown, strategy, model, not free)

    def __str__(self) -> str:
        head = "" if self.constrained else f"{FREE} "
        return head + str(self.strategy) + (f" @ {self.model}" if self.model else "")


@dataclass(frozen=True)
class Unit:
    """What one call generates: a batch of items of one task for one arm, model and seed. key: its name in the files."""

    key: str
    task: str
    arm: Arm
    model: str
    seed: int
    items: tuple[Item, ...] = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """A comparison, before it is run.

    models: paths, hub names or `zoo:NAME`; an arm with a model of its own runs on that one alone. tasks: task plugins.
    baseline: name of the arm that the others are compared with. batch: items in one call. n: samples per item.
    examples: of so many items of each task the answers are kept token by token, for the report.
    """

    models: tuple[str, ...]
    tasks: tuple[Task, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = (0,)
    baseline: str = ""
    batch: int = 8
    n: int = 1
    limit: int | None = None
    where: str = ""
    examples: int = 12

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        for what, given in (
            ("task", self.tasks),
            ("strategy", self.arms),
            ("model", self.models),
            ("seed", self.seeds),
        ):
            if not given:
                raise OptionError(f"a comparison needs at least one {what}; give --{what}")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise OptionError(f"two strategies are called {twice!r}; name one of them: --strategy 'NAME = ...'")
        if self.baseline and self.baseline not in names:
            raise OptionError(f"the baseline {self.baseline!r} is none of the strategies {', '.join(names)}")
        for what, number in (("batch", self.batch), ("n", self.n)):
            if number < 1:
                raise OptionError(f"{what}={number} is refused; give a whole number of at least 1")
        if self.examples < 0:
            raise OptionError(f"examples={self.examples} is refused; give 0 for none, or a number of items")

    @property
    def base(self) -> str:
        """The baseline's name: the first arm where none was named."""
        return self.baseline or self.arms[0].name

    def described(self) -> dict[str, Any]:
        """Plain data that says the same, for the manifest."""
        return {
            "models": list(self.models),
            "tasks": [form(task) for task in self.tasks],
            "strategies": {arm.name: str(arm) for arm in self.arms},
            "seeds": list(self.seeds),
            "baseline": self.base,
            "batch": self.batch,
            "n": self.n,
            "limit": self.limit,
            "where": self.where,
            "examples": self.examples,
        }

    def units(self) -> Iterator[Unit]:
        """All units in the order in which they are run: strategies alternate batch by batch, so that a drift of the
        machine hits all alike.
        """
        for task in self.tasks:
            name = form(task)
            batches = list(self._batches(task))
            for number, batch in enumerate(batches):
                turn = number % len(self.arms)
                for seed in self.seeds:
                    for arm in (*self.arms[turn:], *self.arms[:turn]):
                        for model in (arm.model,) if arm.model else self.models:
                            key = f"{name} #{number} | {arm.name} | {model} | seed {seed}"
                            yield Unit(key, name, arm, model, seed, batch)

    def _batches(self, task: Task) -> Iterator[tuple[Item, ...]]:
        """Items that share a constraint and a length go together: one call has one of each."""
        groups: dict[tuple[int, int], list[Item]] = {}
        for item in self.chosen(task):
            groups.setdefault((id(item.constraint), item.most), []).append(item)
        for group in groups.values():
            for start in range(0, len(group), self.batch):
                yield tuple(group[start : start + self.batch])

    def chosen(self, task: Task) -> list[Item]:
        """The task's items that `where` and `limit` leave."""
        items = list(task.items())
        ids = [item.id for item in items]
        if len(set(ids)) < len(ids):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise OptionError(f"{form(task)} has two items with the id {twice!r}; give each its own")
        if self.where:
            items = [item for item in items if self.where in (item.kind, item.id) or self.where in item.prompt]
        if not items:
            raise OptionError(f"{form(task)} has no item where {self.where!r} is the kind, the id or in the prompt")
        return items[: self.limit]


def plan_of(
    models: Sequence[str],
    tasks: Sequence[str | Task],
    strategies: Sequence[str | Arm] | Mapping[str, str],
    **options: Any,
) -> Plan:
    """A plan from what users write; a mapping gives strategies their names."""
    if isinstance(strategies, Mapping):
        arms = tuple(replace(Arm.of(text), name=name) for name, text in strategies.items())
    else:
        arms = tuple(one if isinstance(one, Arm) else Arm.of(one) for one in strategies)
    made = tuple(task_of(one) for one in tasks)
    return Plan(tuple(models), made, arms, **options)


def task_of(given: str | Task) -> Task:
    """A task from its spec."""
    found = parse_task(given) if isinstance(given, str) else given
    if info_of(found) is None or not isinstance(found, Task):
        raise SpecError(f"{form(found)} is no task; give a spec such as 'sql(limit=50)', or a registered task plugin")
    return found


def from_toml(path: str | Path) -> dict[str, Any]:
    """The keywords of :func:`plan_of` from a TOML file with the keys models, tasks, strategies (list or table), seeds,
    baseline, batch, n, limit, where, examples.

    Raises:
        OptionError: it cannot be read, or has a key that means nothing.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"the plan {str(path)!r} cannot be read: {error}; give a TOML file") from None
    known = ("models", "tasks", "strategies", "seeds", "baseline", "batch", "n", "limit", "where", "examples")
    if odd := [key for key in found if key not in known]:
        raise OptionError(
            f"the plan {str(path)!r} has the key {odd[0]!r}, which means nothing; keys: {', '.join(known)}"
        )
    if isinstance(found.get("seeds"), list):
        found["seeds"] = tuple(found["seeds"])
    return found
