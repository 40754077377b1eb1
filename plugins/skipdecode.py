"""SkipDecode: the later a token stands in the answer, the fewer layers it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.protocols import Scorer
from decodekit.core.rows import Rows
from decodekit.errors import CompositionError
from decodekit.models.causal import CausalReader, Need
from decodekit.models.forward import Forward
from decodekit.models.layer_schedule import Depths
from decodekit.models.stack import Stack
from decodekit.registry.declaration import plugin


@plugin(
    role="scorer",
    exactness="approximate",
    requires=("causal_lm", "hidden"),
    paper="SkipDecode, arXiv 2307.02628, section 3",
)
class SkipDecode:
    """The prompt runs all layers; the token at generated index t runs k(t), the lowest `warmup` and the top ones.

    k falls linearly from `k_max` to `k_min` over `length` tokens and stays there. All rows of a batch that stand at the
    same index run the same layers. As k never rises, a layer that runs has run at every position before it: the keys
    and values that it sees have no gaps, and decoding token by token equals the layer-by-layer definition.

    The model must have been trained under the schedule (`training.depth_recipe` does it): an untrained one
    collapses.

    Args:
        k_min: layers that run from index `length` on.
        k_max: layers that run at index 0.
        length: generated tokens until the least depth is reached; the typical length of an answer.
        warmup: lowest layers, which always run and count in k.
        keep: "top" as in the paper; "bottom" runs the lowest k layers instead (an exit on the same schedule, to
            compare with).

    Raises:
        OptionError: a schedule that rises, or that leaves fewer layers than the warm-up.
        CompositionError: when bound, if the model has fewer layers than `k_max`, or its layers cannot be run apart.
    """

    k_min: Annotated[int, Field(ge=1)]
    k_max: Annotated[int, Field(ge=1)]
    length: Annotated[int, Field(ge=1)]
    warmup: Annotated[int, Field(ge=1)] = 1
    keep: Literal["top", "bottom"] = "top"

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.k_min > self.k_max:
            raise ValueError(
                f"k_min={self.k_min} is more than k_max={self.k_max}: depth must not rise along the text, or layers "
                "would look at tokens that they never read; exchange the two"
            )
        if self.warmup > self.k_min:
            raise ValueError(
                f"warmup={self.warmup} layers always run, and k_min={self.k_min} allows fewer; raise k_min"
            )
        return self

    def bind(self, run: BindContext) -> Scorer:
        """A reader of the run's model that runs part of its layers."""
        stacked = getattr(run.model, "stacked", None)
        if stacked is None:
            raise CompositionError(
                f"skipdecode runs layers apart, and {run.model.name} is no transformers model; load it as one"
            )
        reader: Scorer = stacked(self._reader, run.cost, run.label)
        return reader

    def _reader(self, forward: Forward, cost: Cost, label: str) -> Scorer:
        if self.k_max > forward.layers:
            raise CompositionError(
                f"skipdecode: k_max={self.k_max} and {forward.name} has {forward.layers} layers; lower k_max"
            )
        kind: Literal["skip", "bottom"] = "skip" if self.keep == "top" else "bottom"
        depths = Depths(forward.layers, self.k_max, self.k_min, self.length, self.warmup, kind)
        return FallingReader(forward, cost, label, depths)


