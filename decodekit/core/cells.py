"""Rows as canvases: opening the mask tokens of templates, and the positions of marked cells."""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor

from decodekit.core.rows import NONE, Rows

FAR: Final = torch.iinfo(torch.int64).max


GIVEN: Final = "canvas.given"
"""Column of rows: [R] the position after the last cell that was given; end tokens before it do not end the text."""


def open_templates(rows: Rows, mask: int) -> None:
    """Prompts that hold mask tokens become canvases from their first cell on; does nothing a second time."""
    if GIVEN in rows.columns:
        return
    place = torch.arange(rows.tokens.shape[1], device=rows.device)
    blank = (rows.tokens == mask) & (place < rows.start[:, None])
    given = (place + 1).masked_fill(blank | (place >= rows.start[:, None]), 0).amax(1)  # [R]
    template = blank.any(1)
    rows.column(GIVEN, given)
    if bool(template.any()):
        rows.final = rows.final & ~blank
        rows.start = rows.start.masked_fill(template, 0)
        rows.n = torch.where(template, rows.final.view(torch.uint8).argmin(1), rows.n)


def packed(marked: Tensor) -> Tensor:
    """[R, K] positions of the cells that are `marked` [R, T], in increasing order, NONE where a row has fewer."""
    place = torch.arange(marked.shape[1], device=marked.device).expand_as(marked)
    at = place.masked_fill(~marked, FAR).sort(1).values[:, : max(1, int(marked.sum(1).max()))]
    if at.shape[1] == 0:
        at = torch.full((len(marked), 1), FAR, device=marked.device)
    return at.masked_fill(at == FAR, NONE)


def imagined(rows: Rows, index: Tensor) -> Rows:
    """Rows `index` as rows of their own, to write to and read without a trace; by a reader that keeps no cache."""
    alike = copy.copy(rows)
    alike.tokens, alike.final = rows.tokens[index], rows.final[index]
    for name in ("n", "start", "limit", "done", "reason", "note", "logw", "stream", "group", "sample"):
        setattr(alike, name, getattr(rows, name)[index])
    alike.columns = {name: column[index] for name, column in rows.columns.items()}
    alike.moves, alike.facts, alike.reopened = [], [], []
    return alike
