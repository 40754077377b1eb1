"""The keywords of JSON Schema (drafts 4 to 2020-12) as formulas."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from decodekit.errors import ConstraintError

from .formats import FORMATS
from .formula import Arena, canonical, exact
from .references import Place, items_of, root
from .string_patterns import matcher
from .unevaluated import unevaluated_items, unevaluated_properties

PLACES: Final = 50_000


class Terms:
    """A document read keyword by keyword, schema by schema, when a text first gets there."""

    def __init__(self, document: Any, formats: bool = False, deadline: float | None = None) -> None:
        self.arena = Arena(self.formula)
        self.formats, self.deadline = formats, deadline
        self._places: list[Place] = []
        self._number: dict[tuple[Any, ...], int] = {}
        self._formulas: dict[int, int] = {}
        self.root = self.sub(root(document))

    def sub(self, place: Place) -> int:
        """The formula of the schema at a place: true, false, or a reference that is read when it is needed."""
        if place.schema is True or place.schema == {}:
            return self.arena.true
        if place.schema is False:
            return self.arena.false
        key = place.key()
        if key not in self._number:
            if len(self._places) >= PLACES:
                raise ConstraintError(f"the schema leads to more than {PLACES} places; simplify its references")
            self._number[key] = len(self._places)
            self._places.append(place)
        return self.arena.make("sub", self._number[key], True)

    def formula(self, number: int) -> int:
        """All keywords of a schema together."""
        if number not in self._formulas:
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise ConstraintError("the schema takes too long to be looked at; simplify its unions and references")
            place = self._places[number]
            if not isinstance(place.schema, dict):
                raise ConstraintError(f"at {place.pointer}, a reference leads to something that is no schema")
            self._formulas[number] = self.arena.both(self._keywords(place))
        return self._formulas[number]

    def _keywords(self, place: Place) -> Iterable[int]:
        schema = place.schema
        if "$ref" in schema:
            yield self.sub(place.target(schema["$ref"]))
            if place.draft <= 7:  # its siblings mean nothing there
                return
        if place.draft == 2020 and "$dynamicRef" in schema:
            yield self.sub(place.target(schema["$dynamicRef"]))
        if place.draft == 2019 and "$recursiveRef" in schema:
            yield self.sub(place.target("#", recursive=True))
        yield from self._values(place)
        yield from self._numbers(place)
        yield from self._strings(place)
        yield from self._objects(place)
        yield from self._arrays(place)
        yield from self.applicators(place)
        if place.draft >= 2019:
            if "unevaluatedProperties" in schema:
                yield unevaluated_properties(self, place)
            if "unevaluatedItems" in schema:
                yield unevaluated_items(self, place)

    # --- values -----------------------------------------------------------------------------------------------------

    def _values(self, place: Place) -> Iterable[int]:
        schema = place.schema
        if "type" in schema:
            names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            yield self.arena.either(self._type(name) for name in names)
        if "enum" in schema:
            yield self.one_of(schema["enum"])
        if "const" in schema and place.draft >= 6:
            yield self.one_of([schema["const"]])

    def _type(self, name: str) -> int:
        if name == "integer":
            return self.arena.both([self.arena.types("number"), self.arena.make("int", True)])
        return self.arena.types(name)

    def one_of(self, values: list[Any]) -> int:
        """One of `values`; arrays and objects are spelled out as what they consist of."""
        scalars = frozenset(canonical(value) for value in values if not isinstance(value, list | dict))
        parts = [self.arena.make("in", scalars, True)] if scalars else []
        return self.arena.either(parts + [self._equal(value) for value in values if isinstance(value, list | dict)])

    def _equal(self, value: Any) -> int:
        arena = self.arena
        if isinstance(value, list):
            size = len(value)
            parts = [arena.types("array"), arena.make("items", size, size)]
            parts += [arena.make("all", i, i + 1, self.one_of([one])) for i, one in enumerate(value)]
            return arena.both(parts)
        parts = [arena.types("object"), arena.make("each", ("rest", frozenset(value), ()), arena.false)]
        for name, one in value.items():
            parts += [
                arena.make("each", ("is", name), self.one_of([one])),
                arena.make("some", ("is", name), arena.true),
            ]
        return arena.both(parts)

    def _numbers(self, place: Place) -> Iterable[int]:
        schema, make = place.schema, self.arena.make
        low, high = schema.get("minimum"), schema.get("maximum")
        low_open = high_open = False
        if place.draft == 4:
            low_open, high_open = bool(schema.get("exclusiveMinimum")), bool(schema.get("exclusiveMaximum"))
        else:
            if "exclusiveMinimum" in schema:
                yield make("range", exact(schema["exclusiveMinimum"]), True, None, False)
            if "exclusiveMaximum" in schema:
                yield make("range", None, False, exact(schema["exclusiveMaximum"]), True)
        if low is not None:
            yield make("range", exact(low), low_open, None, False)
        if high is not None:
            yield make("range", None, False, exact(high), high_open)
        if "multipleOf" in schema:
            yield make("mult", (exact(schema["multipleOf"]), repr(schema["multipleOf"])), True)

    def _strings(self, place: Place) -> Iterable[int]:
        schema, make = place.schema, self.arena.make
        if "minLength" in schema or "maxLength" in schema:
            yield make("len", *self._bounds(place, "minLength", "maxLength"))
        if "pattern" in schema:
            matcher(schema["pattern"])
            yield make("pat", schema["pattern"], True)
        if self.formats and schema.get("format") in FORMATS:  # of others a remark is made (:mod:`remarks`)
            yield make("pat", FORMATS[schema["format"]], True)

    def _bounds(self, place: Place, low: str, high: str) -> tuple[int, int | None]:
        """Bounds of a size; both may be written as 2.0."""
        least, most = int(place.schema.get(low, 0)), place.schema.get(high)
        return least, None if most is None else int(most)

    # --- objects and arrays -------------------------------------------------------------------------------------------

    def _objects(self, place: Place) -> Iterable[int]:
        schema, arena = place.schema, self.arena
        named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for name, inner in named.items():
            yield arena.make("each", ("is", name), self.sub(place.below(inner, "properties", name)))
        for pattern, inner in patterns.items():
            matcher(pattern)  # a bad one is said before any key is written
            yield arena.make("each", ("re", pattern), self.sub(place.below(inner, "patternProperties", pattern)))
        if "additionalProperties" in schema:
            rest = self.sub(place.below(schema["additionalProperties"], "additionalProperties"))
            yield arena.make("each", ("rest", frozenset(named), tuple(patterns)), rest)
        if "propertyNames" in schema and place.draft >= 6:
            name_is = self.sub(place.below(schema["propertyNames"], "propertyNames"))
            yield arena.make("each", ("name", arena.negate(name_is)), arena.false)
        if isinstance(schema.get("required"), list):
            for name in schema["required"]:
                yield self.has(name)
        if "minProperties" in schema or "maxProperties" in schema:
            yield arena.make("props", *self._bounds(place, "minProperties", "maxProperties"))
        dependent = dict(schema.get("dependencies", {})) if place.draft <= 7 else {}
        if place.draft >= 2019:
            dependent = schema.get("dependentRequired", {})
            for name, inner in schema.get("dependentSchemas", {}).items():
                yield self.depends(name, self.sub(place.below(inner, "dependentSchemas", name)))
        for name, needs in dependent.items():
            needs = [needs] if isinstance(needs, str) else needs
            listed = isinstance(needs, list)
            then = arena.both(map(self.has, needs)) if listed else self.sub(place.below(needs, "dependencies", name))
            yield self.depends(name, then)

    def has(self, name: str) -> int:
        """Whether an object has a property."""
        return self.arena.make("some", ("is", name), self.arena.true)

    def depends(self, name: str, then: int) -> int:
        """If an object has a property, `then` holds."""
        arena = self.arena
        return arena.either([arena.make("each", ("is", name), arena.false), then]) if then != arena.true else then

    def _arrays(self, place: Place) -> Iterable[int]:
        schema, arena = place.schema, self.arena
        first, rest, word = items_of(place)
        for i, inner in enumerate(first):
            at = ("prefixItems" if place.draft == 2020 else "items", i)
            yield arena.make("all", i, i + 1, self.sub(place.below(inner, *at)))
        if rest is not None:
            yield arena.make("all", len(first), None, self.sub(place.below(rest, word)))
        if "contains" in schema and place.draft >= 6:
            inner = self.sub(place.below(schema["contains"], "contains"))
            least, most = 1, None
            if place.draft >= 2019:
                least, most = int(schema.get("minContains", 1)), schema.get("maxContains")
            yield arena.make("count", 0, None, inner, least, None if most is None else int(most))
        if "minItems" in schema or "maxItems" in schema:
            yield arena.make("items", *self._bounds(place, "minItems", "maxItems"))
        if schema.get("uniqueItems"):
            yield arena.make("uniq", True)
            few = None if first else _few(rest, place.draft)
            if few is not None:  # said beforehand, so that no item is begun that could only be one of those before
                yield arena.make("items", 0, few)

    # --- other schemas for the same value -----------------------------------------------------------------------------

    def applicators(self, place: Place) -> Iterable[int]:
        """allOf, anyOf, oneOf, not, if."""
        schema, arena = place.schema, self.arena
        for i, inner in enumerate(schema.get("allOf", ())):
            yield self.sub(place.below(inner, "allOf", i))
        if "anyOf" in schema:
            yield arena.either(self.sub(place.below(inner, "anyOf", i)) for i, inner in enumerate(schema["anyOf"]))
        if "oneOf" in schema:
            branches = schema["oneOf"]
            parts = [self.sub(place.below(one, "oneOf", i)) for i, one in enumerate(branches)]
            yield self._exactly_one(parts, [branches.count(one) == 1 for one in branches])
        if "not" in schema:
            yield arena.negate(self.sub(place.below(schema["not"], "not")))
        if "if" in schema and place.draft >= 7:
            asked = self.sub(place.below(schema["if"], "if"))
            then = self.sub(place.below(schema["then"], "then")) if "then" in schema else arena.true
            other = self.sub(place.below(schema["else"], "else")) if "else" in schema else arena.true
            yield arena.both([arena.either([arena.negate(asked), then]), arena.either([asked, other])])

    def _exactly_one(self, parts: list[int], once: list[bool]) -> int:
        arena = self.arena
        return arena.either(
            arena.both([part, *(arena.negate(other) for j, other in enumerate(parts) if j != i)])
            for i, part in enumerate(parts)
            if once[i]  # of two branches that say the same, never exactly one holds
        )


def _few(items: Any, draft: int) -> int | None:
    """How many different values `const` or `enum` leave an item; None where there is neither."""
    if not isinstance(items, dict):
        return None
    values = [items["const"]] if "const" in items and draft >= 6 else items.get("enum")
    return None if values is None else len({canonical(value) for value in values})
