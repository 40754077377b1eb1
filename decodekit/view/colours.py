"""What tokens can be coloured by: figures of the trace, and every score of tokens that is registered.

A fold (:class:`decodekit.scores.folds.Fold`) colours a token by what it says of a text of this token alone: `nll` gives
its surprise, `mean_entropy` the entropy of its law, `epr` the truncated one. A score of another kind colours tokens if
it has `of_tokens` (`ccp`, `token_sar`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from decodekit.errors import BrokenPlugin, DecodekitError, OptionError
from decodekit.registry import discovery
from decodekit.registry.metadata import info_of, options_of
from decodekit.scores.base import OfTokens, ScoreError
from decodekit.scores.evaluate import samples_of
from decodekit.scores.folds import Fold, Tokens
from decodekit.scores.plan import scores_of
from decodekit.scores.tools import Tools
from decodekit.trace.trace import Array, Trace

COLOURS: Final = {
    "surprise": "- ln p of the token",
    "entropy": "entropy of the law, nats",
    "weight": "log weight that the token added",
    "layers": "layers that ran",
    "round": "round in which it was taken",
    "canonical": "1 where the tokenizer would write other tokens for the text (observer `canonicality`)",
}
"""What tokens can be coloured by without a score."""
SPELT: Final = "other tokens at"
"""What the observer `canonicality` tells of every token that the tokenizer would not write."""


@dataclass(frozen=True)
class Colour:
    """Values [E] of all events of a trace, NaN where nothing is known. falls: less of it is hotter."""

    says: str
    values: Array
    falls: bool = False


def colours_of(trace: Trace, more: Sequence[str] = ()) -> dict[str, Colour]:
    """By name: those of :data:`COLOURS`, every registered fold that the trace has enough for, and the scores `more`.

    Raises:
        OptionError: one of `more` is no colour and no score. ScoreError: it is no score of tokens, or needs what the
            trace does not have.
    """
    found = {name: Colour(COLOURS[name], values) for name, values in _figures(trace).items()}
    for name in discovery.names(discovery.SCORES):
        if (ready := _ready(name)) is not None and not _lacks(trace, ready):
            found[name] = _coloured(trace, name, ready)
    for name in more:
        if name not in found:
            full, score = named(name)
            found[name] = found[full] if full in found else _coloured(trace, name, score)
    return found


def named(name: str) -> tuple[str, Any]:
    """(canonical spec, score) of a colour that is none of :data:`COLOURS`.

    Raises:
        OptionError: there is no such score. ScoreError: no token has it.
    """
    try:
        ((full, score),) = scores_of(name).items()
    except DecodekitError as problem:
        if name.isidentifier():
            known = ", ".join([*COLOURS, *token_scores()])
            raise OptionError(f"no colour is called {name!r}; choose one of {known}") from None
        raise OptionError(f"no colour is {name!r}: {problem}") from None
    if not isinstance(score, Fold | OfTokens):
        raise ScoreError(f"{full} is of whole texts, and no token has it; choose one of {', '.join(token_scores())}")
    return full, score


def token_scores() -> list[str]:
    """Names of the registered scores that tokens have."""
    every = ((name, discovery.load(name, discovery.SCORES)) for name in discovery.names(discovery.SCORES))
    return [name for name, cls in every if hasattr(cls, "add") or hasattr(cls, "of_tokens")]


def _figures(trace: Trace) -> Mapping[str, Array]:
    events = trace.events
    layers = events["layers"].astype(np.float64)
    return {
        "surprise": -events["logp"].astype(np.float64),
        "entropy": events["entropy"].astype(np.float64),
        "weight": events["logw"].astype(np.float64),
        "layers": np.where(layers < 0, np.nan, layers),
        "round": events["round"].astype(np.float64),
        "canonical": _canonical(trace),
    }


def _canonical(trace: Trace) -> Array:
    """[E] 1 where the observer told that the tokenizer writes other tokens, 0 elsewhere; NaN where it told nothing."""
    events = trace.events
    names, facts = trace.header.get("facts", []), trace.facts
    mine = facts["name"] == (names.index(SPELT) if SPELT in names else -1)
    if not mine.any():
        return np.full(len(trace), np.nan)
    told = set(zip(facts["group"][mine], facts["slot"][mine], facts["value"][mine].astype(np.int64), strict=True))
    keys = zip(events["group"], events["slot"], events["position"], strict=True)
    return np.array([float(key in told) for key in keys])


def _ready(name: str) -> Any:
    """A registered fold with its usual options; None where it is no fold, or an option has no usual value."""
    try:
        cls = discovery.load(name, discovery.SCORES)
    except BrokenPlugin:  # somebody else's: it costs its own place in the list, not the page
        return None
    if not hasattr(cls, "add") or any(option.default is None for option in options_of(cls)):
        return None
    return cls()


def _coloured(trace: Trace, name: str, score: Any) -> Colour:
    if why := _lacks(trace, score):
        raise ScoreError(f"{name} {why}")
    about = info_of(score)
    way = "more" if score.rising else "less"
    says = f"score of each token alone; {way} is more uncertain" + (
        f" ({about.paper})" if about and about.paper else ""
    )
    values = _alone(trace, score) if isinstance(score, Fold) else _told(trace, score)
    return Colour(says, values, not score.rising)


def _lacks(trace: Trace, score: Any) -> str:
    """What a score needs and the trace does not have, as the end of a sentence."""
    needs, top = score.needs(), trace.events.get("top_logps")
    have = 0 if top is None else top.shape[1]
    if have < needs.top:
        return f"looks at the {needs.top} likeliest tokens, and the trace has {have}; generate with top_k={needs.top}"
    if missing := [column for column in needs.columns if column not in trace.events]:
        return f"reads {missing[0]}, which the trace does not have"
    if needs.hidden and "hidden" not in trace.events:
        return "reads hidden states, which the trace does not have; generate with hidden=True"
    return "reads text, and the trace was made without a tokenizer" if needs.text and trace.spelling is None else ""


def _alone(trace: Trace, fold: Any) -> Array:
    """[E] the fold's value of a text of one token, for all events at once."""
    wanted = dict.fromkeys(["logp", "token", *fold.needs().columns])
    if fold.needs().top:
        wanted |= dict.fromkeys(["top_ids", "top_logps"])
    columns = {name: torch.from_numpy(np.ascontiguousarray(trace.events[name])) for name in wanted}
    wide = {name: part.double() if part.is_floating_point() else part.long() for name, part in columns.items()}
    count = len(trace)
    state = fold.start(count, torch.device("cpu"))
    state = fold.add(state, Tokens(wide, int(trace.header["vocab"])), torch.ones(count, dtype=torch.bool))
    values: Array = fold.value(state).numpy()
    return values


def _told(trace: Trace, score: OfTokens) -> Array:
    """[E] what a score says of the tokens of every sample; NaN of events that are in none."""
    values = np.full(len(trace), np.nan)
    _, samples = samples_of(trace)
    for text, line in zip(samples.texts, (line for line in trace.lines() if line.weight > 0), strict=True):
        values[line.index] = score.of_tokens(text, Tools())
    return values
