"""Traces of the batches of one call as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from decodekit.trace.trace import Trace, joined


def merged(parts: Sequence[tuple[Trace, int]]) -> Trace | None:
    """Traces of the batches of one call as one; each comes with the number of groups before it."""
    if not parts:
        return None
    if len(parts) == 1 and parts[0][1] == 0:
        return parts[0][0]
    labels = sorted({label for trace, _ in parts for label in trace.header["labels"]})
    words = list(dict.fromkeys(word for trace, _ in parts for word in trace.header["words"]))
    told = list(dict.fromkeys(name for trace, _ in parts for name in trace.header["facts"]))
    finishes = list(dict.fromkeys(word for trace, _ in parts for word in trace.header["finishes"]))
    events, rounds, moves, facts, ends, number = [], [], [], [], [], 0
    prompts, prompt_ids, batches = dict[str, int](), dict[str, list[int]](), list[dict[str, int]]()
    for trace, groups in parts:
        old = trace.header
        spelt = np.array([words.index(word) for word in old["words"]], dtype=np.int16)
        shifted = {"group": groups, "round": number}
        columns = {name: column + shifted.get(name, 0) for name, column in trace.events.items() if name != "accepted"}
        events.append({**columns, "by": spelt[trace["by"]], "accepted": trace["accepted"]})
        place = [old["labels"].index(label) if label in old["labels"] else -1 for label in labels]
        wide = {name: np.pad(trace.rounds[name], ((0, 0), (0, 1)))[:, place] for name in ("calls", "fed")}
        rounds.append({**trace.rounds, **wide})
        moves.append({**trace.moves, "round": trace.moves["round"] + number})
        named = np.array([told.index(name) for name in old["facts"]], dtype=np.int16)
        columns = {name: column + shifted.get(name, 0) for name, column in trace.facts.items()}
        facts.append({**columns, "name": named[trace.facts["name"]]})
        coded = np.array([finishes.index(word) for word in old["finishes"]], dtype=np.int16)
        finish = coded[trace.ends["finish"]] if len(coded) else trace.ends["finish"]
        ends.append({**trace.ends, "group": trace.ends["group"] + groups, "finish": finish})
        prompts |= {str(int(group) + groups): length for group, length in old["prompts"].items()}
        prompt_ids |= {str(int(group) + groups): ids for group, ids in old["prompt_ids"].items()}
        batches += [{**one, "round": one["round"] + number, "group": one["group"] + groups} for one in old["batches"]]
        number += len(trace.rounds["rows"])
    known = {"labels": labels, "words": words, "prompts": prompts, "prompt_ids": prompt_ids, "batches": batches}
    models = {label: name for trace, _ in parts for label, name in trace.header["models"].items()}
    header = {**parts[0][0].header, **known, "facts": told, "finishes": finishes, "models": models}
    lengths = np.concatenate([[0], *(np.diff(one["offset"]) for one in moves)])
    whole = {name: np.concatenate([one[name] for one in moves]) for name in ("round", "kind", "index")}
    followed = {**whole, "offset": np.cumsum(lengths)}
    return Trace(
        header,
        joined(events, {}),
        joined(rounds, {}),
        followed,
        facts=joined(facts, {}),
        ends=joined(ends, {}),
        spelling=parts[0][0].spelling,
    )
