"""How a population fared (effective sample size, evidence, ancestry), and how guesses did, read off a trace."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from decodekit.analysis.acceptance import Acceptance, acceptance
from decodekit.errors import DecodekitError
from decodekit.trace.trace import Array, Trace

__all__ = ["Acceptance", "acceptance", "data", "ess", "figure", "genealogy", "log_evidence"]


def ess(trace: Trace, group: int | None = None) -> Array:
    """[rounds] effective sample size of a population after each round, before it was resampled.

    `group` says which population of the trace (one per prompt and asked sample); the first that is in it if not given.

    Raises:
        DecodekitError: the trace has no population.
    """
    return _told(trace, "smc.ess", group)["value"]


def log_evidence(trace: Trace, group: int | None = None) -> Array:
    """[rounds] estimated log normalising constant after each round, in nats.

    Its negative estimates how much the constraint (and critic) has cost so far: KL(constrained || plain) at most, since
    E log w <= log E w.
    """
    return _told(trace, "smc.log_z", group)["value"]


def genealogy(trace: Trace, group: int | None = None) -> Array:
    """[resamplings + 1, N] for each final particle the slot of its ancestor before each resampling; the last line is
    the particles themselves.
    """
    moves = _told(trace, "smc.parent", group)
    here = np.arange(int(_told(trace, "smc.particles", group)["value"][0]))
    lines = [here]
    for number in np.unique(moves["round"])[::-1]:
        mine = moves["round"] == number
        parents = np.empty(len(here), dtype=np.int64)
        parents[moves["slot"][mine]] = moves["value"][mine].astype(np.int64)
        here = parents[here]
        lines.append(here)
    return np.stack(lines[::-1])


def figure(trace: Trace, group: int | None = None) -> str:
    """An SVG of the three: ESS and log evidence by round, and the ancestry of the particles."""
    from decodekit.analysis.drawing import population

    return population(data(trace, group))


def data(trace: Trace, group: int | None = None) -> dict[str, Any]:
    """All three as plain data: `rounds`, `ess`, `log_z`, `moves` (the rounds of the resamplings), `tree`."""
    moves = np.unique(_told(trace, "smc.parent", group)["round"])
    rounds = _told(trace, "smc.ess", group)["round"]
    return {
        "rounds": rounds.tolist(),
        "ess": ess(trace, group).tolist(),
        "log_z": [value if math.isfinite(value) else None for value in log_evidence(trace, group).tolist()],
        "moves": moves.tolist(),
        "tree": genealogy(trace, group).tolist(),
    }


def _group(trace: Trace, group: int | None) -> int:
    known = trace.header.get("facts", [])
    code = known.index("smc.ess") if "smc.ess" in known else -1
    found = trace.facts["group"][trace.facts["name"] == code]
    if not len(found):
        raise DecodekitError("the trace has no population; decode with smc, best_of or another population")
    if group is not None and group not in found:
        raise DecodekitError(f"the trace has no population {group}; it has {sorted(set(found.tolist()))}")
    return int(found[0]) if group is None else group


def _told(trace: Trace, name: str, group: int | None) -> dict[str, Array]:
    return trace.told(name, _group(trace, group))
