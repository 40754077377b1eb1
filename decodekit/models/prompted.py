"""Another prompt before the same text: a reader that sees what was written after words of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from decodekit.roles import Scorer
from decodekit.rows import NONE, Rows


class Prompted:
    """A scorer that reads `prompt` instead of each row's own prompt (:class:`decodekit.roles.Scorer`).

    Wraps a reader of any kind; its caches follow the rows as they always do.
    """

    def __init__(self, reader: Scorer, prompt: Sequence[int]) -> None:
        self._reader, self._prompt = reader, list(prompt)

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] logits of the tokens AT `at` [R, K] of the rows, with the prompt exchanged."""
        shift = len(self._prompt) - rows.start  # [R]
        view = _View(rows, self._prompt, shift)
        return self._reader.read(view, (at + shift[:, None]).masked_fill(at == NONE, NONE), only)


class _View(Rows):
    """Rows with another prompt, for reading only."""

    def __init__(self, rows: Rows, prompt: Sequence[int], shift: Tensor) -> None:
        width = rows.tokens.shape[1]
        length = max(0, int(shift.max())) + width
        column = torch.arange(length, device=rows.device)
        source = (column - shift[:, None]).clamp(min=0, max=width - 1)  # [R, T'] where a token stands in the rows
        tokens = rows.tokens.gather(1, source)
        tokens[:, : len(prompt)] = torch.as_tensor(prompt, device=rows.device)
        self.tokens = tokens
        self.n, self.start = rows.n + shift, rows.start + shift
        self.limit, self.done, self.moves = rows.limit + shift, rows.done, rows.moves
