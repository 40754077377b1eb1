"""How a SQL statement is written where names keep the schema's case and key words have one case throughout."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from .keywords import AGGREGATES, PLAIN, folded, quoted_words
from .open_symbols import Terminal
from .scope import Names

UPPER: Final = "upper"
LOWER: Final = "lower"


class Style(NamedTuple):
    """What a statement has settled. case: of its key words, "" before the first. given: new names, as (in lower case,
    as first written).
    """

    case: str = ""
    given: frozenset[tuple[str, str]] = frozenset()


PLAINLY: Final = Style()


def styled(names: Names, style: Style, terminal: Terminal, word: str) -> Style:
    """The style after a terminal that was written as `word`."""
    if isinstance(terminal, str):
        return style if style.case or not word.isalpha() else style._replace(case=UPPER if word.isupper() else LOWER)
    kind, name = terminal
    if kind == "i" or word in spellings(names, style, name):
        return style
    return style._replace(given=style.given | {(name, word)})


def spellings(names: Names, style: Style, name: str) -> tuple[str, ...]:
    """The ways to write a name that is known: the schema's, that of its declaration; functions in either case."""
    found = [*(names.spelt or {}).get(name, ()), *sorted(word for key, word in style.given if key == name)]
    if name in names.functions or name in AGGREGATES:
        found += [name.upper(), name]
    return tuple(dict.fromkeys(found))


def cased(style: Style, terminal: str) -> tuple[str, ...]:
    """The ways to write a key word."""
    ways = (terminal, terminal.lower())
    return ways if not style.case else ways[:1] if style.case == UPPER else ways[1:]


@lru_cache(4096)
def spelt(
    names: Names, style: Style, words: frozenset[str], qualifiers: frozenset[str], terminals: frozenset[str]
) -> tuple[frozenset[str], dict[str, list[tuple[str, Terminal]]], list[bytes]]:
    """As `sql_parser._index`, in the letters that are written: what needs no quotes (in lower case), what can be
    written as a word by its first letter, key words first, and what is written in quotes.
    """
    begins: dict[str, list[tuple[str, Terminal]]] = {}
    for term in sorted(terminals):
        for word in cased(style, term) if term.isupper() else ():
            begins.setdefault(word[0], []).append((word, term))
    quoted = set[bytes]()
    for kind, known in (("w", words), ("q", qualifiers)):
        for name in sorted(known):
            for word in spellings(names, style, name):
                if is_plain(name):
                    begins.setdefault(word[0], []).append((word, (kind, name)))
                else:
                    quoted.add(word.encode())
    return frozenset(name for name in words | qualifiers if is_plain(name)), begins, sorted(quoted)


@lru_cache(65536)
def is_plain(name: str) -> bool:
    """Whether a name, in lower case, may be written without quotes."""
    return PLAIN.fullmatch(name) is not None and name not in quoted_words()


def written_as(names: Names, style: Style, terminal: Terminal) -> str:
    """A word as a statement of that style writes it, without its quotes."""
    if isinstance(terminal, str):
        return terminal if names.spelt is None else cased(style, terminal)[0]
    known = () if names.spelt is None else spellings(names, style, terminal[1])
    return known[0] if known else terminal[1]


def lettered(names: Names, text: str) -> str:
    """The letters of a word as they matter: in lower case, or as written."""
    return text.lower() if names.spelt is None else text


def known_as(names: Names, text: str) -> str:
    """The name that a word in those letters means, in lower case."""
    return text if names.spelt is None else folded(text)
