"""Rules that fill canvases under a constraint: rounds against what is right beyond the form, which is always right.

`zoo:sums` under a regex that it would hardly ever satisfy by itself (every record begins with `a=3` and has a sum from
10 to 19): what the constraint forces is evidence, and exploring before it has been taken in breaks sums. And
`zoo:masked` on the JSON task under each record's schema. Beside them what the sums over the automaton cost a round.

python -m perf.diffusion_constraints            # some ten minutes on one core
python -m perf.diffusion_constraints --quick    # a tenth of it, nothing is saved
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoTokenizer

import decodekit as dk
from decodekit.constraints.canvas.unrolled import automaton_of
from decodekit.core.bound import BindContext
from decodekit.diffusion import information
from decodekit.diffusion.marginals import Cells, Lattice, Sums
from decodekit.models.load import load
from decodekit.testing.tables import TableModel
from decodekit.zoo import sums
from decodekit.zoo.data import JSON_SCHEMAS, json_examples
from decodekit.zoo.scoring import judge_json
from perf.bench import save

SEEDS, MANY = (41, 42, 43), 50
PATTERN = r"(a=3,b=\d,sum=1\d;\n){4}"
SUMS: dict[str, tuple[str, ...]] = {
    "threshold, block": ("threshold(tau=0.9, block=16, sample=True)",),
    "threshold, cross-block": ("threshold(tau=0.9, block=16, window=4, sample=True)",),
    "ETE": tuple(f"ete(explore={k}, gap={g}, block=16, sample=True)" for k, g in ((1, 1), (3, 12))),
    "ETE, absorbing": tuple(
        f"ete(explore={k}, gap={g}, absorb={a}, block=16, sample=True)"
        for k, g, a in ((1, 1, 1.0), (2, 12, 1.0), (3, 12, 1.0), (3, 12, 0.1), (4, 12, 1.0))
    ),
    "ETE, look-ahead": ("ete(explore=2, gap=8, hypotheses=4, absorb=1.0, block=16, sample=True)",),
    "ETE, revoking": tuple(
        f"ete(explore={k}, gap={g}, absorb=1.0, revoke=0.1, block=16, sample=True)" for k, g in ((1, 1), (2, 12))
    ),
    "ETE, rounds given": tuple(f"ete(max_rounds={r}, absorb=1.0, sample=True)" for r in (4, 6)),
    "factor": ("factor(factor=1.0, block=16, window=4, sample=True)",),
    "EB": ("entropy_bounded(gamma=0.1, block=16, window=4, sample=True)",),
    "WINO": ("wino(tau=0.6, block=16, sample=True)",),
    "LLaDA top-k": ("unmask(per_round=4, sample=True)", "unmask(order='random', per_round=4, sample=True)"),
    "Dream": ("dream(steps=16, order='entropy', sample=True)",),
    "one by one": ("threshold(tau=1.1, block=16, sample=True)",),
}
RECORDS = (
    "threshold(tau=0.9)",
    "ete(explore=1, gap=8, block=48)",
    "ete(explore=1, gap=8, absorb=1.0, block=48)",
    "ete(explore=2, gap=8, absorb=1.0, block=48)",
    "unmask(per_round=4)",
)


def sums_under(spec: str, seeds: Sequence[int], many: int) -> dict[str, Any]:
    """Means and standard errors of one rule on `zoo:sums`; valid: all four sums are right."""
    decoder = dk.Decoder("zoo:sums", spec, dk.regex(PATTERN))
    paths: list[information.Path] = []
    right: list[float] = []
    form: list[float] = []
    by_seed: list[float] = []
    for seed in seeds:
        out = decoder.generate(sums.PROMPT, n=many, seed=seed, batch_size=many)
        paths += information.ledger(out.trace).paths
        own = [100.0 * sums.right(one.text, sums.RECORDS) for one in out.samples]
        right, by_seed = right + own, [*by_seed, round(statistics.mean(own), 1)]
        form += [100.0 * (re.fullmatch(PATTERN, one.text) is not None) for one in out.samples]
    return {"valid % by seed": by_seed, **_row(spec, paths, {"valid %": right, "form %": form})}


def records_under(spec: str, seeds: Sequence[int], many: int, constrained: bool) -> dict[str, Any]:
    """The same on the JSON task, each record under its own schema or under none."""
    paths: list[information.Path] = []
    verdicts = []
    for seed in seeds:
        for example in json_examples("heldout", many, seed):
            rule = dk.json_schema(JSON_SCHEMAS[example.kind], whitespace="compact") if constrained else None
            out = dk.generate("zoo:masked", example.prompt, strategy=spec, constraint=rule, max_tokens=48, seed=seed)
            paths += information.ledger(out.trace).paths
            verdicts.append(judge_json(example, out.text))
    figures = {
        "valid %": [100.0 * v.valid for v in verdicts],
        "fields %": [100.0 * v.fields for v in verdicts],
        "records %": [100.0 * v.exact for v in verdicts],
    }
    return {"schema": constrained, **_row(spec, paths, figures)}


def _row(spec: str, paths: list[information.Path], figures: dict[str, list[float]]) -> dict[str, Any]:
    every = {
        "rounds": [float(p.rounds) for p in paths],
        "canvases": [float(p.canvases) for p in paths],
        "bits": [float(p.cost.sum()) for p in paths],
        **figures,
    }
    row: dict[str, Any] = {"strategy": spec, "n": len(paths)}
    for name, values in every.items():
        mean, error = information.summary(values)
        row[name], row[f"{name} +-"] = round(mean, 2), round(error, 2)
    return row


def cost() -> list[dict[str, Any]]:
    """Milliseconds of a look (both passes, marginals, a draw) for a batch of canvases, and of making the automaton."""
    rows = []
    small = load("zoo:masked")
    models: list[tuple[str, Any]] = [("zoo:masked", small)]
    if "DECODEKIT_DATA" in os.environ:
        words = AutoTokenizer.from_pretrained(f"{os.environ['DECODEKIT_DATA']}/tok-cl100k")
        models.append(("100k tokens", TableModel(vocab=26, masked=True)))
        models[-1][1].tokenizer, models[-1][1].vocab = words, len(words)
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    for name, model in models:
        for rule in (
            dk.regex(r"[a-z]{2,9}@[a-z]{2,9}\.(com|org)"),
            dk.json_schema({**schema, "required": ["name"]}, "compact"),
        ):
            begun = time.perf_counter()
            made = automaton_of((rule,), BindContext(model, lambda thing: thing, eos=tuple(model.eos)))  # type: ignore[arg-type, return-value]
            took = time.perf_counter() - begun
            assert isinstance(made, Lattice)
            for batch, size in ((1, 48), (16, 48)) if model is small else ((1, 48),):
                rows.append(_look(name, str(dk.Strategy.of(rule))[:40], made, batch, size, took))
    return rows


def _look(name: str, rule: str, made: Lattice, batch: int, size: int, took: float) -> dict[str, Any]:
    noise = torch.Generator().manual_seed(1)
    width = made.table.shape[1]
    p = torch.randn(batch, size, width, generator=noise, dtype=torch.float64).softmax(2)
    seconds: list[float] = []
    for _ in range(4):
        begun = time.perf_counter()
        found = Sums(made, Cells.blank(batch, size), p)
        found.marginals()
        found.draw()
        seconds.append(time.perf_counter() - begun)
    row = {"vocabulary": name, "rule": rule, "states": made.states, "moves": len(made.kind), "batch": batch}
    return {**row, "cells": size, "compile ms": round(1e3 * took, 1), "look ms": round(1e3 * min(seconds[1:]), 1)}


def verdicts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The target: at least 0.9 of the threshold rule's validity at half its rounds."""
    base = next(row for row in rows if row["strategy"] == SUMS["threshold, block"][0])
    return [
        {
            "strategy": row["strategy"],
            "rounds": round(row["rounds"] / base["rounds"], 3),
            "valid": round(row["valid %"] / base["valid %"], 3),
        }
        for row in rows
        if row["strategy"].startswith("ete")
        and row["rounds"] <= base["rounds"] / 2
        and row["valid %"] >= 0.9 * base["valid %"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--records", action="store_true", help="the records and the costs as well (slow)")
    options = parser.parse_args()
    quick, records = options.quick, options.records
    torch.set_num_threads(1)
    seeds, many = (SEEDS[:1], 20) if quick else (SEEDS, MANY)
    rows: list[dict[str, Any]] = []
    for family, specs in SUMS.items():
        for spec in specs:
            rows.append({"task": "sums", "family": family, **sums_under(spec, seeds, many)})
            print({k: v for k, v in rows[-1].items() if "+-" not in k}, flush=True)
    met = verdicts([row for row in rows if row["task"] == "sums"])
    for spec in RECORDS if records else ():
        for constrained in (False, True):
            rows.append({"task": "records", **records_under(spec, seeds, 8 if quick else 16, constrained)})
            print({k: v for k, v in rows[-1].items() if "+-" not in k}, flush=True)
    rows += [{"task": "cost", **row} for row in cost()] if records else []
    print(*rows[-6:], *met, sep="\n")
    if not quick:
        note = f"zoo:sums under {PATTERN!r}, {len(seeds)} seeds of {many} canvases; zoo:masked under records' schemas"
        save("diffusion_constraints", SEEDS[0], [*rows, {"targets met by": met}], note)


if __name__ == "__main__":
    main()
