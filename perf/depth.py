"""Depth: how much of the ideal speed-up SkipDecode reaches, and self-speculation against transformers' early exit.

    python -m perf.depth            # about ten minutes on one core
    python -m perf.depth --quick    # a look

One thread. A random 12-layer, 512-wide Llama, in which layers dominate, writes the same number of tokens for everybody.
*Ideal* is the ratio of floating-point operations, embedding and head counted: what would be gained if nothing but
arithmetic cost time. For self-speculation the upper layers are damped until the lower ones agree with them as often as
those of a model trained for it do; both sides draft with the same layers, the same number of guesses, greedily.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

import decodekit as dk
from decodekit import zoo
from decodekit.models.load import load
from decodekit.zoo.data import json_examples
from perf.bench import paired, ratio, save
from perf.loop import endless, prompts

SEED, LAYERS, NEW, EXIT, GUESSES = 11, 12, 64, 3, 5
SCHEDULES = {"2x": (3, 9), "4x": (2, 4)}


def deep(damped: float = 1.0) -> tuple[Any, Any]:
    """The model and a tokenizer; above the exit, what layers add is multiplied by `damped`."""
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(zoo.path("base"))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        max_position_embeddings=2048,
        initializer_range=0.05,
    )
    model = LlamaForCausalLM(config).eval()
    for layer in model.model.layers[EXIT:]:
        layer.self_attn.o_proj.weight.data *= damped
        layer.mlp.down_proj.weight.data *= damped
    return endless(model), tokenizer


def ours(pair: tuple[Any, Any], ids: list[list[int]], strategy: str) -> Callable[[], list[Any]]:
    """A call that writes NEW tokens after each prompt."""
    model = load(pair)
    model.eos = ()
    made = dk.Decoder(model, strategy)
    return lambda: list(made.generate([list(one) for one in ids], max_tokens=NEW))


def spent(call: Callable[[], list[Any]]) -> tuple[float, float]:
    """(operations, layers per token) of one call, the prompt included."""
    cost = call()[0].cost
    work = list(cost.models.values())
    return sum(one.flops for one in work), sum(one.layers for one in work) / (cost.tokens)


def skipping(batch: int, repeats: int) -> list[dict[str, Any]]:
    """SkipDecode at two schedules against full depth."""
    pair = deep()
    ids = prompts(pair[1], batch, 8)
    strategies = {"full": "greedy"}
    for name, (least, most) in SCHEDULES.items():
        strategies[f"skipdecode {name}"] = f"greedy | skipdecode(k_min={least}, k_max={most}, length={NEW})"
    calls = {name: ours(pair, ids, strategy) for name, strategy in strategies.items()}
    timed = paired(calls, repeats)
    whole, _ = spent(calls["full"])
    rows = []
    for name, call in calls.items():
        operations, layers = spent(call)
        gained = ratio(timed["full"], timed[name])
        rows.append(
            {
                "what": name,
                "batch": batch,
                "strategy": strategies[name],
                "tokens per second": round(batch * NEW / timed[name].median, 1),
                "layers per token": round(layers, 2),
                "speed-up": gained,
                "ideal": round(whole / operations, 3),
                "of ideal": round(gained["median"] / (whole / operations), 3),
            }
        )
    return rows


def speculating(damped: float, repeats: int) -> list[dict[str, Any]]:
    """Self-speculation against transformers' assistant_early_exit at batch 1, and both against plain decoding."""
    pair = deep(damped)
    ids = prompts(pair[1], 1, 8)
    tensor = torch.tensor(ids)

    @torch.inference_mode()
    def theirs(**options: Any) -> Any:
        return pair[0].generate(
            tensor,
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            attention_mask=torch.ones_like(tensor),
            **options,
        )

    pair[0].generation_config.num_assistant_tokens = GUESSES
    pair[0].generation_config.num_assistant_tokens_schedule = "constant"
    pair[0].generation_config.assistant_confidence_threshold = 0.0
    spoken = ours(pair, ids, f"greedy | self_speculative(exit={EXIT}, k={GUESSES})")
    plain = ours(pair, ids, "greedy")
    same = spoken()[0].tokens == plain()[0].tokens == theirs()[0, tensor.shape[1] :].tolist()
    agrees = theirs(assistant_early_exit=EXIT)[0, tensor.shape[1] :].tolist() == plain()[0].tokens
    calls: dict[str, Callable[[], object]] = {
        "plain": plain,
        "self_speculative": spoken,
        "transformers plain": theirs,
        "transformers early exit": lambda: theirs(assistant_early_exit=EXIT),
    }
    timed = paired(calls, repeats)
    cost = spoken()[0].cost
    return [
        {
            "what": "self_speculative against transformers' early exit",
            "batch": 1,
            "damped": damped,
            "exit": EXIT,
            "guesses": GUESSES,
            "tokens per round": round(NEW / cost.rounds, 2),
            "all texts equal": bool(same and agrees),
            "against transformers early exit": ratio(timed["transformers early exit"], timed["self_speculative"]),
            "against our plain loop": ratio(timed["plain"], timed["self_speculative"]),
            "transformers early exit against its plain": ratio(
                timed["transformers plain"], timed["transformers early exit"]
            ),
            "layers per token": round(spent(spoken)[1], 2),
        }
    ]


