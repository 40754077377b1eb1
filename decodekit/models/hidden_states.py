"""A reader that hands out the last hidden state beside the logits, for the trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from decodekit.core.bound import Model
from decodekit.core.cost import Cost
from decodekit.core.protocols import Scorer
from decodekit.core.rows import Rows
from decodekit.errors import CompositionError
from decodekit.models.forward import Forward


class _Wide(Forward):
    """Passes whose logits [.., V] are followed by the hidden state [.., H] that went into the head."""

    def __init__(self, model: Any, name: str, context: int | None) -> None:
        super().__init__(model, name, context)
        self.width = self.vocab
        self.vocab += self.hidden
        self._head = model.get_output_embeddings()

    def through(self, given: dict[str, Tensor], position: Tensor, mask: Any, cache: Any, wanted: int) -> Tensor:
        """[B, wanted, V + H]."""
        seen: list[Tensor] = []
        hook = self._head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = super().through(given, position, mask, cache, wanted)
        finally:
            hook.remove()
        return torch.cat([logits, seen[-1][:, -wanted:].to(logits.dtype)], -1)

    @torch.inference_mode()
    def alone(self, tokens: Tensor) -> Tensor:
        """[1, T, V + H] of a whole text."""
        here = torch.arange(tokens.shape[1], device=tokens.device)[None]
        return self.through({"input_ids": tokens}, here, None, None, tokens.shape[1])


class StateReader:
    """A scorer that tells `hidden` [R, K, H] of the positions that it was asked last, and `layers`."""

    tells_hidden = True

    def __init__(self, reader: Any, width: int) -> None:
        self._reader, self._width = reader, width
        self._last: tuple[Tensor, Tensor] | None = None

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V]; see :class:`decodekit.core.protocols.Scorer`."""
        wide: Tensor = self._reader.read(rows, at, only)
        self._last = at, wide[..., self._width :]
        return wide[..., : self._width].contiguous()

    def told(self, rows: Rows, at: Tensor) -> dict[str, Tensor]:
        """See :data:`decodekit.trace.recorder.Told`; NaN where another reading came between."""
        assert self._last is not None  # asked after a reading
        last, hidden = self._last
        if not torch.equal(last, at):
            hidden = hidden.new_full((*at.shape, hidden.shape[-1]), torch.nan)
        more = self._reader.told(rows, at) if hasattr(self._reader, "told") else {}
        return {**more, "hidden": hidden}


def reader_of(model: Model, cost: Cost, label: str) -> Scorer:
    """A plain reader of `model` that tells hidden states.

    Raises:
        CompositionError: the model does not give them.
    """
    reading = getattr(model, "reading", None)
    if reading is None or "hidden" not in model.provides:
        raise CompositionError(f"hidden=True asks for hidden states, and {model.name} does not give them; drop it")
    made: list[_Wide] = []

    def forward(hf: Any, name: str, context: int | None) -> Forward:
        made.append(_Wide(hf, name, context))
        return made[0]

    reader: Scorer = reading(forward, cost, label)
    return StateReader(reader, made[0].width)
