"""Masked models read through a KV cache: what stands is not read again, exactly or not.

`prefix` and `dual` (Fast-dLLM, arXiv 2505.22618) read the whole canvas when a block is begun and then only the block,
with (`prefix`) or without (`dual`) what follows it: all other cells keep the keys and values of that reading, though
they would have changed, since every cell sees every other. `block` is for models whose cells see no later block: there
nothing else would have changed, and the cache is exact.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.errors import ModelError
from decodekit.models.cache_rows import Places
from decodekit.models.full_attention import Full
from decodekit.models.slab import Slabs

Kind = Literal["prefix", "dual", "block"]
_EMPTY: Final = (0, 0)


class CanvasReader:
    """A scorer (:class:`decodekit.core.protocols.Scorer`) that follows the rows by itself.

    kind: see the module. refresh: read the whole canvas again after so many rounds of a block; None for never.
    audit: read every round without the cache as well, and tell the trace by how much it differs: `cache.kl`, the mean
    over cells of KL(exact || cached) in nats, and `cache.flips`, the share of cells whose best token is another.
    """

    follows = True
    """It keeps a cache of each row's canvas: canvases that are not the rows' cannot be read through it."""

    def __init__(
        self, full: Full, mask: int, cost: Cost, label: str, kind: Kind, refresh: int | None = None, audit: bool = False
    ) -> None:
        self._full, self._mask, self._cost, self._label, self._kind = full, mask, cost, label, kind
        self._refresh, self._audit = refresh, audit
        config = full.config.get_text_config()
        self._layers, self._hidden = int(config.num_hidden_layers), int(config.hidden_size)
        self._limit = getattr(config, "max_position_embeddings", None)
        own = {id(p) for p in full.get_input_embeddings().parameters()}
        self._size = sum(p.numel() for p in full.parameters() if id(p) not in own)
        self._slabs = Slabs()
        self._places = Places(self._slabs.copy)
        self._version = 0
        self._seen: Tensor  # [R, T] tokens whose keys and values the cache holds, NONE where it holds none
        self._span: Tensor  # [R, 2] first and past-the-last position that this block's rounds read
        self._age: Tensor  # [R] rounds since the whole canvas was read

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V]; see :class:`decodekit.core.protocols.Scorer`.

        Raises:
            ModelError: a canvas is longer than the model's context.
        """
        self._follow(rows)
        asks = (at != NONE).any(1) & ~rows.done
        asks = asks if only is None else asks & only
        begin, end, whole = self._ranges(rows, at, asks)
        out = torch.zeros(*at.shape, self._vocab, dtype=self._dtype, device=at.device)
        for part in (asks & whole, asks & ~whole):
            index = part.nonzero()[:, 0]
            if len(index):
                out[index] = self._pass(rows, index, at[index], begin[index], end[index])
        out[..., self._mask] = -torch.inf
        if self._audit:
            self._compare(rows, at, asks, out)
        return out

    @property
    def _vocab(self) -> int:
        return int(self._full.get_output_embeddings().weight.shape[0])

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float64 if self._full.hf.dtype == torch.float64 else torch.float32

    def _follow(self, rows: Rows) -> None:
        """Replay the moves of the rows, and give every row that is not done a place of its own."""
        width = rows.tokens.shape[1]
        if not hasattr(self, "_seen"):
            self._seen = torch.full((len(rows), width), NONE, device=rows.device)
            self._span = torch.zeros(len(rows), 2, dtype=torch.int64, device=rows.device)
            self._age = torch.zeros_like(rows.n)
            self._places.of = [NONE] * len(rows)
            self._version = len(rows.moves)
        for index in rows.moves[self._version :]:
            self._places.move(index.tolist())
            self._seen, self._span, self._age = self._seen[index], self._span[index], self._age[index]
        self._version = len(rows.moves)
        if self._seen.shape[1] < width:
            self._seen = torch.nn.functional.pad(self._seen, (0, width - self._seen.shape[1]), value=NONE)
        self._slabs.reserve(int((~rows.done).sum()))
        self._places.settle(rows.limit.tolist(), rows.done.tolist())

    def _ranges(self, rows: Rows, at: Tensor, asks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(first [R] and past-the-last [R] position that each row reads, [R] whether that is the whole canvas)."""
        low = at.masked_fill(at == NONE, torch.iinfo(at.dtype).max).amin(1)
        high = at.amax(1) + 1
        early = int(self._full.shift)  # the first cell of the range is predicted one place before it
        place = torch.arange(rows.tokens.shape[1], device=rows.device)
        stale = (self._seen != rows.tokens) & (place < rows.limit[:, None])  # [R, T]
        if self._kind == "block":
            assert self._full.block is not None
            first = stale.view(torch.uint8).argmax(1)  # a row whose cells are all known reads its block again
            first = torch.where(stale.any(1), torch.minimum(first, low), low)
            size = self._full.block
            begin, end = first // size * size, -(-high // size) * size
            return (begin - early).clamp(min=0), torch.minimum(end, rows.limit), begin <= 0
        inside = (place >= self._span[:, :1]) & (place < self._span[:, 1:])
        whole = (low < self._span[:, 0]) | (high > self._span[:, 1]) | (stale & ~inside).any(1)
        if self._refresh is not None:
            whole = whole | (self._age >= self._refresh - 1)
        fresh = asks & whole
        self._span = torch.where(fresh[:, None], torch.stack([low, high], 1), self._span)
        self._age = torch.where(fresh, 0, self._age + asks.long())
        begin = torch.where(whole, 0, (self._span[:, 0] - early).clamp(min=0))
        end = torch.where(whole | (self._kind == "prefix"), rows.limit, self._span[:, 1])
        return begin, end, whole

    def _pass(self, rows: Rows, index: Tensor, at: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """[B, K, V] of the cells `at` of rows `index`, which read the positions from `begin` [B] up to `end` [B]."""
        limit = rows.limit[index]
        width, upto = int((end - begin).max()), int(limit.max())
        if self._limit is not None and upto > self._limit:
            raise ModelError(
                f"the canvas has {upto} cells and the model at most {self._limit}; shorten the prompt or max_tokens"
            )
        position = begin[:, None] + torch.arange(width, device=rows.device)
        # A shorter row reads its last cell several times: the same value in the same slot.
        position = torch.minimum(position, end[:, None] - 1)  # [B, F]
        tokens = rows.tokens[index].gather(1, position)
        key = torch.arange(upto, device=rows.device)
        see = self._full.sees(position, key) & (key < limit[:, None])[:, None]  # [B, F, T]
        places = torch.tensor([self._places.of[r] for r in index.tolist()], device=rows.device)
        self._slabs.aim(places, len(index), position, width, upto)
        with torch.inference_mode():
            logits = self._full.through(tokens, position, see[:, None], self._slabs)
        self._seen[index] = self._seen[index].scatter(1, position, tokens)
        self._bill((end - begin).double(), limit.double(), tokens.numel())
        column = (at.clamp(min=0) - begin[:, None] - int(self._full.shift)).clamp(0, width - 1)
        return logits.to(self._dtype).gather(1, column[..., None].expand(-1, -1, logits.shape[-1]))

    def _compare(self, rows: Rows, at: Tensor, asks: Tensor, cached: Tensor) -> None:
        """Tell how far the cache is from reading everything."""
        index = asks.nonzero()[:, 0]
        width = int(rows.limit[index].max())
        inside = torch.arange(width, device=rows.device) < rows.limit[index][:, None]
        with torch.inference_mode():
            exact = self._full(input_ids=rows.tokens[index][:, :width], attention_mask=inside).logits
        exact = exact.to(self._dtype).gather(1, at[index].clamp(min=0)[..., None].expand(-1, -1, exact.shape[-1]))
        exact[..., self._mask] = -torch.inf
        one, two = exact.log_softmax(-1), cached[index].log_softmax(-1)
        real = at[index] != NONE
        kl = torch.where(one.isneginf(), 0.0, one.exp() * (one - two)).sum(-1)
        flips = (one.argmax(-1) != two.argmax(-1)).double()
        for name, value in (("cache.kl", kl), ("cache.flips", flips)):
            mean = value.double().masked_fill(~real, 0.0).sum(1) / real.sum(1)
            rows.tell(name, rows.group[index], rows.sample[index], mean, now=True)

    def _bill(self, fed: Tensor, seen: Tensor, computed: int) -> None:
        """Flops = 2 x parameters per cell read + 4 x layers x hidden x cells seen per cell read."""
        cost, many = self._cost.model(self._label), int(fed.sum())
        cost.calls += 1
        cost.fed += many
        cost.computed += computed
        cost.layers += many * self._layers
        cost.flops += 2.0 * self._size * many + 4.0 * self._layers * self._hidden * float((fed * seen).sum())
