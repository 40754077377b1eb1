"""Options of a call, checked before any model runs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypedDict

from decodekit.errors import OptionError

ROWS: Final = 64
"""Rows in flight at once where `batch_size` is not given."""


ELSEWHERE: Final = {
    "do_sample": "the strategy says whether texts are drawn: strategy='sample'",
    "num_return_sequences": "it is called n: n=4",
    "max_new_tokens": "it is called max_tokens: max_tokens=64",
    "stop_strings": "it is called stop: stop=['END']",
    "temperature": "it is a part of the strategy: strategy='temperature(0.8)'",
    "top_p": "it is a part of the strategy: strategy='top_p(0.9)'",
    "min_p": "it is a part of the strategy: strategy='min_p(0.1)'",
    "repetition_penalty": "it is a part of the strategy: strategy='repetition_penalty(1.1)'",
    "response_format": "it is called constraint: constraint=decodekit.json_schema(...)",
}
"""What other libraries call options, and where it is found here."""


class CallOptions(TypedDict, total=False):
    """Keyword arguments of :func:`decodekit.generate` and its kin; see :class:`Options`."""

    max_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int
    n: int
    eos: Sequence[int] | None
    max_seconds: float | None
    max_fed: int | None
    batch_size: int | None
    progress: bool | None
    trace: bool
    top_k: int
    hidden: bool
    scores: Any
    must_end: bool
    in_time: bool


@dataclass(frozen=True)
class Options:
    """How one call goes, whatever the strategy.

    max_tokens: most tokens to generate per sample; None for 256, or fewer where the context ends sooner.
    stop: strings that end a text; it is cut before them. seed: of the noise field. n: samples per prompt.
    eos: ids that end a text, instead of the model's own; () for none.
    max_seconds: wall clock of the call. max_fed: tokens fed to the target model in the call. Either makes the result
        depend on the machine or the batch; what is unfinished ends as "time" or "budget".
    batch_size: most rows in flight at once (a population counts all its particles); None for 64. Results do not
        depend on it.
    progress: show a bar on stderr; None for only on a terminal with several prompts.
    must_end: the text must end by itself within max_tokens: at its last place only an end token is allowed, and that
        only where the constraint's text is complete. A weighted strategy weighs it; whatever is not complete by then
        is a dead end.
    in_time: the constraint's text is steered to its end within max_tokens: a token is refused after which the shortest
        completion would not fit any more. A constraint without a text that fits is refused before decoding.
    trace: record events. top_k: how many of the likeliest tokens the trace keeps at every event.
    hidden: the trace keeps the last hidden state that each token was predicted from. scores: uncertainty scores of
        every result (specs such as "epr(k=10)", or score plugins); what they need of the trace is kept.

    Raises:
        OptionError: a value out of range or of the wrong type.
    """

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int = 0
    n: int = 1
    eos: tuple[int, ...] | None = None
    max_seconds: float | None = None
    max_fed: int | None = None
    batch_size: int | None = None
    progress: bool | None = None
    trace: bool = True
    top_k: int = 20
    hidden: bool = False
    scores: tuple[Any, ...] = ()
    must_end: bool = False
    in_time: bool = False

    def __post_init__(self) -> None:
        _whole("max_tokens", self.max_tokens, 1, optional=True)
        _whole("n", self.n, 1)
        _whole("max_fed", self.max_fed, 1, optional=True)
        _whole("batch_size", self.batch_size, 1, optional=True)
        _whole("top_k", self.top_k, 0)
        _whole("seed", self.seed, None)
        seconds = self.max_seconds
        if seconds is not None and not (_is_number(seconds) and 0 < seconds < math.inf):
            raise OptionError(f"max_seconds={seconds!r} is not a time; give a number of seconds above 0, or None")
        for one in self.stop:
            if not isinstance(one, str) or not one:
                raise OptionError(f"stop={one!r} is not a stop string; give a non-empty string, or a list of these")
        for token in self.eos or ():
            _whole("eos", token, 0)

    def having(self, changes: Mapping[str, Any]) -> Options:
        """A copy with `changes`, as a user writes them.

        Raises:
            OptionError: no option has this name, or its value is refused.
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                way = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
                way = ELSEWHERE.get(name, way)
                raise OptionError(f"generation has no option {name!r}; {way}")
        tidy = dict(changes)
        if "stop" in tidy:
            tidy["stop"] = _several("stop", tidy["stop"], str, "a string or a list of strings") or ()
        if "scores" in tidy:
            given = tidy["scores"]
            tidy["scores"] = tuple(given) if isinstance(given, list | tuple) else () if given is None else (given,)
        if tidy.get("eos") is not None:
            tidy["eos"] = _several("eos", tidy["eos"], int, "a token id or a list of these")
        return replace(self, **tidy)

    @property
    def rows(self) -> int:
        """Most rows in flight."""
        return ROWS if self.batch_size is None else self.batch_size


def _several(name: str, value: Any, kind: type, said: str) -> tuple[Any, ...] | None:
    if value is None:
        return None
    if isinstance(value, kind):
        return (value,)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return tuple(value)
    raise OptionError(f"{name}={value!r} is of type {type(value).__name__}; give {said}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(name: str, value: object, least: int | None, optional: bool = False) -> None:
    if optional and value is None:
        return
    fits = isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)
    if not fits:
        bound = "" if least is None else f" of at least {least}"
        more = ", or None for the default" if optional else ""
        raise OptionError(f"{name}={value!r} is refused; give a whole number{bound}{more}")
