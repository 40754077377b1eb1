"""What readers with a cache share: from positions that are asked for to tokens that must be absorbed."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.follower import Follower
from decodekit.core.rows import NONE, Rows
from decodekit.models.forward import Forward


class CachedReader(Follower):
    """A scorer that follows the rows; `feed` returns [R, C, V], the logits after the last C tokens of each row.

    C is `_columns`: as many as the row that asks for the widest span of positions needs.
    """

    def __init__(self, forward: Forward, cost: Cost, label: str) -> None:
        super().__init__()
        self._forward, self._cost, self._label = forward, cost, label
        self._columns = 1

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] logits of the tokens AT `at` [R, K]; see :class:`decodekit.core.protocols.Scorer`.

        Raises:
            ModelError: a position lies beyond the model's context.
        """
        upto = at.amax(1)  # [R]; the token AT p is predicted from the p tokens before it
        asks = (upto != NONE) & ~rows.done
        if only is not None:
            asks = asks & only
        first = at.masked_fill(at == NONE, torch.iinfo(at.dtype).max).amin(1) if at.shape[1] > 1 else upto
        self._columns = int((upto - first).masked_fill(~asks, 0).max()) + 1 if at.shape[1] > 1 else 1
        out = self.sync(rows, upto, first - 1, asks)  # [R, C, V], the last C columns of each row
        assert isinstance(out, Tensor)
        if self._columns == 1:
            return out if at.shape[1] == 1 else out.expand(-1, at.shape[1], -1)
        column = (at - upto[:, None] + self._columns - 1).clamp(min=0)  # [R, K]
        return out.gather(1, column[..., None].expand(-1, -1, out.shape[-1]))

    def told(self, rows: Rows, at: Tensor) -> dict[str, Tensor]:
        """For the trace: `layers` [R, K] that ran for the tokens AT `at`."""
        return {"layers": torch.full_like(at, self._forward.depth)}

    def _nothing(self, rows: Rows) -> Tensor:
        """[R, C, V] for rows of which none was read."""
        shape = len(rows), self._columns, self._forward.vocab
        return torch.zeros(shape, dtype=self._forward.out, device=rows.device)
