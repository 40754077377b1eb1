"""One of a list of texts."""

from __future__ import annotations

import re
from typing import Final, Literal

from decodekit.core.bound import BindContext
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin

from ..automata.automaton import letters
from ..automata.patterns import Either, Tree
from ..automata.word_list import Words
from ..core.bound import Bound
from ..core.compile_cache import bound
from ..core.cursor import Compiled
from ..core.vocabulary import Vocabulary
from .regex import Regex

LETTERS: Final = 10_000
"""Characters of all options, up to which they are joined to a pattern by `all_of` and `template`."""


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class Choice:
    """One of `options`, thousands if need be. Where one is the beginning of another, both ending and going on may.

    engine: a sorted list of our own ("words"), for which thousands are nothing; llguidance, outlines_core and xgrammar
    read the options as one pattern, and allow the same.
    """

    options: tuple[str, ...]
    engine: Literal["words", "llguidance", "outlines_core", "xgrammar"] = "words"

    def __post_init__(self) -> None:
        if not self.options:
            raise ConstraintError("choice needs at least one option, and the list is empty; give the allowed texts")
        for i, option in enumerate(self.options):
            try:
                option.encode()
            except UnicodeEncodeError:
                raise ConstraintError(
                    f"option {i} of choice holds half a surrogate pair and is no text: {option!r}; remove it"
                ) from None

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where it can spell none of the options."""
        if self.engine != "words":
            return Regex("|".join(map(re.escape, self.options)), self.engine).compile(vocabulary)
        words = Words((option.encode() for option in self.options), vocabulary)
        if not words.texts:
            raise ConstraintError(
                f"the tokenizer can spell none of the {len(self.options)} options of choice (such as "
                f"{self.options[0]!r}); use characters that it knows"
            )
        return words

    def tree(self) -> Tree | None:
        """The options as a tree of what automata can do; None where they are too many for one."""
        if sum(map(len, self.options)) > LETTERS:
            return None
        return Either(tuple(map(letters, self.options)))

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` is one of the options."""
        return text in self.options

    def value(self, text: str) -> str | None:
        """The text itself, or None while it is not complete."""
        return text if self.judge(text) else None
