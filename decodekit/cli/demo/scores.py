"""A block of the demo about what is known of an answer besides its text."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

import decodekit as dk
from decodekit.zoo.data import json_prompt

Say = Callable[[Console, str, object], None]


def trust(console: Console, say: Say, sentence: str) -> None:
    """How sure the model is, token by token: scores of an answer, and stopping where it does not know"""
    prompt = json_prompt("order", sentence)
    for model in ("zoo:base", "zoo:draft"):
        out = dk.generate(model, prompt, max_tokens=96, scores=["gnll", "max_entropy"])
        figures = ", ".join(f"{name} {value:.2f}" for name, value in out.scores.items())
        say(console, model.removeprefix("zoo:"), f"{out.text}   ({figures})")
    out = dk.generate("zoo:draft", prompt, max_tokens=96, strategy="greedy | abstain('max_entropy', above=1.0)")
    say(console, "abstains", f"{out.text} ...   (finish: {out.finish})")
