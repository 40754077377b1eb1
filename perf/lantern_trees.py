"""LANTERN over trees of guesses, as its papers run it, and at temperature 0: accepted length against quality.

The papers' baseline takes the drafter's best guesses as if they were certain, in a tree of some tens of nodes. Here:
that tree, exact speculation that keeps the drafter's law in the same shape, and the relaxed rules over both. At
temperature 0 a class is one picture, so there each strategy continues first rows of codes that were drawn.

python -m perf.lantern_trees        # some fifteen minutes on one core
"""

from __future__ import annotations

from typing import Any

import torch

import decodekit as dk
from decodekit.vision.image_tokenizer import GRID
from perf.bench import save
from perf.lantern import DRAFT, SEED, drawn, judged

COUNT = 400
BRANCH = (4, 2, 2, 1, 1)  # 4 + 8 + 16 + 16 + 16 = 60 nodes


def strategies() -> dict[str, list[Any]]:
    """Guesses in a fixed tree (laws kept), in a tree that follows the drafter's probabilities (certain), and greedy."""
    fixed, sure = dk.tree(draft=DRAFT, branch=BRANCH), dk.tree(draft=DRAFT, width=4, depth=5, nodes=60)
    cold = dk.temperature(0.0001)
    return {
        "exact, chain of 5": [dk.speculative(draft=DRAFT, k=5), dk.rejection()],
        "exact, fixed tree": [fixed, dk.rejection()],
        "exact, tree by probability, guesses without a law": [sure, dk.lantern(8, 0.0, "dynamic")],
        "dynamic, k=16, delta=0.2, tree by probability": [sure, dk.lantern(16, 0.2, "dynamic")],
        "dynamic, k=64, delta=0.1, tree by probability": [sure, dk.lantern(64, 0.1, "dynamic")],
        "dynamic, k=64, delta=0.4, tree by probability": [sure, dk.lantern(64, 0.4, "dynamic")],
        "dynamic, k=256, delta=0.4, tree by probability": [sure, dk.lantern(256, 0.4, "dynamic")],
        "static, k=64, delta=0.1, fixed tree": [fixed, dk.lantern(64, 0.1, "static")],
        "transport, k=16, delta=0.1, fixed tree": [fixed, dk.lantern(16, 0.1, "transport")],
        "transport, k=64, delta=0.2, fixed tree": [fixed, dk.lantern(64, 0.2, "transport")],
        "plain, temperature 0": [dk.greedy()],
        "exact, temperature 0, tree": [sure, cold, dk.lantern(8, 0.0, "greedy")],
        "greedy, k=16, delta=0.1, temperature 0, tree": [sure, dk.lantern(16, 0.1, "greedy")],
        "greedy, k=64, delta=0.2, temperature 0, tree": [sure, dk.lantern(64, 0.2, "greedy")],
    }


def main() -> None:
    """Every strategy once."""
    torch.set_num_threads(1)
    first = [codes[:GRID] for codes in drawn([dk.sample()], COUNT, SEED + 1)[0]]
    rows = []
    for name, strategy in strategies().items():
        rows.append({"name": name, **judged(strategy, COUNT, begun=first if "temperature 0" in name else None)})
        print(rows[-1], flush=True)
    note = f"zoo:visual, trees of up to 60 nodes, {COUNT} pictures a row, at temperature 0 after a drawn row of codes"
    save("lantern_trees", SEED, rows, note)


if __name__ == "__main__":
    main()
