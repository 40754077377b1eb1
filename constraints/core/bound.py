"""The bridge from cursors to rows: a compiled constraint that follows the rows of a run (:class:`Bound`)."""

from __future__ import annotations

import time
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any, Final

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.follower import Follower
from decodekit.core.rows import NONE, Rows
from decodekit.errors import ConstraintError
from decodekit.text.canonical import canonicality_of

from .cursor import FORCED, Bits, Compiled, Cursor, forced_text, stuck
from .masks import Masks, Pace, ahead
from .row_cursor import Place
from .steering import Steering
from .vocabulary import Vocabulary, vocabulary_of

__all__ = ["Bits", "Bound", "Compiled", "Cursor", "vocabulary_for"]

REMEMBERED: Final = 256
"""Texts whose verdicts are remembered; clones ask for them within a few rounds or never."""


class Bound(Follower):
    """A compiled constraint in step with the rows of a run (:class:`decodekit.core.protocols.Constraint`).

    Only what follows the prompt is read. Ids that end a text (`run.eos`) are allowed exactly where the text is
    complete; where nothing else may follow they are all that is allowed. After one of them everything is.
    """

    def __init__(self, compiled: Compiled, run: BindContext) -> None:
        """Raises ConstraintError where the vocabulary can spell no text of the constraint."""
        super().__init__()
        self.compiled = compiled
        self._cost = run.cost
        self._size = run.model.vocab
        self.dear = bool(getattr(compiled, "dear", False))
        """Whether a check costs more than a round of the search: it runs Python code of the user's."""
        self._pace = Pace()
        self._ahead: Future[None] | None = None
        self._built = compiled.built
        self._steering: Steering | None = None
        self._eos = tuple(i for i in dict.fromkeys(run.eos) if 0 <= i < self._size)
        self._first = compiled.start()
        self._places: list[Place] | None = None
        self._verdicts: OrderedDict[bytes, dict[int, bool]] = OrderedDict()  # by text, of the latest texts
        if not self._first.is_complete() and stuck(self._first):
            raise ConstraintError(
                f"no text of the constraint can be written with the tokens of {run.model.name}; "
                f"use characters that its tokenizer knows, or another model"
            )

    @property
    def patience(self) -> int:
        """How many checks cost as much as a mask, measured as they are made
        (:mod:`decodekit.candidates.check_first`).
        """
        return self._pace.patience

    @property
    def checks_per_mask(self) -> float | None:
        """The same without bounds, None before both were seen: for walks of many checks
        (:mod:`decodekit.candidates.token_search`).
        """
        return self._pace.ratio

    def steer(self, rows: Rows) -> None:
        """From now on allow only what can still be completed before `rows.limit`, the end of text included.

        Raises ConstraintError where a row has no room for the shortest text.
        """
        self._steering = Steering(self.compiled, int(bool(self._eos)))
        room = int((rows.limit - rows.n).min())
        if self._steering.least > room:
            raise ConstraintError(
                f"max_tokens={room} holds no text of the constraint: the shortest known takes {self._steering.least} "
                f"tokens, its end included; raise max_tokens"
            )

    def prepare(self, rows: Rows, at: Tensor) -> None:
        """Begin the masks of the first position of each row on a thread, while the model reads; :meth:`mask` waits for
        them. Only for engines that compute outside of Python (`apart`).
        """
        if not getattr(self.compiled, "apart", False):
            return
        first = at[:, 0]
        only = (first != NONE) & ~rows.done
        places = self._sync(rows, first.masked_fill(~only, 0), only)
        cursors = [places[r].cursor for r in only.nonzero()[:, 0].tolist() if places[r].over == NONE]
        self._ahead = ahead(cursors)

    # --- following -------------------------------------------------------------------------------------------------

    def fork(self, index: Tensor) -> None:
        """Row j goes on as a copy of row `index[j]`; the first copy takes the cursor itself."""
        old, taken = self._places, set[int]()
        if old is None:
            return
        places = list[Place]()
        for i in index.tolist():
            places.append(old[i].fork() if i in taken else old[i])
            taken.add(i)
        self._places = places

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> None:
        """Bring the cursors of the rows `only` to their first `upto` [R] tokens; `keep` [R] of them are unchanged."""
        start, kept, until, asked = torch.stack([rows.start, keep, upto, only.long()]).tolist()
        if self._places is None:
            self._places = [Place(self._first.fork(), at) for at in start]
        chosen = [r for r, ask in enumerate(asked) if ask]
        if not chosen:
            return
        low = max(0, min(kept[r] for r in chosen))
        width = max(until[r] for r in chosen)
        text = rows.tokens[:, low:width].tolist()
        for r in chosen:
            place = self._places[r]
            place.back(max(kept[r], start[r]))
            place.read(text[r][place.at - low : until[r] - low], self._eos)

    def _sync(self, rows: Rows, upto: Tensor, only: Tensor) -> list[Place]:
        if self._ahead is not None:  # no cursor moves while a thread looks at it
            self._ahead.result()
            self._ahead = None
        self.sync(rows, upto, only=only)
        return self._places or []

    # --- the four questions ----------------------------------------------------------------------------------------

    def mask(self, rows: Rows, at: Tensor) -> Tensor:
        """[R, K, V] bool; see :class:`decodekit.core.protocols.Constraint`. Rows that are done are all True."""
        return self._masks(rows, at).booleans(rows.device)

    def masked(self, rows: Rows, at: Tensor, logits: Tensor) -> Tensor:
        """`logits` [R, K, V] with -inf where :meth:`mask` is False, without making it."""
        begun = time.perf_counter()
        out = self._masks(rows, at).apply(logits)
        self._pace.masks(time.perf_counter() - begun, int((at != NONE).sum()))
        return out

    def _masks(self, rows: Rows, at: Tensor) -> Masks:
        asked = (at != NONE) & ~rows.done[:, None]  # [R, K]
        only = asked.any(1)
        first = at.masked_fill(~asked, torch.iinfo(torch.int64).max).amin(1).masked_fill(~only, 0)
        places = self._sync(rows, first, only)
        out = Masks((at.shape[0], at.shape[1]), self._size, self._eos)
        points, where, limit = at.tolist(), asked.tolist(), rows.limit.tolist()
        for r in only.nonzero()[:, 0].tolist():
            self._along(rows, r, places[r], points[r], where[r], limit[r], out)
        self._cost.masks += self.compiled.built - self._built
        self._built = self.compiled.built
        return out

    def _along(
        self, rows: Rows, r: int, place: Place, points: list[int], where: list[bool], limit: int, out: Masks
    ) -> None:
        """Put the masks of one row, reading the guesses between its points; then go back to where the row stood."""
        home, last = place.at, max(point for point, ask in zip(points, where, strict=True) if ask)
        text = rows.tokens[r, home:last].tolist() if last > home else []
        for k, (point, ask) in enumerate(zip(points, where, strict=True)):
            if not ask:
                continue
            place.read(text[place.at - home : point - home], self._eos)
            if place.over != NONE:
                break
            cursor = place.cursor
            bits = cursor.mask() if self._steering is None else self._steering.mask(cursor, limit - point)
            out.put(r, k, bits, cursor.is_complete())
        place.back(home)

    def narrow(self, rows: Rows, at: Tensor) -> Tensor | None:
        """[R, V] bool, more than what may stand AT `at` [R] but known at once; None where that is everything.

        Near the end of a text that is steered little is allowed: the mask then.
        """
        if self._steering is None:
            return None
        near = rows.limit - at <= self._steering.near
        return self.mask(rows, at.masked_fill(~near, NONE)[:, None])[:, 0] if bool(near.any()) else None

    def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
        """[R, C] bool; False where a token is NONE. Rows that are done, and those without a position, are not asked."""
        only = (at != NONE) & ~rows.done
        places = self._sync(rows, at.masked_fill(~only, 0), only)
        given, asked = tokens.tolist(), only.tolist()
        out = [[token != NONE for token in line] for line in given]
        here = [r for r in range(len(rows)) if asked[r] and places[r].over == NONE]
        texts = self._texts(rows, here) if len(here) > 1 else [b""] * len(here)
        room = (rows.limit - at).tolist()
        begun, before = time.perf_counter(), self._cost.checks
        for r, text in zip(here, texts, strict=True):
            text += b"" if self._steering is None or not text else room[r].to_bytes(8, "little", signed=True)
            known = self._verdicts.get(text) if text else {}
            if known is None:
                known = self._verdicts[text] = {}
            new = [token for token in given[r] if token not in known and token != NONE]
            known.update(zip(new, self._check(places[r].cursor, new, room[r]), strict=True))
            self._cost.checks += len(new)
            out[r] = [token != NONE and known[token] for token in given[r]]
        self._pace.checks(time.perf_counter() - begun, self._cost.checks - before)
        while len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)
        return torch.tensor(out, dtype=torch.bool, device=rows.device).reshape(tokens.shape)

    def _texts(self, rows: Rows, here: list[int]) -> list[bytes]:
        """What each row has written so far: rows that agree in it (clones, before they part) share their verdicts."""
        starts, ends = rows.start.tolist(), [place.at for place in self._places or []]
        tokens = rows.tokens.cpu().numpy()
        return [b"-" + tokens[r, starts[r] : ends[r]].tobytes() for r in here]

    def _check(self, cursor: Cursor, tokens: list[int], room: int) -> list[bool]:
        inner = [token for token in tokens if token not in self._eos]
        steer = self._steering
        good = iter(cursor.allows_many(inner) if steer is None else steer.allows(cursor, inner, room))
        ends = len(inner) < len(tokens) and cursor.is_complete()
        return [ends if token in self._eos else next(good) for token in tokens]

    def complete(self, rows: Rows) -> Tensor:
        """[R] bool, whether the final text (up to its end of text, if one was written) is a whole text."""
        places = self._sync(rows, rows.n, torch.ones_like(rows.done))
        out = [p.ended if p.over != NONE else p.cursor.is_complete() for p in places]
        return torch.tensor(out, dtype=torch.bool, device=rows.device)

    def finished(self, rows: Rows) -> Tensor:
        """[R] bool, whether the final text is complete and nothing may follow: ends a row where no id ends a text."""
        whole = self.complete(rows).tolist()
        places = self._places or []
        out = [yes and (place.over != NONE or stuck(place.cursor)) for yes, place in zip(whole, places, strict=True)]
        return torch.tensor(out, dtype=torch.bool, device=rows.device)

    def forced(self, rows: Rows) -> list[list[int]]:
        """For each row the tokens that must come next; an end of text is among them where it is the only one."""
        places = self._sync(rows, rows.n, ~rows.done)
        return [
            [] if done or place.over != NONE else self._must(place.cursor)
            for done, place in zip(rows.done.tolist(), places, strict=True)
        ]

    def foreseen(self, rows: Rows) -> list[list[int]]:
        """For each row the tokens that the tokenizer itself writes for the text that must come next; often empty.

        The text is certain, its tokens are a guess: other spellings of it may be allowed as well.
        """
        places = self._sync(rows, rows.n, ~rows.done)
        return [
            [] if done or place.over != NONE else self._spelling(place.cursor)
            for done, place in zip(rows.done.tolist(), places, strict=True)
        ]

    def _spelling(self, cursor: Cursor) -> list[int]:
        vocabulary = self.compiled.vocabulary
        text = forced_text(cursor, vocabulary)
        if not text:
            return self._must(cursor)
        try:
            return canonicality_of(vocabulary.tokenizer).encode(text.decode())
        except (ConstraintError, UnicodeDecodeError):  # a bare table, or another kind of tokenizer
            return vocabulary.spell(text) or []

    def _must(self, cursor: Cursor) -> list[int]:
        out = cursor.forced()
        if len(self._eos) == 1 and len(out) < FORCED:
            end = cursor.fork()
            for token in out:
                end.advance(token)
            if end.is_complete() and stuck(end):
                out.append(self._eos[0])
        return out

    def explain(self, rows: Rows, row: int) -> str:
        """What was expected after the final text of `row`, in a few words."""
        place = self._sync(rows, rows.n, torch.ones_like(rows.done))[row]
        return place.cursor.explain()


def vocabulary_for(run: BindContext) -> Vocabulary:
    """The vocabulary of the run's model: as wide as its logits, without the ids that end a text."""
    tokenizer: Any = run.model.tokenizer
    if tokenizer is None:
        raise ConstraintError(f"a constraint needs a tokenizer, and {run.model.name} has none; pass tokenizer=")
    return vocabulary_of(tokenizer, run.model.vocab, run.eos)
