"""Chains of guesses from a reader that is cheaper than the target, under the target's own rules."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.kit import Run
from decodekit.members import fitted
from decodekit.roles import Proposal, Scorer
from decodekit.rows import NONE, Rows


class Drafter:
    """A proposer (:class:`decodekit.roles.Proposer`): guesses along the reading of a cheaper `reader`.

    vocab: width of its logits. context: most positions that it can read, or None. k: most guesses per round and row.
    sure: a row stops guessing where its guess is less probable under the drafter's own processed law.
    """

    def __init__(self, run: Run, reader: Scorer, vocab: int, context: int | None, k: int, sure: float = 0.0) -> None:
        self._run, self._reader, self._k, self._sure = run, reader, k, sure
        self._vocab, self._own = run.model.vocab, vocab
        self._room = torch.iinfo(torch.int64).max if context is None else context
        self._eos = torch.tensor(run.eos, dtype=torch.int64, device=run.model.device)

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """Guesses from `n` on, and one position more; a row stops early before its limit and after an EOS guess."""
        at = rows.n[:, None] + torch.arange(self._k + 1, device=rows.device)  # [R, K]
        at = at.masked_fill((at >= rows.limit[:, None]) | rows.done[:, None], NONE)
        guess = torch.full_like(at, NONE)
        laws: list[Tensor] = []
        wanted = "logq" in self._run.needs  # a law is [R, K, V]: made only for a selector that reads it
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
        return Proposal(at[:, :width], guess[:, :width], logq=_stacked(laws, width), by="draft")

    def _guess(self, rows: Rows, here: Tensor, wanted: bool) -> tuple[Tensor, Tensor | None]:
        """([R] token or NONE where the draft found nothing to say, [R, 1, V] log of its law or None)."""
        kit = self._run.kit
        logits = fitted(self._reader.read(rows, here, here[:, 0] != NONE), self._vocab)  # [R, 1, V]
        ask = Proposal(here, torch.full_like(here, NONE))
        warped, choice = kit.judge(rows, ask, logits)
        token = choice.tokens[:, 0].masked_fill(~choice.take[:, 0], NONE)
        if not wanted and self._sure == 0.0:
            return token, None
        if kit.constraint is not None:
            warped = warped.masked_fill(~kit.constraint.mask(rows, here), -torch.inf)
        law = warped.log_softmax(-1)
        if self._sure > 0.0:
            chance = law[:, 0].gather(1, token.clamp(min=0)[:, None])[:, 0].exp()  # [R]
            token = token.masked_fill(chance < self._sure, NONE)
        return token, law if wanted else None

    def _readable(self, rows: Rows) -> Tensor:
        """[R] bool, rows without an id that only the target's wider padding has: the draft could not even read it."""
        if self._own >= self._vocab:
            return ~rows.done
        past = torch.arange(rows.tokens.shape[1], device=rows.device) >= rows.n[:, None]
        return ((rows.tokens < self._own) | past).all(1)


def _stacked(laws: list[Tensor], width: int) -> Tensor | None:
    """[R, width, V] from the laws of the first positions; what stands at a position without a guess is not read."""
    if not laws:
        return None
    laws = laws[:width] + laws[-1:] * (width - len(laws))
    return torch.cat(laws, 1)
