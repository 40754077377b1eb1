"""Facts about JSON Schema's drafts, and patterns with the standard's search meaning."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import jsonschema
import referencing
import referencing.jsonschema
import regex

from decodekit.constraints.engines.partial import WIDE
from decodekit.errors import ConstraintError

SECONDS: Final = 0.5
"""For one match of a pattern; a text on which it takes longer is refused."""
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_NAMED: Final = ("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")
_SINGLE: Final = (
    "not",
    "if",
    "then",
    "else",
    "items",
    "contains",
    "additionalProperties",
    "additionalItems",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
)
_OLD: Final = ("draft-03", "draft-04", "draft-06", "draft-07")


def specification_of(validator: Any) -> Any:
    """The draft's rules for finding subschemas."""
    return referencing.jsonschema.specification_with(
        str(validator.ID_OF(validator.META_SCHEMA)), default=referencing.jsonschema.DRAFT202012
    )


def alone(validator: Any) -> bool:
    """Whether keywords beside a `$ref` mean nothing: until draft 7."""
    return any(name in str(validator.ID_OF(validator.META_SCHEMA)) for name in _OLD)


def references(node: Any) -> Iterator[Any]:
    """Every schema that is reachable from `node`; a reference that leads nowhere raises ConstraintError."""
    seen, open_ = set[int](), [node]
    while open_:
        here = open_.pop()
        if not isinstance(here.schema, dict) or id(here.schema) in seen:
            continue
        seen.add(id(here.schema))
        yield here
        names = [here.schema.get(name) for name in ("$ref", "$dynamicRef") if name in here.judge.asserts]
        open_ += [here.refers(name) for name in names if isinstance(name, str)]
        if not ("$ref" in here.schema and here.judge.alone):
            open_ += [here.child(one) for one in _below(here.schema)]
        for name in ("pattern", *here.schema.get("patternProperties", ())):
            compiled(here.schema.get("pattern", "") if name == "pattern" else name)


def _below(schema: dict[str, Any]) -> Iterator[Any]:
    return (one for steps, one in places_below(schema) if steps[0] not in ("$defs", "definitions"))


def places_below(schema: dict[str, Any]) -> Iterator[tuple[tuple[object, ...], Any]]:
    """(steps, subschema) for each subschema directly below."""
    for name in _LISTS:
        if isinstance(schema.get(name), list):
            yield from (((name, at), one) for at, one in enumerate(schema[name]))
    for name in _NAMED:
        if isinstance(schema.get(name), dict):
            yield from (((name, key), one) for key, one in schema[name].items() if isinstance(one, dict | bool))
    for name in _SINGLE:
        if isinstance(schema.get(name), dict | bool):
            yield (name,), schema[name]


@lru_cache(1024)
def compiled(pattern: str) -> Any:
    """A pattern of a schema. Raises ConstraintError where it is none."""
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ConstraintError(f"the schema's pattern {pattern!r} cannot be read: {error}; correct it") from None


@lru_cache(1024)
def _within(pattern: str) -> Any:
    """Matches a text in which `pattern` occurs."""
    compiled(pattern)
    return regex.compile(rf"(?s:.*?)(?:{pattern})(?s:.*)")


class TooSlow(Exception):
    """A pattern took too long: nothing is known, so whatever was asked is refused, also under a `not`."""


def occurs(pattern: str, text: str) -> bool:
    """Whether `pattern` occurs in `text`. Raises TooSlow."""
    try:
        return compiled(pattern).search(text, timeout=SECONDS) is not None
    except TimeoutError:
        raise TooSlow from None


def may_occur(pattern: str, prefix: str) -> bool:
    """Whether `pattern` may occur in a text that begins with `prefix`."""
    try:
        return _within(pattern).fullmatch(prefix, partial=True, timeout=SECONDS) is not None
    except TimeoutError:
        return True  # the end of the string decides


def is_wide(pattern: str) -> bool:
    """Whether a text in which `pattern` occurs may hold a character beyond ASCII."""
    anchored = pattern.startswith("^") and pattern.endswith("$")
    return not anchored or WIDE.search(pattern[1:-1]) is not None


def pattern_of(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    """`pattern`, as validators of the jsonschema library have it."""
    if validator.is_type(value, "string") and not occurs(pattern, value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


def _patterns(validator: Any, patterns: dict[str, Any], value: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(value, "object"):
        for pattern, below in patterns.items():
            for name, one in value.items():
                if occurs(pattern, name):
                    yield from validator.descend(one, below, path=name, schema_path=pattern)


def _others(validator: Any, below: Any, value: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(value, "object"):
        for name in others(schema, value):
            yield from validator.descend(value[name], below, path=name)


def others(schema: dict[str, Any], names: Any) -> list[str]:
    """Those of `names` that neither `properties` nor `patternProperties` speak of."""
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    return [name for name in names if name not in known and not any(occurs(one, name) for one in patterns)]


def quick(kind: Any) -> dict[str, Any]:
    """Keywords with patterns that cannot run for ever."""
    mine = {"patternProperties": _patterns, "additionalProperties": _others}
    return {name: says for name, says in mine.items() if name in kind.VALIDATORS}
