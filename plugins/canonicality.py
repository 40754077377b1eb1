"""Tells where a text leaves the spelling in tokens that its tokenizer would give it."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Round
from decodekit.core.rows import Rows
from decodekit.errors import CompositionError, ConstraintError
from decodekit.registry.declaration import plugin
from decodekit.text.canonical import Canonicality, canonicality_of


@plugin(role="observer", exactness="exact")
class CanonicalityObserver:
    """Puts into the trace, under "not canonical at", the position of the first token of each finished text with which
    it is no longer what the tokenizer writes, and under "other tokens at" the position of every token that is not in
    what the tokenizer writes for the whole text; texts that are canonical throughout tell nothing.

    Constraints, drafts and prompts that end within a word make such texts. `canonical()` forbids them.

    Raises:
        CompositionError: when bound, a tokenizer that is not fast, or not made by byte-pair encoding.
    """

    def bind(self, run: BindContext) -> _Observer:
        """The verdicts of the model's tokenizer."""
        try:
            verdicts = canonicality_of(run.model.tokenizer)
        except ConstraintError as problem:
            raise CompositionError(f"canonicality: {problem}") from problem
        return _Observer(verdicts, run.eos)


class _Observer:
    def __init__(self, verdicts: Canonicality, eos: tuple[int, ...]) -> None:
        self._verdicts, self._eos = verdicts, set(eos)

    def round(self, what: Round) -> None:
        """Look at the rows that this round finished."""
        rows = what.rows
        for r in what.ended.nonzero()[:, 0].tolist():
            start = int(rows.start[r])
            tokens = [token for token in rows.text(r)[start:] if token not in self._eos]
            found = self._verdicts.so_far(tokens)
            if False in found:
                at = torch.tensor([start + found.index(False)], dtype=torch.float64, device=rows.device)
                rows.tell("not canonical at", rows.group[r : r + 1], rows.sample[r : r + 1], at)
                other = [start + i for i, same in enumerate(self._verdicts.written(tokens)) if not same]
                where = torch.full((len(other),), r, device=rows.device)
                places = torch.tensor(other, dtype=torch.float64, device=rows.device)
                rows.tell("other tokens at", rows.group[where], rows.sample[where], places)

    def moved(self, rows: Rows, index: Tensor) -> None:
        """Nothing is held."""
