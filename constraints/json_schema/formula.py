"""JSON Schema as logic: formulas without negation signs, and their threads for one type of value.

A schema becomes a formula of `and`, `or` and literals; `not` is pushed down to the literals, so that what is left to
satisfy can be looked ahead at. A literal speaks of one type of value and holds for all others. Formulas are numbered
(equal ones have one number); references to other schemas are expanded when they are reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, Final, TypeAlias

from decodekit.errors import ConstraintError

KINDS: Final = ("null", "boolean", "number", "string", "array", "object")
PRODUCT: Final = 64
"""The most threads that a conjunction is written out to; beyond, its parts are followed side by side (`defer`)."""
FORMULAS: Final = 400_000

Node: TypeAlias = tuple[Any, ...]
Thread: TypeAlias = tuple[int, ...]
"""Numbers of literals that hold together."""

GUARD: Final = {
    "int": "number", "range": "number", "mult": "number",
    "len": "string", "pat": "string",
    "each": "object", "some": "object", "props": "object",
    "all": "array", "count": "array", "items": "array", "uniq": "array",
}  # fmt: skip
"""The type of value that a literal speaks of."""


class Arena:
    """Formulas by number. expand: from the place of a schema to its formula."""

    def __init__(self, expand: Callable[[int], int]) -> None:
        self._expand = expand
        self.nodes: list[Node] = []
        self._number: dict[Node, int] = {}
        self._negated: dict[int, int] = {}
        self._threads: dict[tuple[int, str], tuple[Thread, ...]] = {}
        self._open: set[tuple[int, str]] = set()
        self.true = self.make("true")
        self.false = self.make("false")

    def make(self, *node: Any) -> int:
        """The number of a node."""
        found = self._number.get(node)
        if found is None:
            if len(self.nodes) >= FORMULAS:
                raise ConstraintError(f"the schema needs more than {FORMULAS} formulas; simplify it")
            found = self._number[node] = len(self.nodes)
            self.nodes.append(node)
        return found

    def both(self, parts: Iterable[int]) -> int:
        """The conjunction."""
        flat = list(dict.fromkeys(p for part in parts for p in self._flat(part, "and") if p != self.true))
        if self.false in flat:
            return self.false
        return self.true if not flat else flat[0] if len(flat) == 1 else self.make("and", *flat)

    def either(self, parts: Iterable[int]) -> int:
        """The disjunction."""
        flat = list(dict.fromkeys(p for part in parts for p in self._flat(part, "or") if p != self.false))
        if self.true in flat:
            return self.true
        return self.false if not flat else flat[0] if len(flat) == 1 else self.make("or", *flat)

    def _flat(self, part: int, op: str) -> tuple[int, ...]:
        node = self.nodes[part]
        return node[1:] if node[0] == op else (part,)

    def types(self, *kinds: str) -> int:
        """Whether the value is of one of `kinds`."""
        return self.make("types", frozenset(kinds)) if kinds else self.false

    def open(self, part: int) -> int:
        """A reference to a schema replaced by that schema's formula."""
        node = self.nodes[part]
        if node[0] != "sub":
            return part
        formula = self._expand(node[1])
        return formula if node[2] else self.negate(formula)

    # --- negation ---------------------------------------------------------------------------------------------------

    def negate(self, part: int) -> int:
        """The formula that holds exactly where `part` does not."""
        if part not in self._negated:
            self._negated[part] = found = self._negation(self.nodes[part])
            self._negated.setdefault(found, part)
        return self._negated[part]

    def _negation(self, node: Node) -> int:
        match node:
            case ("true",):
                return self.false
            case ("false",):
                return self.true
            case ("and", *parts):
                return self.either(map(self.negate, parts))
            case ("or", *parts):
                return self.both(map(self.negate, parts))
            case ("types", kinds):
                return self.types(*(kind for kind in KINDS if kind not in kinds))
            case ("sub", place, sign):
                return self.make("sub", place, not sign)
            case ("in", values, sign):
                return self.make("in", values, not sign)
        return self.both([self.types(GUARD[node[0]]), self._opposite(node)])

    def _opposite(self, node: Node) -> int:
        match node:
            case ("int" | "uniq" as op, sign):
                return self.make(op, not sign)
            case ("mult" | "pat" as op, given, sign):
                return self.make(op, given, not sign)
            case ("range", low, low_open, high, high_open):
                return self.either(
                    [
                        self.false if low is None else self.make("range", None, False, low, not low_open),
                        self.false if high is None else self.make("range", high, not high_open, None, False),
                    ]
                )
            case ("len" | "props" | "items" as op, low, high):
                return self._outside(low, high, lambda a, b: self.make(op, a, b))
            case ("count", start, stop, inner, low, high):
                return self._outside(low, high, lambda a, b: self.make("count", start, stop, inner, a, b))
            case ("each" | "some" as op, matcher, inner):
                return self.make("some" if op == "each" else "each", matcher, self.negate(inner))
            case ("all", start, stop, inner):
                return self.make("count", start, stop, self.negate(inner), 1, None)
        raise AssertionError(node)

    def _outside(self, low: int, high: int | None, make: Callable[[int, int | None], int]) -> int:
        return self.either(
            [make(0, low - 1) if low > 0 else self.false, self.false if high is None else make(high + 1, None)]
        )

    # --- threads ----------------------------------------------------------------------------------------------------

    def threads(self, part: int, kind: str) -> tuple[Thread, ...]:
        """The ways in which a value of type `kind` can satisfy `part`: it does if it satisfies all of one thread."""
        key = (part, kind)
        found = self._threads.get(key)
        if found is None:
            if key in self._open:
                raise ConstraintError(
                    "the schema refers to itself ($ref) without going into a value, so it has no meaning; "
                    "let the reference stand under a property or an item"
                )
            self._open.add(key)
            try:
                found = self._threads[key] = tuple(dict.fromkeys(self._unfold(part, kind)))
            finally:
                self._open.discard(key)
        return found

    def _unfold(self, part: int, kind: str) -> Iterable[Thread]:
        node = self.nodes[part]
        match node[0]:
            case "true":
                return ((),)
            case "false":
                return ()
            case "types":
                return ((),) if kind in node[1] else ()
            case "sub":
                return self.threads(self.open(part), kind)
            case "or":
                found = [thread for one in node[1:] for thread in self.threads(one, kind)]
                return ((),) if () in found else found
            case "and":
                return self._product(node[1:], kind)
            case "in" if kind in ("array", "object"):
                return () if node[2] else ((),)
            case "in":
                return ((part,),)
        return ((part,),) if GUARD[node[0]] == kind else ((),)

    def _product(self, parts: tuple[int, ...], kind: str) -> Iterable[Thread]:
        several, alone = list[tuple[int, tuple[Thread, ...]]](), list[int]()
        for part in parts:
            ways = self.threads(part, kind)
            if not ways:
                return ()
            if len(ways) == 1:
                alone.extend(ways[0])
            else:
                several.append((part, ways))
        out = [tuple(dict.fromkeys(alone))]
        for part, ways in sorted(several, key=lambda one: len(one[1])):
            if len(out) * len(ways) > PRODUCT and len(out) * len(ways) > len(several[0][1]):
                deferred = self._deferred(part)
                out = [(*thread, deferred) for thread in out]
                continue
            merged = [tuple(dict.fromkeys((*thread, *way))) for thread in out for way in ways]
            out = [thread for thread in dict.fromkeys(merged) if not self._clash(thread)]
        return out

    def _deferred(self, part: int) -> int:
        """A part that is followed beside the others. A negative one is followed as what must not come true."""
        node = self.nodes[part]
        if node[0] == "sub" and not node[2]:
            return self.make("defer", self.make("sub", node[1], True), False)
        return self.make("defer", part, True)

    def _clash(self, thread: Thread) -> bool:
        """Whether two sets of values exclude each other: cheap, and what tells the branches of a union apart."""
        left: frozenset[Any] | None = None
        for part in thread:
            node = self.nodes[part]
            if node[0] == "in" and node[2]:
                left = node[1] if left is None else left & node[1]
        return left is not None and not left


# --- values -----------------------------------------------------------------------------------------------------------


def exact(number: float | int) -> Fraction:
    """The decimal that was written, not the binary number next to it."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def canonical(value: Any) -> Any:
    """A JSON value such that equal ones (1 and 1.0) are equal, and True is not 1."""
    match value:
        case None:
            return ("null",)
        case bool():
            return ("boolean", value)
        case int() | float():
            return ("number", exact(value))
        case str():
            return ("string", value)
        case list():
            return ("array", tuple(map(canonical, value)))
    return ("object", frozenset((key, canonical(one)) for key, one in value.items()))
