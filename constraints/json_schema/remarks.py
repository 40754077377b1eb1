"""What in a schema means nothing, or less than it seems to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import jsonschema

from .formats import FORMATS
from .source import pointer

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
QUIET: Final = frozenset(
    (
        *("$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$defs", "definitions", "$comment"),
        *("$vocabulary", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("format", "contentEncoding", "contentMediaType", "contentSchema", "then", "else"),
        *("minContains", "maxContains"),
    )
)
"""Keywords that assert nothing by themselves."""


def remarks(document: Any, formats: bool = True) -> list[str]:
    """What in a schema means nothing, or less than it seems to, each in a few words."""
    if not isinstance(document, dict):
        return []
    kind = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
    known = {*kind.VALIDATORS, *QUIET}
    out = []
    for path, schema in _schemas(document, ()):
        out += [
            f"the keyword {name!r} at {pointer(path)} is unknown to the draft" for name in schema if name not in known
        ]
        name = schema.get("format")
        if isinstance(name, str) and formats and name not in FORMATS:
            out.append(f"the format {name!r} at {pointer(path)} is not known here and asserts nothing")
        text = schema.get("pattern")
        if isinstance(text, str) and not (text.startswith("^") and text.endswith("$")):
            out.append(f"the pattern {text!r} at {pointer(path)} is not anchored, so it need only occur in the text")
    return out


def _schemas(schema: Any, path: tuple[object, ...]) -> Iterator[tuple[tuple[object, ...], dict[str, Any]]]:
    """Every subschema with its path, those under $defs included."""
    if isinstance(schema, dict):
        yield path, schema
        for steps, one in places_below(schema):
            yield from _schemas(one, (*path, *steps))


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
