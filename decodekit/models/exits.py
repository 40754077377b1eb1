"""A reader that can stop half-way up the layers, and go on later exactly where it stopped (deferred catch-up).

The layers are cut into stages. A text enters the lowest stage; what each stage gives is kept, so a higher stage can
read all tokens that it has missed in one pass, whenever a deeper answer is wanted. Every key and value is therefore
that of the whole model (as in FREE, arXiv 2310.05424, section 3.2): what an early exit changes is which logits are
used, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.models.causal import SHARE, CausalReader, Need
from decodekit.models.forward import Forward
from decodekit.models.slab import Slabs
from decodekit.models.stack import Stack


class Stages(Slabs):
    """The cache, the hidden states that each of `count` stages gave, and how many tokens each has read, by place.

    hidden: per stage [S, T, H], or None before its first pass. done: per place, then stage.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.hidden: list[Tensor | None] = [None] * count
        self.done: dict[int, list[int]] = {}

    def read(self, place: int) -> list[int]:
        """How many tokens each stage has read at `place`; lists are changed in place."""
        return self.done.setdefault(place, [0] * len(self.hidden))

    def put(self, stage: int, new: Tensor) -> None:
        """Keep [B, F, H], which the pass that the cache is aimed at gave."""
        old = self.hidden[stage]
        if old is None or old.shape[:2] != self.shape:
            slab = new.new_zeros(*self.shape, new.shape[-1])
            if old is not None:
                slab[: old.shape[0], : old.shape[1]] = old
            self.hidden[stage] = old = slab
        rows = torch.arange(self.count, device=new.device) if self.rows is None else self.rows
        if isinstance(self.at, int):
            old[rows, self.at : self.at + self.width] = new
        else:
            old[rows[:, None], self.at] = new

    def copy(self, source: int, target: int, upto: int) -> None:
        """Copy the first `upto` slots of a place, of the keys and of the hidden states alike."""
        super().copy(source, target, upto)
        self.done[target] = [min(count, upto) for count in self.read(source)]
        for stage, slab in enumerate(self.hidden):
            if slab is None:
                continue
            if target >= slab.shape[0]:
                more = target + 1 - slab.shape[0]
                self.hidden[stage] = slab = torch.cat([slab, slab.new_zeros(more, *slab.shape[1:])])
            slab[target, :upto] = slab[source, :upto]


