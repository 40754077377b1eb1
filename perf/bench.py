"""Shared by the benchmarks: paired timing on a noisy machine, and results that name what made them."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("decodekit", "torch", "transformers", "numpy", "llguidance", "outlines-core")


@dataclass(frozen=True)
class Timed:
    """Seconds of one contender over all repeats, in the order measured."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def paired(contenders: Mapping[str, Callable[[], object]], repeats: int, warm: int = 1) -> dict[str, Timed]:
    """Time each contender `repeats` times, interleaved and in alternating order, so that drift hits all alike."""
    names = list(contenders)
    for _ in range(warm):
        for name in names:
            contenders[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        for name in names if turn % 2 == 0 else reversed(names):
            begin = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - begin)
    return {name: Timed(name, tuple(seconds[name])) for name in names}


def ratio(one: Timed, other: Timed) -> dict[str, float]:
    """Of paired repeats: median of `one / other`, with the quartiles as spread."""
    each = sorted(a / b for a, b in zip(one.seconds, other.seconds, strict=True))
    low, middle, high = statistics.quantiles(each, n=4) if len(each) > 1 else (each[0],) * 3
    return {"median": round(middle, 4), "q25": round(low, 4), "q75": round(high, 4)}


def provenance(seed: int, packages: Sequence[str] = PACKAGES) -> dict[str, object]:
    """Versions, machine and revision, without anything that names the machine."""
    have: dict[str, str] = {}
    for package in packages:
        have[package] = version(package)
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    revision = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return {
        "seed": seed,
        "revision": revision,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": have,
    }


def save(
    name: str, seed: int, rows: Sequence[Mapping[str, object]], note: str, packages: Sequence[str] = PACKAGES
) -> Path:
    """Write `perf/results/NAME.json`: what was measured, and what made it."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(
        json.dumps({"note": note, "made by": provenance(seed, packages), "rows": list(rows)}, indent=1) + "\n"
    )
    return path
