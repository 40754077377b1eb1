"""Tables of states and tokens, cut down to what a text passes and packed
(:class:`decodekit.diffusion.marginals.Lattice`).
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np
import torch

from decodekit.core.bound import BindContext
from decodekit.diffusion.marginals import Lattice

STATES: Final = 4_000
"""The most byte states of an automaton on a canvas."""
ENTRIES: Final = 60_000_000
"""The largest table, byte states times tokens."""


def useful(table: np.ndarray[Any, Any], final: np.ndarray[Any, Any]) -> tuple[list[int], dict[int, int]]:
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


def packed(
    table: np.ndarray[Any, Any],
    final: np.ndarray[Any, Any],
    kept: list[int],
    least: dict[int, int],
    run: BindContext,
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
