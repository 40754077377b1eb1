"""What a unit's results tell beside their answers: stories of the first examples, and profiles by position.

Both stand in the row that closes a unit, are bounded in size, and hold nothing that depends on a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from decodekit.analysis import acceptance
from decodekit.diffusion.canvas import KINDS
from decodekit.run.results import Result
from decodekit.trace.lineage import Line
from decodekit.trace.trace import Array, Trace
from decodekit.view.story import shown

TOKENS: Final = 240
"""Tokens of an example that are kept."""
OTHERS: Final = 4
"""Alternatives of a token that are kept."""
POSITIONS: Final = 512
"""Positions of an answer that profiles reach."""
Plain = dict[str, Any]


def story(result: Result) -> Plain | None:
    """The answer token by token, as short lists: [text, p, entropy, log weight, who, others, refused] of each token.

    who: index into `words`; `rules` are those of them that are no proposers, but why a canvas took a cell. others:
    [text, p] of likely tokens that were not taken. refused: [text, who] of guesses. cut: tokens that are left out.
    None without a trace, or where tokens say nothing (images).
    """
    trace = result.trace
    line = None if trace is None else _answer(result, trace)
    if trace is None or line is None or trace.spelling is None:
        return None
    events = trace.events
    values = {
        "p": np.exp(events["logp"].astype(np.float64)),
        "entropy": events["entropy"].astype(np.float64),
        "weight": events["logw"].astype(np.float64),
    }
    words = list(trace.header["words"])
    tokens = []
    for token in shown(trace, line, values).tokens[:TOKENS]:
        others = [[text, _short(p, 3)] for text, p in token.others if text != token.text and p >= 0.001][:OTHERS]
        lost = [[text, words.index(by)] for text, by in token.lost[:OTHERS]]
        figures = [_short(token.values[name], 3) for name in values]
        tokens.append([token.text, *figures, words.index(token.by), others, lost, int(token.special)])
    rules = [code for code, word in enumerate(words) if word in KINDS]
    return {"words": words, "rules": rules, "tokens": tokens, "cut": max(0, len(line.index) - TOKENS)}


def _answer(result: Result, trace: Trace) -> Line | None:
    """The line of the sample that is the answer."""
    tokens = trace.events["token"]
    lines = trace.lines()
    same = (line for line in lines if tokens[line.index].tolist() == result.tokens and line.weight > 0)
    return next(same, None)


def profile(results: Sequence[Result]) -> Plain:
    """Sums over the answers (of populations, over all particles that are left), by position in the answer.

    count, entropy: tokens there, and the sum of their laws' entropies. tried, accepted: guesses that the target looked
    at, and those that became text. bits: - log2 p of all tokens. rounds: in which rows took some.
    """
    traces = [one.trace for one in results if one.trace is not None and len(one.trace)]
    sums = {name: np.zeros(POSITIONS) for name in ("count", "entropy", "tried", "accepted")}
    bits, rounds, tokens = 0.0, 0, 0
    for trace in traces:
        events = trace.events
        start = _starts(trace, events)
        for line in trace.lines():
            place = _placed(events["position"][line.index] - start[line.index])
            entropy = events["entropy"][line.index].astype(np.float64)
            np.add.at(sums["count"], place, np.isfinite(entropy))
            np.add.at(sums["entropy"], place, np.nan_to_num(entropy))
            bits -= float(np.nan_to_num(events["logp"][line.index].astype(np.float64)).sum()) / math.log(2)
            rounds += len(np.unique(events["round"][line.index]))
            tokens += len(line.index)
        if acceptance.guesses(trace):
            tried, taken = acceptance.looked(trace)
            for name, mine in (("tried", tried), ("accepted", taken)):
                np.add.at(sums[name], _placed((events["position"] - start)[mine]), 1.0)
    told = {name: _trimmed(values) for name, values in sums.items()}
    return {**told, "bits": round(bits, 2), "rounds": rounds, "tokens": tokens}


def _starts(trace: Trace, events: Mapping[str, Array]) -> Array:
    """[E] length of the prompt of each event's group; 0 where the prompt is part of the text."""
    prompts = trace.header["prompts"]
    groups, back = np.unique(events["group"], return_inverse=True)
    found: Array = np.array([prompts[str(group)] for group in groups.tolist()], dtype=np.int64)[back]
    return found


def _placed(position: Array) -> Array:
    return np.clip(position, 0, POSITIONS - 1)


def _trimmed(values: Array) -> list[float]:
    """Without the zeros at the end, to two places."""
    last = int(np.flatnonzero(values).max(initial=-1)) + 1
    return [round(value, 2) for value in values[:last].tolist()]


def _short(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)