class FallingReader(CausalReader):
    """Reads each position through as many layers as its place in the answer gets."""

    def __init__(self, forward: Forward, cost: Cost, label: str, depths: Depths) -> None:
        super().__init__(forward, cost, label)
        self._depths, self._stack = depths, Stack(forward.model)

    def told(self, rows: Rows, at: Tensor) -> dict[str, Tensor]:
        """For the trace: `layers` [R, K] that ran for the tokens AT `at`, each predicted from the one before it."""
        return {"layers": self._depths.counts(at - 1 - rows.start[:, None])}

    @torch.inference_mode()
    def compute(self, rows: Rows, needs: Sequence[Need]) -> Tensor:
        """Logits [B, C', V]; the columns of a pass may differ in depth, and join the layers that they run."""
        width, longest = max(need.upto - need.keep for need in needs), max(need.upto for need in needs)
        which, at, tokens = self._aimed(rows, needs, width)
        logits: list[Tensor] = []
        for begin in range(0, width, self._forward.widest):
            end = min(width, begin + self._forward.widest)
            wanted = max(0, min(self._columns, end - begin, self._columns - (width - end)))
            part = at + begin if isinstance(at, int) else at[:, begin:end]
            counts = self._counts(rows, needs, part, end - begin)
            hidden = self._read(which, tokens, part, end - begin, longest - (width - end), counts)
            if wanted:
                logits.append(self._stack.logits(hidden[:, -wanted:]).to(self._forward.out))
        self._bill(needs, len(needs) * width)
        return logits[0] if len(logits) == 1 else torch.cat(logits, 1)

    def _counts(self, rows: Rows, needs: Sequence[Need], at: Tensor | int, width: int) -> int | Tensor:
        """How many layers run: one number if all columns agree, else [B, F]."""
        starts = [need.start for need in needs]
        if isinstance(at, int) and len(set(starts)) == 1:
            first, last = self._depths.count(at - starts[0]), self._depths.count(at + width - 1 - starts[0])
            if first == last:
                return first
        start = torch.tensor(starts, device=rows.device)[:, None]
        here = torch.arange(at, at + width, device=rows.device) if isinstance(at, int) else at
        counts = self._depths.counts(here - start)
        flat = int(counts[0, 0])
        return flat if bool((counts == flat).all()) else counts

    def _read(
        self, which: Tensor | None, tokens: Tensor, at: Tensor | int, width: int, upto: int, counts: int | Tensor
    ) -> Tensor:
        """[B, F, H] hidden states before the final norm."""
        ids = tokens[:, at : at + width] if isinstance(at, int) else tokens.gather(1, at)
        if isinstance(counts, int):
            return self._segment(self._depths.chosen(counts), ids, which, at, width, upto)
        here = torch.arange(at, at + width, device=ids.device).expand_as(ids) if isinstance(at, int) else at
        places = torch.arange(len(ids), device=ids.device) if which is None else which
        hidden: Tensor | None = None
        for least, layers in self._depths.between(torch.unique(counts).tolist()):
            part = (counts >= least).sum(1)  # [B] columns that take part: depth falls along a row, so the first ones
            if hidden is None:
                hidden = self._segment(layers, ids, which, at, width, upto)
                continue
            took = part.nonzero()[:, 0]
            column = torch.arange(int(part.max()), device=ids.device).minimum(part[took, None] - 1)  # [b, f]
            index = column[..., None].expand(-1, -1, hidden.shape[-1])
            inner, where = hidden[took].gather(1, index), here[took].gather(1, column)
            out = self._segment(layers, inner, places[took], where, column.shape[1], upto)
            hidden = hidden.clone()
            hidden[took[:, None], column] = out
        assert hidden is not None  # the warm-up layers take every column
        return hidden

    def _segment(
        self, layers: Sequence[int], given: Tensor, which: Tensor | None, at: Tensor | int, width: int, upto: int
    ) -> Tensor:
        self._slabs.aim(which, len(given), at, width, upto)
        position, mask = self._forward.seen(at, width, upto)
        return self._stack.run(layers, given, position, mask, self._slabs)

    def _bill(self, needs: Sequence[Need], computed: int) -> None:
        ran = sum(self._depths.count(p - n.start) for n in needs for p in range(max(n.keep, n.start), n.upto))
        ran += sum(self._depths.layers * max(0, min(n.start, n.upto) - n.keep) for n in needs)
        fed = sum(n.upto - n.keep for n in needs)
        share = ran / (self._depths.layers * fed) if fed else 0.0
        spans = [(n.keep, n.upto) for n in needs]
        self._forward.bill(self._cost.model(self._label), spans, computed, self._columns, share)
