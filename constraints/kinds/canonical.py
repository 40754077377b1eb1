"""Only the tokens that the tokenizer itself writes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from decodekit.core.bound import BindContext
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin
from decodekit.text.canonical import Canonicality, Window, canonicality_of

from ..automata.byte_machine import States
from ..core.bound import Bound
from ..core.compile_cache import bound
from ..core.cursor import Compiled
from ..core.vocabulary import Vocabulary


@plugin(
    role="constraint",
    exactness="exact",
    provides=("mask", "admits"),
    paper="Vieira et al. 2025, arXiv 2506.07956 (canonical by pairs, for tokenizers without pre-tokens)",
)
class Canonical:
    """Any text, in the tokens that the tokenizer itself would write for it: one spelling of the many.

    For tokenizers made by byte-pair encoding. The text is judged from its own beginning, as one that goes on after a
    prompt. A check costs some ten microseconds, a mask asks every token: prefer `awrs`, `sample` or `greedy`, which
    check. Join it to another constraint with `all_of`.
    """

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where its tokenizer is not known, or of another kind."""
        if vocabulary.tokenizer is None:
            if all(len(ids) == 1 and token.isascii() and len(token) == 1 for token, ids in vocabulary.by_bytes.items()):
                return Spelled(_Only(), vocabulary)
            raise ConstraintError(
                "canonical needs to know how the tokenizer writes a text, and this vocabulary is a bare table; "
                "make it with vocabulary_of(tokenizer)"
            )
        return Spelled(canonicality_of(vocabulary.tokenizer), vocabulary)

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` is a text: which tokens wrote it cannot be seen any more."""
        return True

    def value(self, text: str) -> str:
        """The text itself."""
        return text


class _Only:
    """Where every token is one letter, and no letter two tokens: there is one spelling, whatever the text."""

    def first(self) -> Window:
        """Nothing matters."""
        return ()

    def step(self, window: Window, token: int) -> Window | None:
        """Every token will do."""
        return window

    def whole(self, window: Window) -> bool:
        """A text may end everywhere."""
        return True


class _Anything:
    """The machine that `States` asks for what is no matter of tokens: every byte may follow."""

    def __init__(self, canon: Canonicality | _Only) -> None:
        self.first, self.final = canon.first, canon.whole

    def step(self, state: Window, byte: int) -> Window:
        """Bytes say nothing about tokens."""
        return state

    def said(self, state: Window) -> str:
        """What may follow."""
        return "expected a token that the tokenizer itself writes there"


class Spelled(States):
    """Canonical sequences, token by token; states are windows of tokens."""

    def __init__(self, canon: Canonicality | _Only, vocabulary: Vocabulary) -> None:
        super().__init__(_Anything(canon), vocabulary)
        self._canon = canon

    def next(self, state: Any, token: int) -> Hashable | None:
        """The window after `token`, or None where it is not allowed."""
        tokens = self.vocabulary.tokens
        return self._canon.step(state, token) if 0 <= token < len(tokens) and tokens[token] else None

    def reached(self, state: Hashable) -> Iterator[tuple[int, ...]]:
        """The ids of every token that is allowed, one at a time."""
        for token in range(len(self.vocabulary)):
            if self.next(state, token) is not None:
                yield (token,)
