"""Callables that scores of meaning ask: similarity, entailment, embeddings, claims; with built-ins without download.

The built-ins know spelling and not meaning. They make every score computable and testable; a real model makes it good
(:mod:`decodekit.scores.adapters`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decodekit.errors import DecodekitError

Floats = npt.NDArray[np.float64]
Pair = tuple[str, str]
_WIDTH: Final = 1024
_GRAM: Final = 3


class ToolError(DecodekitError):
    """A callable that a score asked failed, or gave what it must not give; the message names it."""


@dataclass(frozen=True)
class Tools:
    """What scores ask.

    similarity: (a, b) -> 0 to 1. nli: (premise, hypothesis) -> probabilities (entailment, neutral, contradiction).
    embed: list of n texts -> [n, d]. claims: text -> list of (begin, end), places of characters.
    A `similarity` or `nli` with a method `batch(pairs)` is asked for all pairs at once.
    """

    similarity: Any = None
    nli: Any = None
    embed: Any = None
    claims: Any = None

    def having(self, given: dict[str, Any]) -> Tools:
        """A copy in which the callables that are given take the place of the others."""
        return replace(self, **{name: tool for name, tool in given.items() if tool is not None})

    def similar(self, pairs: Sequence[Pair]) -> Floats:
        """[P] between 0 and 1."""
        found = _asked("similarity", self.similarity or jaccard, pairs, ())
        if ((found < -1e-6) | (found > 1 + 1e-6)).any():
            raise ToolError(
                f"the similarity callable {_name(self.similarity)} gave {_odd(found)}; it must give numbers from 0 to 1"
            )
        return found.clip(0.0, 1.0)

    def entailment(self, pairs: Sequence[Pair]) -> Floats:
        """[P, 3] probabilities of entailment, neutral, contradiction."""
        found = _asked("nli", self.nli or spelled_nli, pairs, (3,))
        if ((found < -1e-4) | (found > 1 + 1e-4)).any() or (abs(found.sum(1) - 1) > 1e-2).any():
            raise ToolError(
                f"the nli callable {_name(self.nli)} gave {found[0].tolist()}; it must give three probabilities "
                "(entailment, neutral, contradiction) that sum to 1"
            )
        return found

    def embedded(self, texts: Sequence[str]) -> Floats:
        """[n, d], each of length 1."""
        tool = self.embed or ngrams
        unique = list(dict.fromkeys(texts))
        found = _called("embed", tool, unique)
        array = _array("embed", tool, found)
        if array.ndim != 2 or len(array) != len(unique):
            raise ToolError(
                f"the embed callable {_name(tool)} gave an array of shape {array.shape} for {len(unique)} texts; it "
                "must give [texts, dimensions]"
            )
        norm = np.linalg.norm(array, axis=1, keepdims=True)
        unit = array / np.where(norm > 0, norm, 1.0)
        return unit[[unique.index(text) for text in texts]]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Claims as (begin, end)."""
        tool = self.claims or sentences
        found = _called("claims", tool, text)
        try:
            spans = [(int(a), int(b)) for a, b in found]
        except (TypeError, ValueError):
            spans = [(-1, -1)]
        if any(not 0 <= a <= b <= len(text) for a, b in spans):
            raise ToolError(
                f"the claims callable {_name(tool)} gave {str(found)[:60]!r}; it must give (begin, end) in the text"
            )
        return spans


def _asked(kind: str, tool: Any, pairs: Sequence[Pair], shape: tuple[int, ...]) -> Floats:
    """[P, *shape]; every pair is asked once."""
    unique = list(dict.fromkeys(pairs))
    if not unique:  # some pipelines break on nothing
        return np.zeros((0, *shape))
    batch = getattr(tool, "batch", None)
    found = _called(kind, batch, unique) if batch is not None else [_called(kind, tool, a, b) for a, b in unique]
    array = _array(kind, tool, found)
    if array.shape != (len(unique), *shape):
        raise ToolError(f"the {kind} callable {_name(tool)} gave {str(found)[:60]!r}; see decodekit.scores.tools.Tools")
    place = {pair: number for number, pair in enumerate(unique)}
    return array[[place[pair] for pair in pairs]]


def _called(kind: str, tool: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return tool(*arguments)
    except Exception as error:  # whatever a foreign callable raises
        said = " ".join(str(error).split()) or "no message"
        raise ToolError(f"the {kind} callable {_name(tool)} failed: {type(error).__name__}: {said[:200]}") from error


def _array(kind: str, tool: Any, found: Any) -> Floats:
    try:
        array = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if not np.isfinite(array).all():
        raise ToolError(
            f"the {kind} callable {_name(tool)} gave {str(found)[:60]!r}, which are not numbers; correct it"
        )
    return array


def _name(tool: Any) -> str:
    return getattr(tool, "__qualname__", None) or type(tool).__name__


def _odd(found: Floats) -> float:
    return float(found[(found < 0) | (found > 1)][0])


# --- built-ins -------------------------------------------------------------------------------------------------------


def jaccard(a: str, b: str) -> float:
    """Shared words over all words, in lower case; 1 for equal texts, empty ones included."""
    one, two = set(a.lower().split()), set(b.lower().split())
    return 1.0 if one == two else len(one & two) / len(one | two)


def ngrams(texts: Sequence[str]) -> Floats:
    """[n, 1024] counts of character trigrams, hashed; texts are read in lower case, between spaces."""
    out = np.zeros((len(texts), _WIDTH))
    for row, text in zip(out, texts, strict=True):
        padded = f"  {' '.join(text.lower().split())}  "
        for at in range(len(padded) - _GRAM + 1):
            row[zlib.crc32(padded[at : at + _GRAM].encode()) % _WIDTH] += 1.0
    return out


def spelled_nli(premise: str, hypothesis: str) -> tuple[float, float, float]:
    """A stand-in that knows spelling only: texts that are equal but for case, space and punctuation entail each other,
    others contradict as far as their character trigrams differ.
    """
    one, two = (" ".join(re.findall(r"\w+", text.lower())) for text in (premise, hypothesis))
    if one == two:
        return 1.0, 0.0, 0.0
    a, b = ngrams([one, two])
    same = float(a @ b / max(1e-12, float(np.linalg.norm(a) * np.linalg.norm(b))))
    return 0.5 * same**2, 0.0, 1.0 - 0.5 * same**2


def sentences(text: str) -> list[tuple[int, int]]:
    """Sentences and lines, without the white space around them."""
    ends = [match.end() for match in re.finditer(r"[.!?]+(?=\s|$)|\n+", text)]
    spans, begin = [], 0
    for end in [*ends, len(text)]:
        piece = text[begin:end]
        if piece.strip():
            lead = len(piece) - len(piece.lstrip())
            spans.append((begin + lead, begin + len(piece.rstrip())))
        begin = end
    return spans
