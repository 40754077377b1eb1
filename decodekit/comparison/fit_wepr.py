"""Fitting `wepr` on what a model writes: `decodekit fit wepr`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from decodekit.api import Decoder
from decodekit.comparison.score_quality import RIGHT, auroc
from decodekit.errors import OptionError
from decodekit.models.load import load
from decodekit.run.results import Result
from decodekit.scores.methods.entropy import Coefficients, features, fit_wepr


def fitted_wepr(
    model: Any,
    prompts: Sequence[Any],
    quality: Callable[[int, str], float | None],
    *,
    k: int = 10,
    temperature: float = 1.0,
    samples: int = 4,
    strategy: str | None = None,
    most: int = 128,
    seed: int = 0,
) -> Coefficients:
    """Draw `samples` answers to each prompt at `temperature`, ask which are wrong, and fit.

    quality: (number of the prompt, text) -> 0 to 1. A quarter of the prompts is held out first, to say in `made` how
    well coefficients of the others tell wrong from right there; the coefficients returned are of all of them.

    Raises:
        OptionError: answers are all right or all wrong, or the vocabulary is smaller than `k`.
    """
    opened = load(model)
    if k > opened.vocab:
        raise OptionError(f"wepr(k={k}): {opened.name} has {opened.vocab} tokens; give a smaller --k")
    spec = strategy or f"sample | temperature({temperature})"
    decoder = Decoder(opened, spec, max_tokens=most, seed=seed, n=samples, top_k=max(20, k))
    answers: list[Result] = decoder.generate(list(prompts))
    tops: list[Any] = []
    wrong: list[bool] = []
    prompt: list[int] = []
    for at, one in enumerate(answers):
        assert one.trace is not None
        lines = one.trace.lines()
        for line, sample in zip(lines, one.samples, strict=True):
            if len(line.index):
                tops.append(one.trace.events["top_logps"][line.index])
                wrong.append((quality(at, sample.text) or 0.0) < RIGHT)
                prompt.append(at)
    labels, held = np.array(wrong), np.array(prompt) % 4 == 3
    made: dict[str, Any] = {"prompts": len(prompts), "samples": samples, "strategy": spec, "seed": seed}
    if len(set(labels[~held].tolist())) == len(set(labels[held].tolist())) == 2:
        told = fit_wepr([t for t, out in zip(tops, held, strict=True) if not out], labels[~held].tolist(), k=k)
        chance = _chance([t for t, out in zip(tops, held, strict=True) if out], told)
        made["held-out AUROC"] = auroc(chance, ~labels[held])
    return fit_wepr(tops, wrong, k=k, model=opened.name, temperature=temperature, **made)


def _chance(tops: Sequence[Any], told: Coefficients) -> Any:
    """[N] the logits that a text is wrong."""
    return told.bias + features(tops, told.k) @ np.array([*told.rate, *told.peak])
