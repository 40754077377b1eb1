"""A causal language model as a reader of rows: it follows the text through its cache (law 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.errors import ModelError
from decodekit.models.cache_rows import Places
from decodekit.models.cached_scorer import CachedReader
from decodekit.models.forward import Forward
from decodekit.models.slab import Slabs

SHARE = 4  # rows that must read the same text from here on read it once, if it is at least so long


@dataclass(frozen=True, slots=True)
class Need:
    """A logical row, the place of its cache, the positions [keep, upto) that it must absorb, and its prompt's end."""

    row: int
    place: int
    keep: int
    upto: int
    start: int


class CausalReader(CachedReader):
    """Logits of any positions of any rows, over a slab cache that follows the text.

    Feeding is right-aligned: a row that needs less than the widest re-reads some of its own text (and writes the same
    values again), so there is no padding, no row is fully masked, and the wanted logits are the last columns.
    """

    def __init__(self, forward: Forward, cost: Cost, label: str, slabs: Slabs | None = None) -> None:
        super().__init__(forward, cost, label)
        self._slabs = forward.cache() if slabs is None else slabs
        self._places = Places(self._slabs.copy)

    def fork(self, index: Tensor) -> None:
        """Relabel; whatever must be copied is copied when the rows part."""
        self._places.move(index.tolist())

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> Tensor:
        """Absorb what is new and return [R, C, V], the logits after the last C tokens of each row."""
        readers, copies, every = self._needs(rows, upto, only)
        out = self._pass(rows, readers, every)
        for need, twin in copies:
            self._slabs.copy(twin.place, need.place, need.upto)
            out[need.row] = out[twin.row]
        return out

    def _needs(self, rows: Rows, upto: Tensor, only: Tensor) -> tuple[list[Need], list[tuple[Need, Need]], bool]:
        """Who reads, who copies from whom afterwards, and whether all rows read and none copies."""
        # One look at the device: [R, 5]; `_have` is what stands of each row, also of those that are not asked.
        table = torch.stack([self._have, upto, only, rows.done, rows.start], 1).tolist()
        self._guard([row[1] for row in table if row[2]])
        if not self._places.of:
            self._places.of = [NONE] * len(rows)
        sources = list(self._places.of)
        self._slabs.reserve(sum(not row[3] for row in table))
        self._places.settle([row[0] for row in table], [bool(row[3]) for row in table])
        needs = [
            Need(r, self._places.of[r], have, end, start) for r, (have, end, ask, _, start) in enumerate(table) if ask
        ]
        readers, copies = _shared(needs, sources, rows.tokens)
        return readers, copies, bool(len(needs) == len(rows) == len(readers))

    def _guard(self, lengths: Sequence[int]) -> None:
        context, longest = self._forward.context, max(lengths, default=1)
        if min(lengths, default=1) < 1:
            raise ModelError(
                f"{self._forward.name} predicts from what stands before, and nothing stands before position 0"
            )
        if context is not None and longest > context:
            raise ModelError(
                f"{self._forward.name} reads at most {context} tokens, and this text has {longest}; "
                "shorten the prompt or lower max_tokens"
            )

    def _pass(self, rows: Rows, needs: Sequence[Need], everybody: bool) -> Tensor:
        """Forward passes over `needs`, widths that differ much apart; [R, C, V]."""
        buckets: dict[int, list[Need]] = {}
        for need in needs:
            width = need.upto - need.keep
            buckets.setdefault(0 if width <= 8 else (width - 1).bit_length(), []).append(need)
        shape = len(rows), self._columns, self._forward.vocab
        out: Tensor | None = None
        for bucket in buckets.values():
            bucket.sort(key=lambda need: need.place)
            logits = self.compute(rows, bucket)  # [B, at most C, V]
            order = [need.row for need in bucket]
            if everybody and len(buckets) == 1 and order == list(range(len(rows))):
                return logits
            out = logits.new_zeros(shape) if out is None else out
            out[torch.tensor(order, device=out.device), -logits.shape[1] :] = logits
        return self._nothing(rows) if out is None else out

    def compute(self, rows: Rows, needs: Sequence[Need]) -> Tensor:
        """Logits [B, C', V] after the last C' <= C tokens of rows that read about as much, in chunks of columns."""
        width = max(need.upto - need.keep for need in needs)
        which, at, tokens = self._aimed(rows, needs, width)
        uptos, count = [need.upto for need in needs], len(needs)
        logits: list[Tensor] = []
        for begin in range(0, width, self._forward.widest):
            end = min(width, begin + self._forward.widest)
            wanted = max(0, min(self._columns, end - begin, self._columns - (width - end)))
            part = at + begin if isinstance(at, int) else at[:, begin:end]
            upto = max(uptos) - (width - end)
            self._slabs.aim(which, count, part, end - begin, upto)
            got = self._forward(tokens, part, end - begin, upto, self._slabs, wanted)
            logits += [got] if wanted else []
        self._forward.bill(
            self._cost.model(self._label), [(n.keep, n.upto) for n in needs], count * width, self._columns
        )
        return logits[0] if len(logits) == 1 else torch.cat(logits, 1)

    def _aimed(self, rows: Rows, needs: Sequence[Need], width: int) -> tuple[Tensor | None, Tensor | int, Tensor]:
        """(places [B] or None for 0..B-1, the last `width` positions [B, F] or the first of them, tokens [B, T])."""
        device, count = rows.device, len(needs)
        places, order = [need.place for need in needs], [need.row for need in needs]
        which = None if places == list(range(count)) else torch.tensor(places, device=device)
        at: Tensor | int
        if len({need.upto for need in needs}) == 1:  # all at the same offset: plain slices
            at = needs[0].upto - width
        else:
            last = torch.tensor([need.upto for need in needs], device=device)
            # Rows shorter than the pass read their first token several times: the same value in the same slot.
            at = (last[:, None] - width + torch.arange(width, device=device)).clamp(min=0)  # [B, F]
        tokens = rows.tokens if order == list(range(len(rows))) else rows.tokens[torch.tensor(order, device=device)]
        return which, at, tokens


def _shared(
    needs: Sequence[Need], sources: Sequence[int], tokens: Tensor
) -> tuple[list[Need], list[tuple[Need, Need]]]:
    """Who reads, and who copies from whom: rows that must absorb the same text from the same state need one reader.

    A prompt of n samples or particles is prefilled once; so is what a model that lags behind must catch up on.
    """
    if len(needs) < 2 or max(need.upto - need.keep for need in needs) < SHARE:
        return list(needs), []
    first: dict[Any, Need] = {}
    copies: list[tuple[Need, Need]] = []
    for need in needs:
        text = tuple(tokens[need.row, need.keep : need.upto].tolist())
        origin = sources[need.row] if need.keep else NONE
        key = (origin, need.keep, need.start, text) if origin != NONE or not need.keep else (need.row,)
        twin = first.setdefault(key, need)
        if twin is not need:
            copies.append((need, twin))
    return list(first.values()), copies
