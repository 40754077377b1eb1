"""The tokens below a node of the trie, split once into letters that belong to a word or text and a rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

_CHARACTER: Final = (
    rb"|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_HEADS: Final = {
    "begin": re.compile(rb"[A-Za-z_][A-Za-z0-9_]*"),
    "inner": re.compile(rb"[A-Za-z0-9_]+"),
    "name": re.compile(rb"[\x20\x21\x23-\x7e]+"),
    "text": re.compile(rb"(?:[\x20-\x26\x28-\x7e]" + _CHARACTER + rb")*"),
    "dtext": re.compile(rb"(?:[\x20\x21\x23-\x7e]" + _CHARACTER + rb")*"),
}
"""What belongs to a lexeme whose letters do not matter, by kind."""
FIRST: Final = {
    "begin": frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"),
    "inner": frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"),
    "name": frozenset(range(32, 127)) - {34},
    "text": frozenset(range(32, 256)) - {39, 127},
    "dtext": frozenset(range(32, 256)) - {34, 127},
}


class Tail(NamedTuple):
    """A node of the trie of rests. ids: the tokens that end here."""

    next: dict[int, Any]
    ids: list[int]


@dataclass(frozen=True)
class Split:
    """The tokens below a node. whole: ids without a rest, lengths: their characters. rests: a trie. heads: by head, in
    lower case, the tokens with a rest. longest: bytes of the longest token. words: all, whole; of: their ids; depth:
    how many of their bytes lead to the node. pattern: of heads.
    """

    whole: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    rests: Tail
    heads: dict[bytes, list[tuple[bytes, tuple[int, ...]]]]
    longest: int
    words: list[bytes]
    of: dict[bytes, tuple[int, ...]]
    depth: int
    pattern: re.Pattern[bytes]

    @cached_property
    def starts(self) -> dict[bytes, list[int]]:
        """The tokens without a rest, by their letters in lower case."""
        found, match = dict[bytes, list[int]](), self.pattern.fullmatch
        for word in self.words:
            if match(word, self.depth):
                found.setdefault(word[self.depth :].lower(), []).extend(self.of[word])
        return found

    @cached_property
    def exact(self) -> dict[bytes, list[int]]:
        """The tokens without a rest, by their letters."""
        found, match = dict[bytes, list[int]](), self.pattern.fullmatch
        for word in self.words:
            if match(word, self.depth):
                found.setdefault(word[self.depth :], []).extend(self.of[word])
        return found

    @cached_property
    def falling(self) -> list[bytes]:
        """All tokens, longest first."""
        return sorted(self.words, key=len, reverse=True)

    def longer(self, room: int) -> Iterator[tuple[bytes, bool, tuple[int, ...]]]:
        """Of the tokens with more bytes than `room`: what of them comes after the node, whether it has a rest, ids."""
        for word in self.falling:
            if len(word) - self.depth <= room:
                break
            found = self.pattern.match(word, self.depth)
            yield word[self.depth :], found is None or found.end() < len(word), self.of[word]


def divided(words: list[bytes], of: dict[bytes, tuple[int, ...]], depth: int, kind: str) -> Split:
    """The split of `words`, whose first `depth` bytes lead to the node; `of` has their ids."""
    pattern, whole, lengths = _HEADS[kind], list[int](), list[int]()
    ends, heads = dict[bytes, list[int]](), dict[bytes, list[tuple[bytes, tuple[int, ...]]]]()
    match = pattern.match
    for word in words:
        found = match(word, depth)
        end = found.end() if found else depth
        ids = of[word]
        if end == len(word):
            whole += ids
            size = end - depth if word.isascii() else len(word[depth:].decode())
            lengths += [size] * len(ids)
        else:
            ends.setdefault(word[end:], []).extend(ids)
            heads.setdefault(word[depth:end].lower(), []).append((word[depth:], ids))
    rests = Tail({}, [])
    for rest, same in ends.items():
        node = rests
        for byte in rest:
            node = node.next.setdefault(byte, Tail({}, []))
        node.ids.extend(same)
    longest = max(map(len, words)) - depth
    sizes = np.array(lengths, dtype=np.int64)
    return Split(np.array(whole, dtype=np.int64), sizes, rests, heads, longest, words, of, depth, pattern)
