"""The counts that docs/fidelity.md quotes: no clock in them, so the same on every machine.

python -m perf.fidelity       # two minutes on one core
"""

from __future__ import annotations

import statistics

import torch

import decodekit as dk
from decodekit.comparison.task import LARGE_SQL
from decodekit.zoo.data import DATABASES, JSON_SCHEMAS, json_examples, sql_examples
from perf.bench import save

SEED, MANY = 5, 40


def constrained(model: str, strategy: str) -> tuple[dict[str, object], list[str]]:
    """Checks and masks a token over held-out SQL questions, each under its own database's constraint."""
    asked = sql_examples("heldout", MANY, 77)
    checks = masks = tokens = 0
    texts: list[str] = []
    for name, database in DATABASES.items():
        prompts = [example.prompt for example in asked if example.kind == name]
        limits = {
            "constraint": dk.sql(schema=database.ddl, **LARGE_SQL),
            "seed": SEED,
            "max_tokens": 80,
            "trace": False,
        }
        found = dk.generate(model, prompts, strategy=strategy, **limits)
        cost = found[0].cost  # of the whole call
        checks, masks, tokens = checks + cost.checks, masks + cost.masks, tokens + cost.tokens
        texts += [one.text for one in found]
    row: dict[str, object] = {"what": "sql constraint", "model": model, "strategy": strategy, "prompts": len(texts)}
    return {**row, "checks/token": round(checks / tokens, 3), "masks/token": round(masks / tokens, 3)}, texts


def drafted(task: str, prompts: list[str]) -> dict[str, object]:
    """Tokens per target pass with a draft, one prompt at a time, and whether the text is that of plain sampling."""
    strategy = "speculative(draft='zoo:draft', k=4) | sample"
    ratios, same = [], 0
    for prompt in prompts:
        plain = dk.generate("zoo:base", prompt, strategy="sample", seed=SEED, max_tokens=100, trace=False)
        fast = dk.generate("zoo:base", prompt, strategy=strategy, seed=SEED, max_tokens=100, trace=False)
        ratios.append(len(fast.tokens) / fast.cost.calls)
        same += fast.text == plain.text
    row: dict[str, object] = {"what": "speculation", "task": task, "strategy": strategy, "prompts": len(prompts)}
    return {**row, "tokens/target pass": round(statistics.mean(ratios), 3), "same text as sample": same}


def unmasked(tau: float, prompts: list[str], kinds: list[str]) -> dict[str, object]:
    """Rounds of threshold unmasking and the share of answers that fit their schema."""
    rounds, fit = [], 0
    for prompt, kind in zip(prompts, kinds, strict=True):
        out = dk.generate("zoo:masked", prompt, strategy=f"threshold(tau={tau})", max_tokens=48, trace=False)
        rounds.append(out.cost.rounds)
        fit += dk.json_schema(JSON_SCHEMAS[kind]).judge(out.text)
    row: dict[str, object] = {"what": "threshold", "tau": tau, "prompts": len(prompts)}
    return {**row, "rounds": round(statistics.mean(rounds), 2), "fit their schema": fit}


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for model in ("zoo:base", "zoo:draft"):
        texts: dict[str, list[str]] = {}
        for strategy in ("awrs", "awrs(chunk=2)", "mask"):
            row, texts[strategy] = constrained(model, strategy)
            rows.append({**row, "same texts as mask": None})
        for row in rows[-3:]:
            strategy = str(row["strategy"])
            row["same texts as mask"] = sum(a == b for a, b in zip(texts[strategy], texts["mask"], strict=True))
    questions, sentences = sql_examples("heldout", 20, 79), json_examples("heldout", 40, 78)
    rows.append(drafted("sql", [example.prompt for example in questions]))
    rows.append(drafted("json", [example.prompt for example in sentences[:20]]))
    prompts, kinds = [example.prompt for example in sentences], [example.kind for example in sentences]
    rows += [unmasked(tau, prompts, kinds) for tau in (1.1, 0.95, 0.9, 0.7, 0.5)]
    for row in rows:
        print(row)
    print(save("fidelity", SEED, rows, "counts on the embedded models, held-out examples"))


if __name__ == "__main__":
    main()
