"""A block of the demo about pictures: a visual autoregressive model, speculation, and LANTERN."""

from __future__ import annotations

from collections.abc import Callable

from rich.columns import Columns
from rich.console import Console

import decodekit as dk
from decodekit.vision import images

Say = Callable[[Console, str, object], None]
_KINDS = (2, 5, 8)
_DRAFT = "speculative(draft='zoo:visual-draft', k=8)"
_STRATEGIES = {
    "plain": "sample",
    "exact": f"sample | {_DRAFT}",
    "transport": f"lantern(16, 0.2, 'transport') | {_DRAFT}",
}


def pictures(console: Console, say: Say) -> None:
    """Pictures, code by code: exact speculation draws the same ones; transport trades 0.2 of each law for speed"""
    prompts = [images.prompt(kind) for kind in _KINDS]
    for name, strategy in _STRATEGIES.items():
        drawn = dk.generate("zoo:visual", prompts, strategy=strategy, max_tokens=images.CODES, seed=3)
        say(console, name, f"{strategy}   ({drawn[0].cost.rounds} target passes for {images.CODES} codes)")
        console.print(Columns([images.half_blocks(one) for one in images.decoded(drawn)], padding=(0, 2)))
