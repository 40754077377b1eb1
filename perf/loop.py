"""Our loop against the barest one and against transformers' own generate; speculation against assisted generation.

    python -m perf.loop            # everything, about a quarter of an hour on one core
    python -m perf.loop --quick    # a look: fewer repeats, short prompts only

One thread, the same model and prompts for all, greedy, no end of text, so that all write the same number of tokens.
Every figure is a ratio of paired repeats of one run, with its quartiles; milliseconds are only there to see the scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, LlamaConfig, LlamaForCausalLM

import decodekit as dk
from decodekit import zoo
from decodekit.models.load import load
from decodekit.zoo.data import json_examples
from perf.bench import paired, ratio, save

SEED = 11
NEW = 128


def models() -> dict[str, tuple[Any, Any]]:
    """The embedded base, and a random 4-layer, 256-wide Llama (with the same tokenizer); neither ends a text."""
    tokenizer = AutoTokenizer.from_pretrained(zoo.path("base"))
    base = AutoModelForCausalLM.from_pretrained(zoo.path("base"), dtype=torch.float32)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=base.config.vocab_size,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.1,
    )
    wide = LlamaForCausalLM(config).eval()
    return {"zoo:base": (base.eval(), tokenizer), "llama 4x256": (wide, tokenizer)}


def endless(model: Any) -> Any:
    """No token ends a text, and no length limit but the benchmark's."""
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    model.config.eos_token_id = None
    model.config.max_position_embeddings = 4096  # rotary positions: any length may be timed
    return model


def prompts(tokenizer: Any, batch: int, length: int) -> list[list[int]]:
    """`batch` prompts of exactly `length` tokens, made of held-out sentences."""
    text = "\n".join(example.prompt + example.answer for example in json_examples("heldout", 400, SEED))
    ids: list[int] = tokenizer(text)["input_ids"]
    return [ids[i * 37 : i * 37 + length] for i in range(batch)]


@torch.inference_mode()
def bare(model: Any, ids: torch.Tensor, new: int) -> torch.Tensor:
    """The barest greedy loop: forward, argmax, concatenate; a stock cache that concatenates as well."""
    cache, step, out = DynamicCache(), ids, [ids]
    for _ in range(new):
        logits = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        step = logits[:, -1:].argmax(-1)
        out.append(step)
    return torch.cat(out, 1)


def contenders(model: Any, tokenizer: Any, ids: list[list[int]], new: int) -> dict[str, Callable[[], object]]:
    """Everybody who writes `new` tokens after the prompts `ids`, all of one length."""
    tensor = torch.tensor(ids)
    ours = load((model, tokenizer))
    ours.eos = ()
    plain = dk.Decoder(ours, strategy="greedy")
    light = dk.Decoder(ours, strategy="greedy", trace=False)

    def theirs() -> object:
        mask = torch.ones_like(tensor)
        return model.generate(tensor, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False)

    return {
        "bare loop": lambda: bare(model, tensor, new),
        "decodekit": lambda: plain.generate(ids, max_tokens=new),
        "decodekit, no trace": lambda: light.generate(ids, max_tokens=new),
        "transformers": theirs,
    }


def check(model: Any, tokenizer: Any, ids: list[list[int]]) -> None:
    """All contenders write the same text, or the comparison is void."""
    runs = contenders(model, tokenizer, ids, 16)
    reference = runs["bare loop"]()[:, len(ids[0]) :].tolist()  # type: ignore[index]
    assert [out.tokens for out in runs["decodekit"]()] == reference  # type: ignore[attr-defined]
    assert runs["transformers"]()[:, len(ids[0]) :].tolist() == reference  # type: ignore[index]


def loops(repeats: int, lengths: tuple[int, ...], batches: tuple[int, ...]) -> list[dict[str, object]]:
    """Rows of the first table: one per model, batch and prompt length."""
    rows: list[dict[str, object]] = []
    for name, (model, tokenizer) in models().items():
        endless(model)
        for batch in batches:
            for length in lengths:
                ids = prompts(tokenizer, batch, length)
                check(model, tokenizer, ids[:2])
                timed = paired(contenders(model, tokenizer, ids, NEW), repeats)
                row: dict[str, object] = {"model": name, "batch": batch, "prompt": length, "new": NEW}
                row["bare ms/token"] = round(timed["bare loop"].median / NEW * 1e3, 3)
                for who in ("decodekit", "decodekit, no trace"):
                    row[f"{who} / bare"] = ratio(timed[who], timed["bare loop"])
                    row[f"{who} / transformers"] = ratio(timed[who], timed["transformers"])
                rows.append(row)
                show(row)
    return rows


def drafters(pair: tuple[Any, Any, Any], ours: Any, texts: list[str]) -> dict[str, Callable[[], Any]]:
    """Everybody who answers `texts` greedily; transformers' assisted generation has batch 1 only."""
    target, small, tokenizer = pair
    plain = dk.Decoder(ours, strategy="greedy")
    drafted = dk.Decoder(ours, strategy="speculative(draft='zoo:draft', k=4) | greedy")
    runs: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain.generate(texts, max_tokens=NEW),
        "drafted": lambda: drafted.generate(texts, max_tokens=NEW),
    }
    if len(texts) == 1:
        inputs = tokenizer(texts, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        common = {**inputs, "max_new_tokens": NEW, "do_sample": False}
        runs["assisted"] = lambda: target.generate(**common, assistant_model=small)
        runs["transformers"] = lambda: target.generate(**common)
    return runs


def speculation(repeats: int, batches: tuple[int, ...]) -> list[dict[str, object]]:
    """Rows of the second table: base drafted by draft, on held-out sentences, each answer to its own end."""
    tokenizer = AutoTokenizer.from_pretrained(zoo.path("base"))
    target = AutoModelForCausalLM.from_pretrained(zoo.path("base"), dtype=torch.float32).eval()
    small = AutoModelForCausalLM.from_pretrained(zoo.path("draft"), dtype=torch.float32).eval()
    ours = load((target, tokenizer))
    rows: list[dict[str, object]] = []
    for batch in batches:
        texts = [example.prompt for example in json_examples("heldout", batch, SEED + 1)]
        runs = drafters((target, small, tokenizer), ours, texts)
        timed = paired(runs, repeats)
        row: dict[str, object] = {"batch": batch, "drafted / plain": ratio(timed["drafted"], timed["plain"])}
        for who in ("assisted", "transformers"):
            if who in timed:
                row[f"drafted / {who}"] = ratio(timed["drafted"], timed[who])
        one, two = runs["plain"](), runs["drafted"]()
        row["same text"] = sum(a.text == b.text for a, b in zip(one, two, strict=True)) / batch
        row["target passes, plain"], row["target passes, drafted"] = one[0].cost.calls, two[0].cost.calls
        rows.append(row)
        show(row)
    return rows


def show(row: dict[str, object]) -> None:
    """One row, as it comes."""
    table = Table(show_header=False, box=None)
    for key, value in row.items():
        text = (
            f"{value['median']:.3f}  ({value['q25']:.3f} .. {value['q75']:.3f})" if isinstance(value, dict) else value
        )
        table.add_row(key, str(text))
    Console().print(table, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    rows = loops(3, (32,) if quick else (32, 1024), (1, 16))
    rows += speculation(5 if quick else 15, (1, 16))
    if not quick:
        print(
            save("loop", SEED, rows, "greedy, one thread, ratios of paired repeats: below 1 is faster than the other")
        )


if __name__ == "__main__":
    main()
