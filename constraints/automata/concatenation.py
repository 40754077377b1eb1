"""Texts one after the other, read byte by byte: where one may end and the next begin, both are followed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ..core.cursor import Compiled, Cursor
from ..core.steering import closing
from ..core.vocabulary import Vocabulary

BYTES: Final = Vocabulary(tuple(bytes([byte]) for byte in range(256)))
"""Every byte a token: any constraint compiled for it is a machine over bytes."""
KNOWN: Final = 4_096
"""How many places of parts are remembered; others are reached again from the part's beginning."""


class Thread(NamedTuple):
    """The part that is read, and what was read of it."""

    part: int
    text: bytes


class Chain:
    """Parts in a row as a machine (:class:`decodekit.constraints.automata.byte_machine.Machine`).

    parts: fixed bytes, or a constraint compiled for :data:`BYTES`. A state is all ways in which the text so far can be
    divided among the parts, so a token may run across a border, and a part may end wherever it can.
    """

    def __init__(self, parts: Sequence[bytes | Compiled]) -> None:
        self._parts = tuple(parts)
        self._cursors: OrderedDict[Thread, Cursor] = OrderedDict()

    def first(self) -> tuple[Thread, ...]:
        """The state before the first byte."""
        return self._opened([Thread(0, b"")])

    def step(self, state: tuple[Thread, ...], byte: int) -> tuple[Thread, ...] | None:
        """The state after one more byte; None where no part goes on like that."""
        after = [Thread(part, text + bytes([byte])) for part, text in state if self._goes_on(Thread(part, text), byte)]
        return self._opened(after) if after else None

    def final(self, state: tuple[Thread, ...]) -> bool:
        """Whether all parts have been read."""
        return any(thread.part == len(self._parts) for thread in state)

    def said(self, state: tuple[Thread, ...]) -> str:
        """The fixed text that is due; where there are more ways, the allowed tokens are listed instead."""
        if len(state) > 1:
            return ""
        part = self._parts[state[0].part]
        return f"expected {part[len(state[0].text) :].decode(errors='replace')!r}" if isinstance(part, bytes) else ""

    def ending(self, state: tuple[Thread, ...]) -> bytes | None:
        """A short text that completes a state: the shortest of those that its threads know."""
        found = [text for thread in state if (text := self._left(thread)) is not None]
        return min(found, key=lambda text: (len(text), text), default=None)

    def _left(self, thread: Thread) -> bytes | None:
        out = b""
        for part in range(thread.part, len(self._parts)):
            text, one = thread.text if part == thread.part else b"", self._parts[part]
            left = one[len(text) :] if isinstance(one, bytes) else closing(self._cursor(Thread(part, text)))
            if left is None:
                return None
            out += left
        return out

    def _opened(self, threads: list[Thread]) -> tuple[Thread, ...]:
        """With the threads that begin where one of these may end."""
        seen = dict.fromkeys(threads)
        open_ = list(threads)
        while open_:
            thread = open_.pop()
            if thread.part < len(self._parts) and self._whole(thread):
                after = Thread(thread.part + 1, b"")
                if after not in seen:
                    seen[after] = None
                    open_.append(after)
        return tuple(sorted(seen))

    def _whole(self, thread: Thread) -> bool:
        part = self._parts[thread.part]
        return thread.text == part if isinstance(part, bytes) else self._cursor(thread).is_complete()

    def _goes_on(self, thread: Thread, byte: int) -> bool:
        if thread.part == len(self._parts):
            return False
        part, at = self._parts[thread.part], len(thread.text)
        if isinstance(part, bytes):
            return part[at : at + 1] == bytes([byte])
        return self._cursor(thread).allows(byte)

    def _cursor(self, thread: Thread) -> Cursor:
        found = self._cursors.get(thread)
        if found is None:
            part: Any = self._parts[thread.part]
            before = self._cursors.get(Thread(thread.part, thread.text[:-1])) if thread.text else None
            found = part.start() if before is None else before.fork()
            for byte in thread.text if before is None else thread.text[-1:]:
                found.advance(byte)
            self._cursors[thread] = found
            if len(self._cursors) > KNOWN:
                self._cursors.popitem(last=False)
        return found