class StagedReader(CausalReader):
    """Logits after any stage.

    cuts: layers after which one may stop, increasing, each above 0 and below the number of layers.
    """

    def __init__(self, forward: Forward, cost: Cost, label: str, cuts: Sequence[int]) -> None:
        self.stages = [tuple(range(low, high)) for low, high in pairwise((0, *cuts, forward.layers))]
        self._kept = Stages(len(self.stages))
        super().__init__(forward, cost, label, self._kept)
        self._counting = label
        self._stack = Stack(forward.model)

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] logits of the whole model."""
        return self.logits(rows, at, only, len(self.stages) - 1, self._label)

    @torch.inference_mode()
    def logits(self, rows: Rows, at: Tensor, only: Tensor | None, stage: int, label: str) -> Tensor:
        """[R, K, V] after `stage`; what must be computed for it is counted under `label`."""
        asks = self.follow(rows, at, only, label)
        self.deepen(rows, at.amax(1).masked_fill(~asks, 0), stage, label)
        return self.head(self.states(rows, at, stage), label)

    def follow(self, rows: Rows, at: Tensor, only: Tensor | None, label: str) -> Tensor:
        """Let the lowest stage read the text before `at` [R, K]; returns [R] bool, the rows that ask."""
        self._counting = label
        upto = at.amax(1)
        asks = (upto != NONE) & ~rows.done
        asks = asks if only is None else asks & only
        if bool(asks.any()):
            self.sync(rows, upto, None, asks)
            self._cost.model(label).calls += 1
        return asks

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> Tensor:
        """The lowest stage absorbs what is new. A long text goes to the top at once, so that copies share all of it."""
        readers, copies, _ = self._needs(rows, upto, only)
        for need in (*readers, *(need for need, _ in copies)):
            done = self._kept.read(need.place)
            done[:] = [min(count, need.keep) for count in done]
        self._absorb(rows, 0, [need for need in readers if need.keep < need.upto])
        long = [need for need in readers if need.upto - need.keep >= SHARE]
        for stage in range(1, len(self.stages)):
            self._absorb(rows, stage, [replace(n, keep=self._kept.read(n.place)[stage]) for n in long])
        for need, twin in copies:
            self._kept.copy(twin.place, need.place, need.upto)
        return upto

    def deepen(self, rows: Rows, upto: Tensor, stage: int, label: str) -> None:
        """Let the stages up to `stage` read what they have missed of the first `upto` [R] tokens; 0: nothing."""
        self._counting = label
        wanted = [(row, end) for row, end in enumerate(upto.tolist()) if end > 0]
        for above in range(1, stage + 1):
            missed = [(row, self._kept.read(self._places.of[row])[above], end) for row, end in wanted]
            self._absorb(
                rows, above, [Need(r, self._places.of[r], have, end, 0) for r, have, end in missed if have < end]
            )

    def states(self, rows: Rows, at: Tensor, stage: int) -> Tensor:
        """[R, K, H] what `stage` gave at the tokens before `at` [R, K]; undefined where it has read nothing."""
        slab = self._kept.hidden[stage]
        if slab is None:
            return torch.zeros(*at.shape, self._forward.hidden, dtype=self._forward.dtype, device=at.device)
        place = torch.tensor([max(0, place) for place in self._places.of] or [0] * len(rows), device=at.device)
        return slab[place[:, None], (at - 1).clamp(min=0, max=slab.shape[1] - 1)]

    def head(self, hidden: Tensor, label: str) -> Tensor:
        """[..., V] logits of hidden states [..., H]."""
        self._cost.model(label).flops += 2.0 * self._forward.vocab * hidden.numel()
        return self._stack.logits(hidden).to(self._forward.out)

    def _absorb(self, rows: Rows, stage: int, needs: Sequence[Need]) -> None:
        """One stage reads [keep, upto) of each need, widths that differ much apart."""
        buckets: dict[int, list[Need]] = {}
        for need in needs:
            width = need.upto - need.keep
            buckets.setdefault(0 if width <= 8 else (width - 1).bit_length(), []).append(need)
        for bucket in buckets.values():
            bucket.sort(key=lambda need: need.place)
            self._run(rows, stage, bucket)
            for need in bucket:
                self._kept.read(need.place)[stage] = need.upto

    def _run(self, rows: Rows, stage: int, needs: Sequence[Need]) -> None:
        width, longest = max(need.upto - need.keep for need in needs), max(need.upto for need in needs)
        which, at, tokens = self._aimed(rows, needs, width)
        for begin in range(0, width, self._forward.widest):
            end = min(width, begin + self._forward.widest)
            part = at + begin if isinstance(at, int) else at[:, begin:end]
            upto = longest - (width - end)
            self._kept.aim(which, len(needs), part, end - begin, upto)
            position, mask = self._forward.seen(part, end - begin, upto)
            given = self._given(stage, which, tokens, part, end - begin)
            self._kept.put(stage, self._stack.run(self.stages[stage], given, position, mask, self._kept))
        self._bill(needs, stage, len(needs) * width)

    def _given(self, stage: int, which: Tensor | None, tokens: Tensor, at: Tensor | int, width: int) -> Tensor:
        """[B, F] tokens for the lowest stage, [B, F, H] hidden states for the others."""
        if stage == 0:
            return tokens[:, at : at + width] if isinstance(at, int) else tokens.gather(1, at)
        slab = self._kept.hidden[stage - 1]
        assert slab is not None  # the stage below has read this text
        places = torch.arange(len(tokens), device=slab.device) if which is None else which
        return slab[places, at : at + width] if isinstance(at, int) else slab[places[:, None], at]

    def _bill(self, needs: Sequence[Need], stage: int, computed: int) -> None:
        """Tokens count where they enter, layers where they run; a pass is counted by who asked for it."""
        cost = self._cost.model(self._counting)
        calls, fed = cost.calls, cost.fed
        share = len(self.stages[stage]) / self._forward.layers
        self._forward.bill(cost, [(n.keep, n.upto) for n in needs], computed, 0, share)
        cost.calls, cost.fed = calls, cost.fed if stage == 0 else fed
