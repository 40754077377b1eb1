"""Texts that a regular expression matches as a whole."""

from __future__ import annotations

import re

from decodekit.constraints.base import Bound, Compiled, vocabulary_for
from decodekit.constraints.engines.llguidance import Grammar, GrammarError
from decodekit.constraints.vocabulary import Vocabulary
from decodekit.errors import ConstraintError
from decodekit.kit import Run
from decodekit.registry import plugin


@plugin(role="constraint", keeps="exact", gives=("mask", "admits"))
class Regex:
    """Text that `pattern` matches as a whole.

    Look-around, back-references and word boundaries are refused.
    """

    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConstraintError(f"the pattern {_short(self.pattern)} is not a regular expression: {error}") from None

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where the engine cannot do the pattern."""
        try:
            return Grammar("start: /" + self.pattern.replace("/", "\\/") + "/", vocabulary)
        except GrammarError as error:
            lines = [line.strip() for line in str(error).splitlines()]
            reason = next((line[7:] for line in lines if line.startswith("error: ")), lines[0])
            raise ConstraintError(
                f"the pattern {_short(self.pattern)} cannot constrain a text: {reason}; rewrite that part"
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


def _short(pattern: str) -> str:
    return repr(pattern) if len(pattern) <= 60 else repr(pattern[:57]) + "..."
