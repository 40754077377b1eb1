"""Figures as inline SVG, legible on a light and on a dark page."""

from __future__ import annotations

import io
import math
import re
from typing import Any, Final

GREY: Final = "#808890"  # stands out from white and from black


COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b8a800", "#7b61c4")


def population(data: dict[str, Any]) -> str:
    """ESS and log evidence by round, and below them the lines of descent; `data` as `decodekit.diagnostics` has it."""
    figure, (upper, lower) = drawn(4.2, 2)
    upper.plot(data["rounds"], data["ess"], color=colour(0), label="ESS")
    upper.set_ylabel("ESS")
    upper.set_ylim(bottom=0)
    other = upper.twinx()
    log_z = [math.nan if value is None else value for value in data["log_z"]]
    other.plot(data["rounds"], log_z, color=colour(3), label="log evidence")
    other.set_ylabel("log evidence", color=GREY)
    other.spines[:].set_color(GREY)
    other.tick_params(colors=GREY, labelsize=8)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, labelcolor=GREY, fontsize=8)
    last = data["rounds"][-1] if data["rounds"] else 0
    times = [*data["moves"], last + 1]
    for slot in range(len(data["tree"][0])):
        lower.plot(times, [line[slot] for line in data["tree"]], "-o", ms=2.5, lw=1, color=colour(slot))
    lower.set_xlim(upper.get_xlim())
    lower.set_xlabel("round; lines of descent of the final particles")
    lower.set_ylabel("particle")
    lower.yaxis.get_major_locator().set_params(integer=True)
    return svg(figure)


def drawn(height: float, panels: int = 1, beside: bool = False) -> tuple[Any, Any]:
    """A figure, and its axes (several panels: one below the other, or beside), in grey on nothing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, height), layout="constrained")
    figure.patch.set_alpha(0)
    found: Any = figure.subplots(*(1, panels) if beside else (panels,))
    for axes in [found] if panels == 1 else found:
        axes.patch.set_alpha(0)
        for spine in axes.spines.values():
            spine.set_color(GREY)
        axes.tick_params(colors=GREY, labelsize=8)
        axes.xaxis.label.set_color(GREY)
        axes.yaxis.label.set_color(GREY)
    return figure, found


def colour(number: int) -> str:
    """Of strategy number so and so, the same in every plot."""
    return COLOURS[number % len(COLOURS)]


def mark(number: int) -> str:
    """The shape of its points: colours come again after eight."""
    return "osD^v"[number // len(COLOURS) % 5]


def short(name: str, most: int = 34) -> str:
    """A name that fits a legend."""
    return name if len(name) <= most else name[: most - 1] + "…"


def svg(figure: Any) -> str:
    """The figure as an SVG element that is as wide as what it stands in."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "decodekit"}):  # same plot, same bytes
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
