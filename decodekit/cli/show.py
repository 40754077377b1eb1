"""`decodekit show` and `decodekit scores`: traces to look at, and what can be read off them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from decodekit.errors import DecodekitError


def show(
    traces: Annotated[list[Path], typer.Argument(help="Trace files; several stand side by side on the page.")],
    html: Annotated[Path | None, typer.Option(help="Write one HTML page here instead of printing.")] = None,
    colour: Annotated[
        str,
        typer.Option("--colour", "--color", help="surprise, weight, round ... or any score of tokens: 'epr(k=10)'."),
    ] = "surprise",
    acceptance: Annotated[bool, typer.Option("--acceptance", help="Print how guesses fared instead.")] = False,
) -> None:
    """Show traces: tokens coloured by what the model thought of them, refused guesses, particles, canvases."""
    from decodekit.trace.trace import Trace
    from decodekit.view.colours import COLOURS, named
    from decodekit.view.story import story

    if colour not in COLOURS:
        named(colour)  # before any file is read
    if acceptance:
        _acceptance(traces)
        return
    names = [path.stem if len(traces) > 1 else "" for path in traces]
    more = () if colour in COLOURS else (colour,)
    stories = [story(Trace.load(path), name, more) for path, name in zip(traces, names, strict=True)]
    if html is None:
        from rich.console import Console

        from decodekit.view.terminal import show as printed

        for one in stories:
            printed(Console(highlight=False), one, colour)
        return
    from decodekit.view.page import page

    try:
        html.write_text(page(stories, colour), encoding="utf-8")
    except OSError as problem:
        raise DecodekitError(
            f"the page cannot be written to {str(html)!r}: {problem.strerror}; check the path"
        ) from None
    typer.echo(f"page: {html}")


def _acceptance(traces: list[Path]) -> None:
    """By who guessed and by place; the gain leaves out what drafts cost, which no trace knows."""
    from rich.console import Console

    from decodekit.analysis.acceptance import acceptance
    from decodekit.trace.trace import Trace

    for path in traces:
        Console(highlight=False).print(acceptance(Trace.load(path)).table())


def scores() -> None:
    """List every registered uncertainty score: options, what it needs, paper."""
    from decodekit.cli.lists import listed
    from decodekit.registry import discovery
    from decodekit.registry.metadata import info_of

    def facts(cls: Any) -> str:
        about = info_of(cls)
        way = "more is more uncertain" if cls.rising else "less is more uncertain"
        return "; ".join([way, *([about.paper] if about and about.paper else [])])

    listed("Scores", "score and its options", discovery.SCORES, facts)
