"""AdaDec: where the model hesitates, look a few tokens ahead along each of the best candidates, then decide."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core import selection
from decodekit.core.bound import BindContext
from decodekit.core.intersection import another_constraint
from decodekit.core.protocols import Constraint, Proposal, Scorer, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.core.uncertainty import Reading
from decodekit.ensembles.routers import Route, router
from decodekit.errors import CompositionError
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import form, info_of, without
from decodekit.speculation.look_ahead import Branches

_ROLLOUT, _FROM = "adadec.rollout", "adadec.from"


@plugin(
    role=("proposer", "scorer", "selector"),
    exactness="approximate",
    requires=("causal_lm",),
    provides=("guesses", "randomness", "distribution"),
    paper="AdaDec, arXiv 2506.08980, section 3 (pause, then rerank)",
)
class AdaDec:
    """Greedy decoding that pauses where it is unsure and asks how each candidate would go on.

    At a position whose signal is beyond the threshold the `candidates` best tokens are each continued greedily for up
    to `steps` tokens, all in one batch; the one with the highest mean log-probability (candidate and continuation, to
    its end token if it comes sooner) is taken. Elsewhere the most probable token is. All of it under the composition's
    warpers and constraint. The winner's cache is kept, and its continuation is offered as guesses: they are taken
    without further passes as far as nothing gives pause.

    (The published code counts what follows an end token towards the score, and not towards the length; here a
    continuation ends with its end token.)

    Args:
        threshold: of the signal; 1 nat is usual for "entropy". inf: plain greedy decoding.
        signal: "entropy", "varentropy", "top1", "gap", "fitted" with a file, or "score" with a running one.
        candidates: how many of the best tokens are tried. steps: how far each is continued.
        fitted: file that `decodekit fit` wrote. score: an uncertainty score of tokens, for signal="score".
        scorer: how logits are computed, a scorer plugin; None for a plain pass.

    Raises:
        CompositionError: when bound, a threshold out of range, no fitted file, or a scorer that is none.
    """

    threshold: float | None = None
    signal: Route = "entropy"
    candidates: Annotated[int, Field(ge=1)] = 3
    steps: Annotated[int, Field(ge=0)] = 5
    fitted: str | None = None
    score: Any = None
    scorer: Any = None

    def __post_init__(self) -> None:
        if self.signal != "random":
            without(self, "randomness")
        if self.candidates == 1 or self.steps == 0 or self.threshold == math.inf or self.signal == "never":
            without(self, "randomness", "distribution")  # it never looks ahead, and is plain greedy decoding

    def bind(self, run: BindContext) -> LookAhead:
        """One reader for the rows and for what branches off them."""
        if self.scorer is None:
            reader: Scorer = run.model.reader(run.cost, run.label)
        else:
            about = info_of(self.scorer)
            if about is None or about.roles != ("scorer",):
                raise CompositionError(f"adadec: scorer={form(self.scorer)} is no scorer; give one, or drop it")
            reader = self.scorer.bind(BindContext(run.model, run.open, run.eos, run.seed, run.cost, label=run.label))
        return LookAhead(self, run, reader)


class LookAhead:
    """The bound proposer, scorer and selector."""

    def __init__(self, options: AdaDec, run: BindContext, reader: Scorer) -> None:
        self._options, self._run = options, run
        self._pauses = router(options.signal, options.threshold, options.fitted, "adadec", options.score, run)
        self._branches = Branches(reader, options.candidates)
        self._constraint: Constraint | None = another_constraint(run)
        self._eos = torch.tensor(run.eos, dtype=torch.int64, device=run.model.device)

    def start(self, rows: Rows) -> None:
        """Nothing is known yet."""
        rows.columns[_ROLLOUT] = torch.full((len(rows), max(1, self._options.steps)), NONE, device=rows.device)
        rows.columns[_FROM] = torch.zeros_like(rows.n)

    def propose(self, rows: Rows) -> Proposal:
        """The next position, and what the last look-ahead saw after it, as far as the text has gone that way."""
        rollout, since = rows.columns[_ROLLOUT], rows.columns[_FROM]
        steps = rollout.shape[1]
        gone = (rows.n - since).clamp(min=0, max=steps)  # [R] tokens of the continuation that are written
        index = torch.arange(steps, device=rows.device)
        place = (since[:, None] + index).clamp(max=rows.tokens.shape[1] - 1)
        agree = ((rows.tokens.gather(1, place) == rollout) | (index >= gone[:, None])).all(1)
        shifted = (gone[:, None] + index).clamp(max=steps - 1)
        guess = rollout.gather(1, shifted).masked_fill((gone[:, None] + index >= steps) | ~agree[:, None], NONE)
        at = rows.n[:, None] + torch.arange(steps + 1, device=rows.device)
        at = at.masked_fill((at >= rows.limit[:, None]) | rows.done[:, None], NONE)
        open_ = torch.nn.functional.pad((guess != NONE).long().cumprod(1).bool(), (1, 0), value=True)
        at = at.masked_fill(~open_, NONE)
        guess = torch.nn.functional.pad(guess, (0, 1), value=NONE)
        guess = guess.masked_fill(~torch.nn.functional.pad(open_[:, 1:], (0, 1)) | (at == NONE), NONE)
        guess[:, :-1] = guess[:, :-1].masked_fill(
            at[:, 1:] == NONE, NONE
        )  # a guess without a position after it saves nothing
        width = max(1, int((at != NONE).sum(1).max()))
        return Proposal(at[:, :width], guess[:, :width], by="look-ahead")

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V]; see :class:`decodekit.core.protocols.Scorer`."""
        return self._branches.read(rows, at, only)

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        """The best token, or where it gives pause the one that goes on best."""
        law = selection.allowed(rows, ask, logits, constraint)
        best, tokens = law.max(-1)  # [R, K]
        tokens = tokens.masked_fill(best == -torch.inf, NONE)
        within = selection.reached(tokens, ask)
        pause = within & (tokens != NONE) & self._pauses(rows, ask.at, Reading(law))
        first = pause & (pause.long().cumsum(1) == 1)
        where = first.nonzero()  # [P, 2]
        if self._options.candidates > 1 and self._options.steps > 0 and len(where):
            chosen = self._look(rows, ask.at[first], where[:, 0], law[first])
            rows.tell("paused at", rows.group[where[:, 0]], rows.sample[where[:, 0]], ask.at[first].double())
            changed = chosen != tokens[first]
            told = where[changed, 0]
            rows.tell("reranked at", rows.group[told], rows.sample[told], ask.at[first][changed].double())
            tokens = tokens.index_put((where[:, 0], where[:, 1]), chosen)
            within = within & (first | (pause.long().cumsum(1) == 0))
        return Selection(tokens, within & (tokens != NONE), law=law, dead=(within & (tokens == NONE)).any(1))

    def _look(self, rows: Rows, at: Tensor, which: Tensor, law: Tensor) -> Tensor:
        """[P] the token that goes on best, of rows `which` [P] at `at` [P] under `law` [P, V]."""
        width, steps = self._options.candidates, self._options.steps
        found = law.double().log_softmax(-1).topk(min(width, law.shape[-1]), -1)
        branches = self._branches.open(rows, at, which, found.indices)
        score, length = found.values.clone(), torch.ones_like(found.values)  # [P, B]
        alive = (found.values > -torch.inf) & ~torch.isin(found.indices, self._eos)
        seen = torch.full((*score.shape, steps), NONE, device=rows.device)
        for step in range(steps):
            alive = alive & (at[:, None] + 1 + step < rows.limit[which, None])
            if not bool(alive.any()):
                break
            logits, ask = branches.next(alive)  # [P, B, V]
            logp = self._processed(branches.rows, ask, logits).double().log_softmax(-1)
            value, token = branches.own(logp).max(-1)  # [P, B]
            dead = alive & ~(value > -torch.inf)  # NaN where nothing is allowed
            score = torch.where(alive, score + value, score).masked_fill(dead, -torch.inf)
            alive = alive & ~dead
            length = length + alive
            seen[..., step] = token.masked_fill(~alive, NONE)
            branches.write(token, alive)
            alive = alive & ~torch.isin(token, self._eos)
        # Where every continuation comes to a dead end, the candidates speak for themselves.
        score = torch.where((score > -torch.inf).any(1, keepdim=True), score / length, found.values)
        winner = score.argmax(1)  # of equal ones the most probable token
        branches.close(winner)
        line = torch.arange(len(which), device=rows.device)
        rows.columns[_ROLLOUT][which] = seen[line, winner]
        rows.columns[_FROM][which] = at + 1
        return found.indices[line, winner]

    def _processed(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        return self._run.kit.processed(rows, ask, logits, self._constraint)
