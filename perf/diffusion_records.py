"""Rules that fill canvases on the JSON task: rounds against records that are right, on `zoo:masked`.

Unlike `zoo:sums` every answer is decided by its prompt, so there is little to explore: what can be gained is small, and
what committing too much at once breaks shows as wrong fields. Greedy values, held-out sentences, three seeds of data.

python -m perf.diffusion_records            # a few minutes on one core
python -m perf.diffusion_records --quick    # a tenth of it, nothing is saved
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch

import decodekit as dk
from decodekit.diffusion import information
from decodekit.zoo.data import json_examples
from decodekit.zoo.scoring import judge_json
from perf.bench import save
from training.settings import CANVAS

SEEDS, MANY = (31, 32, 33), 48

POLICIES: dict[str, tuple[str, ...]] = {
    "one by one": ("threshold(tau=1.1)", "threshold(tau=1.1, block=8)"),
    "threshold": tuple(f"threshold(tau={t})" for t in (0.95, 0.9, 0.7, 0.5)),
    "threshold, blocks": ("threshold(tau=0.9, block=8)",),
    "ETE": tuple(
        f"ete(explore={k}, gap={g}, block={b})" for k, g, b in ((1, 1, 48), (2, 8, 48), (3, 8, 48), (2, 4, 8))
    ),
    "ETE, look-ahead": ("ete(explore=2, gap=8, hypotheses=4, block=48, sample=True)",),
    "ETE, rounds given": tuple(f"ete(max_rounds={r}, block=48)" for r in (3, 5, 8)),
    "factor": tuple(f"factor(factor={f})" for f in (0.5, 1.0)),
    "EB": tuple(f"entropy_bounded(gamma={g})" for g in (0.1, 0.35)),
    "WINO": ("wino(tau=0.6)",),
    "LLaDA top-k": tuple(f"unmask(per_round={k})" for k in (2, 4)),
    "Dream": ("dream(steps=16, order='entropy')",),
}


def measured(spec: str, seeds: tuple[int, ...], many: int) -> dict[str, Any]:
    """Means and standard errors over all records."""
    decoder = dk.Decoder("zoo:masked", spec)
    paths: list[information.Path] = []
    verdicts = []
    for seed in seeds:
        examples = json_examples("heldout", many, seed)
        out = decoder.generate([e.prompt for e in examples], max_tokens=CANVAS, seed=seed, batch_size=many)
        for example, one in zip(examples, out, strict=True):
            paths += information.ledger(one.trace).paths
            verdicts.append(judge_json(example, one.text))
    figures = {
        "rounds": [float(p.rounds) for p in paths],
        "canvases": [float(p.canvases) for p in paths],
        "bits": [float(p.cost.sum()) for p in paths],
        "valid %": [100.0 * v.valid for v in verdicts],
        "fields %": [100.0 * v.fields for v in verdicts],
        "records %": [100.0 * v.exact for v in verdicts],
    }
    row: dict[str, Any] = {"strategy": spec, "n": len(paths)}
    for name, values in figures.items():
        mean, error = information.summary(values)
        row[name], row[f"{name} +-"] = round(mean, 2), round(error, 2)
    half = len(verdicts) // len(seeds)
    by_seed = [statistics.mean(v.exact for v in verdicts[at : at + half]) for at in range(0, len(verdicts), half)]
    return {**row, "records % by seed": [round(100 * one, 1) for one in by_seed]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    seeds, many = (SEEDS[:1], 16) if quick else (SEEDS, MANY)
    rows: list[dict[str, Any]] = []
    for family, specs in POLICIES.items():
        for spec in specs:
            rows.append({"family": family, **measured(spec, seeds, many)})
            print({name: value for name, value in rows[-1].items() if "+-" not in name}, flush=True)
    if not quick:
        note = f"zoo:masked, JSON task, {len(seeds)} seeds of {many} held-out sentences, {CANVAS} cells, greedy values"
        save("diffusion_records", SEEDS[0], rows, note)


if __name__ == "__main__":
    main()
