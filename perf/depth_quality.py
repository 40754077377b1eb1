"""What less depth costs: exact records, exact SQL and loss by position for SkipDecode, its controls, and early exits.

    for arm in skip2 skip4 bottom2 full exits shallow; do
        python -m training.depth_recipe $arm --out runs/depth_$arm
    done
    python -m perf.depth_quality --runs runs

Held-out examples, greedy, float32 of the bfloat16 weights. *layers* counts decoder layers per generated token (the
prompt runs all of them and is not counted). The loss is that of the gold answer, read under the arm's own schedule.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

import decodekit as dk
from decodekit import zoo
from decodekit.models.layer_schedule import Depths
from decodekit.models.load import load
from decodekit.zoo.data import json_examples, sql_examples
from perf.bench import save
from training import batches, tokenizer
from training.depth_recipe import LENGTH, SCHEDULES, indices
from training.evaluate import score_json, score_sql
from training.partial import running

SEED = 2024
BUCKETS = ((0, 8), (8, 16), (16, 32), (32, 64))


def strategy_of(depths: Depths) -> str:
    """The plugin that decodes as `depths` trained."""
    keep = ", keep='bottom'" if depths.kind == "bottom" else ""
    return f"skipdecode({depths.least}, {depths.most}, {LENGTH}, warmup={depths.warmup}{keep})"


def arms(runs: Path) -> list[tuple[str, Path, str, Depths | None]]:
    """(name, folder, strategy, schedule of the loss)."""
    deep = zoo.path("deep")
    found: list[tuple[str, Path, str, Depths | None]] = [("deep, all layers", deep, "", None)]
    found.append(("tuned further, all layers", runs / "depth_full", "", None))
    for name in ("skip2", "skip4", "bottom2"):
        depths = SCHEDULES[name]
        found.append((f"{name}, not tuned", deep, strategy_of(depths), depths))
        found.append((f"{name}, tuned", runs / f"depth_{name}", strategy_of(depths), depths))
    found.append(("4 layers from scratch", runs / "depth_shallow", "", None))
    found.append(("exits, all layers", runs / "depth_exits", "", None))
    for threshold in (0.8, 0.95, 0.99):
        name = f"exits, gap {threshold}"
        found.append((name, runs / "depth_exits", f"early_exit(threshold={threshold}, layers=(2, 4, 6))", None))
    return found


@torch.inference_mode()
def losses(folder: Path, depths: Depths | None, n: int) -> dict[str, float]:
    """Nats per gold answer token by generated index."""
    words = tokenizer.load(zoo.path("base"))
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    examples = json_examples("heldout", n, SEED) + sql_examples("heldout", n, SEED)
    sums = {bucket: [0.0, 0] for bucket in BUCKETS}
    for example in examples:
        chunk = batches.causal(batches.encode([example], words), words.pad_token_id, 0.0)
        index = indices(chunk)
        with running(model, depths, index) if depths else nullcontext():
            logits = model(input_ids=chunk.tokens, use_cache=False).logits[0, :-1]  # [T-1, V]
        loss: Tensor = cross_entropy(logits, chunk.tokens[0, 1:], reduction="none")
        for (low, high), total in sums.items():
            here = (index[0, 1:] >= low) & (index[0, 1:] < high)
            total[0] += float(loss[here].sum())
            total[1] += int(here.sum())
    return {f"{low}-{high}": round(total / max(1, count), 4) for (low, high), (total, count) in sums.items()}


def right(folder: Path, strategy: str, n: int) -> dict[str, Any]:
    """Exact answers of both tasks, and layers per generated token."""
    decoder = dk.Decoder(load(str(folder)), f"greedy | {strategy}" if strategy else "greedy")
    found: dict[str, Any] = {}
    layers = tokens = 0.0
    tasks: Sequence[tuple[str, Any, Callable[..., Any], str]] = (
        ("json", json_examples("heldout", n, SEED), score_json, "exact records"),
        ("sql", sql_examples("heldout", n, SEED), score_sql, "execution match"),
    )
    for task, examples, score, what in tasks:
        answers: list[str] = []
        for at in range(0, n, 16):
            part = decoder.generate([e.prompt for e in examples[at : at + 16]], max_tokens=96)
            answers += [one.text for one in part]
            cost = part[0].cost
            prompts = sum(len(one.prompt.tokens) for one in part)
            layers += cost.models["target"].layers - 8 * prompts
            tokens += cost.models["target"].fed - prompts
        share = score(examples, answers)[what]
        found[f"{task}: {what}"] = {"percent": share.percent, "low": share.low, "high": share.high}
    return {**found, "layers": round(layers / tokens, 2)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What less depth costs.")
    parser.add_argument("--runs", type=Path, required=True, help="folder with the arms that the recipe trained")
    parser.add_argument("--n", type=int, default=200, help="examples a task")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, folder, strategy, depths in arms(options.runs):
        row = {"arm": name, "strategy": strategy or "all layers", **right(folder, strategy, options.n)}
        if "early_exit" not in strategy:
            row["loss by generated index"] = losses(folder, depths, options.n)
        if folder.name == "depth_shallow":
            row["layers"] = 4.0
        rows.append(row)
        print(row, flush=True)
    table = Table("arm", "layers", "json", "sql")
    for row in rows:
        json, sql = row["json: exact records"], row["sql: execution match"]
        table.add_row(row["arm"], str(row["layers"]), str(json["percent"]), str(sql["percent"]))
    Console().print(table)
    print(save("depth_quality", SEED, rows, __doc__ or ""))


if __name__ == "__main__":
    main()