def trained(repeats: int) -> list[dict[str, Any]]:
    """The zoo's model with trained exits on its own task, until the end of each text; and its early exits."""
    folder = str(zoo.path("exits"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [example.prompt for example in json_examples("heldout", 8, SEED)]
    ids = [tokenizer(one, return_tensors="pt")["input_ids"] for one in asked]

    @torch.inference_mode()
    def theirs(**options: Any) -> list[list[int]]:
        found = []
        for one in ids:
            out = model.generate(
                one, max_new_tokens=96, do_sample=False, attention_mask=torch.ones_like(one), **options
            )
            found.append(out[0, one.shape[1] :].tolist())
        return found

    def mine(strategy: str) -> Callable[[], list[list[int]]]:
        decoder = dk.Decoder(load((model, tokenizer)), strategy)
        return lambda: [decoder.generate(one, max_tokens=96).tokens for one in asked]

    def fixed() -> list[list[int]]:
        settings = model.generation_config
        settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = GUESSES, "constant"
        settings.assistant_confidence_threshold = 0.0
        return theirs(assistant_early_exit=4)

    def usual() -> list[list[int]]:
        model.generation_config = GenerationConfig.from_pretrained(folder)
        return theirs(assistant_early_exit=4)

    calls = {
        "plain": mine("greedy"),
        "self_speculative": mine(f"greedy | self_speculative(exit=4, k={GUESSES})"),
        "transformers plain": theirs,
        "transformers early exit": fixed,
        "transformers early exit, its defaults": usual,
    }
    for threshold in (0.8, 0.95, 0.99):
        calls[f"early_exit {threshold}"] = mine(f"greedy | early_exit(threshold={threshold}, layers=(2, 4, 6))")
    texts = {name: call() for name, call in calls.items()}
    timed = paired(calls, repeats)
    theirs_best = min(
        ("transformers early exit", "transformers early exit, its defaults"), key=lambda n: timed[n].median
    )
    rows: list[dict[str, Any]] = [
        {
            "what": f"zoo:exits, {name}",
            "batch": 1,
            "seconds": round(timed[name].median, 3),
            "same texts as plain": sum(a == b for a, b in zip(texts[name], texts["plain"], strict=True)) / len(asked),
            "against our plain loop": ratio(timed["plain"], timed[name]),
        }
        for name in calls
    ]
    rows[1]["against transformers early exit"] = ratio(timed[theirs_best], timed["self_speculative"])
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    repeats = 3 if options.quick else 9
    rows = [row for batch in (1, 16) for row in skipping(batch, repeats)]
    rows += [row for damped in (0.02, 0.1, 0.2) for row in speculating(damped, repeats)]
    rows += trained(repeats)
    table = Table("what", "batch", "figures")
    for row in rows:
        table.add_row(
            str(row["what"]), str(row["batch"]), str({k: v for k, v in row.items() if k not in ("what", "batch")})
        )
    Console().print(table)
    if not options.quick:
        print(save("depth", SEED, rows, __doc__ or ""))


if __name__ == "__main__":
    main()
