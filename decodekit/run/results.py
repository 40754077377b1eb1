"""What a user gets: one :class:`Result` per prompt, with every sample or particle behind it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from decodekit.core.cost import Cost
from decodekit.errors import OptionError

if TYPE_CHECKING:
    from decodekit.trace.trace import Trace

FINISHES = {
    "eos": "the model ended its text",
    "stop": "a stop string was completed; the text ends before it",
    "length": "max_tokens or the end of the context was reached",
    "complete": "the constraint allows nothing more (models without an end token)",
    "time": "max_seconds were over",
    "budget": "max_fed tokens were fed to the model",
    "dead end": "the constraint allowed no token at all; `message` says where",
    "refused": "the critic of the population forbade the text, or failed on it",
    "interrupted": "Ctrl-C; the text is what there was by then",
}
"""Why a generation ended, and what the word means. A plugin's own stop may add words."""


TEMPLATE = "template"
"""Kind of a prompt that holds mask tokens: it is filled in, and the text is all of it."""


@dataclass(frozen=True)
class Prompt:
    """What was asked.

    kind: "text", "chat", "tokens" or "template". given: as it was given. tokens: as the model read it.
    """

    kind: str
    given: Any = field(repr=False)
    tokens: list[int] = field(repr=False)

    @property
    def before(self) -> list[int]:
        """What stands before the text: the tokens, or nothing where they are part of the text."""
        return [] if self.kind == TEMPLATE else self.tokens


@dataclass(frozen=True)
class Sample:
    """One finished row: a sample, or a particle of a population.

    text: what follows the prompt (all of a template, filled in), cut before a stop string.
    tokens: generated ids, the end token included.
    value: the text as the constraint reads it (parsed, validated), None without a constraint or where it is unfinished.
    finish: a word of :data:`FINISHES`. logp: sum of log-probabilities of the tokens under the plain model, in nats.
    logw: log importance weight, in nats (0 for exact strategies, -inf at a dead end).
    weight: its share of all samples of the result. population: which of the `n` asked samples it belongs to.
    """

    text: str
    tokens: list[int] = field(repr=False)
    value: Any
    finish: str
    logp: float
    logw: float
    weight: float
    population: int = 0


@dataclass(frozen=True)
class Result:
    """The answer to one prompt.

    `text`, `tokens`, `value`, `finish`, `logp` and `logw` are those of one of `samples`: the first if all weigh the
    same, else one drawn by weight with the run's seed, so that a weighted strategy stays weighted (taking the heaviest
    would not). `posterior()` has the whole picture.

    samples: every row, in order: `n` of them, or `n` times the particles of a population.
    evidence: log of the mean weight: an estimate of the log-probability that the plain model satisfies the constraint;
        None where the strategy gives no weights, or a population such as `best_of` has put a choice in their place.
    message: one sentence where the text did not end by itself (dead end, unreadable value), else empty.
    cost: of the whole call; results of one batch share it. trace: of this prompt alone, None if switched off.
    scores: those that were asked for with `scores=`, by spec (:func:`decodekit.score`); `scores.problems` says why one
        is missing.
    spec: the canonical strategy. seed: together with `prompt` it reproduces the result.
    """

    text: str
    tokens: list[int] = field(repr=False)
    value: Any
    finish: str
    logp: float
    logw: float
    samples: tuple[Sample, ...] = field(repr=False)
    evidence: float | None
    message: str
    cost: Cost = field(repr=False)
    trace: Trace | None = field(repr=False)
    prompt: Prompt = field(repr=False)
    spec: str
    seed: int
    scores: Mapping[str, float] = field(default_factory=dict, repr=False)

    @property
    def confidence(self) -> float:
        """exp(`logp`), 0 to 1: how probable this very sequence of tokens is under the plain model, with neither
        constraint nor warpers. It says how much the model would have written this text by itself, and not how probable
        the answer is among those that a constraint allows: for that see `posterior()` of several samples.

        Every token multiplies it, so it is small for any long text. Of a greedy text without a constraint it is
        exp(-G-NLL) (Aichberger et al. 2024, arXiv 2412.15176). Other scores: :func:`decodekit.score`.
        """
        return math.exp(self.logp)

    def __str__(self) -> str:
        return self.text

    def posterior(self) -> dict[str, float]:
        """Distinct texts with their normalised weights, heaviest first; empty if every sample came to a dead end.

        Raises:
            OptionError: there is one sample only, and no weights: its share would be 1 whatever the model thinks of it.
        """
        if len(self.samples) == 1 and self.evidence is None:
            raise OptionError(
                f"posterior() of one text without a weight ({self.spec!r}) would be 1 whatever the text: give n=, or a "
                "strategy with weights, such as 'awrs | smc'"
            )
        share: dict[str, float] = {}
        for sample in self.samples:
            if sample.weight > 0:
                share[sample.text] = share.get(sample.text, 0.0) + sample.weight
        return dict(sorted(share.items(), key=lambda item: (-item[1], item[0])))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: no tensors, no infinities (None stands for them)."""
        plain = {name: getattr(self, name) for name in ("text", "tokens", "finish", "message", "spec", "seed")}
        return {
            **plain,
            "value": jsonable(self.value),
            "logp": _finite(self.logp),
            "logw": _finite(self.logw),
            "evidence": _finite(self.evidence),
            "prompt": jsonable(self.prompt.given),
            "samples": [_sample_dict(s) for s in self.samples] if len(self.samples) > 1 else [],
            "cost": self.cost.as_dict(),
            **({"scores": {name: _finite(value) for name, value in self.scores.items()}} if self.scores else {}),
        }


@dataclass(frozen=True)
class Piece:
    """A part of a text, as soon as it is settled.

    text: may be empty while a character or a stop string is being completed. tokens: those that became final since the
    last piece. result: set on the last piece only.
    """

    text: str
    tokens: list[int]
    result: Result | None = None

    def __str__(self) -> str:
        return self.text


def jsonable(value: Any) -> Any:
    """`value` as data that `json.dumps` takes: models and dataclasses as objects, anything odd as its text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _finite(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return jsonable(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(one) for one in value]
    return str(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _sample_dict(sample: Sample) -> dict[str, Any]:
    return {
        "text": sample.text,
        "tokens": sample.tokens,
        "value": jsonable(sample.value),
        "finish": sample.finish,
        "logp": _finite(sample.logp),
        "logw": _finite(sample.logw),
        "weight": sample.weight,
        "population": sample.population,
    }
