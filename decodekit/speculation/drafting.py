"""Chains of guesses from a reader that is cheaper than the target, under the target's own rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from decodekit.core import selection
from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Scorer
from decodekit.core.rows import NONE, Rows
from decodekit.core.vocabulary_checks import fitted, same_tokens
from decodekit.errors import CompositionError
from decodekit.registry.metadata import form, info_of
from decodekit.speculation.draft_length import Pace


@dataclass(frozen=True, slots=True)
class Draft:
    """A bound draft: who reads, how wide its logits are, and how far it can read (None: no limit)."""

    reader: Scorer
    vocab: int
    context: int | None


def opened(run: BindContext, draft: object, scorer: Any, asking: str, instead: str = "") -> Draft:
    """The draft that the plugin `asking` was given, with the tokens of the target; `scorer` computes its logits.

    instead: what else a user with other tokens can do, for the message.

    Raises:
        CompositionError: it is no causal model, has other tokens, or `scorer` is no scorer.
    """
    model = run.open(draft)
    if "causal_lm" not in model.provides:
        raise CompositionError(f"{asking}: the draft {model.name!r} is not a causal language model; choose one that is")
    if not same_tokens(model, run.model):
        raise CompositionError(
            f"{asking}: the draft {model.name!r} has other tokens ({model.vocab}) than the target "
            f"{run.model.name!r} ({run.model.vocab}); choose a draft with the tokenizer of the target{instead}"
        )
    if scorer is None:
        return Draft(model.reader(run.cost, "draft"), model.vocab, model.context)
    about = info_of(scorer)
    if about is None or "scorer" not in about.roles:
        raise CompositionError(f"{asking}: scorer={form(scorer)} is no scorer; give one, or drop it")
    reader = scorer.bind(BindContext(model, run.open, run.eos, run.seed, run.cost, label="draft"))
    return Draft(reader, model.vocab, model.context)


class Drafter:
    """A proposer (:class:`decodekit.core.protocols.Proposer`): guesses along the reading of a cheaper `reader`.

    vocab: width of its logits. context: most positions that it can read, or None. k: most guesses per round and row.
    sure: a row stops guessing where the best token is less probable under the drafter's own processed law.
    pace: how many guesses each row gets, of at most `k`; None for always `k`.
    """

    def __init__(
        self,
        run: BindContext,
        reader: Scorer,
        vocab: int,
        context: int | None,
        k: int,
        sure: float = 0.0,
        pace: Pace | None = None,
    ) -> None:
        self._run, self._reader, self._k, self._sure, self._pace = run, reader, k, sure, pace
        self._vocab, self._own = run.model.vocab, vocab
        self._room = torch.iinfo(torch.int64).max if context is None else context
        self._eos = torch.tensor(run.eos, dtype=torch.int64, device=run.model.device)

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """Guesses from `n` on, and one position more; a row stops early before its limit and after an EOS guess."""
        at = rows.n[:, None] + torch.arange(self._k + 1, device=rows.device)  # [R, K]
        at = at.masked_fill((at >= rows.limit[:, None]) | rows.done[:, None], NONE)
        if self._pace is not None:
            step = torch.arange(self._k + 1, device=rows.device)
            at = at.masked_fill(step > self._pace.length(rows)[:, None], NONE)
        guess = torch.full_like(at, NONE)
        laws: list[Tensor] = []
        wanted = "logq" in self._run.requires  # a law is [R, K, V]: made only for a selector that reads it
        drafting = (at[:, 0] != NONE) & self._readable(rows)  # [R] rows whose guesses go on
        for j in range(self._k):
            # The last position before the limit is read anyway: a guess there could not save a pass.
            drafting = drafting & (at[:, j + 1] != NONE) & (at[:, j] <= self._room)
            if not bool(drafting.any()):
                break
            here = at[:, j : j + 1].masked_fill(~drafting[:, None], NONE)  # [R, 1]
            token, law = self._guess(rows, here, wanted)
            laws += [] if law is None else [law]
            drafting = drafting & (token != NONE)
            guess[:, j] = token.masked_fill(~drafting, NONE)
            rows.write(here, guess[:, j : j + 1], drafting[:, None])
            ended = drafting & torch.isin(guess[:, j], self._eos)
            at[:, j + 1 :] = at[:, j + 1 :].masked_fill((ended | ~drafting)[:, None], NONE)
            drafting = drafting & ~ended
        width = max(1, int((at != NONE).sum(1).max()))
        ask = Proposal(at[:, :width], guess[:, :width], logq=_stacked(laws, width), by="draft")
        if self._pace is not None:
            self._pace.asked(rows, ask)
        return ask

    def _guess(self, rows: Rows, here: Tensor, wanted: bool) -> tuple[Tensor, Tensor | None]:
        """([R] token or NONE where the draft found nothing to say, [R, 1, V] log of its law or None)."""
        kit = self._run.kit
        logits = fitted(self._reader.read(rows, here, here[:, 0] != NONE), self._vocab)  # [R, 1, V]
        ask = Proposal(here, torch.full_like(here, NONE))
        warped, choice = kit.judge(rows, ask, logits)
        token = choice.tokens[:, 0].masked_fill(~choice.take[:, 0], NONE)
        if not wanted and self._sure == 0.0:
            return token, None
        if not kit.restricts:  # else it is restricted already
            warped = selection.allowed(rows, ask, warped, kit.constraint)
        law = warped.log_softmax(-1)
        if self._sure > 0.0:
            # Of the best token, not of the one drawn: whether there is a guess must say nothing about which it is, or
            # acceptance-rejection would give another law than the target's.
            chance = law[:, 0].amax(-1).exp()  # [R]
            token = token.masked_fill(chance < self._sure, NONE)
        return token, law if wanted else None

    def _readable(self, rows: Rows) -> Tensor:
        """[R] bool, rows that the draft can read."""
        return readable(rows, self._own, self._vocab)


def readable(rows: Rows, own: int, vocab: int) -> Tensor:
    """[R] bool, rows without an id that only the target's wider padding has: a draft of width `own` cannot read it."""
    if own >= vocab:
        return ~rows.done
    past = torch.arange(rows.tokens.shape[1], device=rows.device) >= rows.n[:, None]
    return ((rows.tokens < own) | past).all(1) & ~rows.done


def _stacked(laws: list[Tensor], width: int) -> Tensor | None:
    """[R, width, V] from the laws of the first positions; what stands at a position without a guess is not read."""
    if not laws:
        return None
    laws = laws[:width] + laws[-1:] * (width - len(laws))
    return torch.cat(laws, 1)
