"""One forward pass of a stock Hugging Face causal LM with positions, mask and cache that we own."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from decodekit.core.cost import ModelCost
from decodekit.models.masks import Masks
from decodekit.models.slab import Slabs


class Forward:
    """Callable: tokens, positions and an aimed cache -> logits. Knows nothing about rows.

    widest: most columns of one pass; it bounds the memory of a prefill.
    """

    widest = 2048

    def __init__(self, model: Any, name: str, context: int | None) -> None:
        self.model, self.name, self.context = model, name, context
        self.masks = Masks.of(model)
        config = model.config.get_text_config()
        self.vocab = int(model.get_output_embeddings().weight.shape[0])
        self.layers = int(config.num_hidden_layers)
        self.hidden = int(config.hidden_size)
        self.depth = self.layers  # that a token goes through
        self.device = model.get_input_embeddings().weight.device
        self.dtype = model.get_input_embeddings().weight.dtype
        self.out = torch.float64 if self.dtype == torch.float64 else torch.float32
        self._counted = torch.arange(256, device=self.device)[None]  # [1, 256], grows
        takes = inspect.signature(type(model).forward).parameters
        self._keeps, self._positions = "logits_to_keep" in takes, "position_ids" in takes
        own = set(map(id, (*model.get_input_embeddings().parameters(), *model.get_output_embeddings().parameters())))
        self._body = sum(p.numel() for p in model.parameters() if id(p) not in own)

    def __call__(self, tokens: Tensor, at: Tensor | int, width: int, upto: int, cache: Any, wanted: int) -> Tensor:
        """Logits [B, wanted, V] after the last `wanted` of `width` columns.

        tokens: [B, T]. at: [B, F] positions to read, or the first of F that all rows read. upto: keys to look at.
        """
        # Inference mode is worth a few percent of a small model's step; its tensors must not leave it, hence the clone.
        logits = self._pass(tokens, at, width, upto, cache, wanted)
        return logits if torch.is_inference_mode_enabled() else logits.clone()

    @torch.inference_mode()
    def _pass(self, tokens: Tensor, at: Tensor | int, width: int, upto: int, cache: Any, wanted: int) -> Tensor:
        ids = tokens[:, at : at + width] if isinstance(at, int) else tokens.gather(1, at)
        position, mask = self.seen(at, width, upto)
        return self.through({"input_ids": ids}, position, mask, cache, max(1, wanted))

    @property
    def branches(self) -> bool:
        """Whether it can read tokens whose position is not their place in the cache."""
        return self._positions

    @torch.inference_mode()
    def tree(self, ids: Tensor, position: Tensor, keys: Tensor, see: Tensor, cache: Any, wanted: int) -> Tensor:
        """Logits [B, wanted, V] after the last columns of `ids` [B, F] at `position` [B, F], which see the keys `see`
        [B, F, T] of those at positions `keys` [B, T].
        """
        mask = self.masks.build(position, keys, None, self.dtype, tree=see)
        return self.through({"input_ids": ids}, position, mask, cache, wanted)

    def seen(self, at: Tensor | int, width: int, upto: int) -> tuple[Tensor, Any]:
        """(positions [B or 1, F], the mask over the first `upto` keys or None where the model's own is right)."""
        if not isinstance(at, int):
            return at, self._mask(at, upto)
        position = self._positions_to(at + width)[:, at:]  # [1, F]
        # One new token, or a whole text from its start: the model's own causal mask is right, and cheapest.
        return position, self._mask(position, upto) if width > 1 and at > 0 else None

    def through(self, given: dict[str, Tensor], position: Tensor, mask: Any, cache: Any, wanted: int) -> Tensor:
        """Logits [B, wanted, V] of one pass over `given` (`input_ids` [B, F] or `inputs_embeds` [B, F, H])."""
        (first,) = given.values()
        extra: dict[str, Any] = {"logits_to_keep": wanted} if self._keeps else {}
        if self._positions:
            extra["position_ids"] = position.expand(first.shape[0], -1)
        out = self.model(**given, attention_mask=mask, past_key_values=cache, use_cache=True, **extra)
        logits: Tensor = out.logits
        return logits[:, -wanted:].to(self.out)

    def cache(self) -> Slabs:
        """An empty cache for a reader of this."""
        return Slabs()

    @torch.inference_mode()
    def alone(self, tokens: Tensor) -> Tensor:
        """Logits [1, T, V] of a whole text [1, T], by the model's own plain forward pass without any cache."""
        logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits.to(self.out)

    @torch.inference_mode()
    def holes(self, tokens: Tensor, at: Tensor, slot: Tensor, live: Tensor, cache: Any, wanted: int) -> Tensor:
        """Logits [R, wanted, V] of the tokens at positions `at` [R, F], appended to a cache whose keys stand at `slot`.

        slot, live: [R, S], the new keys included. A query that sees no live key (padding) sees its own.
        """
        own = torch.zeros_like(live)
        own[:, -at.shape[1] :] = True
        mask = self.masks.build(at, slot, live, self.dtype, own)
        extra: dict[str, Any] = {"logits_to_keep": wanted} if self._keeps else {}
        if self._positions:
            extra["position_ids"] = at
        ids = tokens.gather(1, at)
        logits: Tensor = self.model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra
        ).logits
        return logits[:, -wanted:].to(self.out)

    def _mask(self, position: Tensor, upto: int) -> Any:
        return self.masks.build(position, self._positions_to(upto)[0], None, self.dtype)

    def _positions_to(self, end: int) -> Tensor:
        """[1, end], made once: a round of a small model has no time to count."""
        if self._counted.shape[1] < end:
            self._counted = torch.arange(2 * end, device=self.device)[None]
        return self._counted[:, :end]

    def bill(
        self, cost: ModelCost, spans: Sequence[tuple[int, int]], computed: int, columns: int, share: float = 1.0
    ) -> None:
        """Count one pass that absorbed the tokens [keep, upto) of each row through a `share` of the layers.

        flops = 2 x parameters (without embeddings) per token + 2 x hidden x V per wanted column + 4 x layers x hidden x
        keys per token (scores and mix of attention).
        """
        fed = sum(upto - keep for keep, upto in spans)
        cost.calls += 1
        cost.fed += fed
        cost.computed += computed
        cost.layers += round(fed * self.layers * share)
        keys = sum((upto * (upto + 1) - keep * (keep + 1)) / 2 for keep, upto in spans)
        head = 2.0 * self.hidden * self.vocab * columns * len(spans)
        cost.flops += share * (2.0 * self._body * fed + 4.0 * self.layers * self.hidden * keys) + head
