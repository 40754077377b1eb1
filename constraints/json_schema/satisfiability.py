"""Which formulas some value satisfies: the look-ahead of the JSON machine."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final, NamedTuple

from .formula import KINDS, Arena, Thread
from .keywords import Terms
from .numbers import NumberRules
from .rules import ArrayRules, Items, ObjectRules, Seen
from .strings import StringRules

FEW: Final = 1_000
"""Sets of values up to this size are looked at one by one."""


class Bounds(NamedTuple):
    """Bounds where the schema has none (None: none): digits of a number, characters of a string, items of an array and
    properties of an object that the schema does not name.
    """

    digits: int = 64
    string: int | None = None
    items: int | None = None


class Space:
    """The rules of all threads of a document, made when first asked for. fixed: keys come in the schema's order."""

    def __init__(self, terms: Terms, fixed: bool, bounds: Bounds) -> None:
        self.terms, self.arena = terms, terms.arena
        self.fixed, self.bounds = fixed, bounds
        self._rules: dict[tuple[str, Thread], Any] = {}
        self._satisfied: dict[tuple[int, str], bool] = {}
        self._open: set[tuple[int, str]] = set()
        self._assumed = False

    def strings(self, thread: Thread) -> StringRules:
        """The rules of a thread about a string."""
        return self.rules("string", thread)  # type: ignore[no-any-return]

    def rules(self, kind: str, thread: Thread) -> Any:
        """The rules of a thread."""
        key = (kind, thread)
        found = self._rules.get(key)
        if found is None:
            match kind:
                case "string":
                    found = StringRules(self.arena, thread, self.bounds.string)
                case "number":
                    found = NumberRules(self.arena, thread, self.bounds.digits)
                case "object":
                    found = ObjectRules(self, thread)
                case "array":
                    found = ArrayRules(self, thread)
                case _:
                    found = ConstantRules(self.arena, thread, kind)
            self._rules[key] = found
        return found

    def satisfiable(self, formula: int) -> bool:
        """Whether some value satisfies a formula; False is sure, True nearly (rules that fight over many values)."""
        if formula == self.arena.true:
            return True
        return formula != self.arena.false and any(self.kind_satisfiable(formula, kind) for kind in KINDS)

    def kind_satisfiable(self, formula: int, kind: str) -> bool:
        """The same for one type of value: the least fixed point, as values are finite."""
        key = (formula, kind)
        if key in self._satisfied:
            return self._satisfied[key]
        if key in self._open:
            self._assumed = True
            return False
        outer, self._assumed = self._assumed, False
        self._open.add(key)
        try:
            found = any(self.thread_satisfiable(kind, thread) for thread in self.arena.threads(formula, kind))
        finally:
            self._open.discard(key)
        if found or not self._assumed or not self._open:  # a refusal that rests on an open question is not kept
            self._satisfied[key] = found
        self._assumed = outer or (self._assumed and not found and bool(self._open))
        return found

    def thread_satisfiable(self, kind: str, thread: Thread) -> bool:
        """Whether some value satisfies all literals of a thread; deferred ones are not looked at."""
        rules = self.rules(kind, self.core(thread))
        if kind == "object":
            return bool(rules.viable(rules.first(), Seen(frozenset(), rules.order, -1, self.fixed)))
        if kind == "array":
            return bool(rules.viable(rules.first(), 0, Items()))
        return bool(rules.satisfiable())

    def core(self, thread: Thread) -> Thread:
        """Without the deferred parts."""
        nodes = self.arena.nodes
        return tuple(part for part in thread if nodes[part][0] != "defer")

    def deferred(self, thread: Thread) -> tuple[tuple[int, bool], ...]:
        """The deferred parts: a formula, and whether it must hold."""
        nodes = self.arena.nodes
        return tuple(nodes[part][1:] for part in thread if nodes[part][0] == "defer")

    def words(self, formula: int) -> frozenset[bytes] | None:
        """All strings of a formula, where they are listed."""
        out = frozenset[bytes]()
        for thread in self.arena.threads(formula, "string"):
            rules = self.strings(self.core(thread))
            if rules.allowed is None:
                if rules.satisfiable():
                    return None
                continue
            out |= rules.allowed
        return out

    def values(self, formula: int) -> set[Any] | None:
        """All values of a formula in canonical form, where they are few scalars; None where not."""
        out = set[Any]()
        for kind in KINDS:
            for thread in self.arena.threads(formula, kind):
                if kind in ("array", "object"):
                    if self.thread_satisfiable(kind, thread):
                        return None
                    continue
                few = self._few(kind, self.rules(kind, self.core(thread)))
                if few is None:
                    return None
                out |= few
        return out

    def _few(self, kind: str, rules: Any) -> set[Any] | None:
        if kind == "string":
            if rules.allowed is None:
                return None if rules.satisfiable() else set()
            return {("string", word.decode("utf-8", "replace")) for word in rules.allowed}
        if kind == "number":
            if rules.allowed is not None:
                return {("number", value) for value in rules.allowed if rules.holds(value)}
            low, high, step = rules.low, rules.high, rules.step
            if step is None or low is None or high is None or (high - low) / step > FEW:
                return None
            first = -(-low // step)
            numbers = [Fraction(first + i) * step for i in range(int((high - low) // step) + 2)]
            return {("number", value) for value in numbers if rules.holds(value)}
        return {value for value in CONSTANTS[kind] if rules.holds(value)}


CONSTANTS: Final[dict[str, tuple[Any, ...]]] = {
    "null": (("null",),),
    "boolean": (("boolean", True), ("boolean", False)),
}


class ConstantRules:
    """The literals of one thread about null, true and false."""

    def __init__(self, arena: Arena, thread: Thread, kind: str) -> None:
        self._all = CONSTANTS[kind]
        self.values = [arena.nodes[part][1:] for part in thread if arena.nodes[part][0] == "in"]

    def holds(self, value: Any) -> bool:
        """Whether `value` satisfies the thread."""
        return all((value in values) == sign for values, sign in self.values)

    def satisfiable(self) -> bool:
        """Whether one of them does."""
        return any(map(self.holds, self._all))
