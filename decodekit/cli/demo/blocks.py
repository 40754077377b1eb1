"""`decodekit demo`: the main job in blocks on the embedded models, readable without reading code."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import decodekit as dk
from decodekit.cli.demo import depth, diffusion, ensembles, images, scores, speculation
from decodekit.zoo.data import DATABASES, JSON_SCHEMAS, json_prompt, sql_prompt

SENTENCE = (
    "For 370.36 euros Vixa Learveso gets a radio, a ladder and a helmet; see order 1778. The buyer will pay later."
)
QUESTION = "Which 3 pets of the species dog have the highest age?"
SEED = 7


def demo(console: Console, trace: Path) -> None:
    """Run all blocks, print to `console`, and save the trace of the particle run to the file `trace`."""
    began = time.perf_counter()
    console.print(Panel.fit("decodekit on its own embedded models: nothing is downloaded, everything runs here."))
    blocks: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
        (_json, ()),
        (_sql, ()),
        (_speculative, ()),
        (speculation.proposers, (_say, SENTENCE)),
        (_diffusion, ()),
        (depth.pondering, (_say,)),
        (depth.skipping, (_say, SENTENCE)),
        (depth.exits, (_say, SENTENCE)),
        (ensembles.fast_slow, (_say, SENTENCE)),
        (images.pictures, (_say,)),
        (scores.trust, (_say, SENTENCE)),
        (_particles, (trace,)),
    ]
    for number, (block, more) in enumerate(blocks, start=1):
        _title(console, number, block.__doc__)
        block(console, *more)
    console.print(f"\ndone in {time.perf_counter() - began:.0f} s")


def _title(console: Console, number: int, said: str | None) -> None:
    console.print()
    console.print(Text(f"{number}. {said}", style="bold"), soft_wrap=True)


def _say(console: Console, label: str, value: object) -> None:
    console.print(Text(f"  {label:<17}", style="dim") + Text(str(value)), soft_wrap=True)


def _json(console: Console) -> None:
    """A sentence becomes a JSON record"""
    prompt = json_prompt("order", SENTENCE)
    free = dk.generate("zoo:base", prompt, strategy="temperature(2.5) | sample", seed=SEED, max_tokens=80)
    held = dk.generate(
        "zoo:base",
        prompt,
        strategy="temperature(2.5) | sample",
        constraint=dk.json_schema(JSON_SCHEMAS["order"]),
        seed=SEED,
        max_tokens=120,
    )
    best = dk.generate("zoo:base", prompt, constraint=dk.json_schema(JSON_SCHEMAS["order"]), strategy="greedy")
    _say(console, "sentence", SENTENCE)
    _say(console, "hot, free", free.text)
    _say(console, "hot, schema", f"{held.text}   <- whatever is drawn, it fits the schema")
    _say(console, "greedy, schema", best.text)
    _say(console, "as an object", best.value)


def _sql(console: Console) -> None:
    """A question becomes SQL that can only name this database's tables and columns"""
    database = DATABASES["vet"]
    out = dk.generate(
        "zoo:base",
        sql_prompt("vet", QUESTION),
        strategy="greedy",
        constraint=dk.sql(schema=database.ddl),
        max_tokens=100,
    )
    _say(console, "question", QUESTION)
    _say(console, "statement", out.text)
    connection = database.connect()
    try:
        _say(console, "rows", connection.execute(out.text).fetchall())
    finally:
        connection.close()


def _speculative(console: Console) -> None:
    """The same text from fewer passes of the large model: a small one drafts, the large one checks"""
    prompt = json_prompt("order", SENTENCE)
    constraint = dk.json_schema(JSON_SCHEMAS["order"])
    plain = dk.generate("zoo:base", prompt, strategy="sample", constraint=constraint, seed=SEED)
    drafted = dk.generate(
        "zoo:base",
        prompt,
        strategy="speculative(draft='zoo:draft', k=5) | sample",
        constraint=constraint,
        seed=SEED,
    )
    _say(console, "text", drafted.text)
    _say(console, "same as without", drafted.text == plain.text)
    saved = 1 - drafted.cost.calls / plain.cost.calls
    _say(console, "model calls", f"{plain.cost.calls} alone, {drafted.cost.calls} with the draft ({saved:.0%} saved)")


def _diffusion(console: Console) -> None:
    """A diffusion model fills the whole answer at once: all cells that are certain are settled in the same round"""
    prompt = json_prompt("order", SENTENCE)
    one = dk.generate("zoo:masked", prompt, strategy="threshold(tau=1.1)", max_tokens=48)
    many = dk.generate("zoo:masked", prompt, strategy="threshold(tau=0.9)", max_tokens=48)
    _say(console, "one at a time", f"{one.cost.rounds:3d} rounds  {one.text}")
    _say(console, "threshold 0.9", f"{many.cost.rounds:3d} rounds  {many.text}")
    held = dk.generate(
        "zoo:masked",
        prompt,
        strategy="ete(explore=1, gap=8, absorb=1.0, block=48)",
        constraint=dk.json_schema(JSON_SCHEMAS["order"]),
        max_tokens=48,
    )
    _say(console, "under its schema", f"{held.cost.rounds:3d} rounds  {held.text}")
    _say(console, "note", "a small model: of ten records it fills seven without a mistake (see its card)")
    diffusion.canvas(console, _say)


def _particles(console: Console, trace: Path) -> None:
    """Particles sample from the model given that the answer is valid, and their weights say how likely that was"""
    out = dk.generate(
        "zoo:base",
        sql_prompt("vet", "Which pets are there?"),
        strategy="temperature(1.5) | awrs | smc(particles=8)",
        constraint=dk.sql(schema=DATABASES["vet"].ddl),
        seed=SEED,
        max_tokens=60,
    )
    table = Table("weight", "statement", box=None, pad_edge=False)
    for text, weight in sorted(out.posterior().items(), key=lambda item: -item[1]):
        table.add_row(f"{weight:.3f}", text)
    console.print(table)
    _say(console, "evidence", f"log P(valid) is about {out.evidence:.3f}")
    _say(console, "checks", f"{out.cost.checks} single-token checks, {out.cost.masks} full masks")
    if out.trace is not None:
        out.trace.save(trace)
        _say(console, "trace", f"every token's story is in {trace}")
