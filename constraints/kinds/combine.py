"""Constraints made of constraints: all of them, any of them, or anything but one at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from decodekit.core.bound import BindContext
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin

from ..automata.automaton import Automaton, Both
from ..automata.byte_machine import utf8
from ..automata.intersection import Together
from ..automata.patterns import Either, Tree, written
from ..backends.llguidance import Grammar, GrammarError
from ..core.bound import Bound
from ..core.compile_cache import bound
from ..core.cursor import Bits, Compiled, Cursor, explained
from ..core.vocabulary import Vocabulary
from .coercion import constraint_of


def _parts(name: str, given: tuple[Any, ...], least: int) -> tuple[Any, ...]:
    """The constraints that `given` means. Raises ConstraintError where there are too few, or one is none."""
    if len(given) < least:
        raise ConstraintError(f"{name} takes at least {least} constraints, and got {len(given)}; give them as a list")
    made = tuple(map(constraint_of, given))
    for one in made:
        if not callable(getattr(one, "compile", None)):
            raise ConstraintError(f"{name}: {one!r} cannot be compiled for a vocabulary, so it cannot be combined")
    return made


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class AllOf:
    """Text that satisfies all of `parts`, which are constraints or what they can be made of.

    Patterns and choices are joined to one automaton, exactly: nothing is allowed from which no common text follows, and
    parts without a common text are refused. Other parts look one token ahead each for itself: they must agree token by
    token, and where two of them have no text in common it is noticed where their ways part, which is a dead end.
    """

    parts: tuple[Any, ...]

    def __post_init__(self) -> None:
        _parts("all_of", self.parts, 1)

    def flat(self) -> list[Tree] | None:
        """The parts as trees of what automata can do, all of which must hold; None where one is beyond them."""
        out: list[Tree] = []
        for part in _parts("all_of", self.parts, 1):
            found = flat(part)
            if found is None:
                return None
            out += found
        return out

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where a part does."""
        parts = _parts("all_of", self.parts, 1)
        trees = {i: tree for i, part in enumerate(parts) if (tree := _tree(part)) is not None}
        if len(trees) < 2:
            return Together([part.compile(vocabulary) for part in parts], vocabulary, True)
        joined: list[Compiled] = [_joined(list(trees.values()), vocabulary)]
        rest = [part.compile(vocabulary) for i, part in enumerate(parts) if i not in trees]
        return Together(joined + rest, vocabulary, True) if rest else joined[0]

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` satisfies every part, by their own judges."""
        return all(part.judge(text) for part in _parts("all_of", self.parts, 1))

    def value(self, text: str) -> Any:
        """What the first part makes of the text, or None while it is not complete."""
        return _parts("all_of", self.parts, 1)[0].value(text) if self.judge(text) else None


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class AnyOf:
    """Text that satisfies at least one of `parts`, which are constraints or what they can be made of."""

    parts: tuple[Any, ...]

    def __post_init__(self) -> None:
        _parts("any_of", self.parts, 1)

    def tree(self) -> Tree | None:
        """One of the parts, as a tree of what automata can do; None where one is beyond them."""
        trees = [_tree(part) for part in _parts("any_of", self.parts, 1)]
        known = tuple(tree for tree in trees if tree is not None)
        return Either(known) if len(known) == len(trees) else None

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where a part does."""
        return Together([part.compile(vocabulary) for part in _parts("any_of", self.parts, 1)], vocabulary, False)

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` satisfies a part, by its own judge."""
        return any(part.judge(text) for part in _parts("any_of", self.parts, 1))

    def value(self, text: str) -> Any:
        """What the first part that it satisfies makes of the text, or None while it satisfies none."""
        return next((part.value(text) for part in _parts("any_of", self.parts, 1) if part.judge(text)), None)


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class NotAtEnd:
    """Any text, as long as it may not end there: the whole text must not satisfy `part`. On the way it may."""

    part: Any

    def __post_init__(self) -> None:
        _parts("not_at_end", (self.part,), 1)

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where the part does."""
        return _Free(_parts("not_at_end", (self.part,), 1)[0].compile(vocabulary), vocabulary)

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` does not satisfy the part."""
        return not _parts("not_at_end", (self.part,), 1)[0].judge(text)

    def value(self, text: str) -> str | None:
        """The text itself, or None where it satisfies the part."""
        return text if self.judge(text) else None


def flat(part: Any) -> list[Tree] | None:
    """What automata can do of a part, for canvases: `flat()` if it has that, else its `tree()`; None for nothing."""
    ask = getattr(part, "flat", None)
    if callable(ask):
        found: list[Tree] | None = ask()
        return found
    tree = _tree(part)
    return None if tree is None else [tree]


def _tree(part: Any) -> Tree | None:
    """What a part says of itself as a pattern; None where it is none."""
    ask = getattr(part, "tree", None)
    found: Tree | None = ask() if callable(ask) else None
    return found


def _joined(trees: list[Tree], vocabulary: Vocabulary) -> Compiled:
    """The texts of all trees. Raises ConstraintError where there is none, or the product is too large."""
    every = " & ".join(f"/{written(tree)}/" for tree in trees)
    try:
        made = Grammar(f"start: T\nT: {every}", vocabulary, machine=lambda: Both([Automaton(tree) for tree in trees]))
    except GrammarError as error:
        reason = " ".join(str(error).split())[-120:]
        raise ConstraintError(f"all_of cannot join its patterns: {reason}; write one pattern for them") from None
    start = made.start()
    if not start.is_complete() and not start.mask().any():
        raise ConstraintError("the parts of all_of have no text in common that these tokens can spell; change one")
    return made


class _Free:
    """All texts but those that a compiled constraint calls whole."""

    def __init__(self, part: Compiled, vocabulary: Vocabulary) -> None:
        self.part, self.vocabulary = part, vocabulary
        self.built = 0
        self._masks: dict[int, Bits] = {}  # by state of the UTF-8 checker, of which there are a few

    def start(self) -> _Anywhere:
        """A cursor before the first token."""
        return _Anywhere(self, self.part.start(), 0, [0])

    def after(self, inside: int, token: int) -> int | None:
        """The state of the UTF-8 checker after `token`; None where it has no text, or none that may stand here."""
        text = self.vocabulary.tokens[token] if 0 <= token < len(self.vocabulary) else b""
        state: int | None = inside if text else None
        for byte in text:
            state = None if state is None else utf8(state, byte)
        return state

    def mask_of(self, inside: int) -> Bits:
        """[ceil(V / 32)] uint32, read-only."""
        if inside not in self._masks:
            size = len(self.vocabulary)
            flags = np.zeros(32 * (size // 32 + 1), dtype=np.bool_)
            flags[[token for token in range(size) if self.after(inside, token) is not None]] = True
            self._masks[inside] = np.packbits(flags, bitorder="little").view(np.uint32)
            self._masks[inside].flags.writeable = False
            self.built += 1
        return self._masks[inside]


class _Anywhere:
    """Any place. read: how many tokens the part has followed. inside: states of the UTF-8 checker after each token."""

    __slots__ = ("_cursor", "_home", "_inside", "_read")

    def __init__(self, home: _Free, cursor: Cursor, read: int, inside: list[int]) -> None:
        self._home, self._cursor, self._read, self._inside = home, cursor, read, inside

    def mask(self) -> Bits:
        """[ceil(V / 32)] uint32: every token that goes on in UTF-8."""
        return self._home.mask_of(self._inside[-1])

    def allows(self, token: int) -> bool:
        """Whether `token` has a text that goes on in UTF-8."""
        return self._home.after(self._inside[-1], token) is not None

    def allows_many(self, tokens: Sequence[int]) -> list[bool]:
        """:meth:`allows` of each of `tokens`."""
        return [self.allows(token) for token in tokens]

    def advance(self, token: int) -> None:
        """Read `token`. Raises ValueError if it is not allowed."""
        after = self._home.after(self._inside[-1], token)
        if after is None:
            raise ValueError(f"token {token} is not allowed here")
        if self._read == len(self._inside) - 1 and self._cursor.allows(token):
            self._cursor.advance(token)
            self._read += 1
        self._inside.append(after)

    def fork(self) -> _Anywhere:
        """An independent cursor at the same place."""
        return _Anywhere(self._home, self._cursor.fork(), self._read, self._inside.copy())

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens."""
        if n:
            del self._inside[-n:]
        if self._read > len(self._inside) - 1:
            self._cursor.rollback(self._read - len(self._inside) + 1)
            self._read = len(self._inside) - 1

    def is_complete(self) -> bool:
        """Whether no character is unfinished and the part does not call this a whole text."""
        return not self._inside[-1] and (self._read < len(self._inside) - 1 or not self._cursor.is_complete())

    def forced(self) -> list[int]:
        """Nothing is."""
        return []

    def explain(self) -> str:
        """What may follow."""
        return explained(self, self._home.vocabulary)
