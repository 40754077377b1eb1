"""Stories as one HTML page, and as a piece of one that needs no script."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import jinja2

from decodekit.view.colours import COLOURS
from decodekit.view.story import Shown, Story, scaled

_ENVIRONMENT: Final = jinja2.Environment(loader=jinja2.PackageLoader("decodekit.view"), autoescape=True)
_WIDE: Final = 640.0


def page(stories: Sequence[Story], colour: str = "surprise") -> str:
    """One page with the stories side by side. It holds all it needs: no network, light and dark, any width."""
    says = {name: words for one in stories for name, words in one.colours.items()}
    known = [name for name in says if any(one.spread(name)[0] != one.spread(name)[1] for one in stories)] or [
        "surprise"
    ]
    if colour not in known:
        known.append(colour)
    shown = [
        {
            "story": one,
            "samples": [(sample, tokens_html(one, sample, colour, known)) for sample in one.samples],
            "timeline": timeline(one),
            "tree": None if one.tree is None else _tree(one.tree),
            "canvas": json.dumps(one.canvas).replace("<", "\\u003c"),
            "ranges": {name: one.spread(name) for name in known},
        }
        for one in stories
    ]
    return _ENVIRONMENT.get_template("trace.html").render(
        shown=shown, says={name: says[name] for name in known}, known=known, chosen=colour, style=style()
    )


def style() -> str:
    """The style sheet of :func:`tokens_html`, for whoever embeds it."""
    source, _, _ = _ENVIRONMENT.loader.get_source(_ENVIRONMENT, "tokens.css")  # type: ignore[union-attr]
    return source


def tokens_html(story: Story, sample: Shown, colour: str = "surprise", choice: Sequence[str] = ()) -> str:
    """The tokens of a sample as HTML without a script: coloured, with what is known of each when it is pointed at.

    The page that it stands in needs :func:`style`. With `choice` every token has the shares 0 to 1 of these colours in
    its `data-v`, in this order, for a script that changes the colour.
    """
    every = {name: scaled(story, sample, name) for name in dict.fromkeys([colour, *choice])}
    named = dict.fromkeys([*(name for name in COLOURS if name != "canonical"), *story.telling])
    rows = [
        {
            "token": token,
            "shares": " ".join(_number(every[name][i]) or "-" for name in choice),
            "share": _number(every[colour][i]),
            "odd": token.values.get("canonical") == 1.0,
            "values": {name: _said(value) for name in named if (value := token.values.get(name)) is not None},
            "others": [(text, f"{100 * p:.1f} %", round(100 * p)) for text, p in token.others],
        }
        for i, token in enumerate(sample.tokens)
    ]
    return _ENVIRONMENT.get_template("tokens.html").render(rows=rows)


def _number(share: float | None) -> str:
    return "" if share is None else f"{share:.3f}"


def _said(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3f}"


def timeline(story: Story) -> dict[str, Any]:
    """Bars of the rounds: tokens taken above the line, guesses refused below it."""
    rounds = story.rounds
    step = _WIDE / max(1, len(rounds))
    up = max([1, *(one["taken"] for one in rounds)])
    down = max([0, *(one["lost"] for one in rounds)])
    unit = 60 / (up + down)
    bars = [
        {
            "x": round(i * step, 2),
            "w": round(max(0.6, step * 0.8), 2),
            "up": round(one["taken"] * unit, 2),
            "down": round(one["lost"] * unit, 2),
            "title": f"round {one['round']:.0f}: {one['taken']:.0f} taken, {one['lost']:.0f} refused, "
            f"{one['rows']:.0f} rows, {one['fed']:.0f} tokens fed, {1000 * one['seconds']:.1f} ms",
        }
        for i, one in enumerate(rounds)
    ]
    return {"bars": bars, "zero": round(4 + up * unit, 2), "width": _WIDE, "height": 68, "lost": down > 0}


def _tree(lines: list[list[int]]) -> dict[str, Any]:
    """Lines of descent from the first resampling (top) to the final particles (bottom)."""
    count, steps = len(lines[0]), max(1, len(lines) - 1)
    wide, high = _WIDE / max(1, count), min(30.0, 240.0 / steps)
    paths = [
        " ".join(f"{wide * (line[j] + 0.5):.1f},{8 + high * i:.1f}" for i, line in enumerate(lines))
        for j in range(count)
    ]
    return {
        "paths": paths,
        "height": math.ceil(16 + high * (len(lines) - 1)),
        "width": _WIDE,
        "ends": [(round(wide * (lines[-1][j] + 0.5), 1), round(8 + high * (len(lines) - 1), 1)) for j in range(count)],
    }
