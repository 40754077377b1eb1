"""A text that is whole in time: tokens are refused after which the shortest way to an end would not fit any more.

What is left of a text is measured in the tokens that its shortest completion takes at least. Along a shortest
completion that measure falls by one with each token, so there is always a token that still fits: no dead end, and no
text is cut off.

Three ways, by what an engine can say. *Exact*: its machine knows the shortest completion of every state (`closing` of
an automaton); each token is weighed by the state it leads to, and the text stays free to its last token. *Along*: a
cursor knows a completion, and going along it leaves the rest of it. The text is free while that, and the jump that one
token can add to it (`jump`), fit. Nearer to the end, few allowed tokens are tried one by one; where many are allowed
(within a string), only what opens and closes nothing, and the completion, may follow. A schema in which one token
moves the end by more than `jump` tokens, or plain text by more than one, can then still be cut off. *Weighed*: several
completions of each state are known, and along each of them the rest of it stays one of those (`ways`, for SQL). Each
token is weighed by the shortest of them after it, so nothing is cut off; a text that only just fits may be refused.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from decodekit.errors import ConstraintError

from .cursor import Bits, Compiled, Cursor, tokens_of
from .vocabulary import Vocabulary

FAR: Final = 1 << 30
"""A distance from which no end is known."""
JUMP: Final = 16
"""Tokens by which one token may move the end away, where an engine does not say: an opened object, a long key."""
MANY: Final = 128
SOME: Final = 16
"""As many tokens are tried one by one near the end; less where an engine searches for each of them."""
MASKS: Final = 64
KNOWN: Final = 4096
_STRUCTURE: Final = re.compile(rb"""[\x00-\x1f"'\\{}\[\](),:;<>]""")


class Weighed(Protocol):
    """A compiled constraint that knows several ways to the end of a state, along which some way always goes on."""

    def ways(self, state: Any) -> Iterator[bytes]:
        """Texts that complete a state."""

    def twins(self, state: Any, ids: Iterable[int]) -> Iterator[tuple[int, Any, int]]:
        """Allowed tokens, each with a state (or None), and tokens by which the end may be further from where it leads
        than from that state.
        """


