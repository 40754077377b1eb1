"""Reading cells that stand as if they did not: what their neighbours alone say of them."""

from __future__ import annotations

from torch import Tensor

from decodekit.core.cells import imagined
from decodekit.core.protocols import Scorer
from decodekit.core.rows import Rows


def leave_one_out(reader: Scorer, rows: Rows, at: Tensor, where: Tensor, mask: int) -> Tensor:
    """[R, K, V] logits of cells `at` [R, K], those `where` [R, K] as if each alone were open again.

    One canvas for the rows as they are and one for every such cell: for readers that know no cheaper way.
    """
    out = reader.read(rows, at)
    row, place = where.nonzero(as_tuple=True)
    if len(row):
        alone = imagined(rows, row)
        alone.tokens = alone.tokens.scatter(1, at[row, place][:, None], mask)
        out = out.clone()
        out[row, place] = reader.read(alone, at[row, place][:, None])[:, 0]
    return out
