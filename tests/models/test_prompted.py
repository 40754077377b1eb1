"""A reader with another prompt sees what a plain one sees after that prompt, whatever happens to the rows."""

from __future__ import annotations

import torch

from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.models.load import load
from decodekit.models.prompted import Prompted


def test_it_reads_what_a_plain_reader_reads_after_that_prompt() -> None:
    model, words = load("zoo:draft"), [5, 9, 11]
    reader = Prompted(model.reader(Cost(), "other"), words)
    n = torch.arange(3)
    rows = Rows([[1, 5, 3, 8, 2], [7], [4, 4]], torch.full_like(n, 40), n * 7, n, n * 0)
    noise = torch.Generator().manual_seed(1)
    for step in range(8):
        if step == 3:
            rows.fork(torch.tensor([2, 2, 0]))
        if step == 5:
            rows.keep(torch.tensor([1, 0]))
        at = rows.n[:, None] + torch.arange(2)
        guess = torch.randint(0, 40, at.shape, generator=noise)
        rows.write(at[:, :1], guess[:, :1], at[:, :1] != NONE)
        with torch.inference_mode():
            got = reader.read(rows, at)
            for r in range(len(rows)):
                text = rows.tokens[r, int(rows.start[r]) : int(rows.n[r]) + 1].tolist()
                alone = model.hf(torch.tensor([words + text])).logits[0, -2:]
                assert float((got[r] - alone).abs().max()) < 1e-4
        rows.commit(at[:, :1], guess[:, :1], ~rows.done[:, None])
