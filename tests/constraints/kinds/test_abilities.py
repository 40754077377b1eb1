"""The table in the docs is made from the code, and fresh."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from decodekit.constraints.kinds.abilities import HEAD, main, table

PAGE = Path(__file__).resolve().parents[3] / "docs" / "constraints.md"


def test_the_page_is_fresh(tmp_path: Path) -> None:
    assert main(["--check", str(PAGE)]) == 0
    stale = tmp_path / "page.md"
    stale.write_text(PAGE.read_text(encoding="utf-8").replace("| llguidance |", "| magic |"), encoding="utf-8")
    assert main(["--check", str(stale)]) == 1
    assert main(["--write", str(stale)]) == 0
    assert stale.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_every_line_is_whole() -> None:
    lines = [line.strip("| ").split(" | ") for line in table().splitlines()]
    assert all(len(line) == len(HEAD) for line in lines)
    ours = entry_points(group="decodekit.plugins")
    kinds = {entry.name for entry in ours if entry.value.startswith("decodekit.constraints.")}
    assert kinds - {"processor"} == {line[0].strip("`") for line in lines[2:]}  # that one is a Transformers processor
