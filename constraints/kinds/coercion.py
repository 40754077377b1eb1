"""One door for everything that a user may give as a constraint."""

from __future__ import annotations

import enum
import re
import types
from collections.abc import Iterable
from typing import Any, Final, Literal, get_args, get_origin

from lark import Lark

from decodekit.errors import ConstraintError
from decodekit.registry.metadata import info_of

from ..json_schema.constraint import JsonSchema
from ..json_schema.source import is_type
from ..lark.constraint import Cfg
from .choice import Choice
from .regex import Regex

_FLAGS: Final = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x", re.ASCII: "a"}
_KINDS: Final = (
    "a pydantic model, dataclass or TypedDict, a schema as dict, a compiled regular expression (re.compile), a list of "
    "texts, a Literal or Enum, or a constraint such as regex(...), json_schema(...), sql(...)"
)


def constraint_of(value: Any) -> Any:
    """The constraint plugin that `value` means.

    A constraint plugin (or whatever has `bind(run)`) is passed through. A pydantic model, dataclass, TypedDict, dict
    or generic type such as `list[int]` becomes JSON; `re.compile(...)` a regular expression; a list of texts, a
    Literal or an Enum a choice; types of outlines (Regex, JsonSchema, Choice) what they say.

    Raises:
        ConstraintError: `value` is none of these, or is not usable as such.
    """
    if not isinstance(value, type) and callable(getattr(value, "bind", None)):
        about = info_of(value)
        if about and "constraint" not in about.roles:
            raise ConstraintError(f"{about.name} is a {about.roles[0]} and no constraint; pass it as strategy=")
        return value
    if isinstance(value, re.Pattern):
        return Regex(_with_flags(value))
    if isinstance(value, type) and issubclass(value, enum.Enum):
        return Choice(_texts((member.value for member in value), f"the Enum {value.__name__}"))
    if get_origin(value) is Literal:
        return Choice(_texts(get_args(value), str(value)))
    if isinstance(value, list | tuple | set | frozenset):
        return Choice(_texts(sorted(value, key=str) if isinstance(value, set | frozenset) else value, "the list"))
    if isinstance(value, Lark):
        return Cfg(value)
    if type(value).__module__.split(".")[0] == "outlines":
        return _from_outlines(value)
    if is_type(value) or isinstance(value, dict | types.UnionType | types.GenericAlias):
        return JsonSchema(value)
    if value in (int, float, bool) or (get_origin(value) is not None and not isinstance(value, type)):
        return JsonSchema(value)
    if isinstance(value, str):
        raise ConstraintError(
            f"the text {value[:40]!r} may be a pattern, a schema or a grammar; say which: "
            f"regex(...), json_schema(...), cfg(...)"
        )
    raise ConstraintError(f"{_named(value)} is no constraint; give {_KINDS}")


def _named(value: object) -> str:
    return f"the type {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"


def _texts(values: Iterable[object], what: str) -> tuple[str, ...]:
    out = list[str]()
    for value in values:
        if isinstance(value, enum.Enum):
            value = value.value
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ConstraintError(f"{what} holds {value!r}, and a choice is among texts and whole numbers; remove it")
        out.append(str(value))
    return tuple(out)


def _with_flags(compiled: re.Pattern[Any]) -> str:
    """The pattern as text, with the flags that were given beside it written into it."""
    pattern = compiled.pattern
    if not isinstance(pattern, str):
        raise ConstraintError(f"the pattern {pattern!r} is made of bytes; compile it from text")
    own = re.match(r"\(\?([aimsux]+)\)", pattern)
    inside = own[1] if own else ""
    letters = "".join(letter for flag, letter in _FLAGS.items() if compiled.flags & flag and letter not in inside)
    if not letters:
        return pattern
    rest = pattern[own.end() :] if own else pattern
    return f"(?{inside}{letters}){rest}"


def _from_outlines(value: Any) -> Any:
    kind = type(value).__name__
    if kind == "Regex":
        return Regex(value.pattern)
    if kind == "JsonSchema":
        if value.whitespace_pattern:
            raise ConstraintError(
                f"the white space pattern {value.whitespace_pattern!r} of an outlines JsonSchema is not used here; "
                f"write json_schema(schema, whitespace=...), which has ways of its own"
            )
        return JsonSchema(value.schema)
    if kind == "CFG":
        return Cfg(value.definition)
    if kind == "Choice":
        return Choice(_texts(value.items, "the outlines Choice"))
    try:
        from outlines.types.dsl import to_regex

        return Regex(to_regex(value))
    except (ImportError, TypeError, NotImplementedError):
        raise ConstraintError(
            f"the outlines type {kind} cannot be used here; give its Regex, JsonSchema or Choice, or {_KINDS}"
        ) from None
