"""Grammars on a canvas: so many cells hold finitely many texts, and what a parser can be in is counted out.

A parser's stack has no bound, but a canvas has: the places that a reader of the grammar can reach within its cells, and
from which the text can end within the rest, are a finite automaton. Whether it is empty is the emptiness test of the
grammar cut with what stands on the canvas, and the sums over it are as exact as those of a pattern. The places may be
many: small grammars and short canvases are what this is for, and what is too large is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from decodekit.core.bound import BindContext
from decodekit.core.rows import NONE
from decodekit.diffusion.marginals import Lattice
from decodekit.errors import CompositionError, ConstraintError
from decodekit.registry.metadata import name_of

from ..automata.automaton import Automaton, Both
from ..automata.byte_machine import trie
from ..automata.patterns import Tree
from ..core.bound import vocabulary_for
from ..core.compile_cache import keep
from ..core.vocabulary import Vocabulary
from ..kinds.combine import flat
from .packing import ENTRIES, STATES, packed, useful
from .token_automata import lattice_of

PLACES: Final = 8_000
"""The most places that are looked at, those from which no text ends in time included."""
KEPT: Final = 4
"""Automata that are remembered for one vocabulary."""


def automaton_of(parts: Sequence[Any], run: BindContext) -> Lattice | Callable[[int], Lattice]:
    """The automaton of all `parts` (constraint plugins) together, or, where one is no regular language but says by
    `unbounded()` what machine reads it, what makes one for a number of cells.

    Raises:
        CompositionError: a part has neither an automaton nor a machine.
        ConstraintError: the automaton is too large, or no text is common to all.
    """
    trees, machines = list[Tree](), list[Any]()
    for part in parts:
        found = flat(part)
        if found is not None:
            trees += found
            continue
        ask = getattr(part, "unbounded", None)
        machine = ask() if callable(ask) else None
        if machine is None:
            raise CompositionError(
                f"{name_of(part)} cannot hold on a canvas, whose cells are filled in any order: that takes a finite "
                "automaton; use regex, choice, template, all_of of these, a json_schema of bounded depth, or a Lark "
                "cfg; or a causal model"
            )
        machines.append(machine)
    if not machines:
        return lattice_of(trees, run, " and ".join(name_of(part) for part in parts))
    what = " and ".join(name_of(part) for part in parts)
    return unrolled(machines, trees, vocabulary_for(run), run, what)


def unrolled(
    machines: Sequence[Any], trees: list[Tree], vocabulary: Vocabulary, run: BindContext, what: str
) -> Callable[[int], Lattice]:
    """From a number of cells to the automaton of texts of no more tokens that all `machines` read and all `trees` hold.

    What it returns raises ConstraintError where no text is so short, or the places are too many.
    """

    def made(cells: int) -> Lattice:
        parts = [*machines, Both([Automaton(tree, what) for tree in trees])] if trees else list(machines)
        key = (*machines, repr(trees), run.eos, cells)
        return keep(vocabulary, "unrolled", KEPT, key, lambda: _grown(parts, vocabulary, run, what, cells))

    return made


def _grown(parts: list[Any], vocabulary: Vocabulary, run: BindContext, what: str, cells: int) -> Lattice:
    """Breadth first, a token at a time, as far as the canvas goes; then only what can still end within it."""
    first = tuple(part.first() for part in parts)
    number, depth, lines = {first: 0}, [0], list[np.ndarray[Any, Any]]()
    most = min(PLACES, ENTRIES // max(1, len(vocabulary)))
    for state in (places := [first]):
        here = depth[len(lines)]
        if here == cells:  # breadth first: so are all that follow
            break
        line = np.full(len(vocabulary), NONE, dtype=np.int32)
        lines.append(line)
        for after, ids in _reached(parts, state, vocabulary):
            if after not in number:
                if len(number) >= most:
                    raise ConstraintError(
                        f"{what}: the grammar can be in more than {most:,} places within {here + 1} of the {cells} "
                        "cells of this canvas; lower max_tokens, or use a smaller grammar or a pattern"
                    )
                number[after] = len(number)
                depth.append(here + 1)
                places.append(after)
            line[list(ids)] = number[after]
    final = np.array([all(part.final(one) for part, one in zip(parts, state, strict=True)) for state in places])
    table = np.full((len(places) + 1, len(vocabulary)), len(places), dtype=np.int32)
    for at, line in enumerate(lines):
        table[at] = np.where(line == NONE, len(places), line)
    kept, least = useful(table, final)
    kept = [at for at in kept if depth[at] + least[at] <= cells]
    if not kept:
        raise ConstraintError(
            f"{what}: no text of the grammar fits the {cells} cells of this canvas with these tokens; raise max_tokens"
        )
    if len(kept) > STATES:
        raise ConstraintError(
            f"{what}: the grammar has {len(kept):,} places on the {cells} cells of this canvas, and {STATES:,} are the "
            "most; lower max_tokens, or use a smaller grammar or a pattern"
        )
    return packed(table, final, kept, least, run, what)


def _reached(parts: list[Any], state: tuple[Any, ...], vocabulary: Vocabulary) -> list[tuple[Any, tuple[int, ...]]]:
    """Every token that may come next, as the state after it and the ids that spell it."""
    out, open_ = list[tuple[Any, tuple[int, ...]]](), [(trie(vocabulary), state)]
    while open_:
        node, here = open_.pop()
        for byte, child in node.next.items():
            after = tuple(part.step(one, byte) for part, one in zip(parts, here, strict=True))
            if None not in after:
                if child.ids:
                    out.append((after, child.ids))
                open_.append((child, after))
    return out
