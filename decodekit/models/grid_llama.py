"""A Llama over a grid of codes: positions have a row and a column. The architecture of LlamaGen (arXiv 2406.06525).

Rotary embedding in two dimensions: the first half of the frequencies turns with the row, the second with the column.
The tokens before the grid (a class) are not turned but nulled: their queries and keys are zero, so every query gives
them the score 0. Tokens past the codes are read but never written: their logits are -inf.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM


class GridLlamaConfig(LlamaConfig):  # type: ignore[misc]
    """A Llama's, and: `grid` codes of a side, `codes` how many there are, `prefix` positions before the grid."""

    model_type = "grid_llama"
    grid: int = 16
    codes: int = 16384
    prefix: int = 1
    rope_base: float = 10000.0


class GridRotary(nn.Module):
    """(cos, sin) [B, T, D] of positions [B, T]."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.grid, self.prefix, self.base = config.grid, config.prefix, config.rope_base
        self.width = config.head_dim or config.hidden_size // config.num_attention_heads

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of the type of `x`; computed anew each time, so that nothing has to be kept in step with devices."""
        quarter = self.width // 4
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        step = torch.arange(quarter, device=position_ids.device, dtype=wide) * 2 / (self.width // 2)
        speed = self.base**-step  # [D / 4]
        place = (position_ids - self.prefix).clamp(min=0)
        row, column = place // self.grid, place % self.grid
        angle = torch.cat([row[..., None] * speed, column[..., None] * speed], -1)  # [B, T, D / 2]
        angle = torch.cat([angle, angle], -1)
        turned = (position_ids >= self.prefix)[..., None].to(wide)
        return (angle.cos() * turned).to(x.dtype), (angle.sin() * turned).to(x.dtype)


class CodeHead(nn.Linear):
    """An output layer that says codes only."""

    def __init__(self, hidden: int, vocab: int, codes: int) -> None:
        super().__init__(hidden, vocab, bias=False)
        self.codes = codes

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] -> [..., V]."""
        logits = super().forward(x)
        silent = torch.arange(logits.shape[-1], device=logits.device) >= self.codes
        return logits.masked_fill(silent, -torch.inf)


class GridLlamaForCausalLM(LlamaForCausalLM):  # type: ignore[misc]
    """A Llama with :class:`GridRotary` positions and a :class:`CodeHead`."""

    config_class = GridLlamaConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.rotary_emb = GridRotary(config)
        self.lm_head = CodeHead(config.hidden_size, config.vocab_size, config.codes)
        self.post_init()


AutoConfig.register(GridLlamaConfig.model_type, GridLlamaConfig, exist_ok=True)
AutoModelForCausalLM.register(GridLlamaConfig, GridLlamaForCausalLM, exist_ok=True)
