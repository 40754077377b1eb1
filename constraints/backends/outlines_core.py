"""outlines-core behind the cursor interface: a regular expression as a table of token transitions, made beforehand.

Its state is one integer: the cheapest fork and check there is, for the dearest compilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from outlines_core import Index
from outlines_core import Vocabulary as Words

from decodekit.errors import ConstraintError

from ..core.cursor import Bits, Trail, explained, single
from ..core.vocabulary import Vocabulary

STATES: Final = 2_000
"""The largest automaton that is kept: each state holds a list of tokens."""
_DOOR: Final = b"\x00"


class Table:
    """A compiled regular expression. Immutable but for its memory of masks, one for each state asked."""

    def __init__(self, expression: str, vocabulary: Vocabulary) -> None:
        """`expression` is in the syntax of Rust's regex crate.

        Raises ConstraintError where the engine refuses it, or its automaton is too large.
        """
        self.vocabulary = vocabulary
        self.built = 0
        self._masks: dict[int, Bits] = {}
        if "outlines_core" not in vocabulary.engines:
            spelled = {text: list(ids) for text, ids in vocabulary.by_bytes.items()}
            spelled.setdefault(_DOOR, []).append(len(vocabulary) + 1)
            vocabulary.engines["outlines_core"] = Words(len(vocabulary), spelled)
        try:
            # The automaton has leftmost-first meaning: without the anchor `a|ab` would never allow `ab`. An anchor
            # where the text may be empty is refused, so every text begins with a byte that is read beforehand.
            self.index: Any = Index(rf"\x00(?:{expression})\z", vocabulary.engines["outlines_core"])
        except ValueError as error:
            reason = " ".join(str(error).split())[:120]
            raise ConstraintError(
                f"outlines-core cannot compile this pattern ({reason}); use engine='llguidance'"
            ) from None
        first: int | None = self.index.get_next_state(self.index.get_initial_state(), len(vocabulary) + 1)
        if first is None:
            raise ConstraintError("no text of this pattern can be written with these tokens; use characters they know")
        self.first = first
        states = len(self.index.get_transitions())
        if states > STATES:
            raise ConstraintError(
                f"the automaton of this pattern has {states} states, and outlines-core is used up to {STATES}; "
                f"use engine='llguidance'"
            )

    def start(self) -> TableCursor:
        """A cursor before the first token."""
        return TableCursor(self, Trail([self.first]))

    def mask_of(self, state: int) -> Bits:
        """The mask of a state, computed once."""
        found = self._masks.get(state)
        if found is None:
            flags = np.zeros(32 * (len(self.vocabulary) // 32 + 1), dtype=np.bool_)
            allowed = np.asarray(self.index.get_allowed_tokens(state) or [], dtype=np.int64)
            flags[allowed[allowed < len(self.vocabulary)]] = True  # without the engine's own two ids
            found = np.packbits(flags, bitorder="little").view(np.uint32)
            found.flags.writeable = False
            self._masks[state] = found
            self.built += 1
        return found


class TableCursor:
    """A place in a text of the expression: the states passed so far
    (:class:`decodekit.constraints.core.cursor.Cursor`).
    """

    __slots__ = ("_home", "_states")

    def __init__(self, home: Table, states: Trail[int]) -> None:
        self._home, self._states = home, states

    def mask(self) -> Bits:
        """[ceil(V / 32)] uint32, read-only; shared by all cursors in the same state."""
        return self._home.mask_of(self._states.last())

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return self._next(token) is not None

    def allows_many(self, tokens: Sequence[int]) -> list[bool]:
        """For each of `tokens`, whether it may come next."""
        return [self._next(token) is not None for token in tokens]

    def advance(self, token: int) -> None:
        """Read `token`. Raises ValueError if it is not allowed."""
        state = self._next(token)
        if state is None:
            raise ValueError(f"token {token} is not allowed here")
        self._states.push(state)

    def fork(self) -> TableCursor:
        """An independent cursor at the same place."""
        return TableCursor(self._home, self._states.fork())

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens."""
        self._states.drop(n)

    def is_complete(self) -> bool:
        """Whether the expression matches the text so far."""
        return bool(self._home.index.is_final_state(self._states.last()))

    def forced(self) -> list[int]:
        """The tokens that must come next, as long as each is the only one allowed."""
        return single(self)

    def explain(self) -> str:
        """What was expected here, in a few words."""
        return explained(self, self._home.vocabulary)

    def _next(self, token: int) -> int | None:
        if not 0 <= token < len(self._home.vocabulary):
            return None
        found: int | None = self._home.index.get_next_state(self._states.last(), token)
        return found
