"""Where the end of a text stood before: in the text itself, and in a corpus."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.rows import NONE, Rows


def earlier(rows: Rows, most: int, least: int, k: int) -> tuple[list[int], list[list[int]]]:
    """(length of the match, what followed it: at most `k` tokens) for each row; 0 and nothing where there is none.

    The match is the longest of the last `least` to `most` tokens of a row's own text that ends at an earlier place; of
    several places the last. It is found by comparing, not in an index: a few passes over [R, T] integers each round,
    the same for rows that were forked, cut or moved, and wherever the rows are.
    """
    length, place = _matched(rows, most)
    good = (length >= least) & ~rows.done
    period = (rows.n - 1 - place).clamp(min=1)  # [R] from the earlier place to the end; a guess repeats it
    step = torch.arange(k, device=rows.device)
    source = (place + 1)[:, None] + step % period[:, None]  # [R, k]
    found = rows.tokens.gather(1, source.clamp(0, rows.tokens.shape[1] - 1)).masked_fill(~good[:, None], NONE)
    lengths = torch.where(good, length, 0).tolist()
    return lengths, [one if size else [] for one, size in zip(found.tolist(), lengths, strict=True)]


def _matched(rows: Rows, most: int) -> tuple[Tensor, Tensor]:
    """[R] length of the longest match, at most `most`, and [R] the place where it ends."""
    width = max(1, int(rows.n.max()))
    tokens = rows.tokens[:, :width]
    place = torch.arange(width, device=rows.device)
    end = rows.n[:, None] - 1  # [R, 1] the last token of the text
    same = place < end  # [R, T] matches so far that end here
    size = torch.zeros_like(tokens)
    for back in range(min(most, width)):
        wanted = tokens.gather(1, (end - back).clamp(min=0))  # [R, 1]
        shifted = torch.nn.functional.pad(tokens, (back, 0), value=NONE)[:, :width]  # what stands `back` before
        same = same & (shifted == wanted) & (end - back >= 0)
        if not bool(same.any()):
            break
        size = size + same
    best = size * width + place  # the longest, and of those the last
    found = best.argmax(1)
    return size.gather(1, found[:, None])[:, 0], found
