"""A bar on stderr for long batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(total: int, wanted: bool | None) -> Iterator[Callable[[int], None]]:
    """A function that shows how many of `total` samples are done.

    Args:
        total: how many there are.
        wanted: True or False, or None for a bar only if there are several samples and stderr is a terminal.
    """
    if not (wanted or (wanted is None and total > 1 and sys.stderr.isatty())):
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("generating", total=total)
        yield lambda done: shown.update(task, completed=done)
