"""A trace as plain data to be shown: the tokens of every sample with all that is known of them, and the rounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from decodekit.analysis import diagnostics
from decodekit.diffusion.canvas import KINDS
from decodekit.trace.lineage import Line
from decodekit.trace.trace import Array, Trace
from decodekit.view.colours import colours_of

MOST: Final = 24
"""Samples of a trace that are shown, the heaviest ones."""
_OTHERS: Final = 8


@dataclass(frozen=True)
class Token:
    """One token of a text. values: by the names of the story's colours, None where nothing is known.

    others: (text, probability) of the likeliest tokens. lost: (text, who guessed it) of guesses that were refused here.
    """

    text: str
    special: bool
    position: int
    by: str
    values: dict[str, float | None]
    others: list[tuple[str, float]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)

    @property
    def guessed(self) -> bool:
        """Whether somebody but the model proposed it; why a canvas took a cell is no proposer."""
        return bool(self.by) and self.by not in KINDS


@dataclass(frozen=True)
class Shown:
    """One sample: its tokens, how it ended, its share."""

    group: int
    slot: int
    weight: float
    finish: str
    tokens: list[Token]


@dataclass(frozen=True)
class Story:
    """A trace. colours: what its tokens can be coloured by, with words for it; of those in `falls` less is hotter.
    rounds: for each round tokens taken, guesses refused, rows, seconds. tree: lines of descent, or None.

    canvas: (round, place, text) of every commit where cells were not filled from left to right, else empty.
    """

    name: str
    header: dict[str, Any]
    prompt: str
    samples: list[Shown]
    hidden: int
    rounds: list[dict[str, float]]
    tree: list[list[int]] | None
    canvas: list[tuple[int, int, str]]
    colours: dict[str, str]
    falls: frozenset[str] = frozenset()

    def spread(self, colour: str) -> tuple[float, float]:
        """The coldest and the hottest value of a colour."""
        return self._spreads.get(colour, (0.0, 0.0))

    @cached_property
    def _spreads(self) -> dict[str, tuple[float, float]]:
        found = {}
        for name in self.colours:
            known = [v for s in self.samples for t in s.tokens if (v := t.values.get(name)) is not None]
            low, high = (min(known), max(known)) if known else (0.0, 0.0)
            found[name] = (high, low) if name in self.falls else (low, high)
        return found

    @cached_property
    def telling(self) -> list[str]:
        """Colours that differ anywhere, each once where several say the same."""
        seen = dict[tuple[float | None, ...], str]()
        for name in self.colours:
            low, high = self.spread(name)
            if low != high:
                seen.setdefault(tuple(t.values[name] for s in self.samples for t in s.tokens), name)
        return list(seen.values())


def story(trace: Trace, name: str = "", colours: Sequence[str] = ()) -> Story:
    """What there is to show of a trace; the text of tokens is that which it was saved with.

    colours: specs of scores to colour by, beside those that are always there.

    Raises:
        OptionError, ScoreError: of these, see :func:`decodekit.view.colours.colours_of`.
    """
    known = colours_of(trace, colours)
    lines = sorted(trace.lines(), key=lambda line: -line.weight)
    samples = [shown(trace, line, {key: one.values for key, one in known.items()}) for line in lines[:MOST]]
    first = lines[0].group if lines else 0
    prompt = trace.text(trace.header["prompt_ids"].get(str(first), ()))
    return Story(
        name=name or str(trace.header.get("spec", "")),
        header={key: trace.header.get(key) for key in ("spec", "model", "seed", "vocab", "models")},
        prompt=prompt,
        samples=samples,
        hidden=max(0, len(lines) - MOST),
        rounds=_rounds(trace),
        tree=_tree(trace, first),
        canvas=_canvas(trace, lines[0]) if lines else [],
        colours={key: one.says for key, one in known.items()},
        falls=frozenset(key for key, one in known.items() if one.falls),
    )


def refused(trace: Trace, line: Line) -> dict[int, list[int]]:
    """The events of refused guesses by position, of the rounds in which the line took tokens: also of rounds before a
    resampling, in the row that the line went through then.
    """
    events, found = trace.events, defaultdict[int, list[int]](list)
    lost = np.flatnonzero(~events["accepted"])
    if not len(lost):
        return found
    through = set(zip(events["round"][line.index].tolist(), events["row"][line.index].tolist(), strict=True))
    for i, *where in zip(lost.tolist(), *(events[name][lost].tolist() for name in ("round", "row")), strict=True):
        if tuple(where) in through:
            found[int(events["position"][i])].append(i)
    return found


def shown(trace: Trace, line: Line, values: Mapping[str, Array]) -> Shown:
    """One sample with its tokens; `values` [E] of all events by the name of a colour."""
    lost = refused(trace, line)
    events, words = trace.events, trace.header["words"]
    known = trace.spelling
    tokens = []
    for i in line.index.tolist():
        token, place = int(events["token"][i]), int(events["position"][i])
        others: list[tuple[str, float]] = []
        if "top_ids" in events:
            pairs = zip(events["top_ids"][i][:_OTHERS], np.exp(events["top_logps"][i][:_OTHERS]), strict=True)
            others = [(said(trace, int(t)), float(p)) for t, p in pairs]
        fought = [(said(trace, int(events["token"][j])), words[events["by"][j]]) for j in lost.get(place, ())]
        told = {name: float(column[i]) if np.isfinite(column[i]) else None for name, column in values.items()}
        special = known is not None and known.special(token)
        tokens.append(Token(said(trace, token), special, place, words[events["by"][i]], told, others, fought))
    return Shown(line.group, line.slot, line.weight, line.finish, _joined(trace, line, tokens))


def _joined(trace: Trace, line: Line, tokens: list[Token]) -> list[Token]:
    """Characters whose bytes are spread over tokens are shown at the last of these."""
    out, held = [], b""
    for i, token in zip(line.index.tolist(), tokens, strict=True):
        raw = trace.bytes_of(int(trace.events["token"][i]))
        if token.special or not raw:
            out.append(token)
            continue
        held += raw
        try:
            out.append(replace(token, text=held.decode()))
            held = b""
        except UnicodeDecodeError as problem:
            if problem.reason == "unexpected end of data":
                out.append(replace(token, text=held[: problem.start].decode()))
                held = held[problem.start :]
            else:
                out.append(replace(token, text=held.decode("utf-8", "replace")))
                held = b""
    return out


def said(trace: Trace, token: int) -> str:
    """The text of one token, its number where there is none."""
    return trace.bytes_of(token).decode("utf-8", "replace") or f"<{token}>"


def _rounds(trace: Trace) -> list[dict[str, float]]:
    events, rounds = trace.events, trace.rounds
    count = len(rounds["rows"])
    taken = np.bincount(events["round"][events["accepted"]], minlength=count)
    refused = np.bincount(events["round"][~events["accepted"]], minlength=count)
    mine = np.flatnonzero(taken + refused)
    return [
        {
            "round": r,
            "taken": int(taken[r]),
            "lost": int(refused[r]),
            "rows": int(rounds["rows"][r]),
            "seconds": float(rounds["seconds"][r]),
            "fed": int(rounds["fed"][r].sum()),
        }
        for r in mine.tolist()
    ]


def _tree(trace: Trace, group: int) -> list[list[int]] | None:
    if "smc.parent" not in trace.header.get("facts", []) or not len(trace.told("smc.particles", group)["value"]):
        return None
    found: list[list[int]] = diagnostics.genealogy(trace, group).tolist()
    return found


def _canvas(trace: Trace, line: Line) -> list[tuple[int, int, str]]:
    """Commits of one sample in the order of rounds, if they were not from left to right one by one."""
    events = trace.events
    mine = (events["group"] == line.group) & (events["slot"] == line.slot) & events["accepted"]
    index = np.flatnonzero(mine)
    places = events["position"][index]
    if len(places) < 2 or (np.diff(places) > 0).all():
        return []
    start = int(trace.header["prompts"][str(line.group)])
    return [
        (int(events["round"][i]), int(events["position"][i]) - start, said(trace, int(events["token"][i])))
        for i in index
    ]


def scaled(story_: Story, sample: Shown, colour: str) -> Sequence[float | None]:
    """[T] from 0 (cold) to 1 (hot) over the whole trace."""
    low, high = story_.spread(colour)
    wide = high - low or 1.0
    return [None if (v := t.values.get(colour)) is None else (v - low) / wide for t in sample.tokens]
