"""From the rows of one prompt to its :class:`Result`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch

from decodekit.core import noise
from decodekit.core.cost import Cost
from decodekit.core.weights import drawn, log_mean, normalised
from decodekit.run.options import Options
from decodekit.run.results import Prompt, Result, Sample
from decodekit.run.session import Outcome, Setup
from decodekit.text.codec import Codec, earliest_stop
from decodekit.trace.trace import Trace

_DRAW: Final = 1 << 16
"""Salt of the draw among samples: outside those that strategies use."""


def result(
    setup: Setup,
    options: Options,
    prompt: Prompt,
    populations: Sequence[Sequence[Outcome]],
    cost: Cost,
    trace: Trace | None,
) -> Result:
    """The answer to `prompt`, from the outcomes of its populations (one per asked sample)."""
    flat = [(number, one) for number, rows in enumerate(populations) for one in rows]
    if not flat:  # interrupted or out of time before it began
        flat = [(0, Outcome([], "interrupted", 0.0, 0.0, 0))]
    weights = normalised([one.logw for _, one in flat])
    samples = [_sample(setup, options, prompt, *one, weight) for one, weight in zip(flat, weights, strict=True)]
    chosen = pick([one.logw for _, one in flat], prompt.tokens, options.seed)
    own = samples[chosen]
    return Result(
        text=own.text,
        tokens=own.tokens,
        value=own.value,
        finish=own.finish,
        logp=own.logp,
        logw=own.logw,
        samples=tuple(samples),
        evidence=log_mean([s.logw for s in samples]) if setup.composition.weighs else None,
        message=_message(setup, own, flat[chosen][1].note),
        cost=cost,
        trace=trace,
        prompt=prompt,
        spec=setup.spec,
        seed=options.seed,
    )


def text_of(codec: Codec, outcome: Outcome, prompt: Prompt, stops: Sequence[str]) -> str:
    """The text of a row: without its end token, and cut before the stop string that ended it."""
    tokens = outcome.tokens[:-1] if outcome.finish == "eos" else outcome.tokens
    text = codec.text(tokens, prompt.before)
    found = earliest_stop(text, stops) if outcome.finish == "stop" else None
    return text if found is None else text[: found[0]]


def _sample(setup: Setup, options: Options, prompt: Prompt, population: int, outcome: Outcome, weight: float) -> Sample:
    text = text_of(setup.codec(), outcome, prompt, options.stop)
    value = _value(setup.readings, text)
    return Sample(text, outcome.tokens, value, outcome.finish, outcome.logp, outcome.logw, weight, population)


def _value(readings: Sequence[Any], text: str) -> Any:
    """What the first constraint makes of `text`; None where it is unfinished or does not validate."""
    for reading in readings:
        try:
            return reading.value(text)
        except ValueError:  # JSON and pydantic errors are ValueErrors
            return None
    return None


def pick(logw: Sequence[float], prompt: Sequence[int], seed: int) -> int:
    """The first if all weigh the same, else one drawn by weight: only a draw keeps a weighted strategy weighted."""
    weights = normalised(logw)
    if len(set(logw)) == 1 or not any(weights):
        return 0
    stream = noise.streams(seed, prompt, 1)
    return drawn(weights, float(noise.uniform(stream, torch.zeros(1, 1, dtype=torch.int64), _DRAW)))


def _message(setup: Setup, own: Sample, note: str) -> str:
    why = f"; {note}" if note else ""
    if own.finish == "refused":
        return f"the critic forbids the text {own.text[-40:]!r}{why}"
    if own.finish == "dead end" or own.logw == -math.inf:
        end = own.text[-40:]
        return f"no token is allowed after {end!r} (token {len(own.tokens)} of the answer): the text is a dead end{why}"
    if setup.readings and own.value is None:
        return f"the text ended by {own.finish!r} before it satisfied the constraint"
    return ""
