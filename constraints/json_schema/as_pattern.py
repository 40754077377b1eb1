"""JSON Schemas that a finite automaton can hold, as trees of patterns: for canvases, which are filled in any order."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import jsonschema

from decodekit.errors import ConstraintError

from ..automata.automaton import letters
from ..automata.patterns import Again, Either, Letters, Ranges, Row, Tree, parsed
from .layout import Layout, Whitespace
from .number_ranges import integers, numbers
from .source import pointer

DEPTH: Final = 3
"""How often a reference may lead into itself."""

Place = tuple[str | int, ...]
_SAYS_NOTHING: Final = {
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
}
_BOUNDS: Final = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_OF_TYPE: Final = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern"},
    "integer": _BOUNDS,
    "number": _BOUNDS,
    "boolean": set[str](),
    "null": set[str](),
}
_LETTER: Final = parsed(r'[^"\\\x00-\x1f]|\\["\\/bfnrt]')
_BRACKETED: Final = re.compile(r"\\.|\[(?:\\.|[^\]])*\]|\((?:\\.|[^()])*\)")
"""Escapes, classes and groups without groups in them."""
_PLAIN: Final[Ranges] = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, 0x10FFFF))
"""Characters that stand for themselves in a JSON string."""


def flat_schema(document: Any, whitespace: Whitespace) -> Tree:
    """A tree whose texts are valid: keys in the order of the schema, none but those that it names, none escaped oddly.

    White space is as of `json_schema`; where it is flexible, indentation goes as far as the levels that the tree has.
    Held are types, properties, required, items and their number, lengths or an anchored pattern of strings, bounds of
    numbers, enum, const, anyOf and references; how long or deep a text may be is up to the canvas.

    Raises:
        ConstraintError: another keyword, by its JSON pointer; a part that says nothing of its values; or no text.
    """
    flat = _Flat(document, Layout(whitespace, levels=1))
    found = flat.tree(document, (), {}, 0)
    if whitespace == "flexible" and flat.deepest > 1:  # each blank is a state, so none more than these texts need
        found = _Flat(document, Layout(whitespace, flat.deepest)).tree(document, (), {}, 0)
    if found is None:
        raise _refusal((), f"has only texts in which a reference leads into itself more than {DEPTH} times")
    return found


class _Flat:
    """depth, of its methods: how many brackets are open around a part. deepest: the most of them."""

    def __init__(self, document: Any, layout: Layout) -> None:
        self._document, self._layout, self.deepest = document, layout, 0
        self._any = Again(parsed(layout.pattern), 0, 1) if layout.flexible else None

    def tree(self, schema: Any, place: Place, seen: dict[str, int], depth: int) -> Tree | None:
        """Of a part of the schema; None where no text of it is short enough."""
        if not isinstance(schema, dict):
            raise _refusal(place, "says nothing of its values")
        words = set(schema) - _SAYS_NOTHING
        if words & {"enum", "const"}:
            return self._values(schema, place, depth)
        for name in ("$ref", "anyOf"):
            if name in words and words != {name}:
                raise _refusal(place, f"joins {name} with {sorted(words - {name})[0]}")
        if "$ref" in words:
            return self._reference(schema["$ref"], place, seen, depth)
        if "anyOf" in words:
            parts = [self.tree(part, (*place, "anyOf", i), seen, depth) for i, part in enumerate(schema["anyOf"])]
            return _either([part for part in parts if part is not None])
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if any(kind not in _OF_TYPE for kind in kinds):
            raise _refusal(place, "names no type")
        extra = sorted(words - {"type"}.union(*(_OF_TYPE[kind] for kind in kinds)))
        if extra:
            raise _refusal((*place, extra[0]), "cannot be held")
        parts = [self._kind(kind, schema, place, seen, depth) for kind in kinds]
        return _either([part for part in parts if part is not None])

    def _kind(self, kind: str, schema: dict[str, Any], place: Place, seen: dict[str, int], depth: int) -> Tree | None:
        if kind == "object":
            return self._object(schema, place, seen, depth)
        if kind == "array":
            return self._array(schema, place, seen, depth)
        if kind == "string":
            return _string(schema, place)
        if kind in ("integer", "number"):
            made = (integers if kind == "integer" else numbers)(schema)
            if made is None:
                raise _refusal(place, f"bounds a {kind} in a way that cannot be held, or leaves none,")
            return parsed(made)
        return parsed("true|false") if kind == "boolean" else letters("null")

    def _values(self, schema: dict[str, Any], place: Place, depth: int) -> Tree:
        """The listed values that satisfy all other keywords as well."""
        listed = schema["enum"] if "enum" in schema else [schema["const"]]
        root = {name: self._document[name] for name in ("$defs", "definitions") if name in self._document}
        judge: Any = jsonschema.Draft202012Validator({**root, **schema})
        good = [value for value in listed if judge.is_valid(value)]
        if not good:
            raise _refusal(place, "allows no value")
        return Either(tuple(self._value(one, depth) for one in good))

    def _value(self, value: Any, depth: int) -> Tree:
        if isinstance(value, dict) and value:
            return self._braces(
                [(self._line(key, self._value(one, depth + 1)), True) for key, one in value.items()], depth
            )
        if isinstance(value, list) and value:
            first, *rest = [self._value(one, depth + 1) for one in value]
            more = [Row((self._comma(depth), one)) for one in rest]
            return self._inside("[", Row((first, *more)), "]", depth)
        if isinstance(value, dict | list):
            return self._empty("{" if isinstance(value, dict) else "[", "}" if isinstance(value, dict) else "]", depth)
        return letters(json.dumps(value, ensure_ascii=False))

    def _reference(self, to: str, place: Place, seen: dict[str, int], depth: int) -> Tree | None:
        if not to.startswith("#"):
            raise _refusal((*place, "$ref"), "leads out of the schema")
        if seen.get(to, 0) > DEPTH:
            return None
        here = self._document
        for step in [step.replace("~1", "/").replace("~0", "~") for step in to[1:].split("/")[1:]]:
            here = here[int(step)] if isinstance(here, list) else here.get(step) if isinstance(here, dict) else None
        if here is None:
            raise _refusal((*place, "$ref"), f"leads nowhere ({to})")
        return self.tree(here, place, {**seen, to: seen.get(to, 0) + 1}, depth)

    def _object(self, schema: dict[str, Any], place: Place, seen: dict[str, int], depth: int) -> Tree | None:
        known, required = schema.get("properties"), set(schema.get("required", []))
        if not isinstance(known, dict) or not known:
            raise _refusal(place, "names no properties")
        if schema.get("additionalProperties", False) is not False:
            raise _refusal((*place, "additionalProperties"), "cannot be held")
        if required - set(known):
            raise _refusal(
                (*place, "required"), f"asks for {sorted(required - set(known))[0]!r}, which has no schema, and"
            )
        lines: list[tuple[Tree, bool]] = []
        for key, part in known.items():
            value = self.tree(part, (*place, "properties", key), seen, depth + 1)
            if value is not None:
                lines.append((self._line(key, value), key in required))
            elif key in required:
                return None
        return self._braces(lines, depth)

    def _line(self, key: str, value: Tree) -> Tree:
        colon = (self._gap(""), letters(":"), self._gap(self._layout.colon))
        return Row((letters(json.dumps(key, ensure_ascii=False)), *colon, value))

    def _braces(self, lines: list[tuple[Tree, bool]], depth: int) -> Tree:
        """The first line that stands has no comma before it, so it is chosen first."""
        comma = self._comma(depth)
        rest = [Again(Row((comma, line)), 1 if must else 0, 1) for line, must in lines]
        ways: list[Tree] = []
        for i, (line, must) in enumerate(lines):
            ways.append(Row((line, *rest[i + 1 :])))
            if must:
                return self._inside("{", Either(tuple(ways)), "}", depth)
        empty = self._empty("{", "}", depth)
        return Either((empty, self._inside("{", Either(tuple(ways)), "}", depth))) if ways else empty

    def _array(self, schema: dict[str, Any], place: Place, seen: dict[str, int], depth: int) -> Tree | None:
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        item = self.tree(schema.get("items"), (*place, "items"), seen, depth + 1) if most != 0 else None
        empty = self._empty("[", "]", depth)
        if item is None:
            return empty if least == 0 else None
        more = Row((self._comma(depth), item))
        several = Row((item, Again(more, max(0, least - 1), None if most is None else int(most) - 1)))
        full = self._inside("[", several, "]", depth)
        return full if least else Either((empty, full))

    # --- white space -------------------------------------------------------------------------------------------------

    def _gap(self, exact: str) -> Tree:
        return letters(exact) if self._any is None else self._any

    def _comma(self, depth: int) -> Tree:
        return Row((self._gap(""), letters(","), self._gap(self._layout.comma(depth + 1))))

    def _inside(self, opening: str, parts: Tree, closing: str, depth: int) -> Tree:
        self.deepest = max(self.deepest, depth + 1)
        before, after = self._gap(self._layout.line(depth + 1)), self._gap(self._layout.line(depth))
        return Row((letters(opening), before, parts, after, letters(closing)))

    def _empty(self, opening: str, closing: str, depth: int) -> Tree:
        self.deepest = max(self.deepest, depth + 1)
        return Row((letters(opening), self._gap(""), letters(closing)))


def _string(schema: dict[str, Any], place: Place) -> Tree:
    """A JSON string by its length, or by a pattern that is anchored at both ends."""
    quote = letters('"')
    pattern = schema.get("pattern")
    if pattern is None:
        most = schema.get("maxLength")
        inner: Tree = Again(_LETTER, int(schema.get("minLength", 0)), None if most is None else int(most))
        return Row((quote, inner, quote))
    if "minLength" in schema or "maxLength" in schema:
        raise _refusal(place, "bounds the length of a string with a pattern")
    if not (pattern.startswith("^") and pattern.endswith("$") and not pattern.endswith("\\$")):
        raise _refusal((*place, "pattern"), "is not anchored by ^ and $ and")
    if "|" in _BRACKETED.sub("", pattern):  # to which of them do the anchors belong?
        raise _refusal((*place, "pattern"), "has alternatives and")
    return Row((quote, _unescaped(parsed(pattern[1:-1])), quote))


def _unescaped(tree: Tree) -> Tree:
    """The same without characters that a JSON string escapes."""
    match tree:
        case Letters(ranges):
            cut = [(max(a, c), min(b, d)) for a, b in ranges for c, d in _PLAIN if max(a, c) <= min(b, d)]
            return Letters(tuple(sorted(cut)))
        case Row(parts):
            return Row(tuple(map(_unescaped, parts)))
        case Either(parts):
            return Either(tuple(map(_unescaped, parts)))
        case Again(inner, low, high):
            return Again(_unescaped(inner), low, high)


def _either(parts: list[Tree]) -> Tree | None:
    return None if not parts else parts[0] if len(parts) == 1 else Either(tuple(parts))


def _refusal(place: Place, what: str) -> ConstraintError:
    return ConstraintError(
        f"json_schema on a canvas: {pointer(place)} {what}, so no finite automaton is made of it; say it with types, "
        "properties, items, lengths, bounds, enum, const and anyOf, or use a causal model"
    )
