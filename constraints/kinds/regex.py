"""Texts that a regular expression matches as a whole."""

from __future__ import annotations

import re
from typing import Literal

from decodekit.core.bound import BindContext
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin

from ..automata.automaton import Automaton
from ..automata.byte_machine import States
from ..automata.partial_matching import Partial, has_more
from ..automata.patterns import Tree, parsed, short, translate, written
from ..backends.llguidance import Grammar, GrammarError
from ..backends.outlines_core import Table
from ..backends.xgrammar import Pushdown, ebnf
from ..core.bound import Bound
from ..core.compile_cache import bound
from ..core.cursor import Compiled
from ..core.vocabulary import Vocabulary


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class Regex:
    """Text that `pattern` matches as a whole, as `re.fullmatch` would.

    engine: llguidance compiles in a millisecond; outlines_core takes up to a second, and more memory, and is then
    ten times as quick at checks and forks (many particles under one small pattern). Both allow the same tokens. Neither
    can do look-around, back-references, word boundaries, possessive and atomic groups, recursion, or anchors inside:
    these go to "partial", by partial matching of the `regex` module and in its dialect. It checks tokens one by one
    (prefer `awrs`), a mask is dear, and contradictory look-aheads are only noticed where the text cannot go on.
    "auto" takes the first that can do the pattern, of llguidance and partial. "xgrammar" is an extra; "automaton" is
    our own, in Python: quick checks and exact distances to the end, dear masks.
    """

    pattern: str
    engine: Literal["auto", "llguidance", "outlines_core", "xgrammar", "automaton", "partial"] = "auto"

    def __post_init__(self) -> None:
        if self.beyond:
            Partial(self.pattern)
        elif self.engine != "partial":
            translate(self.pattern)

    @property
    def beyond(self) -> bool:
        """Whether the pattern is left to partial matching."""
        if self.engine != "auto":
            return self.engine == "partial"
        try:
            translate(self.pattern)
        except ConstraintError:
            return has_more(self.pattern)
        return False

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where the engine cannot do the pattern."""
        if self.beyond:
            return States(Partial(self.pattern), vocabulary)
        tree = parsed(self.pattern)
        if self.engine == "automaton":
            return States(Automaton(tree, f"the pattern {short(self.pattern)}"), vocabulary)
        expression = written(tree)
        if self.engine == "outlines_core":
            return Table(expression, vocabulary)
        if self.engine == "xgrammar":
            return Pushdown("ebnf", ebnf(tree), vocabulary)
        try:
            return Grammar(f"start: /{expression}/", vocabulary, machine=lambda: Automaton(tree))
        except GrammarError as error:
            lines = [line.strip() for line in str(error).splitlines()]
            reason = next((line[7:] for line in lines if line.startswith("error: ")), lines[0][-120:])
            raise ConstraintError(
                f"the pattern {short(self.pattern)} cannot constrain a text: {reason}; write it more simply"
            ) from None

    def tree(self) -> Tree | None:
        """The pattern as a tree of what automata can do; None where it is beyond them."""
        return None if self.beyond else parsed(self.pattern)

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` satisfies the constraint, by Python's own matcher, or that of the `regex` module."""
        if self.beyond:
            return Partial(self.pattern).judge(text)
        return re.fullmatch(self.pattern, text) is not None

    def value(self, text: str) -> str | None:
        """The text itself, or None while it is not complete."""
        return text if self.judge(text) else None
