"""Layers that only some positions run: stock models trained as SkipDecode decodes them (arXiv 2307.02628, section 3).

A hook on each decoder layer keeps what came in wherever the layer is inactive. Where activity falls along the text the
active positions of a layer are a prefix, which sees nothing but itself: the loss is that of the graph which decodes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from decodekit.models.layer_schedule import Depths
from decodekit.models.stack import layers_of


@contextmanager
def running(model: nn.Module, depths: Depths, index: Tensor) -> Iterator[None]:
    """Passes of `model` in this context run the layers of generated indices `index` [B, T] (negative: prompt)."""
    counts = depths.counts(index)  # [B, T]
    hooks = [
        layer.register_forward_hook(_keeper(depths.active(counts, j)), with_kwargs=True)
        for j, layer in enumerate(layers_of(model))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _keeper(active: Tensor) -> Any:
    def keep(layer: nn.Module, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Any:
        came = args[0] if args else kwargs["hidden_states"]  # [B, T, H]
        first = out[0] if isinstance(out, tuple) else out
        kept = torch.where(active[:, -first.shape[1] :, None], first, came)
        return (kept, *out[1:]) if isinstance(out, tuple) else kept

    return keep
