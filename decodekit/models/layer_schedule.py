"""Which decoder layers run at which position of the text: a schedule that falls, so that no cache has gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Depths:
    """Which of `layers` layers run at generated index t (0 for the first token after the prompt); the prompt runs all.

    The number falls linearly from `most` to `least` over `length` tokens and stays there. kind: "skip" runs the lowest
    `warmup` layers and the top ones (SkipDecode, arXiv 2307.02628, section 3); "bottom" runs the lowest ones.

    Because the number never rises, a layer that runs at t has run at every position before: what runs is nested, and
    the keys and values that a layer sees have no gaps.
    """

    layers: int
    most: int
    least: int
    length: int
    warmup: int = 1
    kind: Literal["skip", "bottom"] = "skip"

    def counts(self, t: Tensor) -> Tensor:
        """Layers that run at generated indices `t` (negative: prompt), of the same shape."""
        fallen = (self.most - self.least) * t.clamp(0, self.length)
        # Halves up, in integers: a model is the same wherever it runs.
        fallen = (2 * fallen + self.length) // (2 * self.length)
        return torch.where(t < 0, self.layers, self.most - fallen)

    def count(self, t: int) -> int:
        """The same for one index."""
        if t < 0:
            return self.layers
        return self.most - (2 * (self.most - self.least) * min(t, self.length) + self.length) // (2 * self.length)

    def active(self, counts: Tensor, layer: int) -> Tensor:
        """[...] bool, whether `layer` runs where `counts` [...] layers do."""
        return counts >= self.needed(layer)

    def needed(self, layer: int) -> int:
        """The smallest number of running layers of which `layer` is one."""
        if self.kind == "bottom":
            return layer + 1
        return 0 if layer < self.warmup else self.layers - layer + self.warmup

    def chosen(self, count: int) -> tuple[int, ...]:
        """The layers that run where `count` do, lowest first."""
        return tuple(j for j in range(self.layers) if count >= self.needed(j))

    def between(self, counts: list[int]) -> list[tuple[int, tuple[int, ...]]]:
        """For columns of different `counts`: runs of layers, lowest first, and from which count on a column takes part.

        Layers in which nobody takes part are left out.
        """
        known = sorted(set(counts))
        found: list[tuple[int, tuple[int, ...]]] = []
        for layer in range(self.layers):
            least = next((c for c in known if c >= self.needed(layer)), None)
            if least is None:
                continue
            if found and found[-1][0] == least:
                found[-1] = (least, (*found[-1][1], layer))
            else:
                found.append((least, (layer,)))
        return found
