"""Classifier-free guidance for masked language models: the prompt is masked in the second reading."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.cells import GIVEN, imagined
from decodekit.core.protocols import Scorer
from decodekit.core.rows import Rows
from decodekit.registry.declaration import plugin


@plugin(
    role="scorer",
    exactness="approximate",
    requires=("masked_lm",),
    paper="Nie et al. 2024, arXiv 2410.18514, section 3.3; used by LLaDA, arXiv 2502.09992",
)
class MaskGuidance:
    """Logits u + (scale + 1)(c - u), with c given the prompt and u with every given cell masked.

    Both canvases are read in one batch. Cells that were filled stay in both.

    Args:
        scale: 0 is the model itself.
    """

    scale: Annotated[float, Field(ge=0.0)] = 1.0

    def bind(self, run: BindContext) -> Scorer:
        """One reader for both; runs no model."""
        return Doubled(self.scale, run.model.mask or 0, run.model.reader(run.cost, run.label))


class Doubled:
    """The bound scorer."""

    def __init__(self, scale: float, mask: int, reader: Scorer) -> None:
        self._scale, self._mask, self._reader = scale, mask, reader

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] guided logits; see :class:`decodekit.core.protocols.Scorer`."""
        if self._scale == 0.0:
            return self._reader.read(rows, at, only)
        many = len(rows)
        both = imagined(rows, torch.arange(2 * many, device=rows.device) % many)
        place = torch.arange(both.tokens.shape[1], device=rows.device)
        given = (place < rows.columns[GIVEN][:, None]) & rows.final & ~self._filled(rows)
        both.tokens[many:] = both.tokens[many:].masked_fill(given, self._mask)
        logits = self._reader.read(both, torch.cat([at, at]), None if only is None else torch.cat([only, only]))
        conditional, without = logits[:many], logits[many:]
        guided = without + (self._scale + 1.0) * (conditional - without)
        # What the model never says (-inf in both) must not become a NaN.
        return torch.where(conditional.isneginf(), -torch.inf, guided)

    def _filled(self, rows: Rows) -> Tensor:
        """[R, T] bool, cells of templates that were open at first: they are no prompt."""
        name = "guidance.given"
        if name not in rows.columns:
            rows.column(name, rows.final.clone())
        first = rows.columns[name]
        if first.shape[1] < rows.final.shape[1]:
            first = torch.nn.functional.pad(first, (0, rows.final.shape[1] - first.shape[1]))
        return ~first[:, : rows.final.shape[1]]
