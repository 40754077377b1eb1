"""The demo's canvas: how two rules fill the same records, round by round, with the bits that each round carried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

import decodekit as dk
from decodekit.diffusion import information
from decodekit.run.results import Result
from decodekit.zoo import sums

Say = Callable[[Console, str, object], None]
_COLOURS = {"explore": "bold yellow", "exploit": "green", "fallback": "cyan"}
_PAUSE = 0.25  # seconds a frame, on a terminal only


def canvas(console: Console, say: Say) -> None:
    """Fill four sums with the threshold rule and by exploring first, and print what came of it."""
    spent = {}
    for label, spec in (
        ("certain cells", "threshold(block=16, sample=True)"),
        ("explore first", "ete(explore=3, gap=12, sample=True)"),
    ):
        out = dk.generate("zoo:sums", sums.PROMPT, strategy=spec, seed=7)
        path = information.ledger(out.trace).paths[0]
        spent[label] = path
        _show(console, label, out)
        right = "every sum is right" if sums.right(out.text, sums.RECORDS) else "a sum is wrong"
        say(console, label, f"{path.rounds} rounds, {path.total:.1f} bits, at most {path.peak:.1f} a round; {right}")
    say(console, "why", "rounds >= bits / bits of a round: what is certain carries next to nothing")


def frames(out: Result) -> Iterator[Text]:
    """The canvas after each round; what the round filled is coloured by why it was filled."""
    path = information.ledger(out.trace).paths[0]
    cells = {int(p): (int(w), why) for p, w, why in zip(path.position, path.when, path.why, strict=True)}
    for turn in range(path.rounds):
        shown = Text()
        for at, sign in enumerate(out.text):
            when, why = cells.get(at, (-1, ""))
            word = " " if sign == "\n" else sign
            shown.append(word if when <= turn else "·", style=_COLOURS.get(why, "") if when == turn else "dim")
        yield shown


def _show(console: Console, label: str, out: Result) -> None:
    """An animation on a terminal; elsewhere the first rounds and the last, one line each."""
    every = list(frames(out))
    if console.is_terminal:
        with Live(console=console, refresh_per_second=20, transient=False) as live:
            for turn, frame in enumerate(every, start=1):
                live.update(Text(f"  {label:<17}", style="dim") + Text(f"{turn:3d}  ") + frame)
                time.sleep(_PAUSE)
        return
    few = list(enumerate(every, start=1))
    for turn, frame in few if len(few) <= 5 else [*few[:3], *few[-1:]]:
        console.print(Text(f"  {'round ' + str(turn):<17}", style="dim") + frame, soft_wrap=True)
