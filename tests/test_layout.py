"""The fixed shape of the repository: what is packaged, who may import whom, and what the package shows."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import decodekit as dk

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"decodekit": "decodekit", "constraints": "decodekit.constraints", "plugins": "decodekit.plugins"}

FLOORS = (
    "errors",
    "zoo",
    "text",
    "core",
    "registry",
    "models",
    "trace",
    "run",
    "candidates",
    "particles",
    "speculation",
    "diffusion",
    "scores",
    "api",
    "ensembles",
    "analysis",
    "vision",
    "view",
    "comparison",
    "integrations",
    "testing",
    "cli",
)
"""Who may import whom: a package (or root module) of decodekit imports only what is named above it. Imports inside
functions count; imports for type checkers alone do not. Plugins and constraints are never imported by any of these.
"""
PLUGINS_MAY = frozenset(FLOORS) - {"analysis", "vision", "view", "comparison", "integrations", "testing", "cli"}
CONSTRAINT_FLOORS = ("core", "automata", "backends", "json_schema", "sql", "lark", "kinds", "canvas")
"""The same for the folders of `constraints/`."""
CONSTRAINTS_MAY = frozenset({"errors", "text", "core", "registry", "diffusion"})
LONGEST_FILE, LONGEST_FUNCTION = 500, 60


def modules() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def dotted(path: Path) -> str:
    top, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([FOLDERS[top], *(part for part in rest if part != "__init__")])


NAMES = {dotted(path): path for path in modules()}


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but what stands under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield child
            yield from _nodes(child)


def imported(path: Path) -> set[str]:
    """The modules of decodekit that a file imports."""
    package = dotted(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names: set[str] = set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{start}.{a.name}" if f"{start}.{a.name}" in NAMES else start for a in node.names}
    return {name for name in names if name.split(".")[0] == "decodekit"} - {dotted(path)}


GRAPH = {name: imported(path) for name, path in NAMES.items()}


def test_declared_packages_are_the_folders_with_an_init() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {dotted(path) for path in modules() if path.name == "__init__.py"}
    assert set(project["tool"]["setuptools"]["packages"]) == found


@pytest.mark.parametrize("name", ["plugins", "constraints"])
def test_the_links_for_type_checkers_exist(name: str) -> None:
    link = ROOT / "decodekit" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name


def test_no_package_has_the_name_of_what_a_user_calls() -> None:
    """A package that is imported becomes an attribute of `decodekit`, and would hide a plugin or a function."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    public = {name for group in project["entry-points"].values() for name in group} | set(dk.__all__)
    assert not public & (set(FLOORS) - {"errors"})


def test_every_package_has_its_floor() -> None:
    found = {name.split(".")[1] for name in NAMES if name.count(".")} - {"plugins", "constraints", "__main__"}
    assert found == set(FLOORS)
    found = {name.split(".")[2] for name in NAMES if name.startswith("decodekit.constraints.")}
    assert found == set(CONSTRAINT_FLOORS)


@pytest.mark.parametrize("me", sorted(set(NAMES) - {"decodekit", "decodekit.__main__"}))
def test_who_imports_whom(me: str) -> None:
    mine = me.split(".")[1]
    for name in GRAPH[me]:
        theirs = name.split(".")[1] if "." in name else ""
        if not theirs or (theirs == mine and mine in FLOORS):
            continue
        if mine == "plugins":
            assert theirs in PLUGINS_MAY, f"{me} imports {name}: plugins import the core only, never each other"
        elif mine == "constraints":
            if theirs == mine:
                here, there = me.split(".")[2:3], name.split(".")[2:3]
                assert not here or there <= here or _floor(there) <= _floor(here), f"{me} imports {name}, above it"
            else:
                assert theirs in CONSTRAINTS_MAY, f"{me} imports {name}"
        else:
            assert theirs in FLOORS, f"{me} imports {name}: the core knows no plugin and no constraint by name"
            assert FLOORS.index(theirs) < FLOORS.index(mine), f"{me} imports {name}, which stands above it"


def _floor(folder: list[str]) -> int:
    return CONSTRAINT_FLOORS.index(folder[0])


def test_no_module_imports_itself_in_a_circle() -> None:
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        state[name] = 1
        for other in sorted(GRAPH.get(name, ())):
            if other in GRAPH:
                assert state.get(other) != 1, f"a circle of imports: {' -> '.join([*path, name, other])}"
                if other not in state:
                    visit(other, (*path, name))
        state[name] = 2

    for name in sorted(GRAPH):
        if name not in state:
            visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{dotted(path)}.{node.name} has {length} lines"


PUBLIC = """
import importlib, sys
import decodekit as dk
def seen():
    return {name: getattr(dk, name) for name in dir(dk)}
before = seen()
for name in sys.stdin.read().split():
    importlib.import_module(name)
after = seen()
from decodekit.registry import discovery
wrong = [name for name in discovery.names() if after[name] is not discovery.load(name)]
assert not wrong, f"no longer the plugin: {wrong}"
modules = [name for name, what in after.items() if hasattr(what, "__path__")]
assert not modules, f"packages among the public names: {modules}"
assert list(before) == list(after), set(before) ^ set(after)
changed = [name for name in before if before[name] is not after[name]]
assert not changed, changed
"""


def test_public_names_mean_the_same_whatever_was_imported() -> None:
    names = " ".join(sorted(set(NAMES) - {"decodekit.__main__"}))
    done = subprocess.run([sys.executable, "-c", PUBLIC], input=names, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
