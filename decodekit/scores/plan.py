"""Before the first forward pass: which scores are wanted, what the trace must keep for them, and whether it can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from decodekit.errors import SpecError
from decodekit.registry.metadata import SCORE, form, info_of
from decodekit.registry.spec import parse_score
from decodekit.run.options import Options
from decodekit.scores.base import Score, ScoreError
from decodekit.scores.needs import union


def scores_of(given: Any) -> dict[str, Any]:
    """Scores by their canonical spec, from a spec, a score, or several of these.

    Raises:
        SpecError, UnknownPlugin, OptionError: a name or an option that does not exist.
    """
    several: Sequence[Any] = [given] if isinstance(given, str) or info_of(given) else list(given)
    made = [parse_score(one) if isinstance(one, str) else one for one in several]
    for one in made:
        about = info_of(one)
        if about is None or about.roles != (SCORE,) or isinstance(one, type) or not isinstance(one, Score):
            raise SpecError(f"{form(one)} is no score; give a spec such as 'epr(k=10)', or a registered score plugin")
    return {form(one): one for one in made}


def planned(options: Options, width: int, tokenizer: Any, vocab: int) -> Options:
    """The options with what the wanted scores need, decided before any model runs.

    width: rows per asked sample. vocab: V of the model.

    Raises:
        ScoreError: what a score needs the run cannot give.
    """
    if not options.scores:
        return options
    wanted = scores_of(options.scores)
    for name, score in wanted.items():
        needs, way = score.needs(), f"drop the score {name}"
        if not options.trace:
            raise ScoreError(f"{name} reads the trace, which trace=False switches off; {way}, or keep the trace")
        if needs.results > 1:
            raise ScoreError(f"{name} compares the answers to several prompts; call dk.score([...], {name!r}) on them")
        if needs.samples > options.n * width:
            raise ScoreError(
                f"{name} compares {needs.samples} samples or more, and this run gives {options.n * width}; "
                f"give n={needs.samples}, a population, or {way}"
            )
        if needs.top > vocab:
            raise ScoreError(f"{name} looks at the {needs.top} likeliest tokens, and the model has {vocab}; {way}")
        if needs.text and tokenizer is None:
            raise ScoreError(f"{name} reads text, and the model has no tokenizer; pass tokenizer=, or {way}")
    all_ = union(score.needs() for score in wanted.values())
    return replace(options, top_k=max(options.top_k, all_.top), hidden=options.hidden or all_.hidden)