class Steering:
    """The end of one compiled constraint's texts. ends: tokens that an end of text takes, 0 or 1.

    Raises ConstraintError where no completion of the empty text is found.
    """

    def __init__(self, compiled: Compiled, ends: int) -> None:
        self._compiled, self._vocabulary, self._ends = compiled, compiled.vocabulary, ends
        self._machine: Any = getattr(compiled, "distances", None)  # an automaton beside the engine, or the engine's own
        self._ways: Any = getattr(compiled, "ways", None)
        self._states: dict[Any, int] = {}
        self._masks: OrderedDict[tuple[Any, int], Bits] = OrderedDict()
        start = compiled.start()
        self.least = self.distance(start)
        if self.least >= FAR:
            raise ConstraintError(
                "in_time=True: no short text of the constraint is known, so nothing can be steered to it; "
                "drop it, or use a constraint that knows one (regex, choice, json_schema, template)"
            )
        self._jump = int(getattr(compiled, "jump", 0)) or max(JUMP, self.least)
        self.near = self.least + self._jump
        """Room below which little may be allowed."""

    def distance(self, cursor: Cursor) -> int:
        """Least tokens that complete the text, an end of text included."""
        if self._machine is not None:
            return self._to(self._machine.state_of(cursor))
        if self._ways is not None:
            return self._along_ways(self._place(cursor))
        left = closing(cursor)
        return FAR if left is None else fewest(left, self._vocabulary) + self._ends

    def mask(self, cursor: Cursor, room: int) -> Bits:
        """The mask where `room` tokens may still be written."""
        bits = cursor.mask()
        if self._machine is not None:
            return self._exact(cursor, bits, room)
        if self._ways is not None:
            return self._weighed(self._place(cursor), bits, room)
        left = closing(cursor)
        return bits if left is None or self._free(left, room) else self._near(cursor, bits, left, room)

    def allows(self, cursor: Cursor, tokens: list[int], room: int) -> list[bool]:
        """`mask` asked about `tokens`."""
        plain = cursor.allows_many(tokens)
        if not any(plain):
            return plain
        if self._machine is not None:
            here = self._machine.state_of(cursor)
            return [ok and self._fits(here, token, room) for ok, token in zip(plain, tokens, strict=True)]
        if self._ways is not None and not self._far(self._place(cursor), room):
            good = self._good(self._place(cursor), [t for ok, t in zip(plain, tokens, strict=True) if ok], room)
            return [ok and token in good for ok, token in zip(plain, tokens, strict=True)]
        if self._ways is not None:
            return plain
        left = closing(cursor)
        if left is None or self._free(left, room):
            return plain
        bits = self._near(cursor, cursor.mask(), left, room)
        return [ok and bool(bits[token // 32] >> (token % 32) & 1) for ok, token in zip(plain, tokens, strict=True)]

    # --- along a completion ------------------------------------------------------------------------------------------

    def _free(self, left: bytes, room: int) -> bool:
        """Whether no token can move the end too far away."""
        most = (
            len(left) if self._vocabulary.all_bytes else FAR
        )  # a bound that costs nothing: a token is a byte at least
        if most + self._ends + self._jump < room:
            return True
        return fewest(left, self._vocabulary) + self._ends + self._jump < room

    def _near(self, cursor: Cursor, bits: Bits, left: bytes, room: int) -> Bits:
        """What may be written where the end is near: what goes along `left`; of few tokens those after which the end
        still fits; of many (free text) those that open and close nothing, while there is a token to spare.
        """
        text = getattr(cursor, "text", None)
        key = (text, room)
        if text is not None and key in self._masks:
            return self._masks[key]
        flags = np.zeros(32 * len(bits), dtype=np.bool_)
        for head in self._along(left, room):
            flags[list(self._vocabulary.by_bytes[head])] = True
        ids = tokens_of(bits, len(self._vocabulary))
        if len(ids) <= (MANY if text is not None else SOME):
            flags[[token for token in ids.tolist() if self._after(cursor, token) <= room - 1]] = True
        elif fewest(left, self._vocabulary) + 1 + self._ends <= room - 1:
            flags[: len(self._vocabulary)] |= self._plain
        out: Bits = np.packbits(flags, bitorder="little").view(np.uint32) & bits
        out.flags.writeable = False
        if text is not None:
            self._masks[key] = out
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return out

    def _after(self, cursor: Cursor, token: int) -> int:
        """The distance after one token more."""
        more = cursor.fork()
        more.advance(token)
        return self.distance(more)

    @cached_property
    def _plain(self) -> npt.NDArray[np.bool_]:
        """[V] tokens of nothing but letters, digits and the like."""
        tokens = self._vocabulary.tokens
        return np.array([bool(token) and not _STRUCTURE.search(token) for token in tokens], dtype=np.bool_)

    def _along(self, left: bytes, room: int) -> list[bytes]:
        """The tokens that begin the completion `left` such that the rest of it fits; all if none does."""
        known = self._vocabulary.by_bytes
        heads = [left[:width] for width in range(1, min(len(left), self._vocabulary.longest) + 1)]
        heads = [head for head in heads if head in known]
        fit = [head for head in heads if fewest(left[len(head) :], self._vocabulary) + self._ends <= room - 1]
        return fit or heads

    # --- by several ways to the end ---------------------------------------------------------------------------------

    def _place(self, cursor: Any) -> Any:
        return cursor.place()

    def _along_ways(self, state: Any) -> int:
        """The least tokens of the ways that are known from a state."""
        if state not in self._states:
            if len(self._states) >= 16 * KNOWN:
                self._states.clear()
            least = min((fewest(text, self._vocabulary) for text in self._ways(state)), default=FAR)
            self._states[state] = min(FAR, least + self._ends)
        return self._states[state]

    def _far(self, state: Any, room: int) -> bool:
        """Whether no token can move the end too far away."""
        return self._along_ways(state) + self._jump < room

    def _weighed(self, state: Any, bits: Bits, room: int) -> Bits:
        """Of the allowed tokens those after which one of the known ways to the end still fits."""
        if self._far(state, room):
            return bits
        key = (state, room)
        found = self._masks.get(key)
        if found is None:
            flags = np.zeros(32 * len(bits), dtype=np.bool_)
            flags[list(self._good(state, tokens_of(bits, len(self._vocabulary)).tolist(), room))] = True
            found = self._masks[key] = self._packed(flags)
        return found

    def _good(self, state: Any, tokens: list[int], room: int) -> set[int]:
        """Of allowed tokens those after which the end still fits."""
        twins = cast("Weighed", self._compiled).twins(state, tokens)
        return {token for token, twin, more in twins if twin is not None and self._along_ways(twin) + more <= room - 1}

    def _packed(self, flags: npt.NDArray[np.bool_]) -> Bits:
        while len(self._masks) >= MASKS:
            self._masks.popitem(last=False)
        packed: Bits = np.packbits(flags, bitorder="little").view(np.uint32)
        packed.flags.writeable = False
        return packed

    # --- exact -------------------------------------------------------------------------------------------------------

    def _to(self, state: Any) -> int:
        if state not in self._states:
            left = self._machine.closing(state)
            self._states[state] = FAR if left is None else fewest(left, self._vocabulary) + self._ends
        return self._states[state]

    def _fits(self, state: Any, token: int, room: int) -> bool:
        after = self._machine.leap(state, self._vocabulary.tokens[token])
        return after is not None and self._to(after) <= room - 1

    def _exact(self, cursor: Cursor, bits: Bits, room: int) -> Bits:
        here = self._machine.state_of(cursor)
        bound = self._machine.furthest()
        if bound is not None and bound + self._ends < room:
            return bits
        key = (here, room)
        found = self._masks.get(key)
        if found is None:
            ids = tokens_of(bits, len(self._vocabulary))
            flags = np.zeros(32 * len(bits), dtype=np.bool_)
            flags[[token for token in ids.tolist() if self._fits(here, token, room)]] = True
            found = np.packbits(flags, bitorder="little").view(np.uint32)
            found.flags.writeable = False
            self._masks[key] = found
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return found


def closing(cursor: Cursor) -> bytes | None:
    """A short text that completes the one of `cursor`; None where its engine knows none."""
    ask = getattr(cursor, "closing", None)
    found: bytes | None = ask() if ask is not None else (b"" if cursor.is_complete() else None)
    return found


def fewest(text: bytes, vocabulary: Vocabulary) -> int:
    """The least tokens that spell `text`; :data:`FAR` where none do."""
    memory: OrderedDict[bytes, int] = vocabulary.engines.setdefault("fewest", OrderedDict())
    if text not in memory:
        memory[text] = _counted(text, vocabulary)
        if len(memory) > KNOWN:
            memory.popitem(last=False)
    return memory[text]


def _counted(text: bytes, vocabulary: Vocabulary) -> int:
    known, longest, size = vocabulary.by_bytes, vocabulary.longest, len(text)
    least = [FAR] * size + [0]
    for at in range(size - 1, -1, -1):
        for stop in range(at + 1, min(size, at + longest) + 1):
            if least[stop] + 1 < least[at] and text[at:stop] in known:
                least[at] = least[stop] + 1
    return least[0]
