"""`decodekit lm-eval`: the command of lm-evaluation-harness, which then knows the model `decodekit`."""

from __future__ import annotations

import sys

import typer

from decodekit.errors import OptionError


def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness with the model `decodekit`; all options are the harness's own.

    Such as: decodekit lm-eval --model decodekit --model_args '{"pretrained": "zoo:base", "strategy": "greedy"}'
    --tasks TASK
    """
    try:
        from lm_eval.__main__ import cli_evaluate

        import decodekit.integrations.lm_eval  # noqa: F401 registers the model
    except ImportError:
        raise OptionError("lm-eval needs the package lm-evaluation-harness; install decodekit[lm-eval]") from None
    sys.argv = ["lm-eval", *context.args]
    cli_evaluate()
