"""A masked language model as a reader of rows: what stands at open cells, given everything around them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.errors import ModelError
from decodekit.models.full_attention import Full
from decodekit.models.leave_one_out import leave_one_out


class MaskedReader:
    """One bidirectional forward pass per read, without a cache: every cell depends on every other.

    A row sees its own canvas, from the start of its prompt to its limit, and nothing of the batch it is in.
    """

    def __init__(self, model: Any, mask: int | None, cost: Cost, label: str) -> None:
        self._model, self._mask = model, mask
        self._cost, self._label = cost, label
        config = model.config.get_text_config()
        self._layers, self._hidden = int(config.num_hidden_layers), int(config.hidden_size)
        self._limit = getattr(config, "max_position_embeddings", None)
        self._size = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V]; see :class:`decodekit.core.protocols.Scorer`. The mask token itself is never predicted.

        Raises:
            ModelError: a canvas is longer than the model's context.
        """
        asks = (at != NONE).any(1) & ~rows.done
        asks = asks if only is None else asks & only
        index = asks.nonzero()[:, 0]  # [B] rows that are read
        length = rows.limit[index]
        logits = self._forward(rows.tokens[index], length, at[index].clamp(min=0))  # [B, K, V]
        return self._placed(logits, index, len(rows))

    def shadowed(self, rows: Rows, at: Tensor, check: Tensor) -> Tensor:
        """[R, K, V] of cells `at` [R, K], those to `check` [R, K] each without itself, in one forward pass.

        Every cell of `at` has a shadow: a mask token at its position that sees the other shadows and all cells but its
        own, and that no cell sees (WINO, arXiv 2507.18578). Models that take no mask of ours read canvases instead.

        Raises:
            ModelError: a canvas is longer than the model's context.
        """
        model = self._model
        if not isinstance(model, Full) or model.shift or model.block is not None or not bool(check.any()):
            return leave_one_out(self, rows, at, check, int(self._mask or 0))
        index = ((at != NONE).any(1) & ~rows.done).nonzero()[:, 0]
        ids, inside = self._laid(rows.tokens[index], rows.limit[index])  # [B, T]
        place, here = torch.arange(ids.shape[1], device=ids.device).expand_as(ids), at[index].clamp(min=0)
        shade = at[index] != NONE  # [B, K]
        keys, width = torch.cat([inside, shade], 1), ids.shape[1]
        see = keys[:, None].expand(-1, keys.shape[1], -1).clone()  # [B, T + K, T + K]
        see[:, :width, width:] = False
        see[:, width:, :width] &= place[:, None] != here[..., None]
        both = torch.cat([ids, torch.full_like(here, int(self._mask or 0))], 1)
        with torch.inference_mode():
            logits = model.through(both, torch.cat([place, here], 1), see[:, None], None)
        self._bill(inside.sum(1) + shade.sum(1), both.numel())
        from_cell = torch.where(check[index], width + torch.arange(here.shape[1], device=ids.device), here)
        found = logits.gather(1, from_cell[..., None].expand(-1, -1, logits.shape[-1]))
        return self._placed(found, index, len(rows))

    def told(self, rows: Rows, at: Tensor) -> dict[str, Tensor]:
        """For the trace: `layers` [R, K] that ran for the tokens AT `at`."""
        return {"layers": torch.full_like(at, self._layers)}

    def _forward(self, tokens: Tensor, length: Tensor, at: Tensor) -> Tensor:
        ids, inside = self._laid(tokens, length)
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=inside.long()).logits
            logits = logits.gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))
        self._bill(length, ids.numel())
        return logits  # type: ignore[no-any-return]

    def _laid(self, tokens: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """(ids [B, T], which of them belong to their row [B, T])."""
        widest = int(length.max())
        if self._limit is not None and widest > self._limit:
            raise ModelError(
                f"the canvas has {widest} cells and the model at most {self._limit}; shorten the prompt or max_tokens"
            )
        ids = tokens[:, :widest]
        if ids.shape[1] < widest:  # cells that nobody has written yet cannot be asked for, only seen
            ids = torch.nn.functional.pad(ids, (0, widest - ids.shape[1]))
        return ids, torch.arange(widest, device=ids.device) < length[:, None]

    def _placed(self, logits: Tensor, index: Tensor, rows: int) -> Tensor:
        """[R, K, V] from those of the rows `index` that were read, without the mask token."""
        out = logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32).clone()
        if self._mask is not None:
            out[..., self._mask] = -torch.inf
        if len(index) == rows:
            return out
        every = out.new_zeros(rows, *out.shape[1:])
        every[index] = out
        return every

    def _bill(self, length: Tensor, computed: int) -> None:
        """Flops = 2 x parameters (without input embeddings) per cell + 4 x layers x hidden x cells per cell."""
        cost, fed = self._cost.model(self._label), int(length.sum())
        cost.calls += 1
        cost.fed += fed
        cost.computed += computed
        cost.layers += fed * self._layers
        cost.flops += 2.0 * self._size * fed + 4.0 * self._layers * self._hidden * float((length**2).sum())
