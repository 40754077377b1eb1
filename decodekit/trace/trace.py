"""What happened in a run, token by token: arrays to compute with, one file to keep (law 4).

The recorder that fills it is :class:`decodekit.trace.recorder.Recorder`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from os import PathLike
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decodekit.errors import DecodekitError
from decodekit.text.token_bytes import Known, Spelling, columns_of
from decodekit.trace.lineage import Line, lines

Array = npt.NDArray[Any]

VERSION: Final = 2

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
    "varentropy": np.float32,  # variance of -ln p under it, in nats squared
    "s2": np.float32,  # sums of p^2, p^3, p^4 over the whole vocabulary: moments without the row
    "s3": np.float32,
    "s4": np.float32,
    "layers": np.int16,  # how many layers the model ran for it, NONE where the scorer does not tell
}
"""Columns of an event and their types. Log-probabilities are natural; the three laws are never mixed."""


MORE_COLUMNS: Final = {"top_ids": np.int32, "top_logps": np.float32, "hidden": np.float32}
"""With `top_k`: the likeliest tokens [E, k] and their log-probabilities under the plain model, likeliest first. With
`hidden`: the last hidden state [E, H] that the token was predicted from."""

FACT_COLUMNS: Final = {
    "round": np.int32,
    "name": np.int16,  # index into header["facts"]
    "group": np.int32,
    "slot": np.int32,  # -1: of the whole group
    "value": np.float64,
}
"""What plugins told of a round (:meth:`decodekit.core.rows.Rows.tell`), one number a line."""


END_COLUMNS: Final = {
    "group": np.int32,
    "slot": np.int32,
    "length": np.int32,  # tokens after the prompt
    "finish": np.int16,  # index into header["finishes"]; the empty word: it was in flight
    "logw": np.float64,  # its log importance weight
    "logp": np.float64,  # sum of the log-probabilities of its tokens under the plain model
}
"""How every row came out."""


class Trace:
    """The events of a run, or of some groups of it.

    Args:
        header: plain data: version, spec, seed, model, words (proposers), labels (models), prompts (length by group).
        events: the columns of :data:`EVENT_COLUMNS`, each [E]; with top-k also `top_ids`, `top_logps` [E, k].
        rounds: seconds, rows, calls, fed, each [rounds] or [rounds, labels]; what the round added, not totals.
        moves: `round` [M], `kind` [M] (0 copied between slots, 1 the others left, 2 these
            began again), `offset` [M + 1] and `index` (all moves end to end).
        facts: the columns of :data:`FACT_COLUMNS`, each [F]. ends: those of :data:`END_COLUMNS`, each [samples].
        spelling: what its tokens say, if that is known.
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
        ends: Mapping[str, Array] | None = None,
        spelling: Spelling | None = None,
    ) -> None:
        self.header, self._all, self.rounds, self.moves = dict(header), events, rounds, moves
        self._facts: Mapping[str, Array] = joined([], FACT_COLUMNS) if facts is None else facts
        self._ends: Mapping[str, Array] = joined([], END_COLUMNS) if ends is None else ends
        self.groups = None if groups is None else tuple(groups)
        self.spelling = spelling
        self.shared: dict[str, Any] = {}  # what was found out about the whole, for all views of it

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

    @cached_property
    def ends(self) -> dict[str, Array]:
        """The columns of :data:`END_COLUMNS`, of the groups looked at."""
        if self.groups is None:
            return dict(self._ends)
        mine = np.isin(self._ends["group"], self.groups)
        return {name: column[mine] for name, column in self._ends.items()}

    def lines(self) -> list[Line]:
        """Every sample with the events that became its text, by group and slot (:mod:`decodekit.trace.lineage`)."""
        return lines(self)

    def bytes_of(self, token: int) -> bytes:
        """What a token says, of a special one its name; none where the trace was made without a tokenizer."""
        return b"" if self.spelling is None else self.spelling.bytes_of(int(token))

    def text(self, tokens: Iterable[int]) -> str:
        """What tokens say together, special ones left out."""
        told = [t for t in map(int, tokens) if self.spelling is not None and not self.spelling.special(t)]
        return b"".join(map(self.bytes_of, told)).decode("utf-8", "replace")

    def signal(self, name: str) -> Array:
        """[E] "entropy", "varentropy", "top1" or "gap" of the plain model's law (:mod:`decodekit.core.uncertainty`).

        "top1" needs a trace with `top_k` of 1 or more, "gap" of 2.
        """
        if name not in ("entropy", "varentropy", "top1", "gap"):
            raise DecodekitError(f"no signal is called {name!r}; the trace knows entropy, varentropy, top1 and gap")
        if name.endswith("entropy"):
            return self.events[name]
        best, wanted = self.events.get("top_logps"), 1 if name == "top1" else 2
        if best is None or best.shape[1] < wanted:
            raise DecodekitError(
                f"{name} was not recorded; give top_k={wanted} or more to the call that makes the trace"
            )
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
        return self._view(groups)

    @property
    def whole(self) -> Trace:
        """The events of all groups of the call."""
        return self if self.groups is None else self._view(None)

    def _view(self, groups: Iterable[int] | None) -> Trace:
        more = {"facts": self._facts, "ends": self._ends}
        made = Trace(self.header, self._all, self.rounds, self.moves, groups, **more, spelling=self.spelling)
        made.shared = self.shared
        return made

    def spelt(self, spelling: Spelling) -> Trace:
        """The same, and what its tokens say."""
        self.spelling = spelling
        return self

    def by(self, word: str) -> Array:
        """[E] bool, events that the proposer `word` guessed."""
        words = self.header["words"]
        mine: Array = self["by"] == (words.index(word) if word in words else -1)
        return mine

    def save(self, path: str | PathLike[str]) -> None:
        """Write one `.npz` file: arrays and a JSON header, no pickle."""
        header = {**self.header, "version": VERSION}
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
        parts = {"event": self.events, "round": self.rounds, "move": self.moves, "fact": self.facts, "end": self.ends}
        if self.spelling is not None:
            seen = [self.events["token"], self.events.get("top_ids", np.zeros(0, dtype=np.int32)).ravel()]
            ids = [np.array(one, dtype=np.int32) for one in header["prompt_ids"].values()]
            parts["text"] = columns_of(self.spelling, np.unique(np.concatenate([*seen, *ids])).tolist())
        for part, columns in parts.items():
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
            DecodekitError: no such file, not a trace, or one of another version.
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
        parts: dict[str, dict[str, Array]] = {part: {} for part in ("event", "round", "move", "fact", "end", "text")}
        for name, column in arrays.items():
            part, _, key = name.partition(".")
            parts[part][key] = column
        return cls(
            header,
            parts["event"],
            parts["round"],
            parts["move"],
            facts=parts["fact"],
            ends=parts["end"],
            spelling=Known(parts["text"]) if parts["text"] else None,
        )


def joined(parts: list[dict[str, Array]], empty: Mapping[str, Any]) -> dict[str, Array]:
    """Chunks of columns end to end; `empty` names the columns of a table without rows."""
    if not parts:
        return {name: np.zeros(0, dtype=kind) for name, kind in empty.items()}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
