"""Scores of finished results and of traces from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from decodekit.errors import DecodekitError, OptionError
from decodekit.run.results import Result
from decodekit.scores.base import Floats, OfResults, OfSamples, OfText, Samples, ScoreError, Text
from decodekit.scores.folds import Fold, folded
from decodekit.scores.plan import scores_of
from decodekit.scores.tools import Tools
from decodekit.trace.trace import Trace


class Scores(dict[str, float]):
    """Scores by spec. problems: why others could not be computed, by spec. each: [m] of every sample, where a score is
    one of single texts, by spec.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problems: dict[str, str] = {}
        self.errors: dict[str, DecodekitError] = {}
        self.each: dict[str, list[float]] = {}


def score(results: Any, scores: Any, **tools: Any) -> Any:
    """Uncertainty scores of a :class:`Result` or a :class:`Trace` (of one prompt), or of a list of these.

    One score by name gives a number; several give :class:`Scores`, in which what failed is named and the rest is there.
    A list of results gives a list, but for scores that compare several prompts: they give one number for the list.
    A score of one text is that of `result.text`; scores of several samples weigh them by their weights.

    Args:
        results: what was generated, with its trace.
        scores: a spec such as "epr(k=10)", a score, or a list of these.
        tools: `similarity`, `nli`, `embed`, `claims`, see :class:`decodekit.scores.tools.Tools`.

    Raises:
        ScoreError: a single score needs what the results do not have. ToolError: a callable failed.
        SpecError, UnknownPlugin, OptionError: no such score or option.
    """
    many, wanted = isinstance(results, list | tuple), scores_of(scores)
    single = isinstance(scores, str) or not isinstance(scores, Iterable)
    try:
        asked = Tools().having(tools)
    except TypeError:
        odd = next(name for name in tools if name not in ("similarity", "nli", "embed", "claims"))
        raise OptionError(f"score has no option {odd!r}; there are similarity, nli, embed and claims") from None
    found = evaluated(results if many else [results], wanted, asked)
    if not single:
        return found if many else found[0]
    (name,) = wanted
    for one in found:
        if name in one.problems:
            raise one.errors[name]
    if many and wanted[name].needs().results > 1:
        return found[0][name]
    return [one[name] for one in found] if many else found[0][name]


def evaluated(results: Sequence[Any], wanted: Mapping[str, Any], tools: Tools) -> list[Scores]:
    """All scores of all results; what fails is named in `problems`."""
    samples = [samples_of(one) for one in results]
    found = [Scores() for _ in results]
    for name, one in wanted.items():
        if isinstance(one, OfResults):
            _kept(found, name, partial(_together, one, name, samples, tools))
            continue
        for mine, (chosen, group) in zip(found, samples, strict=True):
            _kept([mine], name, partial(_single, one, name, chosen, group, tools, mine))
    return found


def _kept(found: Sequence[Scores], name: str, compute: Any) -> None:
    """Put a value, or what went wrong, in all of `found`."""
    try:
        value = float(compute())
        for one in found:
            one[name] = value
    except DecodekitError as error:
        for one in found:
            one.problems[name] = str(error)
            one.errors[name] = error


def _together(one: OfResults, name: str, samples: Sequence[tuple[int, Samples]], tools: Tools) -> float:
    wanted = one.needs()  # type: ignore[attr-defined]
    if len(samples) < wanted.results:
        raise ScoreError(f"{name} compares answers to {wanted.results} prompts or more, and was given {len(samples)}")
    for _, group in samples:
        _check(name, wanted, group)
    return one.of_results([group for _, group in samples], tools)


def _single(one: Any, name: str, chosen: int, group: Samples, tools: Tools, kept: Scores) -> float:
    needs = one.needs()
    _check(name, needs, group)
    if isinstance(one, OfSamples):
        return one.of_samples(group, tools)
    if isinstance(one, Fold):
        kept.each[name] = values = fold_values(one, group.texts, name).tolist()
        trouble = getattr(one, "trouble", None)
        if trouble is not None and (why := trouble(group.texts[chosen])):
            raise ScoreError(f"{name} {why}")
        return float(values[chosen])
    assert isinstance(one, OfText)
    kept.each[name] = [one.of_text(text, tools) for text in group.texts]
    return kept.each[name][chosen]


