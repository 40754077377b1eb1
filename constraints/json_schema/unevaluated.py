"""`unevaluatedProperties` and `unevaluatedItems`: what the branches that hold have looked at is told by cases.

Every branch that may hold or not (anyOf, oneOf, if, dependentSchemas) doubles the cases; in each of them it is known
which keys or items are left over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from decodekit.errors import ConstraintError

from .references import Place, items_of

if TYPE_CHECKING:
    from .keywords import Terms

BRANCHES: Final = 10
"""More branches that may hold or not (2 ** 10 cases) are refused."""


@dataclass(frozen=True)
class Seen:
    """What one branch looks at where it holds (`when`; all conditions together).

    names, patterns: of properties; every: all of them. upto: of items the first ones (None: all); those: formulas,
    an item that satisfies one of them.
    """

    when: tuple[int, ...]
    names: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    every: bool = False
    upto: int | None = 0
    those: tuple[int, ...] = ()


def unevaluated_properties(terms: Terms, place: Place) -> int:
    """The formula of the keyword."""
    arena = terms.arena
    inner = terms.sub(place.below(place.schema["unevaluatedProperties"], "unevaluatedProperties"))

    def left(seen: list[Seen]) -> int:
        if any(one.every for one in seen):
            return arena.true
        names = frozenset[str]().union(*(one.names for one in seen))
        patterns = tuple(dict.fromkeys(pattern for one in seen for pattern in one.patterns))
        return arena.make("each", ("rest", names, patterns), inner)

    return _cases(terms, list(_seen(terms, place, (), True, frozenset())), left, place)


def unevaluated_items(terms: Terms, place: Place) -> int:
    """The formula of the keyword."""
    arena = terms.arena
    inner = terms.sub(place.below(place.schema["unevaluatedItems"], "unevaluatedItems"))

    def left(seen: list[Seen]) -> int:
        if any(one.upto is None for one in seen):
            return arena.true
        start = max((one.upto or 0 for one in seen), default=0)
        those = [formula for one in seen for formula in one.those]
        return arena.make("all", start, None, arena.either([*those, inner]))

    return _cases(terms, list(_seen(terms, place, (), True, frozenset())), left, place)


def _cases(terms: Terms, seen: list[Seen], left: Any, place: Place) -> int:
    arena = terms.arena
    asked = list(dict.fromkeys(one for branch in seen for one in branch.when))
    if len(asked) > BRANCHES:
        raise ConstraintError(
            f"at {place.pointer}, unevaluated properties or items depend on {len(asked)} branches "
            f"(at most {BRANCHES}); name what is allowed with additionalProperties or items"
        )
    out = list[int]()
    for truths in product((True, False), repeat=len(asked)):
        holds = {one for one, truth in zip(asked, truths, strict=True) if truth}
        case = [one if truth else arena.negate(one) for one, truth in zip(asked, truths, strict=True)]
        out.append(arena.both([*case, left([branch for branch in seen if holds.issuperset(branch.when)])]))
    return arena.either(out)


def _seen(
    terms: Terms, place: Place, when: tuple[int, ...], top: bool, on: frozenset[tuple[Any, ...]]
) -> Iterator[Seen]:
    """What a schema and all that apply to the same value look at. top: its own unevaluated* are the question."""
    schema = place.schema
    if not isinstance(schema, dict) or (place.key() in on):
        return
    on = on | {place.key()}
    yield _own(terms, place, when, top)
    for inner, condition in _branches(terms, place):
        yield from _seen(terms, inner, when if condition is None else (*when, condition), False, on)


def _own(terms: Terms, place: Place, when: tuple[int, ...], top: bool) -> Seen:
    schema = place.schema
    every = "additionalProperties" in schema or (not top and "unevaluatedProperties" in schema)
    first, rest, _ = items_of(place)
    whole = rest is not None or (not top and "unevaluatedItems" in schema)
    those: tuple[int, ...] = ()
    if place.draft == 2020 and "contains" in schema:
        those = (terms.sub(place.below(schema["contains"], "contains")),)
    names, patterns = frozenset(schema.get("properties", {})), tuple(schema.get("patternProperties", {}))
    return Seen(when, names, patterns, every, None if whole else len(first), those)


def _branches(terms: Terms, place: Place) -> Iterator[tuple[Place, int | None]]:
    """The schemas that apply to the same value, each with the formula that says whether it does (None: always)."""
    schema = place.schema
    if "$ref" in schema:
        yield place.target(schema["$ref"]), None
    if place.draft == 2020 and "$dynamicRef" in schema:
        yield place.target(schema["$dynamicRef"]), None
    if place.draft == 2019 and "$recursiveRef" in schema:
        yield place.target("#", recursive=True), None
    for i, inner in enumerate(schema.get("allOf", ())):
        yield place.below(inner, "allOf", i), None
    for word in ("anyOf", "oneOf"):
        for i, inner in enumerate(schema.get(word, ())):
            below = place.below(inner, word, i)
            yield below, terms.sub(below)
    if "if" in schema:
        asked = place.below(schema["if"], "if")
        condition = terms.sub(asked)
        yield asked, condition
        if "then" in schema:
            yield place.below(schema["then"], "then"), condition
        if "else" in schema:
            yield place.below(schema["else"], "else"), terms.arena.negate(condition)
    for name, inner in schema.get("dependentSchemas", {}).items():
        yield place.below(inner, "dependentSchemas", name), terms.has(name)
