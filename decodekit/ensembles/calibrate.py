"""Fitting rules on what models write: routers on tokens, cascades on whole answers
(:mod:`decodekit.scores.fitted_rules`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from decodekit.api import Decoder
from decodekit.core.bound import Model
from decodekit.core.uncertainty import ANSWER, Answers
from decodekit.core.vocabulary_checks import same_tokens
from decodekit.errors import CompositionError
from decodekit.models.load import load
from decodekit.run.results import Result
from decodekit.scores.fitted_rules import Fitted, Observed, balanced, by_rate, logistic, observe


def router(
    fast: Any,
    slow: Any,
    prompts: Sequence[Any],
    *,
    signal: str = "entropy",
    rate: float | None = 0.2,
    learned: bool = False,
    strategy: str | None = None,
    most: int = 128,
    seed: int = 0,
) -> tuple[Fitted, Observed]:
    """A rule for `fast_slow(route="fitted")`, and what it was fitted on.

    Positions are those of the texts that `slow` writes after `prompts` by `strategy`. With `learned`, logistic
    regression of disagreement on all signals, else a threshold of one `signal`; `rate` is the share of positions asked.

    Raises:
        CompositionError: the models have other tokens, or nothing was written.
    """
    quick, sure = _opened(fast, slow)
    written = _answers(sure, prompts, strategy, most, seed)
    seen = observe(quick, sure, [(one.prompt.tokens, one.tokens) for one in written])
    rule = logistic(seen, rate) if learned else by_rate(seen, signal, 0.2 if rate is None else rate)
    return _signed(rule, quick, sure, len(prompts), strategy, seed), seen


def cascade(
    fast: Any,
    slow: Any,
    prompts: Sequence[Any],
    *,
    rate: float = 0.3,
    feature: str = "mean",
    quality: Callable[[int, str], float | None] | None = None,
    strategy: str | None = None,
    most: int = 128,
    seed: int = 0,
) -> Fitted:
    """A rule for `cascade(rule="fitted")`, that defers a share of `rate` of these answers.

    Without `quality` a threshold of one `feature` (:data:`decodekit.core.uncertainty.ANSWER`). With `quality` (number
    of the prompt, text -> score) logistic regression, on all features, of whether the slow model is better (arXiv
    2404.10136, section 4, post-hoc deferral).
    """
    quick, sure = _opened(fast, slow)
    small = _answers(quick, prompts, strategy, most, seed)
    found = {name: values for name, values in features_of(small).items() if quality is not None or name == feature}
    if quality is None:
        scores = -found[feature]
        rule = Fitted({feature: -1.0}, float(np.quantile(scores, 1 - rate)), made={"method": "rate"})
    else:
        large = _answers(sure, prompts, strategy, most, seed)
        gains = [
            (quality(at, b.text) or 0.0) > (quality(at, a.text) or 0.0)
            for at, (a, b) in enumerate(zip(small, large, strict=True))
        ]
        weights, bias, mean, scale = balanced(found, np.array(gains))
        rule = Fitted(weights, 0.0, bias, mean, scale)
        threshold = float(np.quantile(rule.score(found), 1 - rate))
        rule = Fitted(
            weights, threshold, bias, mean, scale, {"method": "logistic", "slow is better": float(np.mean(gains))}
        )
    share = float((rule.score(found) > rule.threshold).mean())
    rule = Fitted(rule.weights, rule.threshold, rule.bias, rule.mean, rule.scale, {**rule.made, "deferred": share})
    return _signed(rule, quick, sure, len(prompts), strategy, seed)


def _opened(fast: Any, slow: Any) -> tuple[Model, Model]:
    quick, sure = load(fast), load(slow)
    if not same_tokens(quick, sure):
        raise CompositionError(
            f"fit: {quick.name!r} and {sure.name!r} have other tokens; choose models with one tokenizer"
        )
    return quick, sure


def _answers(model: Model, prompts: Sequence[Any], strategy: str | None, most: int, seed: int) -> list[Result]:
    found: list[Result] = Decoder(model, strategy, max_tokens=most, seed=seed).generate(list(prompts))
    return found


def features_of(answers: Sequence[Result]) -> dict[str, Any]:
    """[N] of each feature of the answers, from the log-probabilities in their traces."""
    rows = []
    for one in answers:
        assert one.trace is not None
        events = one.trace.events
        rows.append(torch.from_numpy(events["logp"][events["accepted"]]).double())
    table = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=float("nan"))
    return {name: Answers(table).feature(name).nan_to_num(0.0).numpy() for name in ANSWER}


def _signed(rule: Fitted, fast: Model, slow: Model, prompts: int, strategy: str | None, seed: int) -> Fitted:
    made = {**rule.made, "fast": fast.name, "slow": slow.name, "prompts": prompts, "strategy": strategy, "seed": seed}
    return Fitted(rule.weights, rule.threshold, rule.bias, rule.mean, rule.scale, made)
