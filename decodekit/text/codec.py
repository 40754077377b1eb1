"""Tokens to text, a few at a time, for every kind of tokenizer.

The text of a generation is *what follows the prompt, byte for byte*: the UTF-8 decoding of the bytes of its tokens,
special tokens skipped, bytes that are no UTF-8 replaced by U+FFFD. It equals what `tokenizer.decode` adds to the prompt
wherever those bytes are valid UTF-8, and it can be given out piece by piece: bytes that may still become a character
wait for the tokens that complete them. Only where nothing visible stands before it does a tokenizer of the
SentencePiece kind drop the space in front of the first word.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

_PROBE: Final = "Hi, naïve €5 漢字\n  x_y"
_SPACE: Final = "\u2581"  # how SentencePiece writes a space
_BACK: Final = 8
"""Tokens of the prompt that a window sees before the first token, so that joins look as they do in the whole text."""


class TextState(Protocol):
    """The text of one growing sequence of tokens."""

    def push(self, token: int) -> str:
        """The characters that `token` settles; empty while a character is incomplete."""

    def flush(self) -> str:
        """What is still held, incomplete bytes replaced: the end of the text."""

    def copy(self) -> TextState:
        """An independent continuation of the same text."""


class Codec:
    """How one tokenizer's tokens become text.

    Args:
        tokenizer: a transformers tokenizer. Byte-level and SentencePiece kinds are read as bytes; any other kind is
            decoded in small windows, which gives the same text as decoding everything at once.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special = frozenset(special_ids(tokenizer))
        self._cache: dict[int, bytes] = {}
        kind, self._strips = _kind(tokenizer)
        self._added = {i: str(t.content).encode() for i, t in getattr(tokenizer, "added_tokens_decoder", {}).items()}
        self._byte_level = kind == "byte level"
        self.exact = kind != "window" and self._probe()

    def bytes_of(self, token: int) -> bytes:
        """The bytes that `token` stands for; none for special tokens and for ids that the tokenizer does not know."""
        data = self._cache.get(token)
        if data is None:
            data = self._cache[token] = self._look_up(token)
        return data

    def start(self, context: Sequence[int] = ()) -> TextState:
        """An empty text that follows the tokens `context` (the prompt)."""
        before = [t for t in context[-_BACK:] if t not in self.special]
        if self.exact:
            return _Bytes(self, strip=self._strips and not before)
        return _Window(self, before)

    def text(self, tokens: Iterable[int], context: Sequence[int] = ()) -> str:
        """The whole text of `tokens` behind `context`."""
        state = self.start(context)
        return "".join([*(state.push(t) for t in tokens), state.flush()])

    def decode(self, tokens: Sequence[int]) -> str:
        """`tokenizer.decode` without special tokens and without tidying up."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _look_up(self, token: int) -> bytes:
        if token in self.special:
            return b""
        if token in self._added:
            return self._added[token]
        try:
            piece = self.tokenizer.convert_ids_to_tokens(token)
        except (IndexError, KeyError, OverflowError, ValueError):
            piece = None
        if not piece:  # the logits are often wider than the vocabulary
            return b""
        if self._byte_level:
            return _from_byte_alphabet(piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return str(piece).replace(_SPACE, " ").encode()

    def _probe(self) -> bool:
        """Whether reading bytes agrees with the tokenizer itself; exotic decoders fall back to windows."""
        ids = self.tokenizer.encode(_PROBE, add_special_tokens=False)
        data = b"".join(self.bytes_of(t) for t in ids).decode("utf-8", "replace")
        return (data[1:] if self._strips and data.startswith(" ") else data) == self.decode(ids)


class _Bytes:
    """Text of tokens that stand for bytes."""

    def __init__(self, codec: Codec, strip: bool, pending: bytes = b"") -> None:
        self._codec, self._strip, self._pending = codec, strip, pending

    def push(self, token: int) -> str:
        data = self._codec.bytes_of(token)
        if not data:
            return ""
        text, used = codecs.utf_8_decode(self._pending + data, "replace", False)
        self._pending = (self._pending + data)[used:]
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text

    def flush(self) -> str:
        text, self._pending = self._pending.decode("utf-8", "replace"), b""
        return text

    def copy(self) -> _Bytes:
        return _Bytes(self._codec, self._strip, self._pending)


class _Window:
    """Text of tokens whose join depends on their neighbours: decode a window twice and give out the difference."""

    def __init__(self, codec: Codec, ids: list[int], read: int | None = None) -> None:
        self._codec, self._ids = codec, ids
        self._read = len(ids) if read is None else read  # how many of `ids` are already given out

    def push(self, token: int) -> str:
        if token in self._codec.special:
            return ""
        self._ids = [*self._ids, token]
        return self._settle(final=False)

    def flush(self) -> str:
        return self._settle(final=True) if self._read < len(self._ids) else ""

    def copy(self) -> _Window:
        return _Window(self._codec, self._ids, self._read)

    def _settle(self, final: bool) -> str:
        old, new = self._codec.decode(self._ids[: self._read]), self._codec.decode(self._ids)
        if new.endswith("\ufffd") and not final:
            return ""
        self._ids, self._read = self._ids[self._read :], len(self._ids) - self._read
        return new[len(old) :]


def special_ids(tokenizer: Any) -> set[int]:
    """Ids that stand for no text: markers of beginning, end, padding, roles."""
    ids = {int(i) for i in getattr(tokenizer, "all_special_ids", ())}
    return ids | {int(i) for i, t in getattr(tokenizer, "added_tokens_decoder", {}).items() if t.special}


def earliest_stop(text: str, stops: Sequence[str], start: int = 0) -> tuple[int, int] | None:
    """(begin, end) of the stop string that is completed first in `text`, looking from `start` on; None without one.

    Of several completed by the same character the longest counts. Because the first *completed* one counts, text that
    arrives in pieces is cut at the same place as text that arrives at once.
    """
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop, start)) >= 0]
    if not found:
        return None
    end, begin = min(found)
    return begin, end


def held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` may still turn out to begin a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        tail = text[-size:]
        if any(len(stop) > size and stop.startswith(tail) for stop in stops):
            return size
    return 0


def _kind(tokenizer: Any) -> tuple[str, bool]:
    """("byte level" | "sentencepiece" | "window", whether the first space of a text is dropped)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    if decoder is None:
        return "window", False
    flat: list[dict[str, Any]] = []
    todo = [json.loads(decoder.__getstate__())]
    while todo:
        one = todo.pop(0)
        if one["type"] == "Sequence":
            todo = one["decoders"] + todo
        else:
            flat.append(one)
    kinds = {one["type"] for one in flat}
    if "ByteLevel" in kinds and kinds <= {"ByteLevel", "Fuse"}:
        return "byte level", False
    if kinds & {"ByteFallback", "Metaspace"} and kinds <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}:
        strips = any(
            one["type"] == "Strip" or (one["type"] == "Metaspace" and one.get("prepend_scheme") != "never")
            for one in flat
        )
        return "sentencepiece", strips
    return "window", False


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes: printable Latin-1 stands for itself, the rest from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(plain)]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_ALPHABET: Final = _byte_alphabet()


def _from_byte_alphabet(piece: str) -> bytes:
    if all(c in _ALPHABET for c in piece):
        return bytes(_ALPHABET[c] for c in piece)
    return piece.encode()
