"""A story in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from decodekit.view.story import Story, scaled


def show(console: Console, one: Story, colour: str = "surprise") -> None:
    """Print every sample with its tokens on a background from none (least) to red (most)."""
    console.print(Text(one.name, style="bold"))
    low, high = one.spread(colour)
    console.print(Text(f"{one.header['model']}, seed {one.header['seed']}, {len(one.rounds)} rounds", style="dim"))
    console.print(Text(f"colour: {colour} ({one.colours[colour]}), {low:.3g} to {high:.3g}", style="dim"))
    for sample in one.samples:
        head = f"weight {sample.weight:.3f}, " if len(one.samples) > 1 else ""
        console.print(Text(f"{head}{len(sample.tokens)} tokens, ends by {sample.finish or 'nothing yet'}", style="dim"))
        line = Text()
        for token, share in zip(sample.tokens, scaled(one, sample, colour), strict=True):
            style = "dim" if token.special else ""
            if share is not None and share > 0.03:
                style += f" on rgb({int(40 + 170 * share)},40,40)"
            if token.guessed:
                style += " underline"
            line.append(token.text, style=style.strip())
        console.print(line, soft_wrap=True)
    taken, lost = (sum(r[key] for r in one.rounds) for key in ("taken", "lost"))
    console.print(Text(f"{taken:.0f} tokens taken, {lost:.0f} guesses refused (underlined: guessed)", style="dim"))
    if one.hidden:
        console.print(Text(f"{one.hidden} lighter samples are not shown", style="dim"))
