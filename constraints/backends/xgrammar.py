"""xgrammar behind the cursor interface: byte-level pushdown automata in C++. An extra: decodekit[xgrammar].

Chosen by name only. For JSON Schemas it ignores keywords that it lacks (263 of 491 invalid instances of the official
suite were accepted in our measurement), so a schema is never given to it silently.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from decodekit.errors import ConstraintError

from ..automata.patterns import Again, Either, Letters, Row, Tree
from ..core.cursor import Bits, explained, single
from ..core.vocabulary import Vocabulary

MASKS: Final = 256
"""How many masks a compiled constraint remembers, by the text that leads to them."""


def ebnf(tree: Tree) -> str:
    """A pattern's tree as a grammar: the engine's own reading of regular expressions is another dialect."""
    return f"root ::= {_written(tree)}"


def _written(tree: Tree) -> str:
    match tree:
        case Letters(ranges):
            return "[" + "".join(f"{_letter(low)}-{_letter(high)}" for low, high in ranges) + "]"
        case Row(parts):
            return "(" + (" ".join(map(_written, parts)) or '""') + ")"
        case Either(parts):
            return "(" + " | ".join(map(_written, parts)) + ")"
        case Again(inner, low, high):
            return f"{_written(inner)}{{{low},{'' if high is None else high}}}"


def _letter(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _module() -> Any:
    try:
        import xgrammar
    except ImportError:
        raise ConstraintError(
            "engine='xgrammar' needs the package xgrammar, which is not installed; "
            "pip install 'decodekit[xgrammar]', or leave the engine out"
        ) from None
    return xgrammar


class Pushdown:
    """A compiled grammar of xgrammar. kind: "regex", "json_schema" or "ebnf", and `source` is of that kind.

    Raises ConstraintError where the package is missing or refuses the source.
    """

    def __init__(self, kind: str, source: str, vocabulary: Vocabulary) -> None:
        module = _module()
        self.vocabulary = vocabulary
        self.built = 0
        self.end = len(vocabulary)  # one id past the vocabulary is its private end of text
        if "xgrammar" not in vocabulary.engines:
            words = [*vocabulary.tokens, b""]
            info = module.TokenizerInfo(
                words, module.VocabType.RAW, vocab_size=len(words), stop_token_ids=[self.end], add_prefix_space=False
            )
            vocabulary.engines["xgrammar"] = module.GrammarCompiler(info, max_threads=1)
        compiler = vocabulary.engines["xgrammar"]
        make = {"regex": "compile_regex", "json_schema": "compile_json_schema", "ebnf": "compile_grammar"}[kind]
        try:
            compiled = getattr(compiler, make)(source)
        except Exception as error:  # of C++: RuntimeError, or a class of the binding's own
            reason = " ".join(str(error).split())[-160:]
            raise ConstraintError(f"xgrammar cannot compile this {kind}: {reason}; use engine='llguidance'") from None
        self._first = module.GrammarMatcher(compiled)
        self._masks: OrderedDict[bytes, tuple[Bits, bool]] = OrderedDict()
        spelled = np.zeros(32 * (self.end // 32 + 1), dtype=np.bool_)
        spelled[: self.end] = [bool(token) for token in vocabulary.tokens]
        # a token without bytes is never allowed
        self._spelled = np.packbits(spelled, bitorder="little").view(np.uint32)

    def start(self) -> PushdownCursor:
        """A cursor before the first token."""
        return PushdownCursor(self, self._first.fork(), b"", [])

    def state_of(self, text: bytes, matcher: Any) -> tuple[Bits, bool]:
        """The mask after `text`, and whether it may end there; from memory or from `matcher`, which stands there."""
        if text not in self._masks:
            bits = torch.zeros(1, self.end // 32 + 1, dtype=torch.int32)
            matcher.fill_next_token_bitmask(bits)
            words: Bits = bits[0].numpy().view(np.uint32).copy()
            complete = bool(words[self.end // 32] >> (self.end % 32) & 1)
            words &= self._spelled
            words.flags.writeable = False
            self.built += 1
            self._masks[text] = (words, complete)
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return self._masks[text]


class PushdownCursor:
    """A place in a text of the grammar (:class:`decodekit.constraints.core.cursor.Cursor`)."""

    __slots__ = ("_home", "_matcher", "_tokens", "text")

    def __init__(self, home: Pushdown, matcher: Any, text: bytes, tokens: list[int]) -> None:
        self._home, self._matcher, self.text, self._tokens = home, matcher, text, tokens

    def mask(self) -> Bits:
        """[ceil(V / 32)] uint32, read-only; shared by cursors after the same text."""
        return self._home.state_of(self.text, self._matcher)[0]

    def allows(self, token: int) -> bool:
        """Whether `token` may come next: read, and taken back."""
        tokens = self._home.vocabulary.tokens
        if not 0 <= token < len(tokens) or not tokens[token] or not self._matcher.accept_token(token):
            return False
        self._matcher.rollback(1)
        return True

    def allows_many(self, tokens: Sequence[int]) -> list[bool]:
        """For each of `tokens`, whether it may come next."""
        return [self.allows(token) for token in tokens]

    def advance(self, token: int) -> None:
        """Read `token`. Raises ValueError if it is not allowed."""
        tokens = self._home.vocabulary.tokens
        if not 0 <= token < len(tokens) or not tokens[token] or not self._matcher.accept_token(token):
            raise ValueError(f"token {token} is not allowed here")
        self._tokens.append(token)
        self.text += tokens[token]

    def fork(self) -> PushdownCursor:
        """An independent cursor at the same place."""
        return PushdownCursor(self._home, self._matcher.fork(), self.text, self._tokens.copy())

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens."""
        if n:
            dropped = len(self._home.vocabulary.text(self._tokens[-n:]))
            self._matcher.rollback(n)
            self.text = self.text[: len(self.text) - dropped]
            del self._tokens[-n:]

    def is_complete(self) -> bool:
        """Whether the text so far is a text of the grammar."""
        return self._home.state_of(self.text, self._matcher)[1]

    def forced(self) -> list[int]:
        """The tokens that must come next, as long as each is the only one allowed."""
        return single(self)

    def explain(self) -> str:
        """What was expected here, in a few words."""
        return explained(self, self._home.vocabulary)
