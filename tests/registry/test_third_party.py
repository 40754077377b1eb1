"""The example package, installed as a user would, is found, read from a spec string, and decodes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USE = """
from decodekit.registry import discovery
from decodekit.registry.spec import parse
from decodekit.testing.harness import run
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

assert discovery.origin("epsilon") == ("decodekit-example", "0.1.0")
strategy = parse("epsilon(0.3) | blind")
assert str(strategy) == "epsilon(epsilon=0.3) | blind", str(strategy)
toy = ToyConstraint(seed=3)
found = run("blind", TableModel(), [[1]], constraint=toy, samples=20, max_tokens=5)
kept = run(strategy, TableModel(), [[1]], constraint=toy, samples=20, max_tokens=5)  # among what epsilon leaves of it
assert len(set(kept.texts)) < len(set(found.texts))
for text in [*found.texts, *kept.texts]:
    for j, token in enumerate(text):
        assert token in toy.allowed(text[:j])
assert len(set(found.texts)) > 3
one = run("epsilon(0.99) | sample", TableModel(), [[1]], samples=20, max_tokens=5)
assert set(one.texts) == set(run("greedy", TableModel(), [[1]], max_tokens=5).texts)
print("used")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has installed the example, without an index."""
    here = tmp_path_factory.mktemp("third_party")
    source, target = here / "source", here / "target"
    shutil.copytree(ROOT / "examples" / "third_party", source)  # a build leaves files in its source folder
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([*command, "--target", target, source], capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr
    return target


def in_python(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=surroundings, cwd=installed)


@pytest.mark.slow
def test_it_is_used_by_its_name(installed: Path) -> None:
    done = in_python(installed, "-W", "error", "-c", USE)
    assert (done.returncode, done.stdout) == (0, "used\n"), done.stderr


@pytest.mark.slow
def test_it_passes_its_own_tests(installed: Path) -> None:
    folder = ROOT / "examples" / "third_party"
    arguments = ("-q", "-p", "no:cacheprovider", "-c", str(folder / "pyproject.toml"), str(folder / "tests"))
    done = in_python(installed, "-m", "pytest", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
