"""A constraint as a plain logits processor of transformers, for `model.generate` without the rest of decodekit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import LogitsProcessor

from decodekit.core.bound import BindContext, Model
from decodekit.core.rows import Rows
from decodekit.errors import ConstraintError

from ..core.bound import Bound
from .coercion import constraint_of


@dataclass(frozen=True)
class _Width:
    """As much of a model as a constraint looks at."""

    name: str
    vocab: int
    tokenizer: Any
    eos: tuple[int, ...]


class LogitsProcessorOf(LogitsProcessor):  # type: ignore[misc]
    """`model.generate(..., logits_processor=[LogitsProcessorOf(constraint, tokenizer)])`.

    Batches, greedy decoding and sampling. The prompt is what the first call holds; its rows may be padded on the left.
    The state follows `input_ids` by their longest common prefix with the call before, so a processor may be used for
    one call of generate after the other. Where no token can go on (a dead end) only the end of text is left.

    Args:
        constraint: anything that :func:`decodekit.constraints.kinds.coercion.constraint_of` takes.
        source: a fast tokenizer, or a loaded decodekit model.
        eos: id or ids that end a text; by default those of `source`.

    Raises:
        ConstraintError: no id ends a text, or the constraint cannot be compiled (at the first call).
    """

    def __init__(self, constraint: Any, source: Any, eos: int | Sequence[int] | None = None) -> None:
        self._plugin = constraint_of(constraint)
        self._tokenizer = getattr(source, "tokenizer", None) or source
        given = getattr(source, "eos", None) or getattr(source, "eos_token_id", None) if eos is None else eos
        self._eos = (given,) if isinstance(given, int) else tuple(given or ())
        if not self._eos:
            raise ConstraintError("a constrained text must be able to end: pass eos= (the ids that end a text)")
        self._bound: Bound | None = None
        self._rows: Rows | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` [B, V] with minus infinity where a token may not follow `input_ids` [B, L]."""
        rows = self._follow(input_ids, scores.shape[-1])
        assert self._bound is not None  # _follow made it
        allowed = self._bound.mask(rows, rows.n[:, None])[:, 0]  # [B, V]
        stuck = ~allowed.any(-1)
        if bool(stuck.any()):
            ends = torch.tensor([i for i in self._eos if i < scores.shape[-1]], device=scores.device)
            allowed[stuck.nonzero(), ends] = True
        return scores.masked_fill(~allowed, -torch.inf)

    def _follow(self, ids: Tensor, size: int) -> Rows:
        """The rows as the bridge knows them, brought to `ids`; begun anew where the prompts differ."""
        rows = self._rows
        if rows is not None:
            start = int(rows.start[0])
            same = len(rows) == len(ids) and ids.shape[1] >= start and rows.device == ids.device
            if not same or not torch.equal(rows.tokens[:, :start], ids[:, :start]):
                rows = None
        if rows is None:
            number = torch.arange(len(ids), device=ids.device)
            rows = Rows(ids.tolist(), torch.full_like(number, torch.iinfo(torch.int64).max), number, number, number)
            model = _Width("this model", size, self._tokenizer, self._eos)
            run = BindContext(model=cast("Model", model), open=lambda what: cast("Model", model), eos=self._eos)
            self._bound = self._plugin.bind(run)
        rows.reserve(ids.shape[1])
        rows.tokens[:, : ids.shape[1]] = ids
        rows.n = torch.full_like(rows.n, ids.shape[1])
        self._rows = rows
        return rows
