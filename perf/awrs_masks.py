"""Where checking a few tokens beats building a full mask: selection time of `awrs` and `mask` with one engine each.

Every row stands at another place of a valid text, in a constraint that was compiled anew. There the law gives mass q to
the text's own next token and spreads the rest over the vocabulary, so q says how well the model fits the constraint.
Needs DECODEKIT_DATA for the 100k vocabulary.
`python -m perf.awrs_masks` writes results/awrs_masks.json.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import decodekit as dk
from decodekit.comparison.task import LARGE_SQL
from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE
from decodekit.models.load import load
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.mask import Mask
from decodekit.testing.oracle import rows_of
from decodekit.testing.tables import TableModel
from perf.bench import save

ROWS, PLACES, TURNS, FITS = 8, 24, 2, (0.99, 0.9, 0.5, 0.1)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TEXTS: dict[str, tuple[Callable[[], Any], str]] = {
    "json_schema": (
        lambda: dk.json_schema(SCHEMA, whitespace="compact"),
        json.dumps({"name": "Ada Park", "age": 36, "tags": ["a", "bc"]}, separators=(",", ":")),
    ),
    "sql": (
        lambda: dk.sql(schema="CREATE TABLE singer (name TEXT, age INTEGER, country TEXT);", **LARGE_SQL),
        "SELECT name, count(*) FROM singer WHERE age > 36 AND country = 'France' GROUP BY name",
    ),
    "smiles": (lambda: dk.smiles(), "CC(=O)Oc1ccccc1C(=O)O"),
    "regex with a look-ahead": (lambda: dk.regex(r"(?!.*zz)[a-z ,]+\."), "the quick brown fox, and the dog."),
}


def speller() -> list[tuple[str, Any]]:
    """(name, tokenizer) of the vocabularies at hand."""
    out = [("zoo:base", load("zoo:base").tokenizer)]
    data = os.environ.get("DECODEKIT_DATA")
    if data:
        from transformers import AutoTokenizer

        out.append(("tok-cl100k", AutoTokenizer.from_pretrained(f"{data}/tok-cl100k")))
    return out


def law(vocab: int, token: int, fit: float, seed: int) -> Tensor:
    """[V] logits: mass `fit` on `token`, the rest spread with a normal log-density."""
    rest = torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * 2
    rest[token] = -torch.inf
    rest = rest - rest.logsumexp(0) + torch.tensor(1 - fit).log()
    rest[token] = torch.tensor(fit).log()
    return rest


def measure(tokenizer: Any, kind: str, fit: float) -> dict[str, float]:
    """Median milliseconds per row and step of both selectors, and what they asked for."""
    make, text = TEXTS[kind]
    ids = tokenizer.encode(text, add_special_tokens=False)[:PLACES]
    model: Any = TableModel(vocab=5, eos=(), seed=0)
    model.vocab, model.tokenizer, model.eos = len(tokenizer), tokenizer, ()
    rows = rows_of([[ids[0], *ids]] * ROWS)
    ahead = torch.arange(ROWS) * max(1, len(ids) // ROWS)  # places of the rows
    rows.start = torch.ones_like(rows.start)
    found: dict[str, float] = {}
    for name, selector in (("awrs", AWRS()), ("mask", Mask())):
        seconds, asked, steps = list[float](), 0, 0
        for turn in range(TURNS):
            run = BindContext(model=model, open=lambda thing: model)
            constraint = make().bind(run)
            bound = selector.bind(run)
            rows.stream = rows.stream + ROWS
            for place in range(len(ids) // ROWS):  # no two rows and steps meet the same place
                rows.n = 1 + place + ahead
                laws = [law(model.vocab, ids[place + int(a)], fit, 100 * turn + place + int(a)) for a in ahead]
                logits = torch.stack(laws)[:, None]
                ask = Proposal(rows.n[:, None], torch.full((ROWS, 1), NONE))
                begin = time.perf_counter()
                bound.select(rows, ask, logits, constraint)
                seconds.append(time.perf_counter() - begin)
                steps += ROWS
            asked += run.cost.checks if name == "awrs" else run.cost.masks
        found[f"{name}_ms"] = round(1e3 * statistics.median(seconds) / ROWS, 4)
        found[f"{name}_asked"] = round(asked / steps, 2)
    found["mask_over_awrs"] = round(found["mask_ms"] / found["awrs_ms"], 3)
    return found


def main() -> None:
    torch.set_num_threads(1)
    table = list[dict[str, object]]()
    for name, tokenizer in speller():
        for kind in TEXTS:
            for fit in FITS:
                row = {"vocabulary": name, "size": len(tokenizer), "kind": kind, "mass_of_the_text": fit}
                table.append({**row, **measure(tokenizer, kind, fit)})
                print(table[-1], flush=True)
    save("awrs_masks", 0, table, "selection with a constraint, 8 rows, one thread; asked: checks or new masks a step")


if __name__ == "__main__":
    main()
