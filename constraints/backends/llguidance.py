"""llguidance behind the cursor interface: an Earley parser over a lexer of lazy derivatives, in Rust.

Always without forcing. With forcing (its default) a mask holds only the canonical tokenisation where bytes are forced,
while a check accepts the others too; then a walk by checks and a draw from the mask would not agree.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from decodekit.errors import ConstraintError

from ..automata.distances import Distances, Measured, Rollout
from ..core.cursor import Bits, Trail, explained, single
from ..core.vocabulary import Vocabulary

HEAD: Final = '%llguidance {"no_forcing": true}\n'
"""First line of every grammar that goes through this engine."""
MASKS: Final = 256
"""How many masks a compiled constraint remembers, by the text that leads to them."""


class _Words:
    """The table that llguidance reads. One id past the vocabulary is its private end of text."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = [*vocabulary.tokens, b""]
        self.eos_token_id = len(vocabulary)
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: object) -> list[int]:
        return []  # only forced text is ever tokenised, and nothing is forced


def tokenizer_of(vocabulary: Vocabulary) -> LLTokenizer:
    """The prepared trie of a vocabulary, made once (0.3 s for 50 000 tokens)."""
    if "llguidance" not in vocabulary.engines:
        words = TokenizerWrapper(_Words(vocabulary))
        vocabulary.engines["llguidance"] = LLTokenizer(words, n_vocab=len(vocabulary) + 1)
    return vocabulary.engines["llguidance"]


