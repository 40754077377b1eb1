"""The exact bytes of every token: what a constraint reads instead of decoded text.

`decode` cannot be used: it turns half a character into a replacement character, drops spaces and hides special tokens.
The bytes are taken from the tokenizer's own tables: its vocabulary, its added tokens and its chain of decoders.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from decodekit.errors import ConstraintError

SPACE: Final = "\u2581"
"""What SentencePiece writes for a space."""
_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_CONTROL: Final = re.compile(r"<\|.*\|>", re.DOTALL)


def byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level BPE (GPT-2), as character -> byte.

    Printable Latin-1 stands for itself; the other 68 bytes are moved, in order, to the code points from 256 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    moved = [byte for byte in range(256) if byte not in set(printable)]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + i): byte for i, byte in enumerate(moved)}}


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of one run as byte strings, by id; compared by identity.

    tokens: V byte strings; empty where a constraint may never use the id: special and control tokens, ids that end
    the text, ids beyond the tokenizer. leading: how many spaces the tokenizer puts before a text of its own accord.
    """

    tokens: tuple[bytes, ...]
    leading: int = 0
    engines: dict[str, Any] = field(default_factory=dict, repr=False)
    """What engines have prepared for this vocabulary, by engine name: made once, shared by all constraints."""
    tokenizer: Any = field(default=None, repr=False)
    """Where the tokens come from, for those who ask how it would write a text; None for a table that stands alone."""

    def __len__(self) -> int:
        return len(self.tokens)

    def text(self, ids: Sequence[int]) -> bytes:
        """The bytes of a sequence of tokens; ids without bytes, and ids out of range, add nothing."""
        return b"".join(self.tokens[i] for i in ids if 0 <= i < len(self.tokens))

    @cached_property
    def by_bytes(self) -> dict[bytes, tuple[int, ...]]:
        """Byte string -> the ids that spell it, in increasing order; the empty string is not in it."""
        found: dict[bytes, list[int]] = {}
        for i, token in enumerate(self.tokens):
            if token:
                found.setdefault(token, []).append(i)
        return {token: tuple(ids) for token, ids in found.items()}

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest token."""
        return max(map(len, self.tokens), default=0)

    @cached_property
    def all_bytes(self) -> bool:
        """Whether each single byte is a token, so that any text can be spelled."""
        return all(bytes([byte]) in self.by_bytes for byte in range(256))

    def spell(self, text: bytes) -> list[int] | None:
        """Some ids whose bytes are `text`, longest token first; None where the vocabulary cannot spell it so."""
        out: list[int] = []
        at = 0
        while at < len(text):
            for width in range(min(self.longest, len(text) - at), 0, -1):
                ids = self.by_bytes.get(text[at : at + width])
                if ids:
                    out.append(ids[0])
                    at += width
                    break
            else:
                return None
        return out


_cache: weakref.WeakKeyDictionary[Any, dict[tuple[int | None, tuple[int, ...]], Vocabulary]] = (
    weakref.WeakKeyDictionary()
)


def vocabulary_of(tokenizer: Any, size: int | None = None, eos: Sequence[int] = ()) -> Vocabulary:
    """The vocabulary of a fast tokenizer (transformers, or the tokenizers library), made once per tokenizer object.

    size: width V of the model's logits; the table is cut or padded to it. eos: ids that end the text in this run;
    they have no bytes, for a constraint is asked about them in another way.

    Raises:
        ConstraintError: the tokenizer is not a fast one, or of a kind whose tokens have no exact bytes.
    """
    if isinstance(tokenizer, Vocabulary):
        return _fit(tokenizer, size, tuple(eos))
    key = (size, tuple(sorted(set(eos))))
    try:
        made = _cache.setdefault(tokenizer, {})
    except TypeError:  # an object that cannot be watched is read anew each time
        return _fit(_read(tokenizer), *key)
    if (None, ()) not in made:
        made[None, ()] = _read(tokenizer)
    if key not in made:
        made[key] = _fit(made[None, ()], *key)
    return made[key]


def _fit(whole: Vocabulary, size: int | None, eos: tuple[int, ...]) -> Vocabulary:
    size = len(whole) if size is None else size
    if size == len(whole) and not any(0 <= i < size and whole.tokens[i] for i in eos):
        return whole
    tokens = list(whole.tokens[:size]) + [b""] * (size - len(whole))
    for i in eos:
        if 0 <= i < size:
            tokens[i] = b""
    return Vocabulary(tuple(tokens), whole.leading, tokenizer=whole.tokenizer)


def _read(tokenizer: Any) -> Vocabulary:
    core = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(core, "to_str"):
        raise ConstraintError(
            f"a constraint needs a fast tokenizer (one with a tokenizer.json) to know the bytes of each token, "
            f"and {type(tokenizer).__name__} is not one; load it with AutoTokenizer and use_fast=True"
        )
    spec = json.loads(core.to_str())
    pieces = _pieces(spec["model"])
    bytes_of = _reader(spec)
    tokens: dict[int, bytes] = {i: bytes_of(piece) for piece, i in pieces.items()}
    for added in spec.get("added_tokens") or ():
        control = added["special"] or _CONTROL.fullmatch(added["content"])
        tokens[added["id"]] = b"" if control else _plain(added["content"], spec).encode()
    for i in getattr(tokenizer, "all_special_ids", ()):
        tokens[i] = b""
    unknown = spec["model"].get("unk_token")
    if unknown in pieces:
        tokens[pieces[unknown]] = b""
    size = max(tokens, default=-1) + 1
    return Vocabulary(tuple(tokens.get(i, b"") for i in range(size)), leading=_leading(spec), tokenizer=tokenizer)


def _pieces(model: dict[str, Any]) -> dict[str, int]:
    kind = model.get("type") or ("BPE" if "merges" in model else "Unigram")
    if kind == "Unigram":
        return {piece: i for i, (piece, _) in enumerate(model["vocab"])}
    if kind == "WordPiece":
        raise ConstraintError(
            "a WordPiece tokenizer drops the spaces between words, so its tokens have no exact bytes; "
            "use a model with a byte-level or SentencePiece tokenizer for a constraint"
        )
    return dict(model["vocab"])


def _stages(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """The members of a possibly nested sequence of decoders, normalizers or pre-tokenizers."""
    if not part:
        return []
    if part["type"] == "Sequence":
        return [stage for one in part[inner] for stage in _stages(one, inner)]
    return [part]


def _decoders(spec: dict[str, Any]) -> set[str]:
    return {stage["type"] for stage in _stages(spec.get("decoder"), "decoders")}


def _spaced(spec: dict[str, Any]) -> bool:
    """Whether U+2581 stands for a space."""
    return any(
        stage["type"] == "Metaspace" or (stage["type"] == "Replace" and stage["pattern"].get("String") == SPACE)
        for stage in _stages(spec.get("decoder"), "decoders")
    )


def _reader(spec: dict[str, Any]) -> Any:
    """The function that turns a piece of the vocabulary into its bytes."""
    kinds = _decoders(spec)
    before = {stage["type"] for stage in _stages(spec.get("pre_tokenizer"), "pretokenizers")}
    if "ByteLevel" in kinds or (not kinds and "ByteLevel" in before):
        alphabet = byte_alphabet()

        def level(piece: str) -> bytes:
            found = [alphabet.get(letter) for letter in piece]
            known = [byte for byte in found if byte is not None]
            return bytes(known) if len(known) == len(piece) else piece.encode()

        return level
    if not kinds - {"Fuse", "Strip"} and not _spaced(spec):
        if kinds:
            return lambda piece: piece.encode()
        raise ConstraintError(
            "the tokenizer has no decoder, so its tokens have no exact bytes; a constraint needs a byte-level or "
            "SentencePiece tokenizer"
        )
    if kinds - {"Fuse", "Strip", "Replace", "ByteFallback", "Metaspace"}:
        raise ConstraintError(
            f"the tokenizer decodes with {', '.join(sorted(kinds))}, which gives its tokens no exact bytes; "
            f"a constraint needs a byte-level or SentencePiece tokenizer"
        )
    fallback = "ByteFallback" in kinds

    def sentence(piece: str) -> bytes:
        one = _BYTE.fullmatch(piece) if fallback else None
        return bytes([int(one[1], 16)]) if one else _plain(piece, spec).encode()

    return sentence


def _plain(piece: str, spec: dict[str, Any]) -> str:
    return piece.replace(SPACE, " ") if _spaced(spec) else piece


def _leading(spec: dict[str, Any]) -> int:
    for stage in _stages(spec.get("normalizer"), "normalizers"):
        if stage["type"] == "Prepend" and stage["prepend"] == SPACE:
            return 1
    for stage in _stages(spec.get("pre_tokenizer"), "pretokenizers"):
        if stage["type"] == "Metaspace":
            return int(stage.get("prepend_scheme", "always") != "never")
        if stage["type"] == "ByteLevel":
            return int(bool(stage.get("add_prefix_space")))
    return 0
