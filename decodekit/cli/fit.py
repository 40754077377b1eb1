"""`decodekit fit`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from decodekit.core.uncertainty import ANSWER, SIGNALS
from decodekit.errors import OptionError


class What(StrEnum):
    """What is fitted."""

    router = "router"
    cascade = "cascade"
    probe = "probe"
    wepr = "wepr"


def fit(
    what: Annotated[
        What,
        typer.Argument(
            help="router: tokens, for fast_slow and adadec; cascade: answers; probe: requests; wepr: a score."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the fitted file goes (JSON).")],
    fast: Annotated[str, typer.Option(help="The cheap model; the model of a probe or of wepr.")] = "zoo:draft",
    slow: Annotated[str, typer.Option(help="The dear model.")] = "zoo:base",
    prompts: Annotated[Path | None, typer.Option(help="A file: a prompt per line, or JSON lines.")] = None,
    task: Annotated[str | None, typer.Option(help="Or the prompts of a task, such as 'json(limit=50)'.")] = None,
    signal: Annotated[str, typer.Option(help=f"router: {', '.join(SIGNALS)}; cascade: {', '.join(ANSWER)}.")] = "",
    learned: Annotated[bool, typer.Option(help="Logistic regression on all signals instead of one.")] = False,
    rate: Annotated[float, typer.Option(help="Share that the dear model gets, 0 to 1.")] = 0.2,
    strategy: Annotated[str, typer.Option(help="How the texts are written.")] = "greedy",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of each.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the noise field.")] = 0,
    k: Annotated[int, typer.Option(min=1, help="wepr: how many of the likeliest tokens.")] = 10,
    temperature: Annotated[float, typer.Option(help="wepr: of the answers, where no strategy is named.")] = 1.0,
    samples: Annotated[int, typer.Option(min=1, help="wepr: answers to each prompt.")] = 4,
) -> None:
    """Fit a rule: where a fast model should ask a slow one, or which answers it should hand over."""
    asked, quality = _asked(prompts, task)
    if what is What.probe:
        _probe(fast, asked, quality, out, strategy, max_tokens, seed)
        return
    if what is What.wepr:
        drawn = {"k": k, "temperature": temperature, "samples": samples}
        _wepr(fast, asked, quality, out, strategy, most=max_tokens, seed=seed, **drawn)
        return
    if not 0.0 < rate < 1.0:
        raise OptionError(f"--rate {rate} is no share; give one between 0 and 1")
    known = SIGNALS if what is What.router else ANSWER
    usual = "entropy" if what is What.router else "mean"
    if signal and (learned or signal not in known):
        raise OptionError(f"--signal {signal!r}: choose one of {', '.join(known)}, or --learned for all of them")

    from decodekit.ensembles import calibrate

    common: dict[str, Any] = {"rate": rate, "strategy": strategy, "most": max_tokens, "seed": seed}
    if what is What.router:
        rule, _ = calibrate.router(fast, slow, asked, signal=signal or usual, learned=learned, **common)
    else:
        if learned and quality is None:
            raise OptionError("fit cascade --learned needs --task, whose scores say which answers are better")
        rule = calibrate.cascade(
            fast, slow, asked, feature=signal or usual, quality=quality if learned else None, **common
        )
    rule.save(out)
    _say(rule.made, out)


def _probe(model: str, asked: list[Any], quality: Any, out: Path, strategy: str, most: int, seed: int) -> None:
    """Fit and save a probe; answers are sampled unless the user names a strategy."""
    from decodekit.ensembles.probing import fit_probe

    if quality is None:
        raise OptionError("fit probe needs --task, whose scores say which answers are right")
    chosen = None if strategy == "greedy" else strategy
    probe = fit_probe(model, asked, quality, strategy=chosen, most=most, seed=seed)
    probe.save(out)
    _say(probe.made, out)


def _wepr(model: str, asked: list[Any], quality: Any, out: Path, strategy: str, **options: Any) -> None:
    """Fit and save the coefficients of the score; answers are sampled unless the user names a strategy."""
    from decodekit.comparison.fit_wepr import fitted_wepr

    if quality is None:
        raise OptionError("fit wepr needs --task, whose scores say which answers are right")
    told = fitted_wepr(model, asked, quality, strategy=None if strategy == "greedy" else strategy, **options)
    try:
        told.save(out)
    except OSError as problem:
        raise OptionError(f"{str(out)!r} cannot be written: {problem.strerror}; check the path") from None
    _say({"k": told.k, "model": told.model, "temperature": told.temperature, **told.made}, out)


def _say(made: dict[str, Any], out: Path) -> None:
    for name, value in made.items():
        typer.echo(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    typer.echo(f"saved: {out}")


def _asked(prompts: Path | None, task: str | None) -> tuple[list[Any], Any]:
    """(prompts, how good a text is as the answer to prompt number i, or None)."""
    if (prompts is None) == (task is None):
        raise OptionError("give either --prompts FILE or --task TASK")
    if prompts is not None:
        from decodekit.cli.generate import asked_of

        return asked_of(None, prompts), None
    from decodekit.comparison.plan import task_of

    assert task is not None
    chosen = task_of(task)
    items = chosen.items()
    return [item.prompt for item in items], lambda at, text: chosen.score(items[at], text)
