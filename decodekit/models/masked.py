"""A masked language model as a reader of rows: what stands at open cells, given everything around them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from decodekit.cost import Cost
from decodekit.errors import ModelError
from decodekit.rows import NONE, Rows


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
        """[R, K, V]; see :class:`decodekit.roles.Scorer`. The mask token itself is never predicted.

        Raises:
            ModelError: a canvas is longer than the model's context.
        """
        asks = (at != NONE).any(1) & ~rows.done
        asks = asks if only is None else asks & only
        index = asks.nonzero()[:, 0]  # [B] rows that are read
        length = rows.limit[index]
        logits = self._forward(rows.tokens[index], length, at[index].clamp(min=0))  # [B, K, V]
        if self._mask is not None:
            logits[..., self._mask] = -torch.inf
        if len(index) == len(rows):
            return logits
        out = logits.new_zeros(len(rows), *logits.shape[1:])
        out[index] = logits
        return out

    def told(self, rows: Rows, at: Tensor) -> dict[str, Tensor]:
        """For the trace: `layers` [R, K] that ran for the tokens AT `at`."""
        return {"layers": torch.full_like(at, self._layers)}

    def _forward(self, tokens: Tensor, length: Tensor, at: Tensor) -> Tensor:
        widest = int(length.max())
        if self._limit is not None and widest > self._limit:
            raise ModelError(
                f"the canvas has {widest} cells and the model at most {self._limit}; shorten the prompt or max_tokens"
            )
        ids = tokens[:, :widest]
        if ids.shape[1] < widest:  # cells that nobody has written yet cannot be asked for, only seen
            ids = torch.nn.functional.pad(ids, (0, widest - ids.shape[1]))
        inside = torch.arange(widest, device=ids.device) < length[:, None]  # [B, T]
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=inside.long()).logits
            logits = logits.gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))
        self._bill(length, len(ids) * widest)
        out = torch.float64 if logits.dtype == torch.float64 else torch.float32
        return logits.to(out).clone()  # type: ignore[no-any-return]

    def _bill(self, length: Tensor, computed: int) -> None:
        """Flops = 2 x parameters (without input embeddings) per cell + 4 x layers x hidden x cells per cell."""
        cost, fed = self._cost.model(self._label), int(length.sum())
        cost.calls += 1
        cost.fed += fed
        cost.computed += computed
        cost.layers += fed * self._layers
        cost.flops += 2.0 * self._size * fed + 4.0 * self._layers * self._hidden * float((length**2).sum())
