"""From patterns to automata over tokens, for constraints on canvases (:class:`decodekit.lattice.Lattice`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from decodekit.about import name_of
from decodekit.constraints.base import vocabulary_for
from decodekit.constraints.combine import flat
from decodekit.constraints.engines.automaton import Automaton, Both
from decodekit.constraints.pattern import Tree
from decodekit.constraints.vocabulary import Vocabulary
from decodekit.errors import ConstraintError
from decodekit.kit import Run
from decodekit.lattice import Lattice

STATES: Final = 4_000
"""The most byte states of an automaton on a canvas."""
ENTRIES: Final = 60_000_000
"""The largest table, byte states times tokens."""


def lattice_of(parts: Sequence[Any], run: Run) -> Lattice | None:
    """The automaton of all `parts` (constraint plugins) together, over the tokens of the run's model; None where a part
    is no regular language.

    Raises:
        ConstraintError: the automaton is too large, or no text is common to all.
    """
    trees: list[Tree] = []
    for part in parts:
        found = flat(part)
        if found is None:
            return None
        trees += found
    vocabulary = vocabulary_for(run)
    key = f"lattice {run.eos} {trees!r}"
    made: dict[str, Lattice] = vocabulary.engines.setdefault("lattices", {})
    if key not in made:
        while len(made) > 8:
            made.pop(next(iter(made)))
        made[key] = _lifted(trees, vocabulary, run, " and ".join(name_of(part) for part in parts))
    return made[key]


def _lifted(trees: list[Tree], vocabulary: Vocabulary, run: Run, what: str) -> Lattice:
    jump, final = _bytes(Both([Automaton(tree, f"{what}") for tree in trees]), what)
    size, dead = len(vocabulary), len(final)
    if dead * size > ENTRIES:
        raise ConstraintError(
            f"{what}: {dead} states times {size:,} tokens are more than the {ENTRIES:,} entries that an automaton on "
            "a canvas may have; use a smaller pattern"
        )
    table = _leaps(jump, vocabulary.tokens)  # [D + 1, V]
    kept, least = _useful(table, final)
    if not len(kept):
        raise ConstraintError(f"{what}: these tokens can spell no text of it; use characters that the tokenizer knows")
    return _packed(table, final, kept, least, run, what)


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


def _useful(table: np.ndarray[Any, Any], final: np.ndarray[Any, Any]) -> tuple[list[int], dict[int, int]]:
    """States that a text of whole tokens passes, and the tokens that the shortest completion of each takes."""
    dead, after = len(final), dict[int, np.ndarray[Any, Any]]()
    open_, seen = [0], {0}
    while open_:
        state = open_.pop()
        after[state] = np.unique(table[state])
        for next_ in after[state].tolist():
            if next_ != dead and next_ not in seen:
                seen.add(next_)
                open_.append(next_)
    before: dict[int, list[int]] = {}
    for state, found in after.items():
        for next_ in found.tolist():
            before.setdefault(next_, []).append(state)
    least = {state: 0 for state in seen if final[state]}
    queue = deque(least)
    while queue:
        state = queue.popleft()
        for one in before.get(state, []):
            if one not in least:
                least[one] = least[state] + 1
                queue.append(one)
    return (sorted(least) if 0 in least else []), least


def _packed(
    table: np.ndarray[Any, Any],
    final: np.ndarray[Any, Any],
    kept: list[int],
    least: dict[int, int],
    run: Run,
    what: str,
) -> Lattice:
    """Useful states numbered anew, one more for a text that has ended, and moves with their classes of tokens."""
    width = run.model.vocab
    ended, nowhere = len(kept), len(kept) + 1
    names = np.full(len(final) + 1, nowhere, dtype=np.int32)
    names[kept] = np.arange(len(kept), dtype=np.int32)
    out = np.full((nowhere + 1, width), nowhere, dtype=np.int32)
    out[: len(kept), : table.shape[1]] = names[table[kept]][:, :width]
    accept = np.array([*final[kept], True])
    for token in run.eos:
        if 0 <= token < width:
            out[:, token] = nowhere
            out[np.flatnonzero(accept), token] = ended  # once ended, ended to the last cell
    number, moves = dict[bytes, int](), list[tuple[int, int, int]]()
    members: list[np.ndarray[Any, Any]] = []
    for state in range(len(accept)):
        for target in np.unique(out[state]).tolist():
            if target == nowhere:
                continue
            mine = np.flatnonzero(out[state] == target)
            key = mine.tobytes()
            if key not in number:
                number[key] = len(number)
                members.append(mine)
            moves.append((state, target, number[key]))
    device = run.model.device
    source, to, kind = (torch.tensor(part, device=device) for part in zip(*moves, strict=True))
    return Lattice(
        table=torch.from_numpy(out).to(device),
        source=source,
        target=to,
        kind=kind,
        tokens=torch.from_numpy(np.concatenate(members)).to(device),
        of=torch.from_numpy(np.repeat(np.arange(len(members)), [len(one) for one in members])).to(device),
        accept=torch.from_numpy(accept).to(device),
        start=0,
        least=least[0],
        what=what,
    )
