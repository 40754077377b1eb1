"""Whether tokens are the ones that a tokenizer itself writes for their text (canonical), token by token.

One text has many spellings in tokens, and a model was trained on one of them. A sequence is *canonical* if the
tokenizer gives these very ids for its bytes; a beginning is *canonical so far* if what follows can keep it so.

For byte-pair encoding without pre-tokens (SentencePiece), a sequence is canonical iff each pair of neighbours is
(Vieira et al. 2025, arXiv 2506.07956, section 4). Where a regular expression cuts the text first, pieces depend on what
stands around them, so the tokens since the last sure border are encoded anew, with some characters that may follow.
"""

from __future__ import annotations

import json
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from tokenizers import Tokenizer

from decodekit.errors import ConstraintError
from decodekit.text.codec import Codec

Window = tuple[int, ...]
"""What a verdict depends on: the tokens since the last border that nothing before can move."""

PROBES: Final = ("", "a", "A", "1", " ", " a", "\n", *"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "é", "中")
"""What may follow: a beginning is canonical so far if it begins what the tokenizer writes with one of these after it.
White space before a letter, and a few others, are cut differently at the end of a text.
"""
LONG: Final = 64
"""Tokens of the longest window; a word that is longer is looked at from its middle."""
KNOWN: Final = 65_536
"""How many verdicts are remembered."""


class Canonicality:
    """The verdicts of one tokenizer. States are windows: immutable, hashable, and equal ones have equal futures.

    A text is judged as one that goes on after a prompt: no space is put before it. Between the bytes of one character
    only the tokens of that character are compared; the rest is judged where it ends.

    Raises:
        ConstraintError: the tokenizer is not a fast one, or is not made by byte-pair encoding.
    """

    def __init__(self, tokenizer: Any) -> None:
        core = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(core, "to_str"):
            raise ConstraintError(
                f"canonical tokens need a fast tokenizer, and {type(tokenizer).__name__} is not one; "
                "load it with AutoTokenizer and use_fast=True"
            )
        spec = json.loads(core.to_str())
        kind = spec["model"].get("type") or ("BPE" if "merges" in spec["model"] else "Unigram")
        if kind != "BPE":
            raise ConstraintError(
                f"canonical tokens are known for byte-pair encoding, and this tokenizer is of the kind {kind}; "
                "use a model with another tokenizer"
            )
        self.pieces: dict[int, str] = {i: piece for piece, i in spec["model"]["vocab"].items()}
        added = [one for one in spec.get("added_tokens") or () if not one["special"]]  # runs of spaces, in some
        bare = {**spec, "post_processor": None, "truncation": None, "padding": None, "added_tokens": added}
        self.pairs = not spec.get("pre_tokenizer")  # SentencePiece: the whole text is one piece
        if self.pairs:
            self._whole = Tokenizer.from_str(json.dumps({**bare, "normalizer": None}))
        else:
            self._whole = Tokenizer.from_str(json.dumps(bare))
            bare = {**bare, "normalizer": None, "pre_tokenizer": None, "added_tokens": []}
            self._model = Tokenizer.from_str(json.dumps(bare))
        self._codec = Codec(tokenizer)
        self._known: OrderedDict[tuple[Window, int], Window | None] = OrderedDict()

    def first(self) -> Window:
        """Before the first token."""
        return ()

    def step(self, window: Window, token: int) -> Window | None:
        """The window after `token`; None where nothing canonical begins like that."""
        key = (window, token)
        if key in self._known:
            return self._known[key]
        found = self._after(window, token) if self.bytes_of(token) else None
        self._known[key] = found
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return found

    def whole(self, window: Window) -> bool:
        """Whether the text may end here: the tokenizer writes these tokens if nothing follows."""
        text = self._text(window)
        return text is not None and self._encoded(window, text) == list(window)

    def encode(self, text: str) -> list[int]:
        """The ids that the tokenizer writes for `text` where it goes on after something: no space is put before it."""
        return self._encoded((), text)

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token; none for special ones."""
        return b"" if token in self._codec.special else self._codec.bytes_of(token)

    def so_far(self, tokens: Sequence[int]) -> list[bool]:
        """For each of `tokens`, whether they are canonical so far up to and with it; once False, always False.

        Tokens without bytes (special ones) are passed over: text begins anew after them.
        """
        out = list[bool]()
        window: Window | None = ()
        for token in tokens:
            if window is not None:
                window = self.step(window, token) if self.bytes_of(token) else ()
            out.append(window is not None)
        return out

    def written(self, tokens: Sequence[int]) -> list[bool]:
        """For each of `tokens`, whether it stands in what the tokenizer writes for the whole text, at the same bytes.

        Unlike :meth:`so_far` this is True again after a place where the spelling was another. Tokens without bytes part
        the text. Tokens of bytes that are no character are written by no tokenizer; those of a character that has only
        begun at the end may be.
        """
        out = [True] * len(tokens)
        begun = 0
        for end in [i for i, token in enumerate(tokens) if not self.bytes_of(token)] + [len(tokens)]:
            out[begun:end] = self._written(tuple(tokens[begun:end]))
            begun = end + 1
        return out

    def _written(self, part: Window) -> list[bool]:
        spans, data = self._spans(part), b"".join(map(self.bytes_of, part))
        try:
            theirs = set(self._spans(self._encoded(part, data.decode())))
            return [span in theirs for span in spans]
        except UnicodeDecodeError as error:
            first = next(i for i, (at, token) in enumerate(spans) if at + len(self.bytes_of(token)) > error.start)
            after = next((i for i, (at, _) in enumerate(spans) if i > first and at >= error.end), len(part))
            open_end = error.reason == "unexpected end of data"
            return [*self._written(part[:first]), *[open_end] * (after - first), *self._written(part[after:])]

    def _spans(self, tokens: Sequence[int]) -> list[tuple[int, int]]:
        """(first byte, token) of each."""
        at, found = 0, []
        for token in tokens:
            found.append((at, token))
            at += len(self.bytes_of(token))
        return found

    # --- one token more ----------------------------------------------------------------------------------------------

    def _after(self, window: Window, token: int) -> Window | None:
        longer = (*window, token)
        text = self._text(longer)
        if text is None:  # within a character
            return longer if self._inside(longer) else None
        wanted = list(longer)
        probes = PROBES if not self.pairs else ("",)
        if not any(self._encoded(longer, text + probe)[: len(wanted)] == wanted for probe in probes):
            return None
        return self._cut(longer)

    def _text(self, window: Window) -> str | None:
        """What the tokens say, for the tokenizer; None where they end within a character, or hold what is none."""
        try:
            return b"".join(map(self.bytes_of, window)).decode()
        except UnicodeDecodeError:
            return None

    def _encoded(self, window: Window, text: str) -> list[int]:
        """The ids that the tokenizer writes for `text`."""
        if self.pairs:
            text = text.replace(" ", "\u2581")
        ids: list[int] = self._whole.encode(text, add_special_tokens=False).ids
        return ids

    def _inside(self, window: Window) -> bool:
        """Whether tokens that end within a character may be its beginning: those within it are what bytes give."""
        whole = b"".join(map(self.bytes_of, window))
        try:
            whole.decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                return False
            begun = error.start
        at, inside = len(whole), list[int]()
        for token in reversed(window):
            at -= len(self.bytes_of(token))
            if at < begun:
                break
            inside.insert(0, token)
        if self.pairs:  # a byte is written as a token of its own
            return all(len(self.bytes_of(token)) == 1 for token in inside)
        pieces = "".join(self.pieces.get(i, "") for i in inside)
        ids: list[int] = self._model.encode(pieces, add_special_tokens=False).ids
        return ids == inside

    def _cut(self, window: Window) -> Window:
        """The tokens that can still matter."""
        if self.pairs:  # the last token; where a character was written byte by byte, all of it
            return next(window[at:] for at in range(len(window) - 1, -1, -1) if self._text(window[at:]) is not None)
        for at in range(len(window) - 1, 0, -1):
            here, before = self.bytes_of(window[at]), self.bytes_of(window[at - 1])
            # a word with a space before it, after what is no space: a border of every pre-tokenizer in use
            if here[:1] == b" " and here[1:2].isalpha() and not before[-1:].isspace() and before[-1:] < b"\x80":
                return window[at:]
        return window[-LONG:]


_made: weakref.WeakKeyDictionary[Any, Canonicality] = weakref.WeakKeyDictionary()


def canonicality_of(tokenizer: Any) -> Canonicality:
    """The verdicts of a tokenizer, made once per tokenizer object. Raises ConstraintError, see the class."""
    try:
        if tokenizer not in _made:
            _made[tokenizer] = Canonicality(tokenizer)
        return _made[tokenizer]
    except TypeError:  # an object that cannot be watched
        return Canonicality(tokenizer)
