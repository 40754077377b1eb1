"""A diffusion model drafts, an autoregressive one verifies: several guesses from one reading of a canvas."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.cells import imagined
from decodekit.core.protocols import Scorer
from decodekit.core.rows import NONE, Rows
from decodekit.core.vocabulary_checks import same_tokens
from decodekit.errors import CompositionError
from decodekit.registry.declaration import plugin
from decodekit.speculation.drafting import Drafter


@plugin(
    role="proposer",
    exactness="exact",
    requires=("causal_lm",),
    provides=("guesses", "logq"),
    paper="Christopher et al. 2024 (speculative diffusion decoding), arXiv 2408.05636, section 4",
)
class CanvasDraft:
    """A masked model guesses `k` tokens from mask tokens laid behind the text; the target takes those that stand.

    One reading gives `every` guesses, each drawn from the masked model's law at its cell under the target's own rules
    (warpers, constraint, noise), given the guesses of the readings before. So with `sample` or `greedy` the text is
    token for token that of plain decoding, and with `rejection` of its distribution, whatever the masked model says.

    Args:
        draft: the masked model: a name that the loader knows (`zoo:masked`) or a loaded model, of the target's tokens.
        k: most guesses per round and row. every: guesses from one reading; None for all k.
        cells: mask tokens laid behind the text; None for as many as the row may still have. A model that was trained on
            canvases of one size guesses better on these.

    Raises:
        CompositionError: when bound, if the draft is no masked model, has no mask token, or other tokens.
    """

    draft: Any
    k: Annotated[int, Field(ge=1)] = 6
    every: Annotated[int, Field(ge=1)] | None = None
    cells: Annotated[int, Field(ge=1)] | None = None

    def bind(self, run: BindContext) -> Drafter:
        """Open the draft and compare vocabularies; runs neither model."""
        draft = run.open(self.draft)
        if "masked_lm" not in draft.provides or draft.mask is None:
            raise CompositionError(
                f"canvas_draft: the draft {draft.name!r} is no masked language model with a mask token; choose one, or "
                "use speculative for a causal draft"
            )
        if not same_tokens(draft, run.model):
            raise CompositionError(
                f"canvas_draft: the draft {draft.name!r} has other tokens ({draft.vocab}) than the target "
                f"{run.model.name!r} ({run.model.vocab}); choose a draft with the tokenizer of the target"
            )
        reader = draft.reader(run.cost, "draft")
        ahead = Ahead(reader, draft.mask, draft.context, self.every or self.k, self.cells)
        return Drafter(run, ahead, draft.vocab, draft.context, self.k)


class Ahead:
    """A reader of next tokens (:class:`decodekit.core.protocols.Scorer`) that reads several at once from a canvas."""

    def __init__(self, reader: Scorer, mask: int, context: int | None, every: int, cells: int | None) -> None:
        self._reader, self._mask, self._every, self._cells = reader, mask, every, cells
        self._context = torch.iinfo(torch.int64).max if context is None else context
        self._first: Tensor  # [R] position of the first law that is kept
        self._laws: Tensor  # [R, every, V]

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, 1, V] of the tokens AT `at` [R, 1], from the canvas that was read last or a new one."""
        here = at[:, 0]
        asks = here != NONE if only is None else only & (here != NONE)
        fresh = asks & (here == rows.n)  # a chain begins: rows may have moved since the last
        if not bool(fresh.any()):
            fresh = asks & (here - self._first >= self._every)
        if bool(fresh.any()):
            self._lay(rows, here, fresh)
        step = (here - self._first).clamp(0, self._laws.shape[1] - 1)
        return self._laws.gather(1, step[:, None, None].expand(-1, 1, self._laws.shape[2]))

    def _lay(self, rows: Rows, here: Tensor, fresh: Tensor) -> None:
        """Read `every` cells from `here` [R] on, behind the text of the rows that are `fresh` [R]."""
        canvas = imagined(rows, torch.arange(len(rows), device=rows.device))
        limit = rows.limit if self._cells is None else torch.minimum(rows.limit, here + self._cells)
        canvas.limit = torch.minimum(limit.clamp(max=self._context), rows.limit)
        canvas.limit = torch.maximum(canvas.limit, (here + 1).clamp(min=1))
        canvas.reserve(int(canvas.limit.max()))
        place = torch.arange(canvas.tokens.shape[1], device=rows.device)
        canvas.tokens = canvas.tokens.masked_fill(place >= here[:, None], self._mask)
        at = here[:, None] + torch.arange(self._every, device=rows.device)
        at = at.masked_fill((at >= canvas.limit[:, None]) | ~fresh[:, None], NONE)
        laws = self._reader.read(canvas, at, fresh)
        if not hasattr(self, "_laws") or self._laws.shape[0] != len(rows) or bool(fresh.all()):
            self._first, self._laws = here.clone(), laws
            return
        self._first = torch.where(fresh, here, self._first)
        self._laws = torch.where(fresh[:, None, None], laws, self._laws)
