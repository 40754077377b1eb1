"""Cascades: a small model answers first, and what it was unsure of goes to a large one."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Round, Scorer
from decodekit.core.rows import NONE, Rows
from decodekit.core.uncertainty import ANSWER, Answers
from decodekit.core.vocabulary_checks import fitted, same_tokens
from decodekit.errors import CompositionError, OptionError
from decodekit.registry.declaration import plugin
from decodekit.scores.fitted_rules import Fitted
from decodekit.scores.running import Live, live

_SLOW, _LOGP = "cascade.slow", "cascade.logp"
_ANSWERED: Final = frozenset({"eos", "length", "stop", "complete", "dead end"})
"""Ends after which another answer may be asked for; time and budget that are used up are not among them."""


@plugin(
    role=("scorer", "population", "observer"),
    exactness="approximate",
    requires=("causal_lm",),
    paper="Language Model Cascades: Token-level uncertainty and beyond, arXiv 2404.10136, section 3",
)
class Cascade:
    """The run's model answers; an answer whose score is below `threshold` is written again by `slow`, from its prompt.

    Scores are of the answer's token log-probabilities l_i under the run's model: "sum" (Chow-sum: long answers are
    deferred sooner), "mean" (Chow-average), "quantile" (the `q`-quantile; 0 is the worst token), or "fitted" (a rule on
    all of these, from a file). An answer that came to a dead end is always deferred. The noise stays with the row, so a
    deferred answer is the very text that `slow` gives alone with the same seed.

    With `early=n` a row is also handed over in the middle, once it has n tokens and its score so far is below the
    threshold: the large model then goes on after what is written.

    Args:
        slow: the large model, with the tokens of the run's model.
        rule: "mean", "sum", "quantile", "fitted" or "score". threshold: defer below it; -inf never, inf always. With
            "score": defer where the score is more uncertain than it.
        q: of the quantile. fitted: file for rule="fitted", which brings its threshold. score: for rule="score", an
            uncertainty score of tokens.
        early: tokens after which a row may be handed over in the middle; None for whole answers only.

    Raises:
        CompositionError: when bound, models with other tokens, or no such file.
    """

    slow: Any
    rule: Literal["sum", "mean", "quantile", "fitted", "score"] = "mean"
    threshold: float = -0.3
    q: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    fitted: str | None = None
    score: Any = None
    early: Annotated[int, Field(ge=1)] | None = None

    def __post_init__(self) -> None:
        if (self.fitted is not None) != (self.rule == "fitted"):
            raise OptionError("cascade: rule='fitted' and fitted= go together; give both, or neither")
        if (self.score is not None) != (self.rule == "score"):
            raise OptionError("cascade: rule='score' and score= go together; give both, or neither")
        if self.rule != "score" and not self.threshold <= 0.0 and self.threshold != float("inf"):
            raise OptionError(
                f"cascade(threshold={self.threshold}): log-probabilities are never above 0; give a lower one, or inf"
            )

    def bind(self, run: BindContext) -> Deferring:
        """Open the large model and compare tokens; runs neither."""
        slow = run.open(self.slow)
        if "causal_lm" not in slow.provides:
            raise CompositionError(f"cascade: {slow.name!r} is not a causal language model; choose one that is")
        if not same_tokens(slow, run.model):
            raise CompositionError(
                f"cascade: {slow.name!r} has other tokens ({slow.vocab}) than {run.model.name!r} ({run.model.vocab}); "
                "choose models with one tokenizer"
            )
        rule = None if self.fitted is None else Fitted.load(self.fitted, "cascade")
        if rule is not None and not set(rule.weights) <= set(ANSWER):
            raise CompositionError(f"cascade: {self.fitted!r} was fitted on single tokens; fit one with `fit cascade`")
        running = None if self.score is None else live(run, self.score, "cascade")
        return Deferring(self, rule, running, run.model.reader(run.cost, run.label), slow.reader(run.cost, "slow"))


class Deferring:
    """The bound scorer, population and observer."""

    width = 1

    def __init__(self, options: Cascade, rule: Fitted | None, running: Live | None, fast: Scorer, slow: Scorer) -> None:
        self._options, self._rule, self._running, self._fast, self._slow = options, rule, running, fast, slow

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] of the model that each row is with; see :class:`decodekit.core.protocols.Scorer`."""
        slow = self._deferred(rows)
        asked = torch.ones_like(slow) if only is None else only
        if not bool(slow.any()):
            return self._fast.read(rows, at, only)
        large = self._slow.read(rows, at, asked & slow)
        if bool(slow[~rows.done].all()):
            return large
        small = self._fast.read(rows, at, asked & ~slow)
        return torch.where(slow[:, None, None], fitted(large, small.shape[-1]).to(small), small)

    def round(self, what: Round) -> None:
        """Keep the log-probabilities of the tokens that were taken, by place in the answer."""
        rows, tokens = what.rows, what.choice.tokens
        took = what.take & (tokens != NONE)  # [R, K]
        logp = what.logits.log_softmax(-1).gather(-1, tokens.clamp(min=0)[..., None])[..., 0].double()
        place = (what.ask.at - rows.start[:, None]).masked_fill(~took, -1)
        kept = rows.column(_LOGP, torch.full((len(rows), 1), torch.nan, dtype=torch.float64, device=rows.device))
        short = int(place.max()) + 2 - kept.shape[1]  # the last column takes what is not kept
        if short > 0:
            kept = torch.nn.functional.pad(kept, (0, short + 32), value=torch.nan)
        where = place.masked_fill(place < 0, kept.shape[1] - 1)
        kept = kept.scatter(1, where, logp.to(kept))
        kept[:, -1] = torch.nan
        rows.columns[_LOGP] = kept

    def moved(self, rows: Rows, index: Tensor) -> None:
        """Columns travel with their rows."""

    def survivors(self, rows: Rows) -> None:
        """Everybody goes on; answers and texts that are too unsure change hands."""
        slow = self._deferred(rows)
        open_ = ~slow & (rows.done if self._options.early is None else torch.ones_like(slow))
        if not bool(open_.any()):
            return
        answers = Answers(rows.columns[_LOGP])
        score, unsure = self._judged(answers, rows)
        ended = [rows.why(r) for r in range(len(rows))]
        answered = torch.tensor([why in _ANSWERED for why in ended], device=rows.device)
        dead = torch.tensor([why == "dead end" for why in ended], device=rows.device)
        again = open_ & rows.done & answered & (unsure | dead)
        middle = open_ & ~rows.done & unsure & (answers.lengths >= (self._options.early or 0))
        finished = open_ & rows.done
        if bool(finished.any()):
            rows.tell("answer score", rows.group[finished], rows.sample[finished], score[finished])
        handed = again | middle
        if bool(handed.any()):
            kept = torch.where(middle, rows.n - rows.start, 0)
            rows.tell("deferred at", rows.group[handed], rows.sample[handed], kept[handed].double())
            rows.columns[_SLOW] = slow | handed
        if bool(again.any()):
            rows.columns[_LOGP] = rows.columns[_LOGP].masked_fill(again[:, None], torch.nan)
            rows.reopen(again)

    def leaving(self, rows: Rows) -> Tensor:
        """[R] bool, all that are done."""
        return rows.done

    def _deferred(self, rows: Rows) -> Tensor:
        return rows.column(_SLOW, torch.zeros_like(rows.done))

    def _judged(self, answers: Answers, rows: Rows) -> tuple[Tensor, Tensor]:
        """([R] score, high is sure; [R] bool whether it is too low)."""
        if self._running is not None:
            value = self._running.value(rows)
            return -value if self._running.score.rising else value, self._running.beyond(rows, self._options.threshold)
        if self._rule is not None:
            found: Tensor = self._rule.score({name: answers.feature(name) for name in self._rule.weights})
            return -found, found > self._rule.threshold
        rule = self._options.rule
        score = answers.quantile(self._options.q) if rule == "quantile" else answers.feature(rule)
        return score, score < self._options.threshold
