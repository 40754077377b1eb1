"""`decodekit demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    trace: Annotated[Path, typer.Option(help="Where the trace of the particle run goes.")] = Path("demo-trace.npz"),
) -> None:
    """Show the main job on the embedded models: nothing is downloaded."""
    import torch
    from rich.console import Console

    from decodekit.cli.demo.blocks import demo as show

    torch.set_num_threads(1)  # models this small lose by sharing out work, by far on a busy machine
    show(Console(), trace)
