"""What a tree of guesses brings: accepted tokens a target pass, chain against trees, on the embedded pair.

    python -m perf.trees        # five minutes on a busy core

`zoo:base` with `zoo:draft` on held-out records, sampling at temperature 1. No times: counts of tokens and passes only.
"""

from __future__ import annotations

from typing import Any

import torch

import decodekit as dk
from decodekit.comparison.tasks.embedded import Json, Sql
from decodekit.models.load import load
from perf.bench import save

SEED, NEW, COUNT, SEEDS = 11, 40, 16, (1, 2)
GUESSERS: dict[str, Any] = {
    "chain of 3": "speculative('zoo:draft', k=3)",
    "tree 2-2-2, 14 nodes": "tree('zoo:draft', branch=(2, 2, 2))",
    "tree 3-2-1, 15 nodes": "tree('zoo:draft', branch=(3, 2, 1))",
    "chain of 5": "speculative('zoo:draft', k=5)",
    "tree by confidence, 5 levels, 16 nodes": "tree('zoo:draft', width=3, depth=5, nodes=16)",
}


def measured(name: str, prompts: list[str], guesser: str, selector: str, heat: float) -> dict[str, Any]:
    """Tokens a row and target pass, for each seed."""
    each = []
    for seed in SEEDS:
        made = dk.Decoder(load("zoo:base"), f"{guesser} | {selector} | temperature({heat})", seed=seed)
        out = made.generate(prompts, max_tokens=NEW)
        assert out[0].trace is not None
        found = dk.diagnostics.acceptance(out[0].trace.whole)
        each.append(round(found.length, 3))
    return {"texts": name, "temperature": heat, "selector": selector, "tokens a pass": each}


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, task in (("records", Json), ("sql", Sql)):
        prompts = [item.prompt for item in task(limit=COUNT).items()]
        for heat in (1.0, 1.5):
            for selector in ("rejection", "sample"):
                for label, guesser in GUESSERS.items():
                    row = {"guesses": label, **measured(name, prompts, guesser, selector, heat)}
                    rows.append(row)
                    print(row, flush=True)
    save("trees", SEED, rows, f"{COUNT} prompts, at most {NEW} tokens; tokens a row and target pass, one per seed")


if __name__ == "__main__":
    main()
