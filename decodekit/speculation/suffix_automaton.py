"""A corpus as a suffix automaton: the longest end of a text that stands in it, and what followed it there how often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from torch import Tensor

from decodekit.core.bound import Model
from decodekit.core.follower import Follower
from decodekit.core.rows import Rows
from decodekit.errors import OptionError

MOST: Final = 2_000_000
"""Tokens that a corpus may have: its automaton takes some hundred bytes a token."""

KEPT: Final = 4
"""Automata that are kept for each tokenizer."""


class Automaton:
    """The suffix automaton of several texts (Blumer et al. 1985), with the number of places of each of its states.

    A state is a set of places; `step[s]` leads from it by a token, `link[s]` to the longest end of its texts that has
    more places, `size[s]` is the length of its longest text and `count[s]` the number of its places. Building and
    following take time in proportion to the number of tokens. Immutable once built.
    """

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self.step: list[dict[int, int]] = [{}]
        self.link, self.size, self.count = [-1], [0], [0]
        for text in texts:
            last = 0
            for token in text:
                last = self._extended(last, token)
                self.count[last] += 1
        for state in sorted(range(1, len(self.size)), key=self.size.__getitem__, reverse=True):
            self.count[self.link[state]] += self.count[state]

    def _extended(self, last: int, token: int) -> int:
        """The state of the text of `last` and one token more."""
        known = self.step[last].get(token)
        if known is not None:  # another text had it before
            return known if self.size[known] == self.size[last] + 1 else self._split(last, token, known)
        new = self._state(self.size[last] + 1, {})
        at = last
        while at >= 0 and token not in self.step[at]:
            self.step[at][token] = new
            at = self.link[at]
        if at >= 0:
            next_ = self.step[at][token]
            whole = self.size[next_] == self.size[at] + 1
            self.link[new] = next_ if whole else self._split(at, token, next_)
        return new

    def _split(self, at: int, token: int, old: int) -> int:
        """The part of `old` that `at` leads to gets a state of its own."""
        made = self._state(self.size[at] + 1, dict(self.step[old]))
        self.link[made], self.link[old] = self.link[old], made
        while at >= 0 and self.step[at].get(token) == old:
            self.step[at][token] = made
            at = self.link[at]
        return made

    def _state(self, size: int, step: dict[int, int]) -> int:
        self.step.append(step)
        self.link.append(0)
        self.size.append(size)
        self.count.append(0)
        return len(self.size) - 1

    def follow(self, state: int, length: int, token: int) -> tuple[int, int]:
        """(state, length of the longest end) after one token more."""
        while state and token not in self.step[state]:
            state = self.link[state]
            length = self.size[state]
        found = self.step[state].get(token)
        return (0, 0) if found is None else (found, length + 1)

    def ahead(self, state: int, k: int, sure: float) -> list[int]:
        """At most `k` tokens: each time the one that followed most often, while the share of all together is `sure`."""
        out: list[int] = []
        share = 1.0
        while len(out) < k and self.step[state]:
            token, next_ = max(self.step[state].items(), key=lambda item: (self.count[item[1]], -item[0]))
            share *= self.count[next_] / self.count[state] if state else 0.0
            if share < sure or share == 0.0:
                break
            out.append(token)
            state = next_
        return out


class Reading(Follower):
    """Where every row stands in an automaton; rows that fork, shrink or leave are followed."""

    def __init__(self, automaton: Automaton) -> None:
        super().__init__()
        self._automaton = automaton
        self._paths: list[list[tuple[int, int]]] = []  # per row, (state, length) after each of its tokens

    def fork(self, index: Tensor) -> None:
        """Rows that are copied share nothing that is written to."""
        self._paths = [list(self._paths[i]) for i in index.tolist()] if self._paths else []

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> None:
        """One step for each new token."""
        if not self._paths:
            self._paths = [[] for _ in range(len(rows))]
        for r in only.nonzero()[:, 0].tolist():
            path, begin, end = self._paths[r], int(keep[r]), int(upto[r])
            del path[begin:]
            for token in rows.tokens[r, len(path) : end].tolist():
                state, length = path[-1] if path else (0, 0)
                path.append(self._automaton.follow(state, length, token))

    def states(self, rows: Rows) -> list[tuple[int, int]]:
        """(state, length of the longest end that stands in the corpus) of each row; (0, 0) for rows that are done."""
        self.sync(rows, rows.n)
        done = rows.done.tolist()
        return [(0, 0) if done[r] or not path else path[-1] for r, path in enumerate(self._paths)]


def automaton(corpus: Any, model: Model, who: str) -> Automaton:
    """The automaton of a corpus in a model's tokens; the last few are kept, so calls with the same corpus share one.

    Args:
        corpus: texts, lists of token ids, or a file: JSON lines with "text" or with "prompt" and "answer", or any text.
        model: whose tokens.
        who: the plugin, for messages.

    Raises:
        OptionError: no such file, a broken line, no texts, ids that the model does not have, nothing in it, or more
            than :data:`MOST` tokens.
    """
    if isinstance(corpus, str | Path):
        key: Any = Path(corpus).resolve(), _stamp(Path(corpus), who)
    else:
        key = corpus = _frozen(corpus, who)
    mine = _kept(model.tokenizer)
    if (key, model.vocab) not in mine:
        made = Automaton(_texts(corpus, model, who))
        while len(mine) >= KEPT:
            del mine[next(iter(mine))]  # the oldest
        mine[key, model.vocab] = made
    return mine[key, model.vocab]


_of_tokenizers: WeakKeyDictionary[Any, dict[Any, Automaton]] = WeakKeyDictionary()
_of_ids: dict[Any, Automaton] = {}


def _kept(tokenizer: Any) -> dict[Any, Automaton]:
    """Automata in the tokens of a tokenizer; a new dict for one that cannot be a key."""
    if tokenizer is None:
        return _of_ids
    try:
        return _of_tokenizers.setdefault(tokenizer, {})
    except TypeError:
        return {}


def _stamp(path: Path, who: str) -> tuple[int, int]:
    try:
        found = path.stat()
    except (OSError, ValueError) as problem:
        raise OptionError(f"{who}: the corpus {str(path)!r} cannot be read ({problem}); check the path") from None
    return found.st_mtime_ns, found.st_size


def _frozen(corpus: Any, who: str) -> tuple[str | tuple[int, ...], ...]:
    """A corpus that was given as objects, checked and hashable."""
    try:
        out = tuple(one if isinstance(one, str) else tuple(map(index, one)) for one in corpus)
    except TypeError:
        raise OptionError(
            f"{who}: corpus={str(corpus)[:40]} is no list of texts; give texts, lists of token ids, or a file's path"
        ) from None
    return out


def _texts(corpus: Any, model: Model, who: str) -> list[list[int]]:
    """Token ids of every text of a corpus."""
    corpus = _lines(corpus, who) if isinstance(corpus, str | Path) else corpus
    if model.tokenizer is None and any(isinstance(one, str) for one in corpus):
        raise OptionError(f"{who}: the model has no tokenizer; give the corpus as lists of token ids")
    encode = model.tokenizer  # a text is the middle of a longer one: no special tokens are added
    texts = [
        list(encode(one, add_special_tokens=False)["input_ids"] if isinstance(one, str) else one) for one in corpus
    ]
    total = sum(map(len, texts))
    if not total:
        raise OptionError(f"{who}: the corpus is empty; give texts, or drop corpus=")
    if total > MOST:
        raise OptionError(f"{who}: the corpus has {total:,} tokens, and {MOST:,} are the most; give a part of it")
    alien = next((token for text in texts for token in text if not 0 <= token < model.vocab), None)
    if alien is not None:
        raise OptionError(
            f"{who}: the corpus has the token {alien}, and {model.name!r} has tokens 0 to {model.vocab - 1}; "
            "give its own"
        )
    return texts


def _lines(path: str | Path, who: str) -> list[str]:
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise OptionError(f"{who}: the corpus {str(path)!r} cannot be read ({problem}); check the path") from None
    if path.suffix != ".jsonl":
        return [text]
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            out.append(said if isinstance(said, str) else said.get("text") or said["prompt"] + said["answer"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise OptionError(
                f"{who}: line {number} of {str(path)!r} is no text; write a JSON string, or an object with 'text' or "
                "with 'prompt' and 'answer'"
            ) from None
    return out
