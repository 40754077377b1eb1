"""Beside the rules: what caches of canvases change, what soft masks do, what a diffusion draft saves a causal model.

python -m perf.diffusion_more       # three minutes on one core
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

import decodekit as dk
from decodekit.diffusion import information
from decodekit.zoo import sums
from decodekit.zoo.data import json_examples
from perf.bench import save

SEED, MANY, PROMPTS = 21, 60, 8

RULES = ("threshold(block=16, sample=True)",)
CACHES = (
    "",
    "canvas_cache(audit=True)",
    "canvas_cache(refresh=4, audit=True)",
    "canvas_cache(kind='dual', audit=True)",
    "canvas_cache(kind='dual', refresh=4, audit=True)",
)
SOFT = ("", "soft_masks(weight=0.1)", "soft_masks(weight=0.3)", "soft_masks(weight=0.1, steps=1)")


def canvases(what: str, rule: str, scorer: str) -> dict[str, Any]:
    """Rounds, sums that are right, and cells fed, of one rule under one scorer."""
    spec = " | ".join(filter(None, (rule, scorer)))
    out = dk.Decoder("zoo:sums", spec).generate(sums.PROMPT, n=MANY, seed=SEED, batch_size=MANY)
    book = information.ledger(out.trace)
    right = [100.0 * sums.right(one.text, sums.RECORDS) for one in out.samples]
    valid, error = information.summary(right)
    row: dict[str, Any] = {"what": what, "rule": rule, "scorer": scorer, "n": MANY}
    row |= {"rounds": round(book.mean()["rounds"], 2), "valid %": round(valid, 1), "valid % +-": round(error, 1)}
    if "audit" in scorer:
        for name in ("cache.kl", "cache.flips"):
            told = [float(v) for g in (out.trace.groups or ()) for v in out.trace.told(name, g)["value"]]
            row[name] = round(statistics.mean(told), 5)
        plain = dk.Decoder("zoo:sums", spec.replace(", audit=True", "").replace("(audit=True)", ""))
        out = plain.generate(sums.PROMPT, n=MANY, seed=SEED, batch_size=MANY)
    return {**row, "cells fed a canvas": round(out.cost.models["target"].fed / MANY)}


def drafted(strategy: str, prompts: list[str]) -> dict[str, Any]:
    """Tokens per target pass, draft passes per target pass, and whether the text is the plain one."""
    each, drafts, same = [], [], 0
    plain, decoder = dk.Decoder("zoo:base", "greedy"), dk.Decoder("zoo:base", f"{strategy} | greedy")
    for prompt in prompts:
        want, got = (one.generate(prompt, max_tokens=80, trace=False) for one in (plain, decoder))
        each.append(len(got.tokens) / got.cost.models["target"].calls)
        drafts.append(got.cost.models["draft"].calls / got.cost.models["target"].calls)
        same += got.tokens == want.tokens
    row: dict[str, Any] = {"what": "draft", "strategy": strategy, "prompts": len(prompts)}
    mean, error = information.summary(each)
    row |= {"tokens/target pass": round(mean, 2), "+-": round(error, 2)}
    return {**row, "draft passes/target pass": round(statistics.mean(drafts), 2), "same text": same}


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []

    def put(row: dict[str, Any]) -> None:
        rows.append(row)
        print(row, flush=True)

    prompts = [example.prompt for example in json_examples("heldout", PROMPTS, SEED)]
    for k in (4, 8):
        put(drafted(f"speculative(draft='zoo:draft', k={k})", prompts))
        put(drafted(f"canvas_draft(draft='zoo:masked', k={k})", prompts))
    for rule in RULES:
        for cache in CACHES:
            put(canvases("cache", rule, cache))
    for soft in SOFT:
        put(canvases("soft masks", "ete(explore=3, gap=12, sample=True)", soft))
    save(
        "diffusion_more", SEED, rows, f"zoo:sums, {MANY} canvases; drafts for zoo:base on {PROMPTS} held-out sentences"
    )


if __name__ == "__main__":
    main()
