"""Texts that a context-free grammar generates: stock Lark grammars, llguidance's dialect, GBNF."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from lark import Lark
from lark.exceptions import LarkError

from decodekit.core.bound import BindContext
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin

from ..backends.llguidance import Grammar, GrammarError
from ..core.bound import Bound, vocabulary_for
from ..core.cursor import Compiled
from ..core.time_limit import within
from ..core.vocabulary import Vocabulary
from .errors import explained
from .machine import Reader
from .masks import spots_of
from .tables import Tables

SECONDS: Final = 30.0
"""How long a grammar may take to load."""


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class Cfg:
    """Text that a context-free grammar generates.

    grammar: a grammar as text, the path of a .lark file (relative imports are looked for beside it), or a `lark.Lark`
    object made with parser="lalr", which is used as it is, with its lexer, postlex and flags. start: the start rule;
    "start" where it is not given. dialect: whose language the text is written in.

    "lark" means what stock Lark's LALR(1) parser with its contextual lexer means: order and priorities of terminals,
    keywords, ignored text, templates, imports, look-around, indentation by `lark.indenter.Indenter`. Every text that is
    completed parses in stock Lark, and no beginning of such a text is refused. "llguidance" is read by
    llguidance's Earley parser, with its lexer (longest match, and no keywords); "gbnf" is llama.cpp's format, converted
    by llguidance.

    Raises:
        ConstraintError: the grammar cannot be read (line, column, caret), has LALR conflicts (the rules are named), or
            holds what cannot be followed byte by byte (the construct is named).
    """

    grammar: Any
    start: str | None = None
    dialect: Literal["lark", "llguidance", "gbnf"] = "lark"

    def __post_init__(self) -> None:
        if self.dialect != "lark" and self.start not in (None, "start", "root"):
            raise ConstraintError(f"dialect={self.dialect!r} always begins at its own start rule; leave start= out")
        if self.dialect == "lark":
            self.reader()
        else:
            self.translated()

    def reader(self) -> Reader:
        """The grammar as a machine over bytes."""
        if isinstance(self.grammar, Lark):
            return _of_object(self.grammar, self.start)
        text, path = self._text()
        return _of_text(text, path, self.start or "start")

    def translated(self) -> str:
        """The grammar in llguidance's dialect."""
        text, _ = self._text()
        if self.dialect == "llguidance":
            return text
        from llguidance.gbnf_to_lark import gbnf_to_lark

        try:
            return str(gbnf_to_lark(text))
        except Exception as error:  # the converter raises several kinds
            raise ConstraintError(f"the GBNF grammar cannot be read: {' '.join(str(error).split())[:300]}") from None

    def _text(self) -> tuple[str, str | None]:
        given = self.grammar
        if isinstance(given, Lark):
            raise ConstraintError(f"a Lark object is a stock Lark grammar, and dialect={self.dialect!r} was asked for")
        if isinstance(given, str) and "\n" not in given and given.endswith((".lark", ".gbnf")):
            given = Path(given)
        if isinstance(given, os.PathLike):
            try:
                return Path(given).read_text(encoding="utf-8"), str(Path(given))
            except (OSError, UnicodeDecodeError) as error:
                raise ConstraintError(f"the grammar file {given} cannot be read: {error}") from None
        if not isinstance(given, str):
            raise ConstraintError(
                f"cfg needs a grammar as text, the path of a .lark file or a lark.Lark object, and this is of type "
                f"{type(given).__name__}"
            )
        if not given.strip():
            raise ConstraintError('the grammar is empty; write at least a start rule, such as start: "yes" | "no"')
        return given, None

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where the engine cannot do the grammar."""
        if self.dialect == "lark":
            reader = self.reader()
            if not reader.alive(reader.first()):
                raise ConstraintError("no text at all satisfies the grammar; its terminals hide one another")
            return spots_of(reader, vocabulary)
        try:
            return Grammar(self.translated(), vocabulary)
        except GrammarError as error:
            reason = " ".join(str(error).split())
            raise ConstraintError(
                f"llguidance cannot use the grammar: {reason[:400]}; stock Lark grammars go without dialect="
            ) from None

    def unbounded(self) -> Reader | None:
        """What reads the grammar byte by byte, for canvases; None where that is llguidance."""
        return self.reader() if self.dialect == "lark" else None

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return Bound(self.compile(vocabulary_for(run)), run)

    def judge(self, text: str) -> bool:
        """Whether stock Lark parses `text`; in the other dialects, whether llguidance accepts it as complete."""
        if self.dialect == "lark":
            return self._parsed(text) is not None
        compiled = self.compile(_bytes())
        cursor = compiled.start()
        for byte in text.encode():
            if not cursor.allows(byte):
                return False
            cursor.advance(byte)
        return cursor.is_complete()

    def value(self, text: str) -> Any:
        """The parse tree of stock Lark (what its transformer makes of it); None while the text is not complete.

        In the other dialects the text itself.
        """
        if self.dialect != "lark":
            return text if self.judge(text) else None
        found = self._parsed(text)
        return None if found is None else found[0]

    def _parsed(self, text: str) -> tuple[Any] | None:
        tables = self.reader().tables
        try:
            return (tables.lark.parse(text, start=tables.start_name),)
        except (LarkError, AssertionError, IndexError):  # the last two are how Lark's Indenter fails
            return None


@functools.lru_cache(maxsize=32)
def _of_text(text: str, path: str | None, start: str) -> Reader:
    def load() -> Reader:
        lark = Lark(text, parser="lalr", start=start) if path is None else Lark.open(path, parser="lalr", start=start)
        return Reader(Tables(lark, start))

    try:
        return _in_time(load)
    except ConstraintError:
        raise
    except (LarkError, OSError) as error:
        raise explained(error, text) from None
    except (RecursionError, AssertionError, KeyError, ValueError, TypeError, re.error) as error:
        own = _before(error)
        if own is not None:  # Lark failed while it put that one into words
            raise explained(own, text) from None
        raise ConstraintError(f"Lark cannot load the grammar: {type(error).__name__}: {str(error)[:200]}") from None


def _before(error: BaseException) -> LarkError | None:
    """The error of Lark that was being handled first when this one came up."""
    found, here = None, error.__context__
    while here is not None:
        found = here if isinstance(here, LarkError) else found
        here = here.__context__
    return found


def _of_object(lark: Lark, start: str | None) -> Reader:
    made: dict[str | None, Reader] = lark.__dict__.setdefault("_decodekit_readers", {})
    if start not in made:
        made[start] = _in_time(lambda: Reader(Tables(lark, start)))
    return made[start]


def _in_time(make: Callable[[], Reader]) -> Reader:
    try:
        return within(SECONDS, make)
    except TimeoutError:
        raise ConstraintError(
            f"the grammar takes over {SECONDS:g} seconds to load: Lark writes out every combination of optional parts "
            f"and of repetitions with ~; give parts of a rule rules of their own, and repeat with * or +"
        ) from None


@functools.cache
def _bytes() -> Vocabulary:
    return Vocabulary(tuple(bytes([byte]) for byte in range(256)))
