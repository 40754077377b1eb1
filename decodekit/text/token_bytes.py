"""What the tokens of a trace say, with the model at hand or without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from decodekit.text.codec import Codec

Array = npt.NDArray[Any]


class Spelling(Protocol):
    """The bytes that tokens stand for."""

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token; of a special one its name."""

    def special(self, token: int) -> bool:
        """Whether it stands for no text."""


class OfCodec:
    """Asked of a tokenizer; nothing is looked up before it is needed."""

    def __init__(self, codec: Callable[[], Codec]) -> None:
        self._open = codec

    def bytes_of(self, token: int) -> bytes:
        """See :class:`Spelling`."""
        codec = self._open()
        if token in codec.special:
            return str(codec.tokenizer.convert_ids_to_tokens(token) or "").encode()
        return codec.bytes_of(token)

    def special(self, token: int) -> bool:
        """See :class:`Spelling`."""
        return token in self._open().special


class Known:
    """As a file keeps them: `id` [N], `special` [N], `offset` [N + 1] and `data`, all bytes end to end."""

    def __init__(self, columns: Mapping[str, Array]) -> None:
        self._columns = dict(columns)
        data, offset = columns["data"].tobytes(), columns["offset"].tolist()
        self._bytes = {
            int(token): data[a:b] for token, a, b in zip(columns["id"], offset[:-1], offset[1:], strict=True)
        }
        self._special = {int(token) for token in columns["id"][columns["special"]]}

    def bytes_of(self, token: int) -> bytes:
        """See :class:`Spelling`; none for tokens that the trace does not have."""
        return self._bytes.get(token, b"")

    def special(self, token: int) -> bool:
        """See :class:`Spelling`."""
        return token in self._special


def columns_of(spelling: Spelling, tokens: Iterable[int]) -> dict[str, Array]:
    """The table of :class:`Known` for some tokens."""
    ids = sorted({int(token) for token in tokens if token >= 0})
    found = [spelling.bytes_of(token) for token in ids]
    return {
        "id": np.array(ids, dtype=np.int32),
        "special": np.array([spelling.special(token) for token in ids], dtype=np.bool_),
        "offset": np.cumsum([0, *map(len, found)], dtype=np.int64),
        "data": np.frombuffer(b"".join(found), dtype=np.uint8),
    }
