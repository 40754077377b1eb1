"""How far the end of a text is: exactly for automata, by a rollout for grammars of llguidance."""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from typing import Any, Final, Protocol

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

SMALL: Final = 512
"""An automaton of at most so many states is looked through for the longest way to an end."""
MOST: Final = 4_096
"""The longest completion that is looked for, in bytes."""
RUN: Final = 256
"""The longest forced text that is looked for at once, in bytes."""
KNOWN: Final = 1_024
LONG: Final = 48

FIRST: Final = b"}]\"',:);0 1nft"
"""Bytes that end something, before those that begin or go on: what a rollout takes where it may choose."""
LAST: Final = b"\\{[(+-.eE\t\r\n"
"""... and those that it takes when nothing else is left."""


class Measured(Protocol):
    """A machine that knows the shortest completion of its states (:class:`automaton.Automaton`)."""

    def first(self) -> Any:
        """The state before the first byte."""

    def step(self, state: Any, byte: int) -> Any:
        """The state after one more byte, or None."""

    def closing(self, state: Any) -> bytes | None:
        """The shortest text that completes a state, of equally short ones the first in order."""


class Distances:
    """The places of cursors as states of a machine with exact completions."""

    def __init__(self, machine: Measured) -> None:
        self.machine = machine
        self._known: OrderedDict[bytes, Any] = OrderedDict()
        self._furthest: list[int | None] = []

    def state_of(self, cursor: Any) -> Any:
        """The state after what `cursor` has read: its own, or found by its text."""
        if hasattr(cursor, "place"):
            return cursor.place()
        text: bytes = cursor.text
        if text not in self._known:
            for cut in range(len(text) - 1, -1, -1):  # what was read lately is known: a token back
                if text[:cut] in self._known or not cut:
                    break
            begun = self._known.get(text[:cut], self.machine.first()) if text else self.machine.first()
            self._known[text] = self.leap(begun, text[cut:]) if text else begun
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return self._known[text]

    def leap(self, state: Any, text: bytes) -> Any:
        """The state after all of `text`, or None."""
        quick = getattr(self.machine, "leap", None)
        if quick is not None:
            return quick(state, text)
        for byte in text:
            state = self.machine.step(state, byte)
            if state is None:
                return None
        return state

    def closing(self, state: Any) -> bytes | None:
        """The shortest text that completes a state."""
        return self.machine.closing(state)

    def furthest(self) -> int | None:
        """The bytes of the longest of all shortest completions; None where there are too many states to look."""
        if not self._furthest:
            self._furthest.append(self._longest())
        return self._furthest[0]

    def _longest(self) -> int | None:
        bytes_of = getattr(self.machine, "bytes_of", None)
        if bytes_of is None:
            return None
        first = self.machine.first()
        seen, open_, longest = {first}, [first], 0
        while open_:
            here = open_.pop()
            left = self.machine.closing(here)
            longest = max(longest, len(left or b""))
            for byte in bytes_of(here):
                after = self.machine.step(here, byte)
                if after is not None and after not in seen:
                    if len(seen) >= SMALL:
                        return None
                    seen.add(after)
                    open_.append(after)
        return longest


class _Bytes:
    """Every byte a token, as llguidance reads a tokenizer."""

    bos_token_id = None
    eos_token_id = 256
    special_token_ids = (256,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"")

    def __call__(self, text: object) -> list[int]:
        return []


@functools.cache
def _alphabet() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=257)


class Rollout:
    """Completions of a grammar's texts, by reading on byte by byte and ending what can be ended.

    What is taken next depends on what is allowed and on the text alone, so a rollout that is followed for a
    while goes on as it was: its rest is the completion from there. It is short, not shortest.
    skipped: bytes that it leaves out between quoted strings wherever something else is allowed.
    """

    def __init__(self, grammar: str, limits: LLParserLimits | None, skipped: bytes = b"") -> None:
        self._needed = ~sum(1 << byte for byte in skipped)
        self._first = LLMatcher(_alphabet(), grammar, log_level=0, limits=limits)
        self._known: OrderedDict[bytes, bytes | None] = OrderedDict()

    def after(self, text: bytes) -> bytes | None:
        """A text that completes `text`; None where none of at most :data:`MOST` bytes was met."""
        if text not in self._known:
            self._known[text] = self._roll(text)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return self._known[text]

    def forced(self, text: bytes) -> bytes:
        """The bytes that every whole text has after `text`, at most :data:`RUN`."""
        matcher, out = self._first.deep_copy(), bytearray()
        matcher.consume_tokens(list(text))
        while len(out) < RUN and not matcher.is_error() and not matcher.is_accepting():
            allowed = int.from_bytes(matcher.compute_bitmask()[:32], "little")
            if allowed.bit_count() != 1:
                break
            out.append(allowed.bit_length() - 1)
            matcher.consume_token(out[-1])
        return bytes(out)

    def _roll(self, text: bytes) -> bytes | None:
        matcher = self._first.deep_copy()
        matcher.consume_tokens(list(text))
        out = bytearray()
        quoted = _quoted(text)  # a bracket within a string ends nothing
        while not matcher.is_error() and len(out) < MOST:
            if matcher.is_accepting():
                return bytes(out)
            allowed = int.from_bytes(matcher.compute_bitmask()[:32], "little")
            run = len(text) + len(out) - max(out.rfind(b'"') + len(text) if b'"' in out else -1, text.rfind(b'"'))
            if not quoted:
                allowed = allowed & self._needed or allowed
            byte = _taken(allowed, run, b'"' if quoted else FIRST)
            if byte is None:
                break
            matcher.consume_token(byte)
            out.append(byte)
            if byte == 0x22:
                quoted = _quoted(text + out)
        return None


_QUOTE: Final = re.compile(rb'\\.|(")', re.DOTALL)
"""Escaped characters, and the quotes that are none."""


def _quoted(text: bytes) -> bool:
    """Whether a text ends within double quotes."""
    return sum(map(bool, _QUOTE.findall(text))) % 2 == 1


def _taken(allowed: int, run: int, first: bytes) -> int | None:
    """Which of the `allowed` bytes (a bit each) a rollout takes, `run` bytes after the last quote of the text."""
    for byte in first:
        if allowed >> byte & 1:
            return byte
    last = sum(1 << byte for byte in LAST)
    some = allowed & ~last or allowed
    if not some:
        return None
    ids = np.flatnonzero(np.unpackbits(np.frombuffer(some.to_bytes(32, "little"), np.uint8), bitorder="little"))
    # mostly the least; in a long word not always the same one: a pattern may wait for a certain letter
    return int(ids[run * 7 % len(ids) if run > LONG else 0])
