"""`decodekit strategies`, `decodekit models` and `decodekit tasks`: what is there."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any

import typer


def strategies(
    broken: Annotated[bool, typer.Option(help="List the plugins that cannot be used, and why.")] = False,
    markdown: Annotated[bool, typer.Option(help="Print the plugin reference as Markdown.")] = False,
) -> None:
    """List every registered plugin: role, options, what it keeps, what it needs, paper."""
    from rich.console import Console

    from decodekit.registry import catalogue

    if markdown:
        typer.echo(catalogue.markdown())
        return
    Console().print(catalogue.broken_table() if broken else catalogue.rich_table())


def models() -> None:
    """List the embedded models; use one as `zoo:NAME`."""
    from rich.console import Console
    from rich.table import Table

    from decodekit import zoo
    from decodekit.errors import UnknownModel

    table = Table("name", "architecture", "size", box=None)
    for name in zoo.names():
        try:
            folder = zoo.path(name)
        except UnknownModel as problem:
            table.add_row(f"zoo:{name}", f"not installed: {problem}", "")
            continue
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        table.add_row(f"zoo:{name}", ", ".join(config.get("architectures") or ["unknown"]), f"{size / 1e6:.1f} MB")
    Console().print(table)


def tasks() -> None:
    """List every registered task of `compare`, `fit` and `eval-uq`: options, what it asks and how it scores."""
    from decodekit.registry import discovery

    listed("Tasks", "task and its options", discovery.TASKS, lambda cls: "")


def listed(title: str, head: str, group: str, facts: Callable[[Any], str]) -> None:
    """A table of everything registered in a group; `facts` of a class stand below what it says of itself."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from decodekit.errors import BrokenPlugin
    from decodekit.registry import discovery
    from decodekit.registry.metadata import options_of

    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column(head, overflow="fold", max_width=36)
    table.add_column("what it says", overflow="fold")
    for name in discovery.names(group):
        try:
            cls = discovery.load(name, group)
        except BrokenPlugin as problem:
            table.add_row(Text(name), Text(f"cannot be used: {problem}"))
            continue
        says = " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
        more = facts(cls)
        table.add_row(Text("\n  ".join([name, *map(str, options_of(cls))])), Text(f"{says}\n{more}" if more else says))
    Console().print(table)
