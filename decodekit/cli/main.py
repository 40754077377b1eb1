"""The command line: a list of commands, and how errors leave it.

Exit codes: 0, 2 for what a user can correct (one sentence on stderr, no traceback), 130 for Ctrl-C.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from decodekit import __version__
from decodekit.cli.compare import compare
from decodekit.cli.demo.command import demo
from decodekit.cli.eval_uq import eval_uq
from decodekit.cli.fit import fit
from decodekit.cli.generate import generate
from decodekit.cli.lists import models, strategies, tasks
from decodekit.cli.lm_eval import lm_eval
from decodekit.cli.show import scores, show
from decodekit.errors import ConstraintWarning, DataWarning, DecodekitError

INTERRUPTED = 130


class _Group(TyperGroup):
    """Turns our errors into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DecodekitError as problem:
            typer.echo(f"decodekit: {problem}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("decodekit: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"decodekit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Constrained and speculative decoding of language models: one loop, strategies as plugins."""


app.command()(generate)
app.command()(compare)
app.command()(fit)
app.command()(strategies)
app.command()(models)
app.command()(tasks)
app.command()(show)
app.command()(scores)
app.command()(eval_uq)
app.command()(demo)
app.command(
    "lm-eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)(lm_eval)


def _said(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of ours as one sentence; others as Python shows them."""
    if issubclass(category, DataWarning | ConstraintWarning):
        typer.echo(f"decodekit: {message}", err=True)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def main() -> None:
    """Entry point of the command `decodekit`."""
    warnings.showwarning = _said
    app(prog_name="decodekit")
