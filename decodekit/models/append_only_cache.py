"""The fallback cache: a stock `DynamicCache`, only ever appended to; what is stale stays in it as a masked hole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from decodekit.core.cost import Cost
from decodekit.core.rows import Rows
from decodekit.models.cached_scorer import CachedReader
from decodekit.models.forward import Forward


class HolesReader(CachedReader):
    """A reader over the public interface of transformers' caches: for models whose cache layers we cannot replace.

    Each key knows its position and whether it still counts; queries see live keys at positions up to their own. When
    less than half of the keys count, the others are dropped.
    """

    def __init__(self, forward: Forward, cost: Cost, label: str) -> None:
        super().__init__(forward, cost, label)
        self._cache = DynamicCache()  # without a config: sliding layers must not evict keys
        self._slot: Tensor | None = None  # [R, S] position of each key
        self._live: Tensor  # [R, S] whether it counts

    @torch.inference_mode()
    def fork(self, index: Tensor) -> None:
        """Gather every row of the cache."""
        if self._slot is not None:
            self._cache.batch_select_indices(index)
            self._slot, self._live = self._slot[index], self._live[index]

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> Tensor:
        """Append what is new, right-aligned; [R, C, V] after the last C columns."""
        logits = self._append(rows, keep, upto, only)  # of inference mode, which it must not leave
        return logits if torch.is_inference_mode_enabled() else logits.clone()

    @torch.inference_mode()
    def _append(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> Tensor:
        if self._slot is None:
            self._slot = torch.zeros(len(rows), 0, dtype=torch.int64, device=rows.device)
            self._live = self._slot.bool()
        width = int((upto - keep).masked_fill(~only, 0).max())
        if not width:
            return self._nothing(rows)
        column = torch.arange(width, device=rows.device)
        at = upto[:, None] - width + column  # [R, F]; what lies before `keep` is padding here
        new = only[:, None] & (at >= keep[:, None])
        at = at.clamp(min=0)
        stale = only[:, None] & (self._slot >= keep[:, None])
        live = torch.cat([self._live & ~stale, new], 1)
        slot = torch.cat([self._slot, at], 1)  # [R, S]
        logits = self._forward.holes(rows.tokens, at, slot, live, self._cache, min(width, self._columns))
        self._slot, self._live = slot, live
        spans = torch.stack([keep, upto], 1)[only].tolist()
        self._forward.bill(self._cost.model(self._label), spans, len(rows) * width, self._columns)
        self._compact()
        return torch.nn.functional.pad(logits, (0, 0, self._columns - logits.shape[1], 0))

    def _compact(self) -> None:
        """Move the keys that count to the front and cut the cache, once half of it is holes."""
        assert self._slot is not None
        most = int(self._live.sum(1).max())
        if 2 * most > self._live.shape[1] or self._live.shape[1] < 64:
            return
        order = (~self._live).to(torch.uint8).sort(dim=1, stable=True).indices[:, :most]  # [R, most]
        self._slot, self._live = self._slot.gather(1, order), self._live.gather(1, order)
        for layer in self._cache.layers:
            layer.keys, layer.values = _take(layer.keys, order), _take(layer.values, order)


def _take(states: Any, order: Tensor) -> Any:
    return states.gather(2, order[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]))
