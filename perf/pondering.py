"""Where pondering helps at this size and where it loses: k hops, and plain text, each beside controls of equal compute.

    for seed in 1 2 3; do for arm in plain ponder deep long; do
        python -m training.hops_recipe $arm --seed $seed --out runs/hops_${arm}_$seed
    done; done
    python -m perf.pondering --runs runs

*Hops*: held-out permutations, accuracy by number of hops, three seeds; `deep` and `long` have the compute of `ponder`.
*Text*: the zoo's sentences, records and statements; nats per token on held-out examples after the same number of steps;
`deep` has the compute of `ponder`. All arms of a task share initialisation, embedding scale, data and their order.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from decodekit import zoo
from decodekit.zoo.data import mixture
from perf.bench import save
from training import batches, tokenizer, train
from training.hops_recipe import ARMS, ponder
from training.settings import Settings, build

SEED, STEPS, SEEDS = 1, 800, (1, 2, 3)
TEXT = {"plain": (2, 0), "ponder": (2, 3), "deep": (8, 0)}


def hops(runs: Path) -> list[dict[str, Any]]:
    """What the recipe wrote, seed by seed and as means."""
    rows = []
    for arm in ARMS:
        found = [json.loads((runs / f"hops_{arm}_{seed}" / "training.json").read_text()) for seed in SEEDS]
        last = [one["curve"][-1]["heldout"] for one in found]
        rows.append(
            {
                "task": "hops",
                "arm": arm,
                "layers x passes": f"{found[0]['layers']} x {found[0]['ponder'] + 1}",
                "parameters": found[0]["parameters"],
                "steps": found[0]["steps"],
                "cpu seconds": statistics.mean(one["cpu_seconds"] for one in found),
                "heldout by hops, mean": {k: round(statistics.mean(one[k] for one in last), 4) for k in last[0]},
                "heldout by hops, by seed": last,
                "train by hops": [one["train"] for one in found],
                "heldout by steps of pondering": [one["by_steps"] for one in found if one["by_steps"]],
            }
        )
    return rows


def text(arm: str, seed: int) -> dict[str, Any]:
    """Train one arm and measure it."""
    layers, steps = TEXT[arm]
    words = tokenizer.load(zoo.path("base"))
    settings = Settings(
        f"text {arm}",
        hidden=96,
        layers=layers,
        heads=3,
        inner=256,
        steps=STEPS,
        batch=16,
        chunk=8,
        rate=3e-3,
        seed=seed,
        prompt_weight=1.0,
    )
    torch.manual_seed(seed)
    model = build(settings, words)

    def objective(model: nn.Module, chunk: batches.Chunk) -> tuple[Tensor, Tensor]:
        logits = ponder(model, chunk.tokens, steps)[:, :-1]
        losses = cross_entropy(logits.flatten(0, 1), chunk.tokens[:, 1:].flatten(), reduction="none")
        weights = chunk.weights[:, 1:].flatten()
        return (losses * weights).sum(), weights.sum()

    begin = time.process_time()
    for _ in train.optimise(model, objective, batches.steps(settings, words), settings):
        pass
    seconds = time.process_time() - begin
    held = batches.encode(list(islice(mixture("heldout", 77, settings.mixture), 256)), words)
    model.eval()
    total = weight = 0.0
    with torch.no_grad():
        for at in range(0, len(held), 16):
            loss, tokens = objective(model, batches.causal(held[at : at + 16], words.pad_token_id, 1.0))
            total, weight = total + float(loss), weight + float(tokens)
    return {
        "task": "text",
        "arm": arm,
        "seed": seed,
        "layers x passes": f"{layers} x {steps + 1}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": STEPS,
        "cpu seconds": round(seconds),
        "heldout nats per token": round(total / weight, 4),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Pondering and its controls.")
    parser.add_argument("--runs", type=Path, required=True, help="folder with the arms that the recipe trained")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = hops(options.runs)
    for seed in (1, 2):
        for arm in TEXT:
            rows.append(text(arm, seed))
            print(rows[-1], flush=True)
    print(save("pondering", SEED, rows, __doc__ or ""))


if __name__ == "__main__":
    main()
