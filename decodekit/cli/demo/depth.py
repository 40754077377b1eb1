"""Blocks of the demo about how the logits are computed: more passes for a token, or fewer layers."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

import decodekit as dk
from decodekit.zoo import hops
from decodekit.zoo.data import json_prompt

Say = Callable[[Console, str, object], None]


def pondering(console: Console, say: Say) -> None:
    """A small model thinks longer: it reads each position again with a mixture of what it would say (pondering)"""
    prompt, gold = "b>d d>a a>f f>c c>e e>b b3?", "f"
    for steps in (0, 3):
        out = dk.generate("zoo:hops", prompt, strategy=f"greedy | pondering(steps={steps})", max_tokens=1)
        said = "right" if out.text.strip() == gold else "wrong"
        say(console, f"{steps} steps", f"{prompt} -> {out.text.strip()} ({said}; {_work(out)})")
    say(console, "the task", f"{hops.HOPS} hops at most through a permutation: three steps from b lead to d, a, f")


def skipping(console: Console, say: Say, sentence: str) -> None:
    """The further the answer, the fewer layers: a model tuned for it needs half the depth (SkipDecode)"""
    prompt = json_prompt("order", sentence)
    for model, strategy in (("zoo:deep", "greedy"), ("zoo:skip", "greedy | skipdecode(2, 6, 32)")):
        out = dk.generate(model, prompt, strategy=strategy, max_tokens=96)
        say(console, model.removeprefix("zoo:"), f"{out.text}   ({_work(out)})")


def exits(console: Console, say: Say, sentence: str) -> None:
    """The lower half of one model guesses, the upper half checks, over one cache: the same text, fewer passes"""
    prompt = json_prompt("order", sentence)
    plain = dk.generate("zoo:exits", prompt, strategy="greedy", max_tokens=96)
    drafted = dk.generate("zoo:exits", prompt, strategy="greedy | self_speculative(exit=4, k=4)", max_tokens=96)
    early = dk.generate("zoo:exits", prompt, strategy="greedy | early_exit(threshold=0.95)", max_tokens=96)
    say(console, "all layers", f"{plain.text}   ({plain.cost.rounds} rounds)")
    say(console, "same, drafted", f"{drafted.text == plain.text}   ({drafted.cost.rounds} rounds)")
    say(console, "early exit", f"{early.text}   ({_work(early)})")


def _work(out: dk.Result) -> str:
    """Layers per token that entered the model."""
    work = out.cost.models["target"]
    return f"{work.layers / work.fed:.1f} layers per token"
