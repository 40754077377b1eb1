"""How guesses fared: acceptance by place and by who guessed, what a target pass brings, and what it should gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from decodekit.core.cost import Cost
from decodekit.diffusion.canvas import KINDS
from decodekit.errors import DecodekitError
from decodekit.trace.trace import Array, Trace

if TYPE_CHECKING:
    from decodekit.run.results import Result


@dataclass(frozen=True, slots=True)
class Share:
    """Guesses of one place or of one proposer.

    guesses: how many tokens were guessed. tried: how many the target came to look at, those behind a refused one left
    out. accepted: how many became text.
    """

    guesses: int
    tried: int
    accepted: int

    @property
    def rate(self) -> float:
        """Accepted of those that were tried; NaN if none was."""
        return self.accepted / self.tried if self.tried else float("nan")


@dataclass(frozen=True)
class Acceptance:
    """What guessing was worth in a run.

    rows: row-rounds, a target pass of one row each. tokens: that became text in them. passes: target passes of the
    whole batch. drafts: passes of the draft models a target pass. by_depth: of guess 0, 1, ... after the text; a tree
    has several there, and the place counts as accepted if one of them is. by_word: of each proposer, by its word in
    the trace. ratio: cost of a draft pass over that of a target pass.
    predicted: tokens a row and pass over the cost of what it takes, 1 + drafts x ratio: the gain over plain decoding
    where a pass over several tokens costs what a pass over one does. measured: seconds of plain decoding over those of
    this run, a token each; None if no plain run was given.
    """

    rows: int
    tokens: int
    passes: int
    drafts: float
    by_depth: tuple[Share, ...]
    by_word: dict[str, Share]
    ratio: float
    predicted: float
    measured: float | None

    @property
    def length(self) -> float:
        """Mean accepted length: tokens of a row in a target pass, the one after the last accepted guess included."""
        return self.tokens / self.rows

    @property
    def passes_per_token(self) -> float:
        """Target passes of a row per token of its text; 1 for plain decoding."""
        return self.rows / self.tokens

    @property
    def guesses(self) -> int:
        """All guessed tokens."""
        return sum(one.guesses for one in self.by_word.values())

    @property
    def wasted(self) -> float:
        """Share of the guesses that became no text."""
        return 1.0 - sum(one.accepted for one in self.by_word.values()) / self.guesses

    def line(self) -> str:
        """All in one line."""
        rates = ", ".join(f"{word} {one.rate:.0%}" for word, one in self.by_word.items())
        gain = f"{self.predicted:.2f} times by cost" + (
            "" if self.measured is None else f", {self.measured:.2f} by clock"
        )
        return (
            f"{self.length:.2f} tokens a target pass; accepted: {rates}; {self.wasted:.0%} of {self.guesses} guesses "
            f"wasted; gain {gain}"
        )

    def table(self) -> Any:
        """A rich table: a line for each proposer and for each place."""
        from rich.table import Table

        table = Table(title=self.line(), title_justify="left", box=None, pad_edge=False)
        for column in ("guesses", "guessed", "tried", "accepted", "rate"):
            table.add_column(column, justify="left" if column == "guesses" else "right")
        lines = [(f"of {word}", one) for word, one in self.by_word.items()]
        lines += [(f"at place {depth + 1}", one) for depth, one in enumerate(self.by_depth)]
        for name, one in lines:
            table.add_row(name, str(one.guesses), str(one.tried), str(one.accepted), f"{one.rate:.3f}")
        return table

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for reports."""
        shares = {word: [one.guesses, one.tried, one.accepted] for word, one in self.by_word.items()}
        return {
            "length": self.length,
            "passes_per_token": self.passes_per_token,
            "drafts": self.drafts,
            "wasted": self.wasted,
            "by_depth": [[one.guesses, one.tried, one.accepted] for one in self.by_depth],
            "by_word": shares,
            "ratio": self.ratio,
            "predicted": self.predicted,
            "measured": self.measured,
        }


