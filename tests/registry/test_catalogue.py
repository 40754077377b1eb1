"""What is registered, in words: rows, terminal tables, and the reference between its marks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from rich.console import Console

from decodekit.registry import catalogue, declaration
from decodekit.registry.catalogue import BEGIN, END, broken_table, main, markdown, rich_table, table
from decodekit.registry.metadata import options_of

Install = Callable[..., None]


def shown(what: object) -> str:
    console = Console(width=80)
    with console.capture() as out:
        console.print(what)
    return out.get()


def test_rows(acme: Any) -> None:
    rows = {row.name: row for row in table()}
    heat = rows["heat"]
    assert (heat.role, heat.exactness, heat.paper) == ("warper", "exact", "Book of Heat, section 3")
    assert (heat.distribution, heat.version, heat.summary) == ("acme", "2.1", "Make it warm.")
    assert heat.call == "heat(value: float >= 0, < 100 = 1.0, mode: 'slow' | 'fast' = 'slow')"
    assert rows["canvas"].role == "proposer + selector"
    assert rows["pick"].requires == ("constraint",)
    assert [row.name for row in table()][:4] == ["canvas", "draft", "anything", "cut"]  # by role, then by name
    assert table("nobody") == []


@pytest.mark.parametrize(
    ("annotation", "default", "words"),
    [
        (int, 3, "x: int = 3"),
        (int | None, None, "x: int | None = None"),
        (Annotated[int, Field(ge=1)], 64, "x: int >= 1 = 64"),
        (Annotated[float, Field(gt=0, le=1)], 0.5, "x: float > 0, <= 1 = 0.5"),
        (Annotated[int, Field(multiple_of=8)], 8, "x: int a multiple of 8 = 8"),
        (Annotated[str, Field(min_length=1, max_length=9)], "a", "x: str of length >= 1, of length <= 9 = 'a'"),
        (Annotated[str, Field(pattern="^a+$")], "a", "x: str like '^a+$' = 'a'"),
        (Literal["a", 3, None], "a", "x: 'a' | 3 | None = 'a'"),
        (tuple[int, ...], (), "x: tuple of int = ()"),
        (tuple[int, str], (1, "a"), "x: (int, str) = (1, 'a')"),
        (list[str] | None, None, "x: list of str | None = None"),
        (list[Annotated[int, Field(ge=1)]], [1], "x: list of int >= 1 = [1]"),
        (dict[str, int], {}, "x: dict of str to int = {}"),
        (Any, None, "x: anything = None"),
        (Path, Path("a"), "x: Path = <PosixPath>"),
    ],
)
def test_options_in_words(annotation: Any, default: Any, words: str) -> None:
    made = type("Made", (), {"__annotations__": {"x": annotation}, "x": default, "bind": lambda self, run: self})
    if type(default) in (list, dict):
        made.x = Field(default_factory=lambda: default)  # type: ignore[attr-defined]
    assert [str(option) for option in options_of(declaration.plugin(role="stop")(made))] == [words]


def test_terminal_tables(acme: Any, install: Install) -> None:
    text = shown(rich_table())
    assert max(map(len, text.splitlines())) <= 80
    assert "value: float >= 0, < 100 = 1.0" in text
    assert "deep: dict of str to list of int" in text
    assert "selector; weighted; requires" in text
    assert "acme 2.1" in text
    assert "cold" not in shown(broken_table())


def test_broken_plugins_are_left_out_and_listed(install: Install) -> None:
    install("cold", plugins={"warm": "warmth:Warm"}, modules={"warmth": "import [no such thing]"})
    assert "warm" not in {row.name for row in table()}
    assert "cold 1.0 (warmth:Warm)" in shown(broken_table())


def test_a_class_without_docstring_has_no_summary(install: Install) -> None:
    source = "from decodekit import plugin\n@plugin(role='stop')\nclass Warm:\n    def bind(self, run): return self"
    install("cold", plugins={"warm": "warmth:Warm"}, modules={"warmth": source})
    assert {row.name: row for row in table()}["warm"].summary == ""


def test_markdown(acme: Any) -> None:
    text = markdown(table("acme"))
    assert "| [`heat`](#heat) | warper | exact | Make it warm. |" in text
    assert "### heat\n\nMake it warm.\n\nRole: warper; exactness: exact.\n\nPaper: Book of Heat, section 3.\n" in text
    assert "| `mode` | `'slow' \\| 'fast'` | `'slow'` |" in text
    assert "| `deep` | `dict of str to list of int`: how deep | `{}` |" in text
    assert "| `letters` | `str` | required |" in text
    assert "Role: selector; exactness: weighted; requires constraint; conflicts with logq." in text


def test_write_and_check(acme: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(catalogue, "OWN", "acme")
    path = tmp_path / "deep" / "plugins.md"
    assert main(["--check", str(path)]) == 1
    assert capsys.readouterr().err == f"{path} is stale; run python -m decodekit.registry.catalogue --write {path}\n"
    assert main(["--write", str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    path.write_text("# By hand\n\n" + text[text.index(BEGIN) :] + "\nMore by hand.\n", encoding="utf-8")
    assert main(["--check", str(path)]) == 0
    path.write_text(path.read_text(encoding="utf-8").replace("Make it warm.", "Make it cold."), encoding="utf-8")
    assert main(["--check", str(path)]) == 1
    assert main(["--write", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# By hand\n\n" + BEGIN)
    assert text.endswith(END + "\n\nMore by hand.\n")
    assert "Make it warm." in text
    assert "Make it cold." not in text


def test_a_builtin_that_is_lost_fails_the_check(install: Install, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "plugins.md"
    install("decodekit", "9", plugins={"warm": "warmth:Warm"}, modules={"warmth": "import nothing_there"})
    assert main(["--write", str(path)]) == 1
    assert "plugin 'warm' of decodekit 9 (warmth:Warm) cannot be imported" in capsys.readouterr().err
    assert "warmth" not in sys.modules
