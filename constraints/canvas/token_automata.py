"""From patterns to automata over tokens, for constraints on canvases
(:class:`decodekit.diffusion.marginals.Lattice`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from decodekit.core.bound import BindContext
from decodekit.diffusion.marginals import Lattice
from decodekit.errors import ConstraintError

from ..automata.automaton import Automaton, Both
from ..automata.patterns import Tree
from ..core.bound import vocabulary_for
from ..core.compile_cache import keep
from ..core.vocabulary import Vocabulary
from .packing import ENTRIES, STATES, packed, useful

KEPT: Final = 8
"""Automata that are remembered for one vocabulary."""


def lattice_of(trees: list[Tree], run: BindContext, what: str) -> Lattice:
    """The automaton of texts that hold all `trees`, over the tokens of the run's model.

    Raises:
        ConstraintError: the automaton is too large, or no text is common to all.
    """
    vocabulary = vocabulary_for(run)
    key = (what, run.eos, run.model.vocab, repr(trees))
    return keep(vocabulary, "lattices", KEPT, key, lambda: _lifted(trees, vocabulary, run, what))


def _lifted(trees: list[Tree], vocabulary: Vocabulary, run: BindContext, what: str) -> Lattice:
    jump, final = _bytes(Both([Automaton(tree, what) for tree in trees]), what)
    size, dead = len(vocabulary), len(final)
    if dead * size > ENTRIES:
        raise ConstraintError(
            f"{what}: {dead} states times {size:,} tokens are more than the {ENTRIES:,} entries that an automaton on "
            "a canvas may have; use a smaller pattern"
        )
    table = _leaps(jump, vocabulary.tokens)  # [D + 1, V]
    kept, least = useful(table, final)
    if not len(kept):
        raise ConstraintError(f"{what}: these tokens can spell no text of it; use characters that the tokenizer knows")
    return packed(table, final, kept, least, run, what)


def _bytes(machine: Both, what: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """([D + 1, 256] the state after a byte, D for nowhere; [D] whether a text may end)."""
    number, rows, final = {machine.first(): 0}, list[list[int]](), list[bool]()
    open_ = deque([machine.first()])
    while open_:
        state = open_.popleft()
        final.append(machine.final(state))
        cuts = sorted({0}.union(*(part.cuts(one) for part, one in zip(machine.parts, state, strict=True))))
        line = [-1] * 256
        for low, high in zip(cuts, [*cuts[1:], 256], strict=True):
            after = machine.after(state, low)
            if after is None:
                continue
            if after not in number:
                if len(number) >= STATES:
                    raise ConstraintError(f"{what} has more than {STATES} states; use smaller repetitions on a canvas")
                number[after] = len(number)
                open_.append(after)
            line[low:high] = [number[after]] * (high - low)
        rows.append(line)
    dead = len(number)
    jump = np.array([*rows, [-1] * 256], dtype=np.int32)
    jump[jump < 0] = dead
    return jump, np.array(final)


def _leaps(jump: np.ndarray[Any, Any], tokens: Sequence[bytes]) -> np.ndarray[Any, Any]:
    """[D + 1, V] int32, the state after all bytes of a token; nowhere for tokens without bytes."""
    dead = len(jump) - 1
    out = np.full((dead + 1, len(tokens)), dead, dtype=np.int32)
    by_length: dict[int, list[int]] = {}
    for token, text in enumerate(tokens):
        if text:
            by_length.setdefault(len(text), []).append(token)
    for length, ids in by_length.items():
        texts = np.frombuffer(b"".join(tokens[i] for i in ids), dtype=np.uint8).reshape(len(ids), length)
        here = np.broadcast_to(np.arange(dead + 1, dtype=np.int32)[:, None], (dead + 1, len(ids)))
        for place in range(length):
            here = jump[here, texts[:, place]]
        out[:, ids] = here
    return out
