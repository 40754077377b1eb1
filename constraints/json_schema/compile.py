"""A document made a machine: checked for values that satisfy it, within a limit of time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final, Literal

from decodekit.errors import ConstraintError

from .containers import OPENERS
from .formula import KINDS
from .keywords import Terms
from .layout import Layout, Whitespace
from .machine import JsonMachine
from .references import Place, root
from .satisfiability import Bounds, Space
from .source import step_of
from .string_patterns import automaton

SECONDS: Final = 5.0
"""The longest that a schema is looked at before its first text."""

Document = dict[str, Any] | Literal[True]

NAMED: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
"""Keywords whose value is a schema for each name."""
DATA: Final = ("enum", "const", "default", "examples")


def compiled(
    document: Document,
    formats: bool,
    fixed: bool,
    whitespace: Whitespace,
    bounds: Bounds = Bounds(),  # noqa: B008  # immutable
) -> JsonMachine:
    """The machine of a document.

    formats: whether `format` is enforced; fixed: keys in the order of the schema; whitespace: as of `json_schema`.

    Raises:
        ConstraintError: no value satisfies it, a part cannot be enforced, or it is too large.
    """
    try:
        terms = Terms(document, formats, time.monotonic() + SECONDS)
        space = Space(terms, fixed, bounds)
        if not space.satisfiable(terms.root):
            raise ConstraintError(f"no value satisfies the schema: {culprit(space, root(document))}")
        machine = JsonMachine(space, Layout.of(whitespace, document), OPENERS)
        for _ in walked(space, terms.root):  # errors of the inner schemas are found now
            pass
    except RecursionError:
        raise ConstraintError("the schema is nested too deeply; simplify it") from None
    terms.deadline = None
    return machine


def walked(space: Space, start: int, most: int = 2_000) -> Iterator[int]:
    """The formulas of all values that a text may get to, so far as they are written in the schema."""
    known, open_ = {start}, [start]
    while open_ and len(known) < most:
        formula = open_.pop()
        yield formula
        for kind in KINDS:
            for thread in space.arena.threads(formula, kind):
                for node in map(space.arena.nodes.__getitem__, thread):
                    inner = (
                        [node[2]] if node[0] in ("each", "some") else [node[3]] if node[0] in ("all", "count") else []
                    )
                    open_ += [one for one in inner if one not in known]
                    known.update(inner)
                    if node[0] == "pat":
                        automaton(node[1])


def culprit(space: Space, place: Place, depth: int = 0) -> str:
    """Where in a schema that nothing satisfies the reason stands."""
    schema, terms = place.schema, space.terms
    if not isinstance(schema, dict) or depth > 20:
        return f"at {place.pointer}, the schema is {str(schema).lower()}" if schema is False else f"at {place.pointer}"
    steps = [("properties", name) for name in schema.get("required", ()) if name in schema.get("properties", {})]
    steps += [("allOf", i) for i in range(len(schema.get("allOf", ())))]
    for word, name in steps:
        below = place.below(schema[word][name], word, name)
        if not space.satisfiable(terms.sub(below)):
            return culprit(space, below, depth + 1)
    for low, high in (
        ("minLength", "maxLength"), ("minimum", "maximum"), ("minItems", "maxItems"), ("minProperties", "maxProperties")
    ):  # fmt: skip
        if low in schema and high in schema and schema[low] > schema[high]:
            return f"at {place.pointer}, {low} {schema[low]} is more than {high} {schema[high]}"
    words = [word for word in schema if word not in ("$schema", "$id", "title", "description", *NAMED[2:4])]
    return f"at {place.pointer}, {', '.join(map(repr, words))} exclude each other"


def schemas(node: Any, pointer: str = "#", named: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas written in a document, with their pointers."""
    if isinstance(node, list):
        for i, one in enumerate(node):
            yield from schemas(one, f"{pointer}/{i}")
    elif isinstance(node, dict):
        if not named:
            yield pointer, node
        for key, one in node.items():
            if named or key not in DATA:
                yield from schemas(one, f"{pointer}{step_of(key)}", key in NAMED and not named)


def late(document: Document) -> list[str]:
    """What the machine may notice only at the closing mark of a value, so that a text may come to a dead end there."""
    out = list[str]()
    for pointer, schema in schemas(document):
        for pattern in [schema.get("pattern"), *(schema.get("patternProperties") or {})]:
            if isinstance(pattern, str) and _matched_only(pattern):
                out.append(f"{pointer}: the pattern {pattern[:60]!r} (look-around, back-reference or inner anchor)")
        if schema.get("uniqueItems") and not _scalars(schema.get("items")):
            out.append(f"{pointer}: uniqueItems of arrays and objects")
        if isinstance(schema.get("not"), dict) and "uniqueItems" in schema["not"]:
            out.append(f"{pointer}: not uniqueItems")
    return out


def _matched_only(pattern: str) -> bool:
    try:
        return automaton(pattern) is None
    except (ConstraintError, re.error):
        return False


def _scalars(items: Any) -> bool:
    if not isinstance(items, dict):
        return False
    types = items.get("type")
    types = types if isinstance(types, list) else [types]
    return set(types) <= {"string", "number", "integer", "boolean", "null"} or "enum" in items
