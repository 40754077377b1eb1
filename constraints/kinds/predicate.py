"""Texts that a Python function accepts prefix by prefix."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin

from ..automata.byte_machine import States, utf8
from ..core.bound import Bound, vocabulary_for
from ..core.cursor import Compiled
from ..core.vocabulary import Vocabulary

MEMORY: Final = 65_536
"""How many answers of a function are remembered."""


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class Predicate:
    """Text of which `fn(prefix)` says True at every prefix, character by character.

    fn: called with the text so far; True where it may go on, or stand. complete: says whether a text is whole;
    without it a text may end wherever `fn` accepts it. over: "text" calls with str at the ends of characters (bytes
    that are no UTF-8 are refused), "bytes" with bytes after every byte. timeout: seconds for one call; a call that
    takes longer refuses the text and is left behind in its thread. closed: `fn` says True of every beginning of what it
    says True of, so it is asked once a token and not once a character.

    Answers are remembered. A function that raises, or says anything but True or False, refuses that text, and the
    reason is kept for `explain`; the run goes on. A mask asks `fn` for every prefix of tokens that it accepts, which
    is dear for a large vocabulary: prefer a selector that checks tokens one by one (awrs).
    """

    fn: Any
    complete: Any = None
    over: Literal["text", "bytes"] = "text"
    timeout: Annotated[float, Field(gt=0)] | None = None
    closed: bool = False

    def __post_init__(self) -> None:
        for name, given in (("fn", self.fn), ("complete", self.complete)):
            if not callable(given) and (given is not None or name == "fn"):
                raise ConstraintError(
                    f"predicate({name}=) is a function of the text so far, and this is of type "
                    f"{type(given).__name__}; give a function that says True or False"
                )

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where `fn` refuses even the empty text."""
        checker = self._checker()
        if not checker.good(b""):
            why = checker.trouble.get(b"")
            raise ConstraintError(
                f"predicate {checker.name} refuses the empty text{': ' + why if why else ''}, so nothing can be "
                f"written; it must say True of every beginning of an allowed text"
            )
        return States(checker, vocabulary)

    def _checker(self) -> Checker:
        kind = Leaper if self.closed else Checker
        return kind(self.fn, self.complete, self.over == "text", self.timeout)

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return Bound(self.compile(vocabulary_for(run)), run)

    def judge(self, text: str) -> bool:
        """Whether `text`, prefix by prefix, satisfies the constraint and is complete."""
        checker = self._checker()
        state: Place | None = checker.first() if checker.good(b"") else None
        state = state and checker.read(state, text.encode())
        return state is not None and checker.final(state)

    def value(self, text: str) -> str | None:
        """The text itself, or None while it is not complete."""
        return text if self.judge(text) else None


class Place(NamedTuple):
    """All that was read; whole: state of the UTF-8 checker, 0 between characters."""

    text: bytes
    whole: int


class Checker:
    """A function as a machine, with a memory of answers and of what went wrong."""

    dear: Final = True

    def __init__(self, fn: Callable[..., Any], complete: Any, decoded: bool, timeout: float | None) -> None:
        self.name = getattr(fn, "__name__", type(fn).__name__)
        self.trouble: OrderedDict[bytes, str] = OrderedDict()  # text -> what its call did instead of answering
        self._fn, self._complete, self._decoded, self._timeout = fn, complete, decoded, timeout
        self._known: OrderedDict[tuple[bytes, bool], bool] = OrderedDict()

    def first(self) -> Place:
        """The empty text."""
        return Place(b"", 0)

    def step(self, state: Place, byte: int) -> Place | None:
        """One byte more; the function is asked where a character ends."""
        whole = 0
        if self._decoded:
            after = utf8(state.whole, byte)
            if after is None:
                return None
            whole = after
        text = state.text + bytes([byte])
        return Place(text, whole) if whole or self.good(text) else None

    def read(self, state: Place, text: bytes) -> Place | None:
        """The state after `text`."""
        here: Place | None = state
        for byte in text:
            here = here and self.step(here, byte)
        return here

    def final(self, state: Place) -> bool:
        """Whether the text is whole."""
        return not state.whole and (self._complete is None or self.good(state.text, True))

    def good(self, text: bytes, end: bool = False) -> bool:
        """What the function (at the `end` the one for completeness) says of `text`, asked once."""
        key = (text, end)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._asked(text, self._complete if end else self._fn)
            if len(self._known) > MEMORY:
                self._known.popitem(last=False)
        return found

    def said(self, state: Place) -> str:
        """The function, and what went wrong lately."""
        shown = state.text[-40:].decode(errors="replace")
        out = f"expected what {self.name} accepts after {shown!r}"
        recent = [why for text, why in self.trouble.items() if text.startswith(state.text)][-3:]
        return "; ".join([out, *recent])

    def _asked(self, text: bytes, fn: Callable[..., Any]) -> bool:
        given = text.decode() if self._decoded else text
        try:
            answer = fn(given) if self._timeout is None else _within(self._timeout, fn, given)
        except Exception as error:  # whatever a user's function raises
            return self._refused(text, fn, f"raised {type(error).__name__}: {' '.join(str(error).split())[:120]}")
        if not isinstance(answer, bool | np.bool_):
            return self._refused(text, fn, f"answered {type(answer).__name__} instead of True or False")
        return bool(answer)

    def _refused(self, text: bytes, fn: Callable[..., Any], what: str) -> bool:
        name = getattr(fn, "__name__", type(fn).__name__)
        self.trouble[text] = f"{name}({text[-40:].decode(errors='replace')!r}) {what}"
        if len(self.trouble) > 256:
            self.trouble.popitem(last=False)
        return False


class Leaper(Checker):
    """A function that is closed under prefixes: asked once for all bytes of a token."""

    def leap(self, state: Place, text: bytes) -> Place | None:
        """A whole token."""
        return self.read(state, text)

    def read(self, state: Place, text: bytes) -> Place | None:
        """The state after `text`; the function is asked about all whole characters of it at once."""
        whole, upto = state.whole, len(state.text) if not state.whole else 0
        if not self._decoded:
            after = state.text + text
            return Place(after, 0) if self.good(after) else None
        for number, byte in enumerate(text, len(state.text) + 1):
            found = utf8(whole, byte)
            if found is None:
                return None
            whole = found
            upto = upto if whole else number
        after = state.text + text
        return Place(after, whole) if upto <= len(state.text) or self.good(after[:upto]) else None


def _within(seconds: float, fn: Callable[..., Any], given: str | bytes) -> Any:
    """`fn(given)` in a thread of its own. Raises TimeoutError; Python cannot end the thread."""
    out = list[Any]()
    failed = list[Exception]()

    def call() -> None:
        try:
            out.append(fn(given))
        except Exception as error:  # handed to the caller
            failed.append(error)

    worker = threading.Thread(target=call, daemon=True)
    worker.start()
    worker.join(seconds)
    if failed:
        raise failed[0]
    if not out:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return out[0]
