"""What an object or an array may still be: one thread of literals, and how much of it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .formula import Thread
from .property_names import matches, name_formula, words

if TYPE_CHECKING:
    from .satisfiability import Space


class ObjectRules:
    """The literals of one thread about an object. A state is what must still come (`some`), as numbers of literals."""

    def __init__(self, space: Space, thread: Thread) -> None:
        self.space = space
        self.named: dict[str, list[int]] = {}
        self.others = list[tuple[Any, int]]()
        self.low = 0
        self.high: int | None = None
        needs = list[int]()
        for part in thread:
            match space.arena.nodes[part]:
                case ("each", ("is", name), inner):
                    self.named.setdefault(name, []).append(inner)
                case ("each", matcher_, inner):
                    self.others.append((matcher_, inner))
                case ("some", _, _):
                    needs.append(part)
                case ("props", low, high):
                    self.low = max(self.low, low)
                    self.high = high if self.high is None else self.high if high is None else min(self.high, high)
        self.needs = tuple(needs)
        required = [one[1] for one in map(self._need, needs) if one[0] == "is"]
        listed = [name for matcher_, _ in self.others if matcher_[0] == "rest" for name in sorted(matcher_[1])]
        self.order = tuple(dict.fromkeys([*self.named, *required, *listed]))
        if self.high is None and space.bounds.items is not None:
            self.high = max(space.bounds.items + len(self.order), self.low)
        self._inner: dict[str, int] = {}
        self._keys: dict[Any, int] = {}

    def first(self) -> tuple[int, ...]:
        """Before the first property."""
        return self.needs

    def _need(self, part: int) -> Any:
        return self.space.arena.nodes[part][1]

    def inner(self, key: str) -> int:
        """What the value of a property must satisfy, whatever else is still needed."""
        found = self._inner.get(key)
        if found is None:
            parts = self.named.get(key, []) + [one for match, one in self.others if matches(self.space, match, key)]
            found = self.space.arena.both(parts)
            if len(self._inner) < 10_000:
                self._inner[key] = found
        return found

    def options(self, left: tuple[int, ...], key: str) -> list[tuple[tuple[int, ...], int]]:
        """The ways to go on with `key`: what is needed after it, and what its value must satisfy."""
        arena, out = self.space.arena, [(left, self.inner(key))]
        for part in left:
            _, match, inner = arena.nodes[part]
            if not matches(self.space, match, key):
                continue
            done = [(tuple(p for p in rest if p != part), arena.both([formula, inner])) for rest, formula in out]
            out = done if match[0] == "is" else done + out
        return out

    def viable(self, left: tuple[int, ...], seen: Seen) -> bool:
        """Whether the object can still be completed."""
        if not left and len(seen.keys) >= self.low:
            return self.high is None or len(seen.keys) <= self.high
        required, count = [one[1] for one in map(self._need, left) if one[0] == "is"], len(seen.keys)
        if self.high is not None and count + len(required) > self.high:
            return False
        if any(not seen.may_come(name) for name in required):
            return False
        for part in left:
            _, match, inner = self.space.arena.nodes[part]
            if match[0] == "is":
                if not self.space.satisfiable(self.space.arena.both([inner, self.inner(match[1])])):
                    return False
            elif not self._findable(match, inner, left, seen):
                return False
        return count + len(required) >= self.low or self._enough(left, seen, self.low - count)

    def _findable(self, match: Any, inner: int, left: tuple[int, ...], seen: Seen) -> bool:
        """Whether a property that a pattern stands for may still come with such a value."""
        space = self.space
        if not space.satisfiable(inner):
            return False
        where = space.arena.both([self.keys(left, seen), name_formula(space, match, True)])
        return space.kind_satisfiable(where, "string")

    def _enough(self, left: tuple[int, ...], seen: Seen, more: int) -> bool:
        """Whether at least `more` further keys exist; exact where the keys are few."""
        rest = self.keys((), seen)
        few = self.space.words(rest)
        return self.space.kind_satisfiable(rest, "string") if few is None else len(few) >= more

    def keys(self, left: tuple[int, ...], seen: Seen) -> int:
        """The formula of the next key."""
        key = (left, seen)
        found = self._keys.get(key)
        if found is None:
            if len(self._keys) > 20_000:
                self._keys.clear()
            found = self._keys[key] = self._key_formula(left, seen)
        return found

    def _key_formula(self, left: tuple[int, ...], seen: Seen) -> int:
        space, arena = self.space, self.space.arena
        required = [one[1] for one in map(self._need, left) if one[0] == "is"]
        slots = None if self.high is None else self.high - len(seen.keys)
        if slots is not None and slots <= 0:
            return arena.false
        parts = [arena.types("string"), seen.formula(space, required)]
        if space.bounds.string is not None:  # a bound for new names, not for those of the schema
            parts.append(arena.make("len", 0, max([space.bounds.string, *map(len, (*self.order, *seen.order))])))
        if slots is not None and len(required) == slots:
            parts.append(words(space, required, True))
        dead = [name for name in dict.fromkeys([*self.order, *seen.order]) if not space.satisfiable(self.inner(name))]
        if dead:
            parts.append(words(space, dead, False))
        parts += [name_formula(space, match, False) for match, one in self.others if not space.satisfiable(one)]
        return arena.both(parts)

    def final(self, left: tuple[int, ...], seen: Seen) -> bool:
        """Whether the object may end."""
        return not left and len(seen.keys) >= self.low and (self.high is None or len(seen.keys) <= self.high)


class Seen(NamedTuple):
    """The properties so far. order: the names in the order of the schema; at: the last one's place there, -1 before
    the first; only counts where `fixed`, the order is kept.
    """

    keys: frozenset[str]
    order: tuple[str, ...]
    at: int
    fixed: bool

    def may_come(self, name: str) -> bool:
        """Whether a property may still come."""
        return name not in self.keys and not (self.fixed and name in self.order[: self.at + 1])

    def formula(self, space: Space, required: list[str]) -> int:
        """The next key, as far as the order and those that are there already say."""
        if not self.fixed:
            return words(space, sorted(self.keys), False)
        coming = self.order[self.at + 1 :]
        for i, name in enumerate(coming):
            if name in required:
                return words(space, coming[: i + 1], True)
        return words(space, sorted({*self.keys, *self.order[: self.at + 1]}), False)

    def after(self, key: str) -> Seen:
        """With one more."""
        at = self.order.index(key) if key in self.order else len(self.order)
        return Seen(self.keys | {key}, self.order, at if self.fixed else -1, self.fixed)


class ArrayRules:
    """The literals of one thread about an array. A state is how many items satisfied each `count` so far."""

    def __init__(self, space: Space, thread: Thread) -> None:
        self.space = space
        self.every = list[tuple[int, int | None, int]]()
        self.counts = list[tuple[int, int | None, int, int, int | None]]()
        self.low = 0
        self.high: int | None = None
        self.unique = self.repeated = False
        for part in thread:
            match space.arena.nodes[part]:
                case ("all", start, stop, inner):
                    self.every.append((start, stop, inner))
                case ("count", *given):
                    self.counts.append(tuple(given))
                case ("items", low, high):
                    self.low = max(self.low, low)
                    self.high = high if self.high is None else self.high if high is None else min(self.high, high)
                case ("uniq", sign):
                    self.unique, self.repeated = self.unique or sign, self.repeated or not sign
        if self.high is None and space.bounds.items is not None:
            needed = sum(one[3] for one in self.counts)
            self.high = max(space.bounds.items, self.low, needed)
        self.edges = sorted({0, *(at for one in [*self.every, *self.counts] for at in one[:2] if at is not None)})
        self._end: int | bool | None = False

    def far(self) -> int:
        """The number of items from which on their number makes no difference: past all bounds and tuples."""
        end = self.end()
        return max(self.low, self.edges[-1], 0 if end is None else end) + 1

    def first(self) -> tuple[int, ...]:
        """Before the first item."""
        return (0,) * len(self.counts)

    def inner(self, index: int) -> int:
        """What an item must satisfy, whatever is counted."""
        found = [one for start, stop, one in self.every if start <= index and (stop is None or index < stop)]
        return self.space.arena.both(found)

    def end(self) -> int | None:
        """The most items that the array can have; None is no bound."""
        if self._end is False:
            self._end = self.high
            for at in self.edges:
                if not self.space.satisfiable(self.inner(at)):
                    self._end = at if self.high is None else min(at, self.high)
                    break
        return self._end

    def options(self, state: tuple[int, ...], index: int) -> list[tuple[tuple[int, ...], int]]:
        """The ways to go on with an item: the counts after it, and what it must satisfy."""
        arena, out = self.space.arena, [(state, self.inner(index))]
        for i, (start, stop, inner, low, high) in enumerate(self.counts):
            if index < start or (stop is not None and index >= stop) or (high is None and state[i] >= low):
                continue
            more = [
                ((*s[:i], s[i] + 1, *s[i + 1 :]), arena.both([formula, inner]))
                for s, formula in out
                if high is None or s[i] < high
            ]
            less = out if high is None else [(s, arena.both([formula, arena.negate(inner)])) for s, formula in out]
            out = more + less
        return out

    def viable(self, state: tuple[int, ...], index: int, seen: Items) -> bool:
        """Whether the array can still be completed after `index` items."""
        need, end = max(self.low, index + (1 if self.repeated and not seen.twice else 0)), self.end()
        for have, (start, stop, inner, low, high) in zip(state, self.counts, strict=True):
            if (high is not None and have > high) or (high is not None and low > high):
                return False
            if have < low:
                least = max(index, start) + low - have
                if (stop is not None and least > stop) or not self._findable(inner, max(index, start), stop, end):
                    return False
                need = max(need, least)
        if index > need:
            need = index
        if end is not None and need > end:
            return False
        return not (self.unique and need > index) or self._enough(index, need - index, seen)

    def _findable(self, inner: int, start: int, stop: int | None, end: int | None) -> bool:
        places = [start, *(at for at in self.edges if at > start)]
        places = [at for at in places if (stop is None or at < stop) and (end is None or at < end)]
        return any(self.space.satisfiable(self.space.arena.both([inner, self.inner(at)])) for at in places)

    def _enough(self, index: int, more: int, seen: Items) -> bool:
        """Whether enough different values are left, where they are few."""
        left: set[Any] = set()
        for at in range(index, min(index + more, index + 50)):
            few = self.space.values(self.inner(at))
            if few is None:
                return True
            left |= few
        return len(left - seen.values) >= more

    def final(self, state: tuple[int, ...], index: int, seen: Items) -> bool:
        """Whether the array may end."""
        if index < self.low or (self.high is not None and index > self.high) or (self.repeated and not seen.twice):
            return False
        if self.unique and seen.twice:
            return False
        return all(
            have >= low and (high is None or have <= high)
            for have, (_, _, _, low, high) in zip(state, self.counts, strict=True)
        )


class Items(NamedTuple):
    """The items so far, where a thread asks whether they differ. twice: two are equal."""

    values: frozenset[Any] = frozenset()
    twice: bool = False
