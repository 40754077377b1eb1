"""What a JSON Schema may still say of a value that is being written.

Every schema gives two bits about an open value: whether some completion satisfies it (HOLD), and whether some
completion violates it (FAIL). Both err on the side of yes, so `not`, `oneOf` and `if` can be built on them, and a text
is refused only where no completion satisfies the schema. Of closed values the jsonschema library decides: no invalid
value is ever closed. Keywords of which nothing is said here are thus judged where their value closes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import jsonschema
import referencing.exceptions

from decodekit.constraints.engines import json_keywords as keywords
from decodekit.constraints.engines.json_values import NOTHING, Arr, Closed, Nothing, Num, Obj, Open, Str
from decodekit.constraints.json_formats import format_of
from decodekit.errors import ConstraintError

HOLD: Final = 1
FAIL: Final = 2
BOTH: Final = 3
DEEP: Final = 24
"""Nested schemas of one look; deeper ones may hold and may fail."""
REMEMBERED: Final = 16_384
LOOKS: Final = 20_000
"""Schemas looked at for one answer; whatever is beyond may hold and may fail, so hostile schemas cost no more."""
BEGINNINGS: Final[tuple[Open, ...]] = (
    *(Closed(value) for value in (None, True, False)),
    Num(""),
    Arr((), None),
    Obj({}, None, None, None, False),
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


class Node:
    """A schema at its place: what it refers to depends on where it stands."""

    __slots__ = ("_children", "_known", "judge", "schema", "validator")

    def __init__(self, judge: Judge, schema: Any, validator: Any) -> None:
        self.judge, self.schema, self.validator = judge, schema, validator
        self._children: dict[Any, Node] = {}
        self._known: dict[int, tuple[Any, bool]] = {}

    def child(self, schema: Any) -> Node:
        """A subschema of this one."""
        found = self._children.get(id(schema))
        if found is None or found.schema is not schema:
            resolver = self.validator._resolver
            if isinstance(schema, dict):
                resolver = resolver.in_subresource(self.judge.specification.create_resource(schema))
            found = Node(self.judge, schema, self.validator.evolve(schema=schema, _resolver=resolver))
            self._children[id(schema)] = found
        return found

    def refers(self, reference: str) -> Node:
        """The schema that a `$ref` names.

        Raises:
            ConstraintError: it names none that is known here.
        """
        found = self._children.get(reference)
        if found is None:
            try:
                resolved = self.validator._resolver.lookup(reference)
            except referencing.exceptions.Unresolvable as error:
                raise ConstraintError(
                    f"the schema refers to {reference!r}, which is not part of it: {error}; put it under $defs"
                ) from None
            validator = self.validator.evolve(schema=resolved.contents, _resolver=resolved.resolver)
            found = self._children[reference] = Node(self.judge, resolved.contents, validator)
        return found

    def valid(self, value: Any) -> bool:
        """Whether a closed value satisfies this schema, by the jsonschema library."""
        if self.schema is True or self.schema is False:
            return bool(self.schema)
        known = self._known.get(id(value))
        if known is not None and known[0] is value:
            return known[1]
        try:
            found = bool(self.validator.is_valid(value))
        except RecursionError:  # a schema that refers to itself without end
            raise keywords.TooSlow from None
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[id(value)] = (value, found)  # the value is kept, so its id is not used again
        return found

    def look(self, value: Open, depth: int = 0) -> int:
        """HOLD, FAIL or BOTH about `value`."""
        if isinstance(value, Closed):
            return HOLD if self.valid(value.value) else FAIL
        if self.schema is True or self.schema == {}:
            return HOLD
        if self.schema is False:
            return FAIL
        self.judge.looks += 1
        if depth > DEEP or self.judge.looks > LOOKS:
            return BOTH
        if isinstance(value, Nothing):
            begun: tuple[Open, ...] = (*BEGINNINGS, Str(b'"', 0))
            return either(self.look(one, depth) for one in begun)
        return every(self._say(name, given, value, depth) for name, given in self._applicable())

    def _applicable(self) -> Iterator[tuple[str, Any]]:
        reference = self.schema.get("$ref")
        if reference is not None and self.judge.alone:
            return iter([("$ref", reference)])
        return iter(self.schema.items())

    def _say(self, name: str, given: Any, value: Open, depth: int) -> int:
        says = TABLE.get(name)
        if says is not None and name in self.judge.asserts:
            return says(self, given, value, depth)
        return HOLD if name in QUIET or name not in self.judge.asserts else BOTH


Says = Callable[[Node, Any, Any, int], int]


class Judge:
    """A whole schema. formats: whether `format` is asserted.

    Raises:
        ConstraintError: no value satisfies the schema, or it refers to something that is not part of it.
    """

    def __init__(self, document: Any, formats: bool = True) -> None:
        kind = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
        mine = {"pattern": keywords.pattern_of, **keywords.quick(kind)}
        if formats:
            mine["format"] = format_of
        kind = jsonschema.validators.extend(kind, mine)  # type: ignore[no-untyped-call]
        validator = kind(document)
        self.specification = keywords.specification_of(validator)
        self.asserts = frozenset(kind.VALIDATORS) - ({"format"} if not formats else set())
        self.alone = "$ref" in self.asserts and keywords.alone(validator)
        self.root = Node(self, document, validator)
        list(keywords.references(self.root))  # all of them are known, or the schema is refused
        self.looks = 0
        try:
            found = self.root.look(NOTHING)
        except keywords.TooSlow:
            raise ConstraintError(
                "no value can be told valid or not: the schema refers to itself without end; mend its $ref"
            ) from None
        if not found & HOLD:
            raise ConstraintError("no value satisfies the schema; change it so that some value does")

    def look(self, value: Open) -> int:
        """HOLD, FAIL or BOTH about the root."""
        self.looks = 0
        try:
            return self.root.look(value)
        except keywords.TooSlow:
            return FAIL

    def valid(self, value: Any) -> bool:
        """Whether a whole value satisfies the schema; what takes too long to tell does not."""
        try:
            return self.root.valid(value)
        except keywords.TooSlow:
            return False


def every(found: Iterator[int]) -> int:
    """All of several schemas."""
    hold, fail = HOLD, 0
    for one in found:
        hold &= one
        fail |= one & FAIL
        if not hold:
            break
    return (hold | fail) if hold else FAIL


def either(found: Iterator[int]) -> int:
    """Any of several schemas."""
    hold, fail = 0, FAIL
    for one in found:
        hold |= one & HOLD
        fail &= one
    return hold | fail


def opposite(found: int) -> int:
    """`not`."""
    return (HOLD if found & FAIL else 0) | (FAIL if found & HOLD else 0)


def may(holds: bool) -> int:
    """It may hold, or it cannot; whether it fails is not known."""
    return BOTH if holds else FAIL


def _all(node: Node, given: Any, value: Open, depth: int) -> int:
    return every(node.child(one).look(value, depth + 1) for one in given)


def _any(node: Node, given: Any, value: Open, depth: int) -> int:
    return either(node.child(one).look(value, depth + 1) for one in given)


def _one(node: Node, given: Any, value: Open, depth: int) -> int:
    said = [node.child(one).look(value, depth + 1) for one in given]
    sure = sum(one == HOLD for one in said)
    return may(sure < 2 and any(one & HOLD for one in said))


def _not(node: Node, given: Any, value: Open, depth: int) -> int:
    return opposite(node.child(given).look(value, depth + 1))


def _if(node: Node, given: Any, value: Open, depth: int) -> int:
    asked = node.child(given).look(value, depth + 1)
    out = 0
    for bit, name in ((HOLD, "then"), (FAIL, "else")):
        if asked & bit:
            out |= node.child(node.schema.get(name, True)).look(value, depth + 1)
    return out


def _ref(node: Node, given: Any, value: Open, depth: int) -> int:
    return node.refers(given).look(value, depth + 1)


TABLE: Final[dict[str, Says]] = {
    "allOf": _all,
    "anyOf": _any,
    "oneOf": _one,
    "not": _not,
    "if": _if,
    "$ref": _ref,
    "$dynamicRef": _ref,
}


def _fill() -> None:
    from decodekit.constraints.engines import json_containers, json_scalars

    TABLE.update(json_scalars.TABLE)
    TABLE.update(json_containers.TABLE)


_fill()
