"""The fixed shape of the repository: what is packaged, who may import whom, how long a file may be."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"decodekit": "decodekit", "constraints": "decodekit.constraints", "plugins": "decodekit.plugins"}


def modules() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def dotted(path: Path) -> str:
    top, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([FOLDERS[top], *(part for part in rest if part != "__init__")])


def imported(path: Path) -> set[str]:
    package = dotted(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names |= {start} | {f"{start}.{alias.name}" for alias in node.names}
    return names


def test_declared_packages_are_the_folders_with_an_init() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {dotted(path) for path in modules() if path.name == "__init__.py"}
    assert set(project["tool"]["setuptools"]["packages"]) == found


@pytest.mark.parametrize("name", ["plugins", "constraints"])
def test_the_links_for_type_checkers_exist(name: str) -> None:
    link = ROOT / "decodekit" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_who_imports_whom(path: Path) -> None:
    me = dotted(path)
    for name in imported(path):
        if name.startswith("decodekit.plugins"):
            assert me == name or name == "decodekit.plugins", f"{me} imports {name}: plugins import the core only"
            assert not me.startswith(("decodekit.constraints",)), f"{me} imports {name}"
        if name.startswith("decodekit.constraints"):
            assert me.startswith("decodekit.constraints"), f"{me} imports {name}: the core knows no constraint by name"


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{dotted(path)}.{node.name} has {length} lines"
