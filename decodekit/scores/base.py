"""What a score is, and what scores of several texts look at.

A score is a class under `@plugin(role="score")`, registered in the entry-point group `decodekit.scores`; its fields are
its options. It says what it needs (:class:`Needs`) and is one of three kinds: a fold over the tokens of one text
(:class:`decodekit.scores.folds.Fold`), a function of one text (:class:`OfText`), or of several (:class:`OfSamples`,
:class:`OfResults`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from decodekit.errors import DecodekitError
from decodekit.registry.metadata import PluginInfo
from decodekit.scores.needs import Needs
from decodekit.scores.tools import Tools
from decodekit.trace.trace import Trace

Floats = npt.NDArray[np.float64]


class ScoreError(DecodekitError):
    """A score cannot be computed from what there is; the message says what it needs."""


@runtime_checkable
class Score(Protocol):
    """What all scores have. rising: whether more of it means more uncertainty."""

    about: ClassVar[PluginInfo]
    rising: ClassVar[bool]

    def needs(self) -> Needs:
        """What the run must give."""


@dataclass(frozen=True)
class Text:
    """One finished text. text: as users see it. columns: of its events, by name as in the trace, [T] or [T, k].

    pieces: [T] the bytes of each token, none for special ones. weight: its share among the samples.
    """

    text: str
    columns: Mapping[str, npt.NDArray[Any]]
    pieces: Sequence[bytes]
    weight: float
    finish: str = ""
    prompt: str = ""
    trace: Trace | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.columns["logp"])

    @property
    def logp(self) -> Floats:
        """[T] float64, under the plain model."""
        return np.asarray(self.columns["logp"], dtype=np.float64)


@dataclass(frozen=True)
class Samples:
    """Several texts after one prompt, with normalised weights (samples of no weight are left out)."""

    texts: Sequence[Text]

    @property
    def weights(self) -> Floats:
        """[m] that sum to 1."""
        return np.array([one.weight for one in self.texts])

    @property
    def said(self) -> list[str]:
        """[m] what they say."""
        return [one.text for one in self.texts]


@runtime_checkable
class OfText(Protocol):
    """A score of one text that is no fold: it needs the whole of it."""

    def of_text(self, text: Text, tools: Tools) -> float:
        """The score."""


@runtime_checkable
class OfTokens(Protocol):
    """A score of one text, no fold, that says something of each token as well."""

    rising: ClassVar[bool]

    def of_tokens(self, text: Text, tools: Tools) -> Floats:
        """[T]."""

    def needs(self) -> Needs:
        """What the run must give."""


@runtime_checkable
class OfSamples(Protocol):
    """A score of several samples of one prompt."""

    def of_samples(self, samples: Samples, tools: Tools) -> float:
        """The score."""


@runtime_checkable
class OfResults(Protocol):
    """A score of the samples of several prompts."""

    def of_results(self, results: Sequence[Samples], tools: Tools) -> float:
        """The score."""
