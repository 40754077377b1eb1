"""The reference reader: no cache, one plain forward pass per row. Slow, and right by inspection."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.models.forward import Forward


class PlainReader:
    """Reads every row alone and from its beginning, each time: the truth that caches are compared with.

    Also the last resort for a model whose cache behaves unlike all that we know.
    """

    def __init__(self, forward: Forward, cost: Cost, label: str) -> None:
        self._forward, self._cost, self._label = forward, cost, label

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V]; see :class:`decodekit.core.protocols.Scorer`."""
        out = torch.zeros(*at.shape, self._forward.vocab, dtype=self._forward.out, device=rows.device)
        cost = self._cost.model(self._label)
        for r in range(len(rows)):
            wanted = (at[r] != NONE).nonzero()[:, 0]
            if not len(wanted) or bool(rows.done[r]) or (only is not None and not bool(only[r])):
                continue
            upto = int(at[r].max())
            logits = self._forward.alone(rows.tokens[r : r + 1, :upto])  # [1, T, V]
            out[r, wanted] = logits[0, at[r, wanted] - 1]
            self._forward.bill(cost, [(0, upto)], upto, len(wanted))
        return out
