"""A block of the demo about several models on one text."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.text import Text

import decodekit as dk
from decodekit.zoo.data import json_prompt


def fast_slow(console: Console, say: Callable[[Console, str, object], None], sentence: str) -> None:
    """A small model writes and asks a large one where it is unsure; what the large one changed is marked"""
    prompt = json_prompt("order", sentence)
    for name, strategy in (
        ("small alone", "greedy"),
        ("asking", "greedy | fast_slow(slow='zoo:base', route='entropy', threshold=0.4)"),
        ("cascade", "greedy | cascade(slow='zoo:base', threshold=-0.05)"),
    ):
        out = dk.generate("zoo:draft", prompt, strategy=strategy, max_tokens=96)
        slow = out.cost.models.get("slow")
        asked = 0 if slow is None else slow.calls
        console.print(
            Text(f"  {name:<17}", style="dim") + _marked(out) + Text(f"   (large model: {asked} of {len(out.tokens)})"),
            soft_wrap=True,
        )
    say(
        console,
        "see also",
        "fast_slow has seven combiners; thresholds are fitted with `decodekit fit`; docs/fast_slow.md",
    )


def _marked(out: dk.Result) -> Text:
    """The answer, tokens that the slow model changed in another colour."""
    assert out.trace is not None
    changed = set(out.trace.told("position changed", 0)["value"].astype(int).tolist())
    text = Text()
    tokenizer = dk.load("zoo:draft").tokenizer
    for at, token in enumerate(out.tokens):
        text.append(tokenizer.decode([token], skip_special_tokens=True), style="bold magenta" if at in changed else "")
    return text
