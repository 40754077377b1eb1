"""JSON Schema as a machine: a reader of JSON, and a judge of what it reads; for all that grammars cannot express."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decodekit.constraints.engines.json_judge import HOLD, Judge
from decodekit.constraints.engines.json_reader import CLOSED, FIRST, Layout, Reading, read, string_step
from decodekit.constraints.engines.json_values import Arr, Obj, Str
from decodekit.constraints.engines.states import Node, States, trie
from decodekit.constraints.vocabulary import Vocabulary

REMEMBERED: Final = 65_536


class SchemaMachine:
    """Reads JSON as long as the schema may still hold (:class:`decodekit.constraints.engines.states.Machine`)."""

    def __init__(self, judge: Judge, layout: Layout) -> None:
        self.judge, self.layout = judge, layout
        self._known: OrderedDict[bytes, bool] = OrderedDict()

    def first(self) -> Reading:
        """Nothing read."""
        return FIRST

    def step(self, state: Reading, byte: int) -> Reading | None:
        """One byte more."""
        after = read(state, byte, self.layout)
        return after if after is not None and self.viable(after) else None

    def leap(self, state: Reading, text: bytes) -> Reading | None:
        """A whole token: the judge is asked once, for what is closed on the way is judged at its end as well."""
        here: Reading | None = state
        for byte in text:
            if here is None:
                return None
            here = read(here, byte, self.layout)
        return here if here is not None and self.viable(here) else None

    def final(self, state: Reading) -> bool:
        """Whether the text is whole and satisfies the schema; an open number at the root is closed by its end."""
        if state.phase == "n" and state.whole():
            return self.judge.valid(json.loads(state.text))
        return state.phase == "D"

    def viable(self, state: Reading) -> bool:
        """Whether some completion may satisfy the schema."""
        found = self._known.get(state.text)
        if found is None:
            found = self._known[state.text] = bool(self.judge.look(state.value()) & HOLD)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def is_free(self, state: Reading) -> bool:
        """Whether a string is open of whose characters the schema says nothing, as long as it stays open."""
        value: Any = state.value()
        self.judge.look(value)
        while not isinstance(value, Str):
            if isinstance(value, Obj):
                value = value.open if value.typing is None else value.typing
            elif isinstance(value, Arr):
                value = value.open
            else:
                return False
        return not value.read

    def said(self, state: Reading) -> str:
        """Nothing: examples of allowed tokens say more."""
        return ""


class Residual(States):
    """The machine for one vocabulary. Within free strings masks are looked up, not walked."""

    machine: SchemaMachine

    def mark(self, state: Any, flags: npt.NDArray[np.bool_]) -> None:
        """Set the `flags` of what is allowed."""
        if state.phase not in ("s", "k") or not self.machine.is_free(state):
            super().mark(state, flags)
            return
        inside, closing = _strings(self.vocabulary, state.inner)
        flags |= inside
        for text, ids in closing:
            if self.machine.leap(state, text) is not None:
                flags[list(ids)] = True


def _strings(vocabulary: Vocabulary, inner: int) -> tuple[Any, list[tuple[bytes, tuple[int, ...]]]]:
    """([32 W] bool tokens that stay within a string which is in state `inner`, the tokens that close it)."""
    memory: dict[int, Any] = vocabulary.engines.setdefault("json strings", {})
    if inner not in memory:
        inside, closing = np.zeros(32 * (len(vocabulary) // 32 + 1), dtype=np.bool_), []
        open_: list[tuple[Node, int, bytes]] = [(trie(vocabulary), inner, b"")]
        while open_:
            node, here, text = open_.pop()
            for byte, child in node.next.items():
                after = CLOSED if here == CLOSED else string_step(here, byte)
                if after is None:
                    continue
                if child.ids and after == CLOSED:
                    closing.append((text + bytes([byte]), child.ids))
                elif child.ids:
                    inside[list(child.ids)] = True
                open_.append((child, after, text + bytes([byte])))
        memory[inner] = (inside, closing)
    found: tuple[Any, list[tuple[bytes, tuple[int, ...]]]] = memory[inner]
    return found
