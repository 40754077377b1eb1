"""Pondering: before a token is predicted, its position is read again with a mixture of what might come next."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.cost import ModelCost
from decodekit.core.protocols import Scorer
from decodekit.errors import CompositionError
from decodekit.models.forward import Forward
from decodekit.models.slab import Slabs
from decodekit.registry.declaration import plugin


@plugin(
    role="scorer",
    exactness="exact",
    requires=("causal_lm", "embeddings"),
    paper="PonderingLM, arXiv 2505.20674, section 2 (residual sum of ponder embeddings)",
)
class Pondering:
    """Logits after `steps` rounds of pondering: e_{s+1} = e_s + softmax(logits of e_s / temperature) E.

    e_0 are the embeddings of the text, E is the embedding table, and every pass reads all positions. Each of the
    `steps` + 1 passes has a KV cache of its own, in which pass s of a token sees pass s of those before it, so that
    decoding token by token equals full recomputation. With 0 steps it is the model itself. Everything else (warpers,
    constraints, speculation, populations) sees the last pass only.

    A stock model was not trained for this: use one that was, or expect worse text. `exactness` means that nothing else
    changes the law that pondering defines.

    Args:
        steps: extra passes for every token; compute and cache grow by steps + 1.
        top_k: mix only so many of the likeliest tokens; None for the whole vocabulary.
        temperature: of the mixture.
        scale: "sqrt" multiplies all embeddings by the square root of their width, as checkpoints in the authors' layout
            need (those that were trained with scaled embeddings; a GPT-NeoX folder with one stray weight loads as it
            is); "none" takes them as the model does.
        multiply: whether e_0 also is multiplied by `steps`, the authors' switch for large models.
        residual: "accumulate" adds each mixture to all before it; "replace" adds only the latest to e_0, as the
            authors' Llama code does.

    Raises:
        CompositionError: when bound, if the model cannot be read from embeddings.
    """

    steps: Annotated[int, Field(ge=0)] = 3
    top_k: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(gt=0)] = 1.0
    residual: Literal["accumulate", "replace"] = "accumulate"
    scale: Literal["none", "sqrt"] = "none"
    multiply: bool = False

    def bind(self, run: BindContext) -> Scorer:
        """A reader of the run's model with steps + 1 passes."""
        reading = getattr(run.model, "reading", None)
        if reading is None:
            raise CompositionError(
                f"pondering reads from embeddings, and {run.model.name} is no transformers model; load it as one"
            )
        reader: Scorer = reading(partial(Passes, self), run.cost, run.label)
        return reader


class Passes(Forward):
    """One forward pass per step, each over its own cache."""

    widest = 256  # the passes before the last need the logits of every column

    def __init__(self, options: Pondering, model: Any, name: str, context: int | None) -> None:
        super().__init__(model, name, context)
        self._options = options
        self.depth = self.layers * (options.steps + 1)
        self._embed = model.get_input_embeddings()
        self._more = self.hidden**0.5 if options.scale == "sqrt" else 1.0
        # Some tables scale what they look up themselves.
        self._scale = float(getattr(self._embed, "scalar_embed_scale", 1.0)) * self._more
        self._first = self._more * (options.steps if options.multiply and options.steps else 1)

    def cache(self) -> Caches:
        """One for each pass."""
        return Caches(self._options.steps + 1)

    def through(self, given: dict[str, Tensor], position: Tensor, mask: Any, cache: Any, wanted: int) -> Tensor:
        """Logits [B, wanted, V] of the last pass."""
        first = here = self._embed(given["input_ids"]) * self._first  # [B, F, H]
        caches = [None] * self._options.steps if cache is None else cache.each
        for one in caches[: self._options.steps]:
            logits = super().through({"inputs_embeds": here}, position, mask, one, here.shape[1])  # [B, F, V]
            here = (here if self._options.residual == "accumulate" else first) + self._mixture(logits)
        last = None if cache is None else cache.each[-1]
        return super().through({"inputs_embeds": here}, position, mask, last, wanted)

    def _mixture(self, logits: Tensor) -> Tensor:
        """[B, F, H] expected embedding under softmax(logits / temperature)."""
        logits, k = logits / self._options.temperature, self._options.top_k
        table: Tensor = self._embed.weight
        if k is None or k >= logits.shape[-1]:
            return logits.softmax(-1).to(table.dtype) @ table[: logits.shape[-1]] * self._scale
        best = logits.topk(k, -1)
        return (best.values.softmax(-1)[..., None].to(table.dtype) * table[best.indices]).sum(-2) * self._scale

    @torch.inference_mode()
    def alone(self, tokens: Tensor) -> Tensor:
        """Logits [1, T, V] of a whole text [1, T], without any cache."""
        here = torch.arange(tokens.shape[1], device=tokens.device)[None]
        return self.through({"input_ids": tokens}, here, None, None, tokens.shape[1])

    def bill(
        self, cost: ModelCost, spans: Sequence[tuple[int, int]], computed: int, columns: int, share: float = 1.0
    ) -> None:
        """Count every pass; those before the last read the head at each column, and mix."""
        fed, calls = cost.fed, cost.calls
        super().bill(cost, spans, computed, columns, share)
        new = cost.fed - fed
        for _ in range(self._options.steps):
            super().bill(cost, spans, computed, 0, share)
            cost.flops += 4.0 * self.hidden * self.vocab * new
        cost.fed, cost.calls = fed + new, calls + 1  # tokens and readings of the text are counted once


class Caches(Slabs):
    """Several caches that do the same: all follow the same rows."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.each = [Slabs() for _ in range(count)]

    def aim(self, rows: Tensor | None, count: int, at: Tensor | int, width: int, upto: int) -> None:
        """Aim all of them."""
        for one in self.each:
            one.aim(rows, count, at, width, upto)

    def reserve(self, count: int) -> None:
        """Room in all of them."""
        for one in self.each:
            one.reserve(count)

    def copy(self, source: int, target: int, upto: int) -> None:
        """Copy in all of them."""
        for one in self.each:
            one.copy(source, target, upto)

    def move(self, rows: Tensor, source: Tensor, target: Tensor) -> None:
        """Move in all of them."""
        for one in self.each:
            one.move(rows, source, target)
