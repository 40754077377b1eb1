"""Speculative decoding: a cheap model guesses, the target model checks several guesses in one pass."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from decodekit.errors import CompositionError
from decodekit.kit import Model, Run
from decodekit.registry import plugin
from decodekit.roles import Proposal, Scorer
from decodekit.rows import NONE, Rows


@plugin(
    role="proposer",
    keeps="exact",
    needs=("causal_lm",),
    gives=("guesses", "logq"),
    paper="Leviathan et al. 2023, arXiv 2211.17192; shared noise: Daliri et al. 2024, arXiv 2408.07978",
)
class Speculative:
    """A draft model guesses `k` tokens; the target model reads them in one pass and takes those that stand.

    The drafter is bound to the target's own rules: warpers, constraint, noise and selector decide its guesses too.
    With `sample` or `greedy` (shared noise) the text is therefore token for token the one that plain decoding gives
    with the same seed, whatever the drafter; with `rejection` it is another text of the same distribution.

    Args:
        draft: the draft model: a name that the loader knows (`zoo:draft`, a path) or a loaded model. It must use the
            target's vocabulary; a padded embedding matrix of another size is fine.
        k: most guesses per round and row.

    Raises:
        CompositionError: when bound, if the draft is not a causal model or has other tokens than the target.
    """

    draft: Any
    k: Annotated[int, Field(ge=1)] = 4

    def bind(self, run: Run) -> Drafter:
        """Open the draft model and compare vocabularies; runs neither model."""
        draft = run.open(self.draft)
        if "causal_lm" not in draft.gives:
            raise CompositionError(
                f"speculative: the draft {draft.name!r} is not a causal language model; choose one that is"
            )
        if not _same_tokens(draft, run.model):
            raise CompositionError(
                f"speculative: the draft {draft.name!r} has other tokens ({draft.vocab}) than the target "
                f"{run.model.name!r} ({run.model.vocab}); choose a draft with the tokenizer of the target"
            )
        return Drafter(run, draft, self.k)


def _same_tokens(draft: Model, target: Model) -> bool:
    """Whether id i is the same token in both; only the padding of the embedding matrices may differ."""
    mine, other = draft.tokenizer, target.tokenizer
    if mine is other and mine is not None:
        return True
    if hasattr(mine, "get_vocab") and hasattr(other, "get_vocab"):
        return bool(mine.get_vocab() == other.get_vocab())
    return draft.vocab == target.vocab


class Drafter:
    """The bound proposer: guesses along its own reading of the rows."""

    def __init__(self, run: Run, draft: Model, k: int) -> None:
        self._run, self._k = run, k
        self._vocab, self._own = run.model.vocab, draft.vocab
        self._room = torch.iinfo(torch.int64).max if draft.context is None else draft.context
        self._reader: Scorer = draft.reader(run.cost, "draft")
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
        logits = _fit(self._reader.read(rows, here, here[:, 0] != NONE), self._vocab)  # [R, 1, V]
        ask = Proposal(here, torch.full_like(here, NONE))
        warped, choice = kit.judge(rows, ask, logits)
        token = choice.tokens[:, 0].masked_fill(~choice.take[:, 0], NONE)
        if not wanted:
            return token, None
        if kit.constraint is not None:
            warped = warped.masked_fill(~kit.constraint.mask(rows, here), -torch.inf)
        return token, warped.log_softmax(-1)

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


def _fit(logits: Tensor, vocab: int) -> Tensor:
    """Logits over the target's width: ids that the draft does not have cannot be guessed."""
    short = vocab - logits.shape[-1]
    return torch.nn.functional.pad(logits, (0, short), value=-torch.inf) if short > 0 else logits[..., :vocab]
