"""Which properties a keyword speaks of: names, patterns, all the rest, or those that a schema allows as names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .string_patterns import automaton, searching

if TYPE_CHECKING:
    from .satisfiability import Space


def found(pattern: str, text: str) -> bool:
    """Whether `pattern` is found in `text`, in the meaning of :mod:`patterns`."""
    machine = automaton(pattern)
    if machine is None:
        return bool(searching(pattern)(text))
    state = machine.leap(machine.first(), text.encode("utf-8", "replace"))
    return state is not None and machine.final(state)


def matches(space: Space, match: Any, key: str) -> bool:
    """Whether a matcher stands for a property's name."""
    match match:
        case ("is", name):
            return bool(key == name)
        case ("re", pattern):
            return found(pattern, key)
        case ("rest", names, patterns):
            return key not in names and not any(found(pattern, key) for pattern in patterns)
        case ("name", formula):
            threads = space.arena.threads(formula, "string")
            return any(space.strings(thread).holds(key.encode("utf-8", "replace")) for thread in threads)
    raise AssertionError(match)


def words(space: Space, names: Any, sign: bool) -> int:
    """One of `names`, or none of them."""
    if not names:
        return space.arena.false if sign else space.arena.true
    return space.arena.make("in", frozenset(("string", name) for name in names), sign)


def name_formula(space: Space, match: Any, sign: bool) -> int:
    """The names that a matcher stands for, or all others, as a formula of a string."""
    arena = space.arena
    match match:
        case ("is", name):
            return words(space, [name], sign)
        case ("re", pattern):
            return arena.make("pat", pattern, sign)
        case ("rest", names, patterns):
            inside = arena.either([words(space, names, True), *(arena.make("pat", one, True) for one in patterns)])
            outside = arena.both([words(space, names, False), *(arena.make("pat", one, False) for one in patterns)])
            return outside if sign else inside
        case ("name", formula):
            return formula if sign else arena.negate(formula)
    raise AssertionError(match)
