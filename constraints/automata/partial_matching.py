"""Patterns beyond finite automata, checked by partial matching of the `regex` module.

A prefix is viable if the module says that the pattern matches it or could match more of it. With look-ahead and
back-references this may say yes where no text follows (two look-aheads that contradict each other): then the text comes
to a dead end. It never says no to a prefix that can be completed. Every answer reads the whole text again, and a mask
asks for every prefix of tokens: checks, not masks.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, Final, NamedTuple

import regex

from decodekit.errors import ConstraintError

from .byte_machine import utf8

SECONDS: Final = 0.5
"""For one match; a pattern that takes longer (catastrophic backtracking) ends the run with a sentence."""
MEMORY: Final = 65_536
"""How many answers are remembered."""


class Read(NamedTuple):
    """What was read; inside: state of the UTF-8 checker, 0 between characters."""

    text: bytes
    inside: int


class Partial:
    """A compiled pattern as a machine (:class:`decodekit.constraints.automata.byte_machine.Machine`).

    Raises:
        ConstraintError: the pattern is none, or no text could match it.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            self._compiled: Any = regex.compile(pattern)
        except (regex.error, RecursionError, OverflowError) as error:
            raise ConstraintError(f"the pattern {pattern!r} cannot be read: {error}; correct it") from None
        self._wide = WIDE.search(pattern) is not None
        self._known: OrderedDict[bytes, tuple[bool, bool]] = OrderedDict()
        if not self._match(b"")[0]:
            raise ConstraintError(f"no text can match the pattern {pattern!r}; change it")

    def first(self) -> Read:
        """Nothing read."""
        return Read(b"", 0)

    def step(self, state: Read, byte: int) -> Read | None:
        """One byte more; the pattern is asked at the end of every character."""
        inside = utf8(state.inside, byte)
        if inside is None or (byte >= 0x80 and not self._wide):
            return None
        text = state.text + bytes([byte])
        return Read(text, inside) if inside or self._match(text)[0] else None

    def final(self, state: Read) -> bool:
        """Whether the pattern matches all of it."""
        return not state.inside and self._match(state.text)[1]

    def said(self, state: Read) -> str:
        """The pattern, and how far it was read."""
        return f"expected what can still match {self.pattern!r} after {state.text[-40:].decode(errors='replace')!r}"

    def judge(self, text: str) -> bool:
        """Whether the pattern matches all of `text`."""
        return self._asked(text)[1]

    def _match(self, text: bytes) -> tuple[bool, bool]:
        """(whether it could be the beginning of a match, whether it is one)."""
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = self._asked(text.decode())
            if len(self._known) > MEMORY:
                self._known.popitem(last=False)
        return found

    def _asked(self, text: str) -> tuple[bool, bool]:
        try:
            if self._compiled.fullmatch(text, timeout=SECONDS) is not None:
                return True, True
            return self._compiled.fullmatch(text, partial=True, timeout=SECONDS) is not None, False
        except TimeoutError:
            raise ConstraintError(
                f"the pattern {self.pattern!r} takes more than {SECONDS:g} s on a text of {len(text)} characters; "
                "write it without nested repetitions"
            ) from None


def has_more(pattern: str) -> bool:
    """Whether `pattern` is one that the `regex` module can read and no automaton can: it is not simply wrong."""
    try:
        regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError):
        return False
    return _BEYOND.search(pattern) is not None


_BEYOND: Final = re.compile(
    r"\(\?(?:=|!|<=|<!|>|\||&|R|\d|P>|P=|\(|\+|-)"  # look-around, atomic groups, recursion, conditions
    r"|\\[1-9bBgKGmM]"  # back-references, boundaries
    r"|(?<!\\)[*+?}]\+"  # possessive repetition
    r"|(?<!\\)[\^$]|\\[AZz]"  # anchors inside
)
WIDE: Final = re.compile(r"[^\x00-\x7f]|\.|\[\^|\\[A-Za-mo-qsu-z]|\(\?[a-z]*[ifV]|\[\[|&&|--|~~|\|\|")
"""What a pattern needs to match any character beyond ASCII: one of them, a dot, a negated or named class, an escape,
case folding. Without it, a character that has begun with such a byte is refused at once.
"""
