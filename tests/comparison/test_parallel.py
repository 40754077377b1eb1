"""The same results whoever runs the units: one process, two that accelerate joins, a local Ray with a killed worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from decodekit.comparison import parallel, store
from decodekit.comparison.plan import plan_of
from decodekit.comparison.runner import Runner
from decodekit.errors import OptionError

TASKS, ARMS = ["json(limit=4)", "sql(limit=4)"], ["greedy", "awrs"]


def texts(folder: Path) -> list[tuple[str, str, str]]:
    lines = (folder / store.RESULTS).read_text(encoding="utf-8").splitlines()
    return [(row["unit"], row["item"], row["text"]) for row in map(json.loads, lines)]


def ours(name: str) -> list[int]:
    """Processes called so that descend from this one: there may be others' on the machine."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    found = []
    for one in parents:
        above = one
        while above in parents and above != os.getpid():
            above = parents[above]
        try:
            if above == os.getpid() and name.encode() in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runner, list[tuple[str, str, str]]]:
    runner, folder = Runner(plan_of(["zoo:base"], TASKS, ARMS, batch=1)), tmp_path_factory.mktemp("alone")
    assert parallel.here(runner, folder)
    runner.results(folder)
    return runner, texts(folder)


@pytest.mark.slow
def test_two_processes_that_accelerate_joins(alone: tuple[Runner, Any], tmp_path: Path) -> None:
    """Started by torchrun: `accelerate launch` starts several processes for accelerators, for CPUs it wants MPI."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words += ["-m", "decodekit"]
    words += ["compare", "--out", str(tmp_path / "out"), "--batch", "1"]
    for kind, given in (("--task", TASKS), ("--strategy", ARMS)):
        for one in given:
            words += [kind, one]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "out").glob("part-*.jsonl"))) == 2
    assert texts(tmp_path / "out") == alone[1]
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, at start and shutdown
def test_a_local_ray_whose_worker_is_killed(alone: tuple[Runner, Any], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    runner, expected = alone
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    killed: list[int] = []

    def kill() -> None:
        """Kill one worker process as soon as something is written."""
        part = tmp_path / store.PART.format(0)
        while not (part.exists() and part.stat().st_size):
            time.sleep(0.01)
        found = ours("ray::_Worker")
        os.kill(found[0], signal.SIGKILL)
        killed.append(found[0])

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        parallel.on_ray(runner, tmp_path, "local", workers=2)
    finally:
        thread.join(5)
        ray.shutdown()
    runner.results(tmp_path)
    assert killed
    assert texts(tmp_path) == expected


def test_without_ray_the_extra_is_named(
    alone: tuple[Runner, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"decodekit\[ray\]"):
        parallel.on_ray(alone[0], tmp_path, "auto")
