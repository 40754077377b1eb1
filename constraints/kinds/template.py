"""Fixed text with constrained holes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from decodekit.core.bound import BindContext
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin

from ..automata.automaton import Automaton, letters
from ..automata.byte_machine import States
from ..automata.concatenation import BYTES, Chain
from ..automata.patterns import Row, Tree, written
from ..backends.llguidance import Grammar, GrammarError
from ..core.bound import Bound, vocabulary_for
from ..core.cursor import Compiled
from ..core.vocabulary import Vocabulary
from .coercion import constraint_of

_HOLE: Final = re.compile(r"\{\{|\}\}|\{(\w+)\}|[{}]")


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class Template:
    """The text `text`, in which each `{name}` is a hole for what the constraint `holes[name]` allows.

    Example: `template("Name: {name}, age {age}", {"name": regex("[A-Z][a-z]+"), "age": json_schema(int)})`. A brace is
    written twice. The value of a result is a dict of what the holes hold.

    Tokens may run across the borders of holes, and where a hole can end in several places all are followed. Where all
    holes are patterns and choices the whole is one pattern, as quick as any. Others are read byte by byte: a check
    costs some ten microseconds a byte, and a mask asks for very many (prefer `sample`, `greedy`, `awrs`: they check).
    """

    text: str
    holes: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> list[str | tuple[str, Any]]:
        """Fixed texts, and holes as (name, constraint). Raises ConstraintError where they do not fit together."""
        out, at, fixed = list[str | tuple[str, Any]](), 0, ""
        for found in _HOLE.finditer(self.text):
            fixed += self.text[at : found.start()]
            at = found.end()
            if found[0] in ("{{", "}}"):
                fixed += found[0][0]
            elif found[1] is None:
                raise ConstraintError(f"template: a single {found[0]!r} at character {found.start()}; write it twice")
            elif found[1] not in self.holes:
                known = ", ".join(map(str, self.holes)) or "none"
                raise ConstraintError(f"template: the hole {{{found[1]}}} has no constraint; holes holds {known}")
            else:
                out += [fixed, (found[1], _held(found[1], self.holes[found[1]]))]
                fixed = ""
        out.append(fixed + self.text[at:])
        used = {part[0] for part in out if isinstance(part, tuple)}
        unused = [name for name in self.holes if name not in used]
        if unused:
            raise ConstraintError(f"template: there is no hole {{{unused[0]}}} in {self.text[:60]!r}; add or drop it")
        return [part for part in out if part]

    def tree(self) -> Tree | None:
        """The whole as a tree of what automata can do; None where a hole is beyond them."""
        out = list[Tree]()
        for part in self.parts():
            ask = None if isinstance(part, str) else getattr(part[1], "tree", None)
            tree = letters(part) if isinstance(part, str) else (ask() if callable(ask) else None)
            if tree is None:
                return None
            out.append(tree)
        return Row(tuple(out))

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where a hole cannot be compiled."""
        tree = self.tree()
        if tree is None:
            parts = (part.encode() if isinstance(part, str) else part[1].compile(BYTES) for part in self.parts())
            return States(Chain(tuple(parts)), vocabulary)
        try:
            return Grammar(f"start: /{written(tree)}/", vocabulary, machine=lambda: Automaton(tree, "the template"))
        except GrammarError as error:
            raise ConstraintError(f"template: {' '.join(str(error).split())[-120:]}; use simpler holes") from None

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return Bound(self.compile(vocabulary_for(run)), run)

    def judge(self, text: str) -> bool:
        """Whether `text` is the template, filled."""
        return next(_fillings(self.parts(), text), None) is not None

    def value(self, text: str) -> dict[str, Any] | None:
        """Name of each hole -> what its constraint makes of what stands there; None where the text does not fit."""
        found = next(_fillings(self.parts(), text), None)
        if found is None:
            return None
        held = {part[0]: part[1] for part in self.parts() if isinstance(part, tuple)}
        return {name: held[name].value(piece) for name, piece in found}


def _held(name: str, given: Any) -> Any:
    made = constraint_of(given)
    if not callable(getattr(made, "compile", None)):
        raise ConstraintError(f"template: the constraint of {{{name}}} cannot be compiled for a vocabulary: {made!r}")
    return made


def _fillings(parts: list[str | tuple[str, Any]], text: str) -> Iterator[tuple[tuple[str, str], ...]]:
    """Every way to divide `text` among the parts, as (name of the hole, what stands there); longest holes first."""
    if not parts:
        if not text:
            yield ()
        return
    head, rest = parts[0], parts[1:]
    if isinstance(head, str):
        if text.startswith(head):
            yield from _fillings(rest, text[len(head) :])
        return
    name, kind = head
    for end in range(len(text), -1, -1):
        if rest and isinstance(rest[0], str) and not text.startswith(rest[0], end):
            continue
        if not rest and end < len(text):
            return
        if kind.judge(text[:end]):
            for more in _fillings(rest, text[end:]):
                yield ((name, text[:end]), *more)
