"""Several formulas followed at once over one value: the threads that are alive, and which formulas came true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from decodekit.errors import ConstraintError

from .satisfiability import Space

TRACKS: Final = 4_000
"""The most threads that are followed at once."""


class Track(NamedTuple):
    """One thread of the formula `goal`. beside: formulas that must, or must not, come true along with it."""

    goal: int
    rules: Any
    state: Any
    beside: tuple[tuple[int, bool], ...]

    def at(self, state: Any) -> Track:
        """The same thread further on."""
        return Track(self.goal, self.rules, state, self.beside)


def begin(space: Space, main: Iterable[int], kind: str, others: Iterable[int] = ()) -> tuple[Track, ...]:
    """The threads of all formulas, and of those that theirs ask for, for a value of one type."""
    open_, known, out = [*main, *others], set[int](), list[Track]()
    while open_:
        goal = open_.pop(0)
        if goal in known:
            continue
        known.add(goal)
        for thread in space.arena.threads(goal, kind):
            if not space.thread_satisfiable(kind, thread):
                continue
            rules, beside = space.rules(kind, space.core(thread)), space.deferred(thread)
            first = rules.first() if hasattr(rules, "first") else None
            out.append(Track(goal, rules, first, beside))
            open_.extend(formula for formula, _ in beside)
        if len(out) > TRACKS:
            raise ConstraintError(f"more than {TRACKS} readings of the schema are open at once; simplify its unions")
    return tuple(out)


def alive(tracks: Iterable[Track], main: frozenset[int]) -> bool:
    """Whether one of the formulas `main` can still come true."""
    tracks = tuple(tracks)
    goals = {track.goal for track in tracks}
    return any(
        track.goal in main and all(formula in goals for formula, sign in track.beside if sign) for track in tracks
    )


def came_true(final: Iterable[Track]) -> frozenset[int]:
    """The formulas that hold of a value, from the threads that may end with it."""
    by_goal: dict[int, list[Track]] = {}
    for track in final:
        by_goal.setdefault(track.goal, []).append(track)
    known: dict[int, bool] = {}

    def holds(goal: int) -> bool:
        if goal not in known:
            known[goal] = any(
                all(holds(formula) == sign for formula, sign in track.beside) for track in by_goal.get(goal, ())
            )
        return known[goal]

    return frozenset(goal for goal in by_goal if holds(goal))
