"""Where the end of a text stood before: in the text itself, and in a corpus."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core.rows import NONE, Rows


def earlier(rows: Rows, most: int, least: int, k: int) -> tuple[list[int], list[list[int]]]:
    """(length of the match, what followed it: at most `k` tokens) for each row; 0 and nothing where there is none.

    The match is the longest of the last `least` to `most` tokens of a row's own text that ends at an earlier place; of
    several places the last. It is found by comparing, not in an index: a pass over [R, T] integers for each token that
    matches. So there is nothing to follow where rows fork, are cut or move, and it runs wherever the rows are.
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
    end = rows.n[:, None] - 1  # [R, 1] the last token of the text
    same = torch.arange(width, device=rows.device) < end  # [R, T] matches so far that end here
    size, found = torch.zeros_like(rows.n), torch.zeros_like(rows.n)
    for back in range(min(most, width)):
        wanted = tokens.gather(1, (end - back).clamp(min=0))  # [R, 1]
        same[:, back:] &= tokens[:, : width - back] == wanted  # what stands `back` before
        same[:, :back] = False
        some = same.any(1)  # [R]
        if not bool(some.any()):
            break
        latest = width - 1 - same.flip(1).view(torch.uint8).argmax(1)
        size, found = torch.where(some, back + 1, size), torch.where(some, latest, found)
    return size, found
