"""The KV cache: preallocated slabs in which the slot of a token is its position.

What is stale lies past the query's position and is masked by that alone, so rolling back costs nothing, and a row is
appended to, overwritten or copied without any bookkeeping of holes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

FIRST = 64  # slots of the smallest slab


class Slabs(Cache):  # type: ignore[misc]
    """A cache of transformers whose layers are slabs [S, H, T, D]: S physical rows, T slots, grown geometrically.

    Before a forward pass :meth:`aim` says which rows it computes and where they write. The first pass makes the layers.
    """

    def __init__(self) -> None:
        self.shape = (0, 0)  # S, T that every layer has or will have at its next update
        self.rows: Tensor | None = None
        self.count = self.upto = self.width = 0
        self.at: Tensor | int = 0
        super().__init__(layer_class_to_replicate=lambda: SlabLayer(self))

    def aim(self, rows: Tensor | None, count: int, at: Tensor | int, width: int, upto: int) -> None:
        """The next pass computes physical `rows` [B] (None: 0..B-1), B = `count`, `width` = F positions each.

        at: positions [B, F], or the first one if all rows write the same. upto: slots that attention looks at.
        """
        self.rows, self.count, self.at, self.width, self.upto = rows, count, at, width, upto
        have_rows, have = self.shape
        if upto > have:
            have = max(FIRST, upto, have + have // 2)
        self.shape = (max(have_rows, count if rows is None else int(rows.max()) + 1), have)

    def reserve(self, count: int) -> None:
        """`count` physical rows will be needed: the next copy makes room for all of them, and not one by one."""
        self.shape = (max(self.shape[0], count), self.shape[1])

    def copy(self, source: int, target: int, upto: int) -> None:
        """The first `upto` slots of physical row `target` become those of `source`."""
        self.shape = (max(self.shape[0], target + 1), self.shape[1])
        for layer in self.layers:
            layer.copy(source, target, upto)

    def move(self, rows: Tensor, source: Tensor, target: Tensor) -> None:
        """In physical `rows` [B], slots `target` [B, M] become what slots `source` [B, M] hold."""
        for layer in self.layers:
            layer.move(rows, source, target)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before those of this pass, as models ask when all rows have the same number."""
        return self.upto - self.width

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """The same, as mask builders ask."""
        return self.upto - self.width


class SlabLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer."""

    is_sliding = False

    def __init__(self, slabs: Slabs) -> None:
        super().__init__()
        self.slabs = slabs

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Empty slabs; :meth:`_fit` makes room."""
        self.keys, self.values = (x.new_empty(0, x.shape[1], 0, x.shape[3]) for x in (key_states, value_states))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write [B, H, F, D] where the pass was aimed, and return what it attends to: [B, H, upto, D]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if (self.keys.shape[0], self.keys.shape[2]) != self.slabs.shape:
            self.keys, self.values = self._fit(self.keys, key_states), self._fit(self.values, value_states)
        return self._put(self.keys, key_states), self._put(self.values, value_states)

    def _fit(self, old: Tensor, like: Tensor) -> Tensor:
        rows, length = self.slabs.shape
        # Zeros, not garbage: a slot that was never written is masked, but 0 x NaN would still be NaN.
        new = like.new_zeros(rows, like.shape[1], length, like.shape[3])
        new[: old.shape[0], :, : old.shape[2]] = old
        return new

    def _put(self, slab: Tensor, new: Tensor) -> Tensor:
        s = self.slabs
        if isinstance(s.at, int):
            if s.rows is None:
                slab[: s.count, :, s.at : s.at + s.width] = new
            else:
                slab[s.rows, :, s.at : s.at + s.width] = new
        else:
            rows = torch.arange(s.count, device=new.device) if s.rows is None else s.rows
            slab[rows[:, None], :, s.at] = new.transpose(1, 2)  # advanced indices first: [B, F, H, D]
        return slab[: s.count, :, : s.upto] if s.rows is None else slab[s.rows, :, : s.upto]

    @torch.inference_mode()
    def copy(self, source: int, target: int, upto: int) -> None:
        """Copy the first `upto` slots of a physical row."""
        if not self.is_initialized:
            return
        if target >= self.keys.shape[0]:
            self.keys, self.values = self._fit(self.keys, self.keys), self._fit(self.values, self.values)
        self.keys[target, :, :upto] = self.keys[source, :, :upto]
        self.values[target, :, :upto] = self.values[source, :, :upto]

    @torch.inference_mode()
    def move(self, rows: Tensor, source: Tensor, target: Tensor) -> None:
        """As :meth:`Slabs.move`."""
        if self.is_initialized:
            for slab in (self.keys, self.values):
                slab[rows[:, None], :, target] = slab[rows[:, None], :, source]  # gathered before it is written

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(slots attended to, offset of the first)."""
        return self.slabs.upto, 0

    def get_seq_length(self) -> int:
        """Tokens before those of this pass."""
        return self.slabs.get_seq_length()

    def get_max_length(self) -> int:
        """No maximum."""
        return -1
