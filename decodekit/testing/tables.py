"""Tiny models whose laws can be written down: random automata (causal) and random windows (masked), in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from decodekit.core.cost import Cost
from decodekit.core.follower import Follower
from decodekit.core.rows import NONE, Rows

REACH = 3
"""How far a masked table looks to each side."""


class ToyTokenizer:
    """One letter a token: id 0 is `a`. Just enough of a tokenizer for code that asks for one."""

    def __init__(self, vocab: int, eos: int | None = None) -> None:
        self.vocab, self.eos_token_id = vocab, eos
        self.bos_token_id = self.pad_token_id = None
        self.all_special_ids = [] if eos is None else [eos]

    def __len__(self) -> int:
        return self.vocab

    def get_vocab(self) -> dict[str, int]:
        """Letter -> id."""
        return {chr(ord("a") + i): i for i in range(self.vocab)}

    def encode(self, text: str, **_: object) -> list[int]:
        """Ids of the letters."""
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, ids: Sequence[int], **_: object) -> str:
        """Letters of the ids."""
        return "".join(chr(ord("a") + int(i)) for i in ids)


@dataclass(eq=False)
class TableModel:
    """A model made of random tables: deterministic, float64, the same bits alone and in a batch.

    Causal (`masked=False`): a random automaton of `states` states; the logits of a token are a random vector per
    state, so they depend on the whole prefix. Masked: the logits of a cell are a sum of random vectors, one for each
    neighbour up to three cells away, in both directions; the last id is the mask token and is never predicted.

    Args:
        vocab: V, at most 26. eos: ids that end a text. seed: of the tables. scale: standard deviation of logits.
        states: number of states of the automaton. context: most positions, or None.
        blur: logits of the model of the same seed plus this much of other noise: a drafter (0 = the model itself).

    The protocol is :class:`decodekit.core.bound.Model`.
    """

    vocab: int = 5
    eos: tuple[int, ...] = (0,)
    seed: int = 0
    scale: float = 1.5
    states: int = 24
    masked: bool = False
    context: int | None = None
    blur: float = 0.0
    name: str = "table"
    tokenizer: Any = field(default=None)
    mask: int | None = field(init=False)
    provides: frozenset[str] = field(init=False)
    table: Tensor = field(init=False)
    jump: Tensor = field(init=False)

    def __post_init__(self) -> None:
        noise = torch.Generator().manual_seed(1_000_003 + self.seed)
        contexts = (2 * REACH, self.vocab + 1) if self.masked else (self.states,)
        table = torch.randn(*contexts, self.vocab, generator=noise, dtype=torch.float64) * self.scale
        jump = torch.randint(self.states, (self.states, self.vocab), generator=noise)
        table = table + self.blur * torch.randn(table.shape, generator=noise, dtype=torch.float64)
        self.table, self.jump = table, jump
        self.mask = self.vocab - 1 if self.masked else None
        self.provides = frozenset({"masked_lm" if self.masked else "causal_lm"})
        if self.tokenizer is None:
            self.tokenizer = ToyTokenizer(self.vocab, self.eos[0] if self.eos else None)

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Always float64."""
        return torch.float64

    def reader(self, cost: Cost, label: str) -> _CausalTable | _MaskedTable:
        """A new reader that follows rows by itself."""
        return (_MaskedTable if self.masked else _CausalTable)(self, cost, label)

    def logits(self, prefix: Sequence[int]) -> Tensor:
        """[V] logits of the token that follows `prefix`, walked token by token: the reference for the reader."""
        if self.masked:
            raise ValueError("a masked table has no next token; ask cell(canvas, i)")
        state = 0
        for token in prefix:
            state = int(self.jump[state, token])
        return self.table[state]  # [V]

    def cell(self, canvas: Sequence[int], i: int) -> Tensor:
        """[V] logits of cell `i` of `canvas`, given all the others: the reference for the masked reader."""
        out = torch.zeros(self.vocab, dtype=torch.float64)  # [V]
        for place, offset in enumerate(_OFFSETS):
            j = i + offset
            out = out + self.table[place, canvas[j] if 0 <= j < len(canvas) else self.vocab]
        out[self.vocab - 1] = -torch.inf
        return out


_OFFSETS = [offset for offset in range(-REACH, REACH + 1) if offset]


class _CausalTable(Follower):
    """Reader of a causal table: the state before each position, kept in step with the rows."""

    def __init__(self, model: TableModel, cost: Cost, label: str) -> None:
        super().__init__()
        self.model, self.cost, self.label = model, cost, label
        self.trail: Tensor  # [R, T + 1] state after so many tokens

    def fork(self, index: Tensor) -> None:
        self.trail = self.trail[index]

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> None:
        width = rows.tokens.shape[1]
        old = getattr(self, "trail", torch.zeros(len(rows), 1, dtype=torch.int64))
        self.trail = torch.nn.functional.pad(old, (0, width + 1 - old.shape[1]))
        steps = (upto - keep)[only]
        for step in range(int(steps.max()) if len(steps) else 0):
            place = keep + step
            row = (only & (place < upto)).nonzero()[:, 0]
            place = place[row]
            self.trail[row, place + 1] = self.model.jump[self.trail[row, place], rows.tokens[row, place]]
        mine = self.cost.model(self.label)
        mine.fed += int(steps.clamp(min=0).sum())

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        asked = (at != NONE).any(1) & ~rows.done
        if only is not None:
            asked = asked & only
        self.sync(rows, at.amax(1).clamp(min=0), only=asked)
        self.cost.model(self.label).calls += 1
        return self.model.table[self.trail.gather(1, at.clamp(min=0))]  # [R, K, V]


class _MaskedTable:
    """Reader of a masked table: nothing is kept, every cell is computed from its neighbours."""

    def __init__(self, model: TableModel, cost: Cost, label: str) -> None:
        self.model, self.cost, self.label = model, cost, label

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        model, width = self.model, rows.tokens.shape[1]
        mine = self.cost.model(self.label)
        mine.calls += 1
        mine.fed += int(rows.limit[~rows.done].sum())
        out = torch.zeros(*at.shape, model.vocab, dtype=torch.float64)  # [R, K, V]
        for place, offset in enumerate(_OFFSETS):
            j = at + offset
            inside = (j >= 0) & (j < rows.limit[:, None])
            token = rows.tokens.gather(1, j.clamp(0, width - 1))
            out = out + model.table[place, torch.where(inside, token, model.vocab)]
        out[..., model.vocab - 1] = -torch.inf
        return out
