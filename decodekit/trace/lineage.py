"""Which events of a trace became the text of which sample: through resampling, restarts and reopened cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from decodekit.core.weights import normalised

if TYPE_CHECKING:
    from decodekit.trace.trace import Trace

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Line:
    """One sample. index: [T] the events of its tokens in the order of the text, places in the columns of the view.

    finish: a word of :data:`decodekit.run.results.FINISHES`. logw: log importance weight. weight: its share of the
    view.
    """

    group: int
    slot: int
    index: Ints
    finish: str
    logw: float
    weight: float


def lines(trace: Trace) -> list[Line]:
    """Every sample of the groups looked at, by group and slot.

    A token counts that was the last to be taken at its position in the row that the sample came from, and that its
    text reaches.
    """
    whole: dict[tuple[int, int], Ints] = trace.shared.setdefault("lines", {})
    if not whole:
        whole.update(_followed(trace))
    ends, place = trace.ends, _places(trace)
    order = np.lexsort((ends["slot"], ends["group"]))
    shares = normalised(ends["logw"][order].tolist())
    words = trace.header["finishes"]
    found = []
    for which, share in zip(order, shares, strict=True):
        key = int(ends["group"][which]), int(ends["slot"][which])
        start = trace.header["prompts"][str(key[0])]
        held = whole.get(key, np.zeros(0, dtype=np.int64))[start : start + int(ends["length"][which])]
        index = place[held[held >= 0]]
        found.append(Line(*key, index, words[ends["finish"][which]], float(ends["logw"][which]), share))
    return found


def _places(trace: Trace) -> Ints:
    """From places in all events to places in those of the view."""
    whole = trace.whole.events["group"]
    if trace.groups is None:
        return np.arange(len(whole))
    mine = np.isin(whole, trace.groups)
    return np.where(mine, np.cumsum(mine) - 1, -1)


def _followed(trace: Trace) -> dict[tuple[int, int], Ints]:
    """For every sample the event that decided each of its positions, -1 where none did."""
    events, moves = trace.whole.events, trace.moves
    took = np.flatnonzero(events["accepted"])
    rounds = events["round"][took]
    longest = int(events["position"].max(initial=-1)) + 1
    batches = trace.header["batches"]
    edges = [batch["round"] for batch in batches] + [len(trace.rounds["rows"])]
    out: dict[tuple[int, int], Ints] = {}
    for batch, begin, end in zip(batches, edges[:-1], edges[1:], strict=True):
        if begin == end:
            continue
        count, width = int(trace.rounds["rows"][begin]), int(batch["width"])
        names = np.array([(batch["group"] + r // width, r % width) for r in range(count)])
        held = np.full((count, longest), -1, dtype=np.int64)
        cuts = np.searchsorted(rounds, np.arange(begin, end + 1))
        shifts = np.searchsorted(moves["round"], np.arange(begin, end + 1))
        for at in range(end - begin):
            new = took[cuts[at] : cuts[at + 1]]
            held[events["row"][new], events["position"][new]] = new
            for move in range(shifts[at], shifts[at + 1]):
                index = moves["index"][moves["offset"][move] : moves["offset"][move + 1]]
                held, names = _moved(int(moves["kind"][move]), index, held, names, out)
        out |= {(int(g), int(s)): line for (g, s), line in zip(names, held, strict=True)}
    return out


def _moved(
    kind: int, index: npt.NDArray[Any], held: Ints, names: Ints, out: dict[tuple[int, int], Ints]
) -> tuple[Ints, Ints]:
    """After one move: 0 rows are copied between slots, 1 rows leave, 2 rows begin again."""
    if kind == 2:
        held[index] = -1
        return held, names
    if kind == 1:
        stayed = np.isin(np.arange(len(held)), index)
        out |= {(int(g), int(s)): line for (g, s), line in zip(names[~stayed], held[~stayed], strict=True)}
        names = names[index]
    return held[index], names
