"""Models of other libraries as callables of scores; each is imported when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from decodekit.errors import OptionError

Floats = npt.NDArray[np.float64]


class SentenceTransformer:
    """A bi-encoder of sentence-transformers: an `embed` callable, and a `similarity` (cosine, below 0 counts as 0).

    Args:
        model: its name or path, or a loaded SentenceTransformer.

    Raises:
        OptionError: sentence-transformers is not installed.
    """

    def __init__(self, model: Any) -> None:
        self._model = _library("SentenceTransformer")(model) if isinstance(model, str) else model

    def __call__(self, texts: Sequence[str] | str, other: str | None = None) -> Any:
        """[n, d] of texts; or the similarity of two."""
        if other is not None:
            return float(self.batch([(str(texts), other)])[0])
        return np.asarray(self._model.encode(list(texts)), dtype=np.float64)

    def batch(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """[P] similarities."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        found = np.asarray(self._model.encode(texts), dtype=np.float64)
        unit = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        place = {text: number for number, text in enumerate(texts)}
        return np.array([max(0.0, float(unit[place[a]] @ unit[place[b]])) for a, b in pairs])


class CrossEncoder:
    """A cross-encoder of sentence-transformers that scores pairs from 0 to 1 (STS): a `similarity` callable.

    Args:
        model: its name or path, or a loaded CrossEncoder.
    """

    def __init__(self, model: Any) -> None:
        self._model = _library("CrossEncoder")(model) if isinstance(model, str) else model

    def __call__(self, a: str, b: str) -> float:
        """The similarity of two texts."""
        return float(self.batch([(a, b)])[0])

    def batch(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """[P] similarities."""
        return np.asarray(self._model.predict([list(pair) for pair in pairs]), dtype=np.float64).clip(0.0, 1.0)


class PipelineNli:
    """A text-classification pipeline of transformers with an NLI model: an `nli` callable.

    Args:
        pipeline: the pipeline, or the name or path of its model. labels: which of the model's labels mean entailment,
            neutral and contradiction; None to find them by their names.

    Raises:
        OptionError: the labels cannot be told apart by name.
    """

    def __init__(self, pipeline: Any, labels: tuple[str, str, str] | None = None) -> None:
        if isinstance(pipeline, str):
            pipeline = import_module("transformers").pipeline("text-classification", model=pipeline)
        self._pipeline = pipeline
        self._labels = labels or _labels(pipeline)

    def __call__(self, premise: str, hypothesis: str) -> tuple[float, ...]:
        """(entailment, neutral, contradiction)."""
        return tuple(self.batch([(premise, hypothesis)])[0].tolist())

    def batch(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """[P, 3]."""
        asked = [{"text": premise, "text_pair": hypothesis} for premise, hypothesis in pairs]
        found = []
        for told in self._pipeline(asked, top_k=None):
            by_label = {one["label"]: float(one["score"]) for one in told}
            found.append([by_label[label] for label in self._labels])
        return np.array(found).reshape(-1, 3)


def _labels(pipeline: Any) -> tuple[str, str, str]:
    names = list(pipeline.model.config.id2label.values())
    found = [[name for name in names if name.lower().startswith(stem)] for stem in ("entail", "neutral", "contra")]
    if any(len(one) != 1 for one in found):
        raise OptionError(
            f"the labels {names} do not say which is entailment, neutral and contradiction; "
            "give labels=(...) in this order"
        )
    (entail,), (neutral,), (contra,) = found
    return entail, neutral, contra


def _library(name: str) -> Any:
    try:
        return getattr(import_module("sentence_transformers"), name)
    except ImportError:
        raise OptionError(
            "sentence-transformers is not installed; run `pip install sentence-transformers`, or give a loaded model"
        ) from None
