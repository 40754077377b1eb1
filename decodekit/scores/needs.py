"""What a score asks of a run, before the run: what the trace must keep, how many samples, which callables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Asked by a score.

    columns: of the trace's events. top: likeliest tokens per event. hidden: last hidden states. text: what tokens say.
    samples: finished texts of one prompt. results: answers to several prompts at once (paraphrases). tools: callables
    of :class:`decodekit.scores.tools.Tools`, all of which have a built-in.
    """

    columns: tuple[str, ...] = ()
    top: int = 0
    hidden: bool = False
    text: bool = False
    samples: int = 1
    results: int = 1
    tools: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """For lists."""
        found = [*self.columns]
        found += [f"top {self.top}"] if self.top else []
        found += ["hidden"] if self.hidden else []
        found += [f"{self.samples} samples"] if self.samples > 1 else []
        found += [f"{self.results} prompts"] if self.results > 1 else []
        return found + list(self.tools)


def union(needs: Iterable[Needs]) -> Needs:
    """What serves all of them."""
    each = list(needs)
    return Needs(
        columns=tuple(dict.fromkeys(name for one in each for name in one.columns)),
        top=max((one.top for one in each), default=0),
        hidden=any(one.hidden for one in each),
        text=any(one.text for one in each),
        samples=max((one.samples for one in each), default=1),
        results=max((one.results for one in each), default=1),
        tools=tuple(dict.fromkeys(name for one in each for name in one.tools)),
    )
