"""A draft model with other tokens guesses through text: its words are spelled anew in the tokens of the target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.follower import Follower
from decodekit.core.protocols import Proposal, Scorer
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, ConstraintError
from decodekit.speculation.draft_length import Pace
from decodekit.speculation.model_free import certain, shortened, standing
from decodekit.text.canonical import canonicality_of
from decodekit.text.codec import Codec


class Texts(Follower):
    """The bytes of every row, without special tokens, kept as rows grow, fork and shrink."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self._codec = codec
        self._rows: list[tuple[bytearray, list[int]]] = []  # per row: its bytes, and their number after each token

    def fork(self, index: Tensor) -> None:
        """Copies share nothing that is written to."""
        if self._rows:
            self._rows = [(bytearray(self._rows[i][0]), list(self._rows[i][1])) for i in index.tolist()]

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> None:
        """Cut, and add what is new."""
        if not self._rows:
            self._rows = [(bytearray(), []) for _ in range(len(rows))]
        for r in only.nonzero()[:, 0].tolist():
            data, ends = self._rows[r]
            del ends[int(keep[r]) :]
            del data[ends[-1] if ends else 0 :]
            for token in rows.tokens[r, len(ends) : int(upto[r])].tolist():
                data += self._codec.bytes_of(token)
                ends.append(len(data))

    def texts(self, rows: Rows) -> list[bytes]:
        """What every row says."""
        self.sync(rows, rows.n)
        return [bytes(data) for data, _ in self._rows]


class Translator:
    """A proposer (:class:`decodekit.core.protocols.Proposer`) over a draft model with a tokenizer of its own.

    The draft writes its most probable tokens behind the text, spelled by its own tokenizer; what it wrote is spelled by
    the target's. It reads anew only from where its own spelling of the text changed. A row whose text ends within a
    character, or that the draft cannot hold, gets no guess. Guesses depend on the text alone: they are certain.

    Raises:
        CompositionError: a tokenizer whose tokens have no exact bytes.
    """

    def __init__(self, run: BindContext, draft: Any, reader: Scorer, k: int, pace: Pace | None) -> None:
        self._run, self._draft, self._reader, self._k, self._pace = run, draft, reader, k, pace
        self._codec, self._other = (Codec(_tokenizer(model)) for model in (run.model, draft))
        for codec, model in ((self._codec, run.model), (self._other, draft)):
            if not codec.exact:
                raise CompositionError(
                    f"translated: tokens of {model.name!r} have no exact bytes, so a text cannot be followed through "
                    "them; use models with byte-level or SentencePiece tokenizers"
                )
        self._texts = Texts(self._codec)
        self._mirror: Rows | None = None  # the same rows in the draft's tokens
        self._version = 0

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """Guesses from `n` on, and one position more."""
        mirror, length = self._mirrored(rows)
        count = torch.full_like(rows.n, self._k) if self._pace is None else self._pace.length(rows)
        wrote = self._write(mirror, length, count)
        runs = [self._spelled(ids) for ids in wrote]
        ask = standing(self._run, rows, certain(self._run, rows, runs, "draft"))
        # The last position before the limit is read anyway: a guess there could not save a pass.
        ask = shortened(ask, (rows.limit - 1 - rows.n).clamp(min=0))
        if self._pace is not None:
            self._pace.asked(rows, ask)
        return ask

    def _mirrored(self, rows: Rows) -> tuple[Rows, Tensor]:
        """The rows in the draft's tokens, and [R] their lengths; NONE for rows that it cannot go on with."""
        texts = self._texts.texts(rows)
        spelled = [[] if done else self._encoded(text) for text, done in zip(texts, rows.done.tolist(), strict=True)]
        if self._mirror is None:
            zeros = torch.zeros_like(rows.n)
            self._mirror = Rows([[0]] * len(rows), zeros, rows.stream, rows.group, rows.sample)
            self._version = len(rows.moves)
        mirror = self._mirror
        for index in rows.moves[self._version :]:
            mirror.fork(index, stream=index, sample=index)
        self._version = len(rows.moves)
        longest = max(map(len, spelled), default=0)
        mirror.reserve(longest + self._k + 1)
        for r, ids in enumerate(spelled):
            if ids:
                mirror.tokens[r, : len(ids)] = torch.tensor(ids, device=rows.device)
        length = torch.tensor([len(ids) or NONE for ids in spelled], device=rows.device)
        mirror.n, mirror.done = length.clamp(min=0), (length == NONE)
        mirror.limit = mirror.n + self._k + 1
        room = self._draft.context
        return mirror, length if room is None else length.masked_fill(length + self._k > room, NONE)

    def _encoded(self, text: bytes) -> list[int]:
        """As the draft's tokenizer spells a whole text; nothing where it is no text (yet)."""
        try:
            said = text.decode()
        except UnicodeDecodeError:
            return []
        ids: list[int] = self._draft.tokenizer(said)["input_ids"]
        while ids and ids[-1] in self._draft.eos:
            ids.pop()
        return ids

    def _write(self, mirror: Rows, length: Tensor, count: Tensor) -> list[list[int]]:
        """The draft's most probable tokens behind each row, up to an end of its text."""
        eos = torch.tensor(self._draft.eos, dtype=torch.int64, device=length.device)
        out: list[list[int]] = [[] for _ in range(len(mirror))]
        going = (length != NONE) & ~mirror.done
        for j in range(self._k):
            going = going & (j < count)
            if not bool(going.any()):
                break
            at = (length + j).masked_fill(~going, NONE)[:, None]
            token = self._reader.read(mirror, at, going)[:, 0].argmax(1)
            mirror.write(at, token[:, None], going[:, None])
            for r in going.nonzero()[:, 0].tolist():
                out[r].append(int(token[r]))
            going = going & ~torch.isin(token, eos)
        return out

    def _spelled(self, ids: list[int]) -> list[int]:
        """What the draft wrote, as the target's tokenizer spells it; an unfinished character is left out."""
        ended = bool(ids) and ids[-1] in self._draft.eos
        data = b"".join(map(self._other.bytes_of, ids))
        text = data.decode("utf-8", "ignore")
        if not data.startswith(text.encode()):
            return []
        found = _spell(self._run.model.tokenizer, text) if text else []
        return [*found, *(self._run.eos[:1] if ended else ())]


def _spell(tokenizer: Any, text: str) -> list[int]:
    try:
        return canonicality_of(tokenizer).encode(text)
    except ConstraintError:  # no byte-pair encoding
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _tokenizer(model: Any) -> Any:
    if model.tokenizer is None:
        raise CompositionError(f"translated: {model.name!r} has no tokenizer; load it with one")
    return model.tokenizer
