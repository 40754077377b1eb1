"""`decodekit strategies` and `decodekit models`: what is there."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def strategies(
    broken: Annotated[bool, typer.Option(help="List the plugins that cannot be used, and why.")] = False,
    markdown: Annotated[bool, typer.Option(help="Print the plugin reference as Markdown.")] = False,
) -> None:
    """List every registered plugin: role, options, what it keeps, what it needs, paper."""
    from rich.console import Console

    from decodekit import catalogue

    if markdown:
        typer.echo(catalogue.markdown())
        return
    Console().print(catalogue.broken_table() if broken else catalogue.rich_table())


def models() -> None:
    """List the embedded models; use one as `zoo:NAME`."""
    from rich.console import Console
    from rich.table import Table

    from decodekit.errors import UnknownModel
    from decodekit.models import zoo

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
