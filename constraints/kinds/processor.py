"""A logits processor of transformers, or of a package that writes such, as a constraint."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.rows import NONE, Rows
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin

KNOWN: Final = 256
"""Texts whose masks, and processors that stand there, are remembered."""


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class Processor:
    """What a logits processor leaves above minus infinity: of transformers, of outlines, of whoever has one.

    make: a function without arguments that makes a new processor. It is called as transformers would call it, with one
    row of token ids (the prompt included, a token more each time) and scores of zero. Processors have a state of their
    own, so each row has one, and one that cannot go on where a text turned back begins anew from the prompt.

    Masks only: a check asks for the whole mask, nothing is known about forced text, distance or what was expected. A
    processor that reads the scores instead of the tokens is no constraint. The ends of text that it allows are its own.
    """

    make: Callable[[], Any]

    def bind(self, run: BindContext) -> Processed:
        """Makes one processor for each row when it is first asked."""
        return Processed(self.make, run)


@dataclass
class _Held:
    """A processor after a text, and what it allows there."""

    processor: Any
    allowed: Tensor  # [V] bool


class Processed:
    """The bound constraint (:class:`decodekit.core.protocols.Constraint`)."""

    dear = True

    def __init__(self, make: Callable[[], Any], run: BindContext) -> None:
        self._make, self._cost, self._width = make, run.cost, run.model.vocab
        self._eos = [i for i in run.eos if 0 <= i < self._width]
        self._known: OrderedDict[tuple[int, ...], _Held] = OrderedDict()

    def mask(self, rows: Rows, at: Tensor) -> Tensor:
        """[R, K, V] bool; everything past a guess that is itself not allowed, or that ends the text."""
        out = torch.ones(*at.shape, self._width, dtype=torch.bool, device=rows.device)
        for r, points in enumerate(at.tolist()):
            if bool(rows.done[r]):
                continue
            for k, point in enumerate(points):
                if point == NONE:
                    continue
                held = self._after(rows, r, point)
                if held is None:
                    break
                out[r, k] = held.allowed
        return out

    def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
        """[R, C] bool, looked up in the mask."""
        allowed = self.mask(rows, at[:, None])[:, 0]  # [R, V]
        return allowed.gather(1, tokens.clamp(min=0)) & (tokens != NONE)

    def complete(self, rows: Rows) -> Tensor:
        """[R] bool, whether an end of text is allowed after the final text, or was written where it was."""
        out = list[bool]()
        for r, n in enumerate(rows.n.tolist()):
            text = rows.text(r)
            over = len(text) > int(rows.start[r]) and text[-1] in self._eos
            held = self._after(rows, r, n - over)
            out.append(held is not None and bool(held.allowed[self._eos].any()))
        return torch.tensor(out, dtype=torch.bool, device=rows.device)

    def forced(self, rows: Rows) -> list[list[int]]:
        """Nothing is known to be."""
        return [[] for _ in range(len(rows))]

    def _after(self, rows: Rows, r: int, upto: int) -> _Held | None:
        """The processor after the first `upto` tokens of a row; None where one of them was not allowed, or an end."""
        start, text = int(rows.start[r]), tuple(rows.tokens[r, :upto].tolist())
        if text in self._known:
            self._known.move_to_end(text)
            return self._known[text]
        begun = next((n for n in range(upto - 1, start - 1, -1) if text[:n] in self._known), start - 1)
        held = self._known.pop(text[:begun]) if begun >= start else None  # it goes on, and is no longer there
        processor = self._make() if held is None else held.processor
        for n in range(begun + 1, upto + 1):
            if held is not None and (not held.allowed[text[n - 1]] or text[n - 1] in self._eos):
                return None
            held = _Held(processor, self._asked(processor, text[:n], rows.device))
        assert held is not None  # upto is not before start
        self._known[text] = held
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return held

    def _asked(self, processor: Any, text: tuple[int, ...], device: torch.device) -> Tensor:
        ids = torch.tensor([text], device=device)
        scores = processor(ids, torch.zeros(1, self._width, device=device))
        if not isinstance(scores, Tensor) or scores.shape != (1, self._width):
            raise ConstraintError(
                f"the logits processor {type(processor).__name__} gave no scores [1, {self._width}]; "
                "a processor takes (input_ids, scores) and returns scores"
            )
        self._cost.masks += 1
        return scores[0] > -torch.inf
