"""KV caches for masked language models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.errors import CompositionError
from decodekit.models.canvas_cache import CanvasReader
from decodekit.models.full_attention import Full
from decodekit.registry.declaration import plugin


@plugin(
    role="scorer",
    exactness="approximate",
    requires=("masked_lm",),
    paper="Wu et al. 2025 (Fast-dLLM), arXiv 2505.22618, section 3.2; block: Arriola et al. 2025, arXiv 2503.09573",
)
class CanvasCache:
    """Read a canvas without reading again what stands.

    `prefix` and `dual` read the whole canvas when a block is begun, and in its other rounds the block alone (`dual`) or
    the block and all after it (`prefix`). Since every cell sees every other this changes the law; `audit` says by how
    much. `block` needs a block-causal model, for which it is exact.

    Args:
        kind: what is kept. refresh: read everything again after so many rounds of a block; 1 is no cache, None never.
        audit: also read without the cache every round (which costs what the cache saves), and put `cache.kl` (nats a
            cell) and `cache.flips` (share of cells whose best token changes) into the trace.

    Raises:
        CompositionError: when bound, for models whose attention takes no mask of ours (BERT's kind), and for a `kind`
            that does not fit the model.
    """

    kind: Literal["prefix", "dual", "block"] = "prefix"
    refresh: Annotated[int, Field(ge=1)] | None = None
    audit: bool = False

    def bind(self, run: BindContext) -> CanvasReader:
        """An empty cache; runs no model."""
        full = getattr(run.model, "hf", None)
        if not isinstance(full, Full):
            raise CompositionError(
                f"canvas_cache: {run.model.name!r} keeps no keys and values that could be read again; use a model in "
                "the layout of LLaDA or Dream, or drop canvas_cache"
            )
        if (self.kind == "block") != (full.block is not None):
            way = "kind='block'" if full.block is not None else "kind='prefix' or kind='dual'"
            what = "sees no later block" if full.block is not None else "sees the whole canvas"
            raise CompositionError(f"canvas_cache: the model {run.model.name!r} {what}; use {way}")
        return CanvasReader(full, run.model.mask or 0, run.cost, run.label, self.kind, self.refresh, self.audit)
