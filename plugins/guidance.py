"""Classifier-free guidance: what the prompt changes is asked for more strongly."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Scorer
from decodekit.core.rows import Rows
from decodekit.ensembles import combiners
from decodekit.errors import CompositionError
from decodekit.models.prompted import Prompted
from decodekit.registry.declaration import plugin


@plugin(
    role="scorer",
    exactness="approximate",
    requires=("causal_lm",),
    paper="Ho and Salimans 2022, arXiv 2207.12598; for language models arXiv 2306.17806; for codes arXiv 2406.06525",
)
class Guidance:
    """Logits u + scale (c - u), with c after the row's prompt and u after `prompt`, which says nothing.

    The model is read twice, through two caches. The law at a position depends on the text before it alone, so guesses
    are verified in chunks like any other target's. A draft that guesses for a guided target is best guided too:
    `speculative(draft='zoo:visual-draft', scorer=guidance(3.0, prompt='<none>'))`.

    `fast_slow(combine="guidance")` is the member of this family that takes another model, or a route.

    Args:
        scale: 1 is the model itself, more follows the prompt more closely, 0 ignores it.
        prompt: what is read instead of each row's prompt, as text or token ids.

    Raises:
        CompositionError: when bound, a prompt without tokens, or with ids that the model does not have.
    """

    scale: Annotated[float, Field(ge=0.0)]
    prompt: str | tuple[int, ...]

    def bind(self, run: BindContext) -> Guided:
        """Turn the prompt into ids and open two readers; runs no model."""
        if isinstance(self.prompt, str):
            ids = [int(i) for i in run.model.tokenizer.encode(self.prompt)]
        else:
            ids = list(self.prompt)
        if not ids:
            raise CompositionError("guidance: prompt= has no tokens, and a model must read something; give one or more")
        if not all(0 <= i < run.model.vocab for i in ids):
            raise CompositionError(
                f"guidance: prompt={self.prompt!r} has ids that {run.model.name!r} does not know; they go from 0 to "
                f"{run.model.vocab - 1}"
            )
        without = Prompted(run.model.reader(run.cost, run.label), ids)
        return Guided(self.scale, run.model.reader(run.cost, run.label), without)


class Guided:
    """The bound scorer."""

    def __init__(self, scale: float, conditional: Scorer, unconditional: Scorer) -> None:
        self._scale, self._with, self._without = scale, conditional, unconditional

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] guided logits; see :class:`decodekit.core.protocols.Scorer`."""
        conditional = self._with.read(rows, at, only)
        if self._scale == 1.0:
            return conditional
        return self._combined(conditional, self._without.read(rows, at, only))

    @property
    def reads_trees(self) -> bool:
        """Whether a tree of guesses can be read in one pass: if both readers can."""
        return all(getattr(reader, "reads_trees", False) for reader in (self._with, self._without))

    def read_tree(self, rows: Rows, nodes: Any, since: int = 0, only: Tensor | None = None) -> Tensor:
        """[R, M, V] guided laws after the nodes of a tree, as its readers lay them out."""
        readers: tuple[Any, Any] = (self._with, self._without)
        conditional, unconditional = (reader.read_tree(rows, nodes, since, only) for reader in readers)
        return self._combined(conditional, unconditional)

    def _combined(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        guided = combiners.guided(conditional, unconditional, self._scale)
        # What the model never says (-inf in both) must not become a NaN.
        return torch.where(conditional.isneginf(), -torch.inf, guided)
