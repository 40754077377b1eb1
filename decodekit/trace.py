"""What happened in a run, token by token: arrays to compute with, one file to keep (law 4).

The recorder that fills it is :class:`decodekit.recorder.Recorder`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decodekit.errors import DecodekitError

Array = npt.NDArray[Any]

VERSION: Final = 1

EVENT_COLUMNS: Final = {
    "group": np.int32,  # which sample of which prompt; the rows of a population share it
    "slot": np.int32,  # place in the population
    "row": np.int32,  # row of the batch in that round; `moves` says where it came from
    "round": np.int32,
    "position": np.int32,  # absolute: the prompt counts
    "token": np.int32,
    "by": np.int16,  # who proposed it: index into header["words"]; word 0 is the model itself
    "accepted": np.bool_,  # whether it became final; a guess that did not is an event too
    "logp": np.float32,  # under the plain model
    "logq": np.float32,  # under the proposer, NaN where it gave none
    "logt": np.float32,  # under the processed target (warped, constrained), NaN where the selector gave none
    "logw": np.float32,  # what it added to the row's log importance weight
    "entropy": np.float32,  # of the plain model's law there, in nats
}
"""Columns of an event and their types. Log-probabilities are natural; the three laws are never mixed."""


MORE_COLUMNS: Final = {"top_ids": np.int32, "top_logps": np.float32, "varentropy": np.float32}
"""With top-k alone: the likeliest tokens [E, k] and what they were given, and the variance of -ln p in nats squared."""

FACT_COLUMNS: Final = {
    "round": np.int32,
    "name": np.int16,  # index into header["facts"]
    "group": np.int32,
    "slot": np.int32,  # -1: of the whole group
    "value": np.float64,
}
"""What plugins told of a round (:meth:`decodekit.rows.Rows.tell`), one number a line."""


class Trace:
    """The events of a run, or of some groups of it.

    Args:
        header: plain data: version, spec, seed, model, words (proposers), labels (models), prompts (length by group).
        events: the columns of :data:`EVENT_COLUMNS`, each [E]; with top-k also `top_ids`, `top_logps` [E, k].
        rounds: seconds, rows, calls, fed, each [rounds] or [rounds, labels]; what the round added, not totals.
        moves: `round` [M], `kind` [M] (0 survivors, 1 rows left), `offset` [M + 1] and `index` (all moves end to end).
        facts: the columns of :data:`FACT_COLUMNS`, each [F].
        groups: look at these groups only; rounds and moves are always those of the whole batch.
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        events: Mapping[str, Array],
        rounds: Mapping[str, Array],
        moves: Mapping[str, Array],
        groups: Iterable[int] | None = None,
        facts: Mapping[str, Array] | None = None,
    ) -> None:
        self.header, self._all, self.rounds, self.moves = dict(header), events, rounds, moves
        self._facts: Mapping[str, Array] = joined([], FACT_COLUMNS) if facts is None else facts
        self.groups = None if groups is None else tuple(groups)

    @cached_property
    def events(self) -> dict[str, Array]:
        """The event columns, in the order round, row, position; a rejected guess before what was taken instead."""
        if self.groups is None:
            return dict(self._all)
        mine = np.isin(self._all["group"], self.groups)
        return {name: column[mine] for name, column in self._all.items()}

    @cached_property
    def facts(self) -> dict[str, Array]:
        """The columns of :data:`FACT_COLUMNS`, of the groups looked at."""
        if self.groups is None:
            return dict(self._facts)
        mine = np.isin(self._facts["group"], self.groups)
        return {name: column[mine] for name, column in self._facts.items()}

    def signal(self, name: str) -> Array:
        """[E] "entropy", "varentropy", "top1" or "gap" of the plain model's law (:mod:`decodekit.uncertainty`).

        All but the entropy need a trace with `top_k` of 2 or more.
        """
        if name == "entropy":
            return self.events["entropy"]
        best = self.events.get("top_logps")
        if name not in ("varentropy", "top1", "gap"):
            raise DecodekitError(f"no signal is called {name!r}; the trace knows entropy, varentropy, top1 and gap")
        if best is None or best.shape[1] < 2:
            raise DecodekitError(f"{name} was not recorded; give top_k=2 or more to the call that makes the trace")
        if name == "varentropy":
            return self.events["varentropy"]
        first: Array = np.exp(best[:, 0])
        return first if name == "top1" else first - np.exp(best[:, 1])

    def told(self, name: str, group: int) -> dict[str, Array]:
        """`round`, `slot` and `value` of what was told under `name` of one group, in the order of the rounds."""
        names, facts = self.header.get("facts", []), self.facts
        code = names.index(name) if name in names else -1
        mine = (facts["name"] == code) & (facts["group"] == group)
        return {column: facts[column][mine] for column in ("round", "slot", "value")}

    def __getitem__(self, column: str) -> Array:
        return self.events[column]

    def __len__(self) -> int:
        return len(self.events["token"])

    def __repr__(self) -> str:
        return f"Trace({len(self)} events, {len(self.rounds['rows'])} rounds, {self.header.get('spec', '')!r})"

    def of(self, groups: Iterable[int]) -> Trace:
        """A view of some groups; nothing is copied before it is read."""
        return Trace(self.header, self._all, self.rounds, self.moves, groups, self._facts)

    @property
    def whole(self) -> Trace:
        """The events of all groups of the call."""
        return Trace(self.header, self._all, self.rounds, self.moves, facts=self._facts)

    def by(self, word: str) -> Array:
        """[E] bool, events that the proposer `word` guessed."""
        words = self.header["words"]
        mine: Array = self["by"] == (words.index(word) if word in words else -1)
        return mine

    def save(self, path: str | PathLike[str]) -> None:
        """Write one `.npz` file: arrays and a JSON header, no pickle."""
        moves = self.moves
        header = {**self.header, "version": VERSION}
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
        for part, columns in (("event", self.events), ("round", self.rounds), ("move", moves), ("fact", self.facts)):
            arrays |= {f"{part}.{name}": column for name, column in columns.items()}
        try:
            with open(path, "wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        except OSError as problem:
            raise DecodekitError(f"the trace cannot be written to {str(path)!r}: {problem.strerror}") from problem

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Trace:
        """Read what :meth:`save` wrote.

        Raises:
            DecodekitError: no such file, not a trace, or written by a newer version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(arrays.pop("header").tobytes())
        except FileNotFoundError as problem:
            raise DecodekitError(f"there is no trace file {str(path)!r}; check the path") from problem
        except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as problem:
            raise DecodekitError(
                f"{str(path)!r} is not a decodekit trace; give a file that Trace.save wrote"
            ) from problem
        if header.get("version") != VERSION:
            raise DecodekitError(
                f"{str(path)!r} is a trace of version {header.get('version')}, and this decodekit reads version "
                f"{VERSION}; read it with the decodekit that wrote it"
            )
        parts: dict[str, dict[str, Array]] = {"event": {}, "round": {}, "move": {}, "fact": {}}
        for name, column in arrays.items():
            part, _, key = name.partition(".")
            parts[part][key] = column
        return cls(header, parts["event"], parts["round"], parts["move"], facts=parts["fact"])


def joined(parts: list[dict[str, Array]], empty: Mapping[str, Any]) -> dict[str, Array]:
    """Chunks of columns end to end; `empty` names the columns of a table without rows."""
    if not parts:
        return {name: np.zeros(0, dtype=kind) for name, kind in empty.items()}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def merged(parts: Sequence[tuple[Trace, int]]) -> Trace | None:
    """Traces of the batches of one call as one; each comes with the number of groups before it."""
    if not parts:
        return None
    if len(parts) == 1 and parts[0][1] == 0:
        return parts[0][0]
    labels = sorted({label for trace, _ in parts for label in trace.header["labels"]})
    words = list(dict.fromkeys(word for trace, _ in parts for word in trace.header["words"]))
    told = list(dict.fromkeys(name for trace, _ in parts for name in trace.header["facts"]))
    events, rounds, moves, facts, number = [], [], [], [], 0
    prompts: dict[str, int] = {}
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
        prompts |= {str(int(group) + groups): length for group, length in old["prompts"].items()}
        number += len(trace.rounds["rows"])
    header = {**parts[0][0].header, "labels": labels, "words": words, "prompts": prompts, "facts": told}
    lengths = np.concatenate([[0], *(np.diff(one["offset"]) for one in moves)])
    whole = {name: np.concatenate([one[name] for one in moves]) for name in ("round", "kind", "index")}
    followed = {**whole, "offset": np.cumsum(lengths)}
    return Trace(header, joined(events, {}), joined(rounds, {}), followed, facts=joined(facts, {}))
