"""Compiled constraints kept from call to call: an equal constraint for the same vocabulary is not compiled again."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, Final, Protocol, TypeVar

from decodekit.core.bound import BindContext

from .bound import Bound, vocabulary_for
from .cursor import Compiled
from .vocabulary import Vocabulary

T = TypeVar("T")
KEPT: Final = 32
"""Compiled constraints that are kept for a vocabulary; the one not used for the longest time goes first."""
PATH: Final = 1024


class Kind(Protocol):
    """A constraint that can be compiled."""

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary."""


class _Unknown(Exception):
    """A part of an unknown kind, whose meaning may change."""


def bound(constraint: Kind, run: BindContext) -> Bound:
    """Compiled for the run's model, or found there, and following its rows."""
    return Bound(compiled(constraint, vocabulary_for(run)), run)


def compiled(constraint: Kind, vocabulary: Vocabulary) -> Compiled:
    """The constraint for a vocabulary; kept where everything that it consists of is plain data, which cannot change
    its meaning unseen (functions and objects of the user's can).
    """
    try:
        key = meaning(constraint)
    except _Unknown:
        return constraint.compile(vocabulary)
    return keep(vocabulary, "compiled", KEPT, key, lambda: constraint.compile(vocabulary))


def keep(vocabulary: Vocabulary, shelf: str, most: int, key: Hashable, make: Callable[[], T]) -> T:
    """What `make()` gives, or gave before for `key` among the `most` latest on this shelf of the vocabulary."""
    kept: OrderedDict[Hashable, T] = vocabulary.engines.setdefault(shelf, OrderedDict())
    found = kept[key] = kept.pop(key) if key in kept else make()
    while len(kept) > most:
        kept.popitem(last=False)
    return found


def meaning(value: Any) -> Hashable:
    """A value that is equal for constraints, and parts of them, that mean the same."""
    if value is None or isinstance(value, bool | int | float | bytes):
        return (type(value), value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return (type(value), *map(meaning, value))
    if isinstance(value, dict):  # in order: it is that of the keys
        return (dict, *((meaning(key), meaning(one)) for key, one in value.items()))
    own = getattr(value, "meaning", None)
    if own is not None:
        return (type(value), meaning(own()))
    if is_dataclass(value) and not isinstance(value, type) and hasattr(value, "compile"):
        return (type(value), *(meaning(getattr(value, field.name)) for field in fields(value)))
    raise _Unknown


def _text(value: str) -> Hashable:
    """A text, which may be the name of a file: then it means what the file holds now."""
    if len(value) < PATH and "\n" not in value and "\0" not in value:
        try:
            found = os.stat(value)
        except (OSError, ValueError):
            return value
        return (value, found.st_mtime_ns, found.st_size, found.st_ino)
    return value
