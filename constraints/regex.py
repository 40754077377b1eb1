"""Texts that a regular expression matches as a whole."""

from __future__ import annotations

import re
from typing import Literal

from decodekit.constraints.base import Bound, vocabulary_for
from decodekit.constraints.cursor import Compiled
from decodekit.constraints.engines.llguidance import Grammar, GrammarError
from decodekit.constraints.engines.outlines_core import Table
from decodekit.constraints.pattern import short, translate
from decodekit.constraints.vocabulary import Vocabulary
from decodekit.errors import ConstraintError
from decodekit.kit import Run
from decodekit.registry import plugin


@plugin(role="constraint", keeps="exact", gives=("mask", "admits"))
class Regex:
    """Text that `pattern` matches as a whole, as `re.fullmatch` would.

    Look-around, back-references, word boundaries, possessive and atomic groups, and anchors inside are refused.

    engine: llguidance compiles in a millisecond; outlines_core takes up to a second, and more memory, and is then
    ten times as quick at checks and forks (many particles under one small pattern). Both allow the same tokens.
    """

    pattern: str
    engine: Literal["llguidance", "outlines_core"] = "llguidance"

    def __post_init__(self) -> None:
        translate(self.pattern)

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where the engine cannot do the pattern."""
        expression = translate(self.pattern)
        if self.engine == "outlines_core":
            return Table(expression, vocabulary)
        try:
            return Grammar(f"start: /{expression}/", vocabulary)
        except GrammarError as error:
            lines = [line.strip() for line in str(error).splitlines()]
            reason = next((line[7:] for line in lines if line.startswith("error: ")), lines[0][-120:])
            raise ConstraintError(
                f"the pattern {short(self.pattern)} cannot constrain a text: {reason}; write it more simply"
            ) from None

    def bind(self, run: Run) -> Bound:
        """Compiled for the run's model, following its rows."""
        return Bound(self.compile(vocabulary_for(run)), run)

    def judge(self, text: str) -> bool:
        """Whether `text` satisfies the constraint, by Python's own matcher."""
        return re.fullmatch(self.pattern, text) is not None

    def value(self, text: str) -> str | None:
        """The text itself, or None while it is not complete."""
        return text if self.judge(text) else None
