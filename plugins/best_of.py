"""Best of n: write several texts, keep the one that scores best."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Round
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError
from decodekit.particles import potentials
from decodekit.particles.potentials import Potential
from decodekit.registry.declaration import plugin
from decodekit.text.codec import Codec

_LOGP = "best_of.logp"


@plugin(role=("population", "observer"), exactness="approximate", requires=("randomness",), provides=("particles",))
class BestOf:
    """`n` texts per asked sample, drawn as they would be without; the answer is the one with the highest score.

    Not a sample of any law that one would want: the mode of a few. For a choice in proportion to a score, which is a
    sample as `n` grows, use `smc(ess=0, critic=score, at='end')`.

    Args:
        n: how many texts.
        score: "logp", the log-probability under the plain model (which prefers short texts), "mean_logp", the same per
            token, or a potential: a function (text) -> number or bool, or a constraint that judges.

    Texts that the score forbids, or fails on, and dead ends, lose to all others; of equal ones the first is taken.
    """

    n: Annotated[int, Field(ge=1)] = 8
    score: Literal["logp", "mean_logp"] | Any = "mean_logp"

    def bind(self, run: BindContext) -> _BestOf:
        """Reads the score. Raises OptionError where it is none, CompositionError where there is no text to score."""
        if self.score in ("logp", "mean_logp"):
            return _BestOf(self.n, self.score == "mean_logp", None, None)
        if run.model.tokenizer is None:
            raise CompositionError(f"best_of: a score reads text, and {run.model.name} has no tokenizer")
        return _BestOf(self.n, False, potentials.at_end(self.score), Codec(run.model.tokenizer))


class _BestOf:
    def __init__(self, n: int, mean: bool, score: Potential | None, codec: Codec | None) -> None:
        self.width, self._mean, self._score, self._codec = n, mean, score, codec

    def round(self, what: Round) -> None:
        """Add up log-probabilities of the plain model."""
        if self._score is None:
            rows, tokens = what.rows, what.choice.tokens
            took = what.take & (tokens != NONE)
            logp = what.logits.log_softmax(-1).gather(-1, tokens.clamp(min=0)[..., None])[..., 0]
            sums = rows.column(_LOGP, torch.zeros_like(rows.logw))
            rows.columns[_LOGP] = sums + logp.double().masked_fill(~took, 0.0).sum(1)

    def moved(self, rows: Rows, index: Tensor) -> None:
        """Columns travel with their rows."""

    def survivors(self, rows: Rows) -> None:
        """Everybody goes on; when a group is done, the weight goes to its best."""
        due = self.leaving(rows) & (rows.logw > -torch.inf)
        if not bool(due.any()):
            return
        scores = self._scores(rows, due).view(-1, self.width)  # [G, N]
        best = scores.argmax(1, keepdim=True)
        winner = torch.arange(self.width, device=rows.device) == best
        winner &= scores.gather(1, best) > -torch.inf
        out = due.view(-1, self.width).any(1, keepdim=True) & ~winner
        rows.logw = rows.logw.masked_fill(out.flatten(), -torch.inf).masked_fill((winner & ~out).flatten() & due, 0.0)

    def _scores(self, rows: Rows, due: Tensor) -> Tensor:
        """[R] float64; -inf for rows that are not to be scored."""
        scores = torch.full_like(rows.logw, -torch.inf)
        if self._score is None:
            length = (rows.n - rows.start).clamp(min=1) if self._mean else torch.ones_like(rows.n)
            return torch.where(due, rows.columns[_LOGP] / length, scores)
        assert self._codec is not None
        where, starts = due.nonzero()[:, 0], rows.start.tolist()
        texts = [self._codec.text(rows.text(r)[starts[r] :]) for r in where.tolist()]
        found, _ = potentials.safely(self._score, texts, [True] * len(texts))
        return scores.index_put((where,), torch.tensor(found, dtype=torch.float64, device=rows.device))

    def leaving(self, rows: Rows) -> Tensor:
        """[R] bool, all rows of a group once all of them are done."""
        return rows.done.view(-1, self.width).all(1).repeat_interleave(self.width)
