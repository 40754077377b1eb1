"""Potentials: what a text is worth beyond its probability, in log units; critics of a population, scores of a ranking.

A potential of 0 is neutral and -inf forbids. The law that a population with a potential aims at is the model's (given
its constraint) times exp(potential of the whole text), whatever the potential said of unfinished texts: what it says
early only guides (Lew et al. 2023, arXiv 2306.03081; Zhao et al. 2024, arXiv 2404.17546, twisted SMC).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from decodekit.errors import OptionError
from decodekit.particles import process_pool


class Potential(ABC):
    """A function of the text so far. `a * b` multiplies (adds the logs), `a ** beta` tempers (scales the log)."""

    @abstractmethod
    def score(self, text: str, done: bool) -> float:
        """Log potential of `text`, what was written after the prompt; `done`: nothing more will follow."""

    def many(self, texts: list[str], done: list[bool]) -> list[float]:
        """:meth:`score` of several texts."""
        return [self.score(text, end) for text, end in zip(texts, done, strict=True)]

    def __mul__(self, other: Any) -> Potential:
        return Product((self, potential_of(other)))

    def __pow__(self, beta: float) -> Potential:
        return Tempered(self, beta)


@dataclass(frozen=True)
class Function(Potential):
    """A Python function of the text: True and False allow and forbid, a number is a log potential.

    workers: processes that call it, for slow functions (it must then be importable); 0 calls it here. They are kept
    for the next calls. timeout: seconds that one text may take, None for no limit; needs workers. A call that takes
    longer raises TimeoutError and its process is ended.

    Raises:
        OptionError: a timeout without processes, which alone can be ended.
    """

    fn: Callable[[str], float | bool]
    workers: int = 0
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and self.workers < 1:
            raise OptionError("potentials.Function(timeout=...) needs workers=1 or more: only a process can be ended")

    def score(self, text: str, done: bool) -> float:
        """What `fn` says; raises what it raises, or TimeoutError."""
        return _log(self.fn(text)) if not self.workers else self.many([text], [done])[0]

    def many(self, texts: list[str], done: list[bool]) -> list[float]:
        """As :meth:`Potential.many`; in processes, where there are any."""
        if not self.workers:
            return super().many(texts, done)
        return [_log(value) for value in process_pool.ask(self.fn, texts, self.workers, self.timeout)]


@dataclass(frozen=True)
class Judged(Potential):
    """What a constraint says of whole texts, by its own validator (jsonschema, sqlite3's EXPLAIN, a full parse): 0 or
    -inf at the end, 0 before.
    """

    constraint: Any

    def score(self, text: str, done: bool) -> float:
        """0, or -inf for a whole text that the constraint does not accept."""
        return _log(bool(self.constraint.judge(text))) if done else 0.0


@dataclass(frozen=True)
class Product(Potential):
    """The sum of log potentials; stops at the first that forbids."""

    parts: tuple[Potential, ...]

    def score(self, text: str, done: bool) -> float:
        """Sum of the parts' scores."""
        total = 0.0
        for part in self.parts:
            total += part.score(text, done)
            if total == -math.inf:
                break
        return total


@dataclass(frozen=True)
class Tempered(Potential):
    """A potential to the power `beta`; 0 makes it neutral, but what is forbidden stays forbidden."""

    base: Potential
    beta: float

    def score(self, text: str, done: bool) -> float:
        """`beta` times the score."""
        value = self.base.score(text, done)
        return value if value == -math.inf else self.beta * value


def potential_of(value: Any) -> Potential:
    """A potential from one, a function of the text, or a constraint that can judge whole texts.

    Raises:
        OptionError: it is none of these.
    """
    if isinstance(value, Potential):
        return value
    if callable(getattr(value, "judge", None)):
        return Judged(value)
    if callable(value) and not isinstance(value, type):
        return Function(value)
    raise OptionError(
        f"{value!r} is no potential; give a function of the text (a number as log weight, or True and False), a "
        "constraint, or a decodekit.particles.potentials.Potential"
    )


def at_end(value: Any) -> Potential:
    """`value` as a potential that is asked about whole texts only."""
    base = potential_of(value)
    return base if isinstance(base, Judged) else _AtEnd(base)


@dataclass(frozen=True)
class _AtEnd(Potential):
    base: Potential

    def score(self, text: str, done: bool) -> float:
        return self.base.score(text, True) if done else 0.0


def _log(value: Any) -> float:
    if isinstance(value, bool):
        return 0.0 if value else -math.inf
    number = float(value)
    if math.isnan(number) or number == math.inf:
        raise ValueError(f"a potential of {number}")
    return number


def safely(potential: Potential, texts: list[str], done: list[bool]) -> tuple[list[float], list[str]]:
    """Scores of `texts`, and for each the reason why it could not be scored (empty: it could). Nothing is raised: a
    function that fails on one text forbids that text only.
    """
    try:
        return potential.many(texts, done), [""] * len(texts)
    except Exception:  # whatever a user's function raises; which text it was is found one by one
        found = [_one(partial(potential.score, text, end)) for text, end in zip(texts, done, strict=True)]
        return [score for score, _ in found], [why for _, why in found]


def _one(ask: Callable[[], float]) -> tuple[float, str]:
    try:
        return ask(), ""
    except Exception as error:
        return -math.inf, f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