def _check(name: str, needs: Any, group: Samples) -> None:
    """What a score needs must be there.

    Raises:
        ScoreError: it is not.
    """
    if len(group.texts) < needs.samples:
        raise ScoreError(
            f"{name} compares {needs.samples} samples or more, and there are {len(group.texts)} of any weight; "
            "generate with n=, or with a population"
        )
    for text in group.texts:
        top = text.columns.get("top_logps")
        if needs.top and (top is None or top.shape[1] < needs.top):
            have = 0 if top is None else top.shape[1]
            raise ScoreError(
                f"{name} looks at the {needs.top} likeliest tokens, and the trace has {have}; "
                f"generate with top_k={needs.top}"
            )
        if needs.hidden and "hidden" not in text.columns:
            raise ScoreError(f"{name} reads hidden states, which the trace does not have; generate with hidden=True")
        if needs.text and text.trace is not None and text.trace.spelling is None:
            raise ScoreError(f"{name} reads text, and the trace was made without a tokenizer")


def fold_values(fold: Fold, texts: Sequence[Text], name: str = "") -> Floats:
    """[m] values of a fold over whole texts; the same code as while they grow."""
    lengths = torch.tensor([len(text) for text in texts])
    wanted = dict.fromkeys(["logp", "token", *fold.needs().columns])  # type: ignore[attr-defined]
    if fold.needs().top:  # type: ignore[attr-defined]
        wanted |= dict.fromkeys(["top_ids", "top_logps"])
    columns = {key: _padded([text.columns[key] for text in texts], int(lengths.max())) for key in wanted}
    trace = texts[0].trace
    vocab = 0 if trace is None else int(trace.header["vocab"])
    return fold.value(folded(fold, columns, lengths, vocab)).numpy()


def _padded(columns: Sequence[Any], longest: int) -> torch.Tensor:
    """[m, T, ...], zero past the end of each."""
    kind = torch.float64 if columns[0].dtype.kind == "f" else torch.int64
    out = torch.zeros(len(columns), longest, *columns[0].shape[1:], dtype=kind)
    for row, column in zip(out, columns, strict=True):
        row[: len(column)] = torch.from_numpy(np.asarray(column)).to(kind)
    return out


def samples_of(thing: Any) -> tuple[int, Samples]:
    """(which of them is the answer, all samples of any weight) of a result or a trace.

    Raises:
        ScoreError: there is no trace, or nothing in it.
    """
    trace = thing.trace if isinstance(thing, Result) else thing
    if not isinstance(trace, Trace):
        raise ScoreError("a score reads the trace, and there is none; generate with trace=True, and give a Result")
    lines, events = trace.lines(), trace.events
    texts: list[Text] = []
    chosen = 0
    for number, line in enumerate(lines):
        columns = {name: column[line.index] for name, column in events.items()}
        pieces = [b"" if _special(trace, t) else trace.bytes_of(t) for t in columns["token"].tolist()]
        said = b"".join(pieces).decode("utf-8", "replace")
        weight = line.weight
        if isinstance(thing, Result) and number < len(thing.samples):
            sample = thing.samples[number]
            said, weight = sample.text, sample.weight
            if sample.tokens == thing.tokens and sample.logw == thing.logw and not _before(thing, number):
                chosen = len(texts)
        if weight > 0:
            prompt = trace.text(trace.header["prompt_ids"].get(str(line.group), ()))
            texts.append(Text(said, columns, pieces, weight, line.finish, prompt, trace))
    if not texts:
        raise ScoreError("a score needs a text, and every sample came to a dead end")
    if not isinstance(thing, Result):
        chosen = int(np.argmax([text.weight for text in texts]))
    return min(chosen, len(texts) - 1), Samples(texts)


def _special(trace: Trace, token: int) -> bool:
    return trace.spelling is not None and trace.spelling.special(token)


def _before(result: Result, number: int) -> bool:
    """Whether an earlier sample is the answer already."""
    return any(s.tokens == result.tokens and s.logw == result.logw for s in result.samples[:number])