def acceptance(
    what: Trace | Result | Sequence[Result], plain: Result | Sequence[Result] | None = None, ratio: float | None = None
) -> Acceptance:
    """Read off a trace, or off results that have one.

    Args:
        what: a trace, a result or the results of one call.
        plain: results of the same prompts without guesses, to compare seconds with.
        ratio: cost of a draft pass over a target pass; by default that of the floating-point operations per token of
            the two models, and 0 for a trace alone or guesses without a model.

    Raises:
        DecodekitError: there is no trace, or nothing was guessed in it.
    """
    trace, cost = _given(what)
    events = trace.events
    guessed, row = _guesses(trace), _rows(events)
    if not guessed.any():
        raise DecodekitError(
            "nothing was guessed in this run; decode with a proposer of guesses (`decodekit strategies` lists them)"
        )
    count = int(row.max()) + 1
    depth, tried = _tried(events, guessed, row)
    passes, drafts = _passes(trace)
    if ratio is None:
        ratio = 0.0 if cost is None else _ratio(cost)
    tokens = int(events["accepted"].sum())
    return Acceptance(
        rows=count,
        tokens=tokens,
        passes=passes,
        drafts=drafts,
        by_depth=_by_depth(row, depth, guessed, tried, events["accepted"]),
        by_word=_by_word(trace, guessed, tried),
        ratio=ratio,
        predicted=tokens / count / (1.0 + drafts * ratio),
        measured=None if plain is None else _faster(plain, what),
    )


def guesses(trace: Trace) -> bool:
    """Whether anything was guessed in it."""
    return bool(_guesses(trace).any())


def looked(trace: Trace) -> tuple[Array, Array]:
    """[E] bool, guesses that the target came to look at, and those that became text."""
    guessed = _guesses(trace)
    _, tried = _tried(trace.events, guessed, _rows(trace.events))
    return tried, guessed & trace.events["accepted"]


def _tried(events: dict[str, Array], guessed: Array, row: Array) -> tuple[Array, Array]:
    """[E] how many tokens after the text of its round an event stands, and whether it is a guess that was looked at."""
    count = int(row.max(initial=-1)) + 1
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, row, events["position"].astype(np.int64))
    depth = events["position"] - first[row]
    reached = np.zeros(count, dtype=np.int64)  # guesses in a row that were accepted, from the first on
    np.add.at(reached, row, guessed & events["accepted"])
    return depth, guessed & (depth <= reached[row])


def _given(what: Trace | Result | Sequence[Result]) -> tuple[Trace, Cost | None]:
    if isinstance(what, Trace):
        return what, None
    results = [what] if not isinstance(what, Sequence) else list(what)
    trace = results[0].trace if results else None
    if trace is None:
        raise DecodekitError("there is no trace to read; decode with trace=True")
    return (trace if len(results) == 1 else trace.whole), results[0].cost


def _guesses(trace: Trace) -> Array:
    """[E] bool, events that somebody but the model proposed; why a canvas took a cell is no proposer."""
    words = trace.header["words"]
    kinds = KINDS if "exploit" in words else ("",)  # a canvas names all its reasons; "forced" alone is a proposer
    own = [code for code, word in enumerate(words) if word in kinds]
    found: Array = ~np.isin(trace.events["by"], own)
    return found


def _rows(events: dict[str, Array]) -> Array:
    """[E] a number for each row in each round."""
    keys = np.stack([events[name].astype(np.int64) for name in ("round", "group", "slot")])
    return np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)


def _by_depth(row: Array, depth: Array, guessed: Array, tried: Array, accepted: Array) -> tuple[Share, ...]:
    out = []
    for place in range(int(depth[guessed].max()) + 1):
        here = guessed & (depth == place)
        looked, taken = np.unique(row[here & tried]), np.unique(row[here & accepted])
        out.append(Share(int(here.sum()), len(looked), len(taken)))
    return tuple(out)


def _by_word(trace: Trace, guessed: Array, tried: Array) -> dict[str, Share]:
    out = {}
    for code in np.unique(trace.events["by"][guessed]).tolist():
        mine = guessed & (trace.events["by"] == code)
        parts = (mine, mine & tried, mine & trace.events["accepted"])
        out[trace.header["words"][code]] = Share(*(int(part.sum()) for part in parts))
    return out


def _passes(trace: Trace) -> tuple[int, float]:
    """(target passes, passes of other models a target pass), of the whole batch."""
    labels, calls = trace.header["labels"], trace.rounds["calls"].sum(0)
    spent = dict(zip(labels, calls.tolist(), strict=True))
    target = int(spent.pop("target", 0))
    return target, sum(spent.values()) / max(1, target)


def _ratio(cost: Cost) -> float:
    """Floating-point operations per token of the other models over the target's."""
    each = {label: one.flops / one.fed for label, one in cost.models.items() if one.fed}
    target = each.pop("target", 0.0)
    return max(each.values()) / target if each and target else 0.0


def _faster(plain: Result | Sequence[Result], what: Any) -> float:
    """Seconds a token of the one over those of the other."""
    pace = []
    for one in (plain, what):
        if isinstance(one, Trace):
            raise DecodekitError("a trace alone has no seconds of its call; give the results to compare clocks")
        first = one[0] if isinstance(one, Sequence) else one
        pace.append(first.cost.seconds / max(1, first.cost.tokens))
    return float(pace[0] / pace[1])
