"""A head that continues a model's own features (EAGLE, arXiv 2401.15077): its module, and a reader that keeps features.

Feature f_i is what the output layer reads after token i. The head reads pairs of f_i and the embedding of token i + 1,
and says f_{i+1}; the model's own output layer makes the law of token i + 2 of it. So it needs one layer, no output
layer and no embeddings of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from decodekit.core.cost import Cost
from decodekit.core.rows import Rows
from decodekit.errors import ModelError
from decodekit.models.causal import CausalReader, Need
from decodekit.models.forward import Forward

FILE: Final = "head.safetensors"
STATES, READ = "feature_head.states", "feature_head.read"
"""Columns of rows: the features [R, T, H], and how many tokens of each row have one [R]."""


class FeatureHead(nn.Module):
    """One causal decoder layer over pairs of a feature and the embedding of the token after it.

    Args:
        hidden: width of the model. heads: of attention. inner: of the feed-forward part.
    """

    def __init__(self, hidden: int, heads: int, inner: int) -> None:
        super().__init__()
        config = LlamaConfig(
            hidden_size=hidden,
            intermediate_size=inner,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            num_hidden_layers=1,
            attn_implementation="eager",
        )
        self.join = nn.Linear(2 * hidden, hidden, bias=False)
        self.layer = LlamaDecoderLayer(config, 0)
        self.rotary = LlamaRotaryEmbedding(config)

    def forward(self, features: Tensor, embeddings: Tensor, at: Tensor) -> Tensor:
        """Features [B, T, H] of tokens `at` [B, T] and embeddings [B, T, H] of the tokens after them -> the features
        [B, T, H] of those. `at` NONE pads on the left.
        """
        joined = self.join(torch.cat([features, embeddings], -1))
        count = at.shape[1]
        seen = torch.ones(count, count, dtype=torch.bool, device=at.device).tril() & (at >= 0)[:, None]
        seen = seen | torch.eye(count, dtype=torch.bool, device=at.device)  # padding sees itself, not nothing
        mask = torch.zeros(seen.shape, dtype=joined.dtype, device=at.device)
        mask = mask.masked_fill(~seen, torch.finfo(joined.dtype).min)[:, None]
        turn = self.rotary(joined, at.clamp(min=0))
        made = self.layer(joined, attention_mask=mask, position_embeddings=turn)
        out: Tensor = made[0] if isinstance(made, tuple) else made
        return out


def opened(path: str | os.PathLike[str], heads: int, like: Tensor) -> FeatureHead:
    """The head in a file or beside a model's weights, with the type and device of `like`, the embedding table [V, H].

    Raises:
        ModelError: there is none, or it is of another width.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ModelError(f"there is no feature head at {os.fspath(path)!r}; give a {FILE} or a folder that holds one")
    weights = load_file(str(file))
    join, inner = weights.get("join.weight"), weights.get("layer.mlp.gate_proj.weight")
    if join is None or inner is None:
        raise ModelError(f"{os.fspath(path)!r} is no feature head: it lacks join.weight or the layer; train one")
    if join.shape[0] != like.shape[1]:
        raise ModelError(
            f"the feature head {os.fspath(path)!r} is for models of width {join.shape[0]}, and this one's is "
            f"{like.shape[1]}; give the head of this model"
        )
    head = FeatureHead(join.shape[0], heads, inner.shape[0])
    head.load_state_dict(weights)
    return head.to(device=like.device, dtype=like.dtype).eval()


class Featured(Forward):
    """A forward pass that keeps what the output layer reads, pass by pass, in `states`."""

    def __init__(self, model: Any, name: str, context: int | None) -> None:
        super().__init__(model, name, context)
        self.states: list[Tensor] = []
        config = model.config.get_text_config()
        for field in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
            if getattr(config, field, None) not in (None, 1.0):
                raise ModelError(f"{name} does more than its output layer to features ({field}); use a draft model")

    def through(self, given: dict[str, Tensor], position: Tensor, mask: Any, cache: Any, wanted: int) -> Tensor:
        """Logits [B, wanted, V], as the model's own forward pass makes them."""
        (first,) = given.values()
        extra: dict[str, Any] = {"position_ids": position.expand(first.shape[0], -1)} if self._positions else {}
        body = self.model.get_decoder()
        states = body(**given, attention_mask=mask, past_key_values=cache, use_cache=True, **extra).last_hidden_state
        self.states.append(states)
        logits: Tensor = self.model.get_output_embeddings()(states[:, -wanted:])
        return logits.to(self.out)


class FeatureReader(CausalReader):
    """A reader of the target that leaves its features in columns of the rows, which follow them wherever they go."""

    def __init__(self, forward: Featured, cost: Cost, label: str) -> None:
        super().__init__(forward, cost, label)
        self._featured = forward
        self._copies: list[tuple[Need, Need]] = []

    def _needs(self, rows: Rows, upto: Tensor, only: Tensor) -> tuple[list[Need], list[tuple[Need, Need]], bool]:
        found = super()._needs(rows, upto, only)
        self._copies = found[1]
        return found

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> Tensor:
        """As any reader's, and rows that copied a cache copy the features."""
        logits = super().feed(rows, keep, upto, only)
        states, read = columns(rows, self._featured)
        for need, twin in self._copies:
            states[need.row, : need.upto] = states[twin.row, : need.upto]
            read[need.row] = need.upto
        return logits

    def compute(self, rows: Rows, needs: Sequence[Need]) -> Tensor:
        """As any reader's, and the features of what was read go into the columns."""
        self._featured.states.clear()
        logits = super().compute(rows, needs)
        made = torch.cat(self._featured.states, 1).clone()  # [B, F, H]
        states, read = columns(rows, self._featured)
        row = torch.tensor([need.row for need in needs], device=rows.device)
        upto = torch.tensor([need.upto for need in needs], device=rows.device)
        at = (upto[:, None] - made.shape[1] + torch.arange(made.shape[1], device=rows.device)).clamp(min=0)
        states[row[:, None], at] = made
        read[row] = upto
        return logits


def columns(rows: Rows, forward: Forward) -> tuple[Tensor, Tensor]:
    """(features [R, T, H] with room for all tokens of the rows, how many are there [R])."""
    short = torch.zeros(len(rows), 0, forward.hidden, dtype=forward.dtype, device=rows.device)
    states = rows.column(STATES, short)
    more = rows.tokens.shape[1] - states.shape[1]
    if more > 0:
        states = torch.nn.functional.pad(states, (0, 0, 0, more))
        rows.columns[STATES] = states
    return states, rows.column(READ, torch.zeros(len(rows), dtype=torch.int64, device=rows.device))