class Grammar:
    """A compiled grammar in llguidance's Lark dialect. Immutable but for its memory of masks.

    machine: makes an automaton of the same language, for exact completions; without it they are rollouts. skipped:
    bytes that a rollout leaves out between quoted strings wherever something else is allowed.

    Raises:
        GrammarError: the text is not a grammar; the message is the engine's own, for the kind to put into words.
    """

    apart = True  # masks are computed outside of Python's lock

    def __init__(
        self,
        grammar: str,
        vocabulary: Vocabulary,
        limits: LLParserLimits | None = None,
        machine: Callable[[], Measured] | None = None,
        skipped: bytes = b"",
    ) -> None:
        self.vocabulary = vocabulary
        self.built = 0
        self._source, self._machine = (HEAD + grammar, limits, skipped), machine
        self._masks: OrderedDict[bytes, Bits] = OrderedDict()
        self._lock = threading.Lock()
        self._first = LLMatcher(tokenizer_of(vocabulary), HEAD + grammar, log_level=0, limits=limits)
        if self._first.is_error():
            raise GrammarError(self._first.get_error())

    @cached_property
    def distances(self) -> Distances | None:
        """Exact completions, by an automaton of the same language; None where there is none."""
        return None if self._machine is None else Distances(self._machine())

    @cached_property
    def rollout(self) -> Rollout:
        """Completions of any text of the grammar."""
        return Rollout(*self._source)

    def start(self) -> GrammarCursor:
        """A cursor before the first token."""
        return GrammarCursor(self, _Cell(self._first.deep_copy()), b"", Trail([]))

    def again(self, tokens: list[int]) -> Any:
        """A matcher after `tokens`, from the beginning."""
        matcher = self._first.deep_copy()
        matcher.consume_tokens(tokens)
        return matcher

    def mask_of(self, text: bytes, matcher: Any) -> Bits:
        """The mask after `text`, from memory or from `matcher`, which stands there. Forcing is off, so equal bytes
        are an equal state whichever tokens spelled them.
        """
        with self._lock:
            found = self._masks.get(text)
            if found is not None:
                self._masks.move_to_end(text)
                return found
        last = len(self.vocabulary)
        bits = np.zeros(last // 32 + 1, dtype=np.uint32)  # [ceil((V + 1) / 32)]
        if not _stuck(matcher):
            found = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint32)
            if not _stuck(matcher):
                _alive(matcher, text)
                bits[:] = found
                bits[last // 32] &= np.uint32(~(1 << (last % 32)) & 0xFFFFFFFF)  # the engine's end of text is not ours
        bits.flags.writeable = False
        with self._lock:
            self.built += 1
            self._masks[text] = bits
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return bits


class GrammarError(ConstraintError):
    """llguidance refused a grammar; `str` is its own message, of several lines."""


def _stuck(matcher: Any) -> bool:
    """Whether no token of the vocabulary can go on from an incomplete text; the engine calls this an error."""
    return bool(matcher.is_error()) and str(matcher.get_error()).startswith("NoExtension")


def _alive(matcher: Any, text: bytes) -> None:
    if matcher.is_error():
        tail = text[-40:].decode(errors="replace")
        reason = " ".join(str(matcher.get_error()).split())[:200]
        raise ConstraintError(
            f"the constraint engine gave up after {len(text)} bytes (…{tail!r}): {reason}; simplify the constraint"
        )


class _Cell:
    """A matcher and how many cursors look at it. Copies grow with the text (40 us and 126 KB after 800 tokens), so a
    cursor that shares its matcher copies it only when it moves.
    """

    __slots__ = ("matcher", "owners")

    def __init__(self, matcher: Any) -> None:
        self.matcher = matcher
        self.owners = 1


class GrammarCursor:
    """A place in a text of the grammar (:class:`decodekit.constraints.core.cursor.Cursor`)."""

    __slots__ = ("_cell", "_home", "_text", "_tokens")

    def __init__(self, home: Grammar, cell: _Cell, text: bytes, tokens: Trail[int]) -> None:
        self._home, self._cell, self._text, self._tokens = home, cell, text, tokens

    def __del__(self) -> None:
        self._cell.owners -= 1

    def mask(self) -> Bits:
        """[ceil(V / 32)] uint32, read-only; shared by cursors after the same text."""
        return self._home.mask_of(self._text, self._cell.matcher)

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return 0 <= token < len(self._home.vocabulary) and self._cell.matcher.validate_tokens([token]) == 1

    def allows_many(self, tokens: Sequence[int]) -> list[bool]:
        """For each of `tokens`, whether it may come next."""
        size, check = len(self._home.vocabulary), self._cell.matcher.validate_tokens
        return [0 <= token < size and check([token]) == 1 for token in tokens]

    def advance(self, token: int) -> None:
        """Read `token`.

        Raises:
            ValueError: it is not allowed here. The cursor has not moved: checked before the engine sees it.
        """
        if not self.allows(token):
            raise ValueError(f"token {token} is not allowed here")
        matcher = self._own()
        matcher.consume_token(token)
        self._tokens.push(token)
        self._text += self._home.vocabulary.tokens[token]
        _alive(matcher, self._text)

    def fork(self) -> GrammarCursor:
        """An independent cursor at the same place; nothing is copied before one of the two moves."""
        self._cell.owners += 1
        return GrammarCursor(self._home, self._cell, self._text, self._tokens.fork())

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens."""
        if not n:
            return
        dropped = len(self._home.vocabulary.text(self._tokens.tail(n)))
        self._text = self._text[: len(self._text) - dropped]
        self._tokens.drop(n)
        if self._cell.matcher.is_error():  # once stuck, always stuck: a matcher that starts anew takes its place
            self._cell.owners -= 1
            self._cell = _Cell(self._home.again(self._tokens.tail(len(self._tokens))))
        else:
            self._own().rollback(n)

    def is_complete(self) -> bool:
        """Whether the text so far is a text of the grammar."""
        return bool(self._cell.matcher.is_accepting())

    @property
    def text(self) -> bytes:
        """What was read."""
        return self._text

    def closing(self) -> bytes | None:
        """A short text that completes this one; None where none was found."""
        exact = self._home.distances
        return self._home.rollout.after(self._text) if exact is None else exact.closing(exact.state_of(self))

    def forced_text(self) -> bytes:
        """The bytes that every whole text has next; empty where there is a choice, or the text may end."""
        return self._home.rollout.forced(self._text)

    def forced(self) -> list[int]:
        """The tokens that must come next, as long as each is the only one allowed."""
        return single(self)

    def explain(self) -> str:
        """What was expected here, in a few words."""
        return explained(self, self._home.vocabulary)

    def _own(self) -> Any:
        if self._cell.owners > 1:
            self._cell.owners -= 1
            self._cell = _Cell(self._cell.matcher.deep_copy())
        return self._cell.matcher
