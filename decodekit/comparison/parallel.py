"""Who runs the units: this process, the processes of `accelerate launch`, or workers on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from decodekit.comparison import manifest, store
from decodekit.comparison.runner import Runner
from decodekit.errors import OptionError

Tell = Callable[[int, str], None] | None
"""Called with the number of units done and the name of the last one."""


def device() -> str | None:
    """Where this process is to load its models: its own accelerator where several processes share them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not torch.cuda.is_available():
        return None
    return str(_state().device)


def _state() -> Any:
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def here(runner: Runner, folder: Path, *, resume: bool = False, tell: Tell = None) -> bool:
    """Run in this process; under `accelerate launch` each process does its share. True in the one that reports."""
    begun = len(store.read(folder)[1])  # units that an earlier run has done
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        for number, unit in enumerate(runner.run(folder, resume=resume), begun + 1):
            if tell:
                tell(number, unit.key)
        return True
    state = _state()
    if state.is_main_process:  # one process decides whether the folder may be used, before the others write into it
        manifest.keep(folder, manifest.manifest_of(runner.plan, runner.models), resume)
    state.wait_for_everyone()
    shared = runner.run(folder, worker=state.process_index, workers=state.num_processes)
    for number, unit in enumerate(shared, 1):
        if tell and state.is_main_process:
            tell(min(begun + number * state.num_processes, len(runner.units)), unit.key)
    if tell and state.is_main_process:
        tell(len(runner.units), "")
    state.wait_for_everyone()
    return bool(state.is_main_process)


def on_ray(
    runner: Runner,
    folder: Path,
    address: str,
    workers: int | None = None,
    *,
    resume: bool = False,
    tell: Tell = None,
    loading: dict[str, Any] | None = None,
) -> None:
    """Run on a Ray cluster (`auto`, `local`, or its address); this process alone writes, so a worker may die.

    Each worker loads the models once. A unit whose worker died is run again by another one; after three deaths the
    run stops with what is done intact.

    Raises:
        OptionError: Ray is not installed, cannot be reached, or a unit cost three workers.
    """
    try:
        import ray
    except ImportError:
        raise OptionError("--ray needs the package ray; install decodekit[ray]") from None
    manifest.keep(folder, manifest.manifest_of(runner.plan, runner.models), resume)
    own = not ray.is_initialized()
    if own:
        where = {} if address == "local" else {"address": address}
        ray.init(**where, log_to_driver=False, include_dashboard=False)
    try:
        _drive(ray, runner, folder, workers, tell, loading or {})
    finally:
        if own:
            ray.shutdown()


class _Worker:
    """What runs on a Ray worker: the whole plan, of which it does the units that it is asked for."""

    def __init__(self, plan: Any, loading: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self._runner = Runner(plan, **loading)

    def do(self, number: int) -> tuple[int, Any]:
        return number, self._runner.do(self._runner.units[number])

    def process(self) -> int:
        return os.getpid()


def _drive(ray: Any, runner: Runner, folder: Path, workers: int | None, tell: Tell, loading: dict[str, Any]) -> None:
    with store.Part(folder) as part:
        done = {row["closes"] for row in store.read(folder)[1]}
        waiting = [i for i, unit in enumerate(runner.units) if unit.key not in done]
        count = min(workers or int(ray.cluster_resources().get("CPU", 1)), max(1, len(waiting)))
        kind = ray.remote(_Worker)

        def fresh() -> Any:
            return kind.options(max_restarts=0).remote(runner.plan, loading)

        busy: dict[Any, tuple[Any, int]] = {}
        idle, deaths = [fresh() for _ in range(count)], dict[int, int]()
        finished = len(runner.units) - len(waiting)
        while waiting or busy:
            while waiting and idle:
                worker, number = idle.pop(), waiting.pop(0)
                busy[worker.do.remote(number)] = (worker, number)
            (ready, *_), _ = ray.wait(list(busy), num_returns=1)
            worker, number = busy.pop(ready)
            try:
                _, result = ray.get(ready)
            except ray.exceptions.RayActorError:
                deaths[number] = deaths.get(number, 0) + 1
                if deaths[number] == 3:
                    key = runner.units[number].key
                    raise OptionError(
                        f"{key} cost three workers; what is done is intact: go on with --resume"
                    ) from None
                waiting.insert(0, number)
                idle.append(fresh())
                continue
            part.add(*result)
            finished += 1
            idle.append(worker)
            if tell:
                tell(finished, runner.units[number].key)
