"""Pondering for masked cells: what is undecided is read as a mixture of what it might become."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, ModelError
from decodekit.registry.declaration import plugin

_COLUMN = "soft_masks.mixture"


@plugin(
    role="scorer",
    exactness="approximate",
    requires=("masked_lm", "embeddings"),
    paper="Ma et al. 2025 (dInfer), arXiv 2510.08666, iteration smoothing; mixtures: PonderingLM, arXiv 2505.20674",
)
class SoftMasks:
    """Cells that hold a mask are read as (1 - weight) x mask embedding + weight x expected embedding.

    The expectation is over the model's own prediction for that cell: of the round before (`steps` 0, which costs
    nothing but the mixing), or of `steps` passes made for the purpose in every round.

    A stock model was not trained for this, so more weight is not better: dInfer uses 0.15 to 0.3.

    Args:
        weight: of the expectation; 0 is the model itself.
        steps: extra passes a round. 0 mixes what the last round predicted.
        top_k: mix only so many of the likeliest tokens; None for the whole vocabulary.

    Raises:
        CompositionError: when bound, if the model cannot be read from embeddings.
    """

    weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    steps: Annotated[int, Field(ge=0)] = 0
    top_k: Annotated[int, Field(ge=1)] | None = None

    def bind(self, run: BindContext) -> Softened:
        """Look the embeddings up; runs no model."""
        hf = getattr(run.model, "hf", None)
        if hf is None or run.model.mask is None:
            raise CompositionError(
                f"soft_masks: {run.model.name!r} is no transformers model with a mask token, so its cells cannot be "
                "read from embeddings; load it as one"
            )
        return Softened(self, run, hf)


class Softened:
    """The bound scorer. The mixtures of the last round are a column of the rows, so they follow them."""

    def __init__(self, options: SoftMasks, run: BindContext, hf: Any) -> None:
        self._o, self._hf, self._mask = options, hf, int(run.model.mask or 0)
        self._table = hf.get_input_embeddings()
        self._limit, self._run = run.model.context, run
        config = hf.config.get_text_config()
        self._layers, self._hidden = int(config.num_hidden_layers), int(config.hidden_size)
        self._size = sum(p.numel() for p in hf.parameters()) - self._table.weight.numel()

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V]; see :class:`decodekit.core.protocols.Scorer`.

        Raises:
            ModelError: a canvas is longer than the model's context.
        """
        asks = (at != NONE).any(1) & ~rows.done
        index = (asks if only is None else asks & only).nonzero()[:, 0]
        length = rows.limit[index]
        width = int(length.max())
        if self._limit is not None and width > self._limit:
            raise ModelError(
                f"the canvas has {width} cells and the model at most {self._limit}; shorten the prompt or max_tokens"
            )
        rows.reserve(width)
        ids = rows.tokens[index, :width]
        inside = torch.arange(width, device=ids.device) < length[:, None]
        hidden = (ids == self._mask) & inside
        with torch.inference_mode():
            plain = self._table(ids)  # [B, T, H]
            here = self._carried(rows, index, plain, hidden)
            logits = self._pass(here, inside, length)
            for _ in range(self._o.steps):
                logits = self._pass(self._mixed(plain, self._expected(logits), hidden), inside, length)
            if not self._o.steps:
                self._keep(rows, index, self._expected(logits))
        found = logits.gather(1, at[index].clamp(min=0)[..., None].expand(-1, -1, logits.shape[-1]))
        out = found.new_zeros(len(rows), *found.shape[1:])
        out[index] = found
        return out

    def _pass(self, here: Tensor, inside: Tensor, length: Tensor) -> Tensor:
        """[B, T, V] without the mask token, at least float32."""
        logits = self._hf(inputs_embeds=here, attention_mask=inside.long()).logits
        cost, fed = self._run.cost.model(self._run.label), int(length.sum())
        cost.calls += 1
        cost.fed += fed
        cost.computed += inside.numel()
        cost.layers += fed * self._layers
        cost.flops += 2.0 * self._size * fed + 4.0 * self._layers * self._hidden * float((length**2).sum())
        logits = logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32).clone()
        logits[..., self._mask] = -torch.inf
        return logits  # type: ignore[no-any-return]

    def _expected(self, logits: Tensor) -> Tensor:
        """[B, T, H] expected embedding of each cell."""
        table: Tensor = self._table.weight
        k = self._o.top_k
        if k is None or k >= logits.shape[-1]:
            return logits.softmax(-1).to(table.dtype) @ table[: logits.shape[-1]]
        best = logits.topk(k, -1)
        return (best.values.softmax(-1)[..., None].to(table.dtype) * table[best.indices]).sum(-2)

    def _mixed(self, plain: Tensor, expected: Tensor, where: Tensor) -> Tensor:
        w = self._o.weight
        return torch.where(where[..., None], (1 - w) * plain + w * expected, plain)

    def _carried(self, rows: Rows, index: Tensor, plain: Tensor, hidden: Tensor) -> Tensor:
        """Embeddings [B, T, H] with the mixtures of the round before, if there was one."""
        kept = rows.columns.get(_COLUMN)
        if self._o.steps or kept is None:
            return plain
        width = plain.shape[1]
        old = torch.nn.functional.pad(kept[index], (0, 0, 0, max(0, width - kept.shape[1])))[:, :width]
        known = old.isfinite().all(-1) & (old != 0).any(-1)
        return self._mixed(plain, old.nan_to_num(0.0), hidden & known)

    def _keep(self, rows: Rows, index: Tensor, expected: Tensor) -> None:
        every = expected.new_zeros(len(rows), *expected.shape[1:])
        every[index] = expected
        rows.columns[_COLUMN] = every
