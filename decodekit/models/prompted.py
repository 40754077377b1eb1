"""Another prompt before the same text: a reader that sees what was written after words of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from decodekit.core import trees
from decodekit.core.protocols import Nodes, Scorer
from decodekit.core.rows import NONE, Rows

Exchange = Callable[[list[int]], Sequence[int]]
"""A row's own prompt -> what is read instead; both token ids."""


class Prompted:
    """A scorer that reads another prompt instead of each row's own (:class:`decodekit.core.protocols.Scorer`).

    Wraps a reader of any kind; its caches follow the rows as they always do.

    Args:
        reader: of the model. prompt: token ids for all rows, or a function of each row's own prompt.
    """

    def __init__(self, reader: Scorer, prompt: Sequence[int] | Exchange) -> None:
        self._reader = reader
        self._exchange: Exchange = prompt if callable(prompt) else lambda _: prompt
        self._known: dict[tuple[int, ...], list[int]] = {}

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] logits of the tokens AT `at` [R, K] of the rows, with the prompt exchanged."""
        view = self._view(rows)
        return self._reader.read(view, (at + (view.start - rows.start)[:, None]).masked_fill(at == NONE, NONE), only)

    @property
    def reads_trees(self) -> bool:
        """Whether the reader does."""
        return bool(getattr(self._reader, "reads_trees", False))

    def read_tree(self, rows: Rows, nodes: Nodes, since: int = 0, only: Tensor | None = None) -> Tensor:
        """[R, M, V] laws of a tree, with the prompt exchanged; see :func:`decodekit.core.trees.read`."""
        view = self._view(rows)
        base = torch.where(nodes.base == NONE, NONE, nodes.base + view.start - rows.start)
        return trees.read(self._reader, view, replace(nodes, base=base), since, only)

    def _view(self, rows: Rows) -> _View:
        return _View(rows, [self._prompt(rows, r, length) for r, length in enumerate(rows.start.tolist())])

    def _prompt(self, rows: Rows, row: int, length: int) -> list[int]:
        own = tuple(rows.tokens[row, :length].tolist())
        if own not in self._known:
            self._known[own] = list(self._exchange(list(own)))
        return self._known[own]


class _View(Rows):
    """Rows with other prompts, for reading only."""

    def __init__(self, rows: Rows, prompts: Sequence[Sequence[int]]) -> None:
        start = torch.tensor([len(prompt) for prompt in prompts], device=rows.device)  # [R]
        shift = start - rows.start
        width = rows.tokens.shape[1]
        length = max(0, int(shift.max())) + width
        column = torch.arange(length, device=rows.device)
        source = (column - shift[:, None]).clamp(min=0, max=width - 1)  # [R, T'] where a token stands in the rows
        tokens = rows.tokens.gather(1, source)
        for r, prompt in enumerate(prompts):
            tokens[r, : len(prompt)] = torch.as_tensor(prompt, device=rows.device)
        self.tokens = tokens
        self.n, self.start = rows.n + shift, start
        self.limit, self.done, self.moves = rows.limit + shift, rows.done, rows.moves
