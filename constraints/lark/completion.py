"""Whether a parser stack can come to an end, for tables in which Lark resolved a conflict.

Tables without conflicts only shift what can be completed. Where Lark chose to shift, or one of two rules, a stack may
be a dead end: `l: "x" l "x" | ` shifts for ever. The parser is a pushdown automaton, so this can be decided: for every
state and every terminal that waits there it is worked out how its frame can leave the stack again, as the rule that is
reduced, how many frames below go with it, and the terminals that wait then (summaries, as in the reachability of
pushdown systems: Bouajjani, Esparza and Maler, 1997). A stack is then taken down frame by frame.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from .tables import END, Stack, Tables

EXACT: Final = 1_500
"""Tables with more shifts are not worked out to the end: what is found holds, what is not found is not said."""
CONFIGS, ENOUGH, DEEP = 2_000, 60, 12
"""How many small stacks, how high, are looked at for one state of such tables; and how many once a way is found."""

Ways = dict[tuple[str, int], int]
"""How a frame leaves the stack: (rule, frames below that go with it) -> the terminals that may wait then, as bits."""


class _Config(NamedTuple):
    """A stack while one of the terminals `mask` waits. before: where it comes from, by taking `bit` if it is not 0."""

    stack: Stack
    mask: int
    before: _Config | None
    bit: int
    shifting: bool = False


class Completion:
    """Ways out of every state. exact: whether they are all the ways there are."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        names = sorted({name for row in tables.rows.values() for name in row if name == END or not name.islower()})
        bits = {name: 1 << n for n, name in enumerate(names)}
        self.all, self.end = (1 << len(names)) - 1, bits[END]
        self.reduces: dict[int, list[tuple[str, int, int]]] = {}
        self.shifts: dict[int, dict[int, int]] = {}
        self.gotos: dict[int, dict[str, int]] = {}
        for state, row in tables.rows.items():
            reduces: dict[tuple[str, int], int] = {}
            for name, (shift, target) in row.items():
                if name in bits and not shift:
                    reduces[target[1], target[0]] = reduces.get((target[1], target[0]), 0) | bits[name]
            self.reduces[state] = [(rule, length, mask) for (rule, length), mask in reduces.items()]
            self.shifts[state] = {bits[name]: to for name, (shift, to) in row.items() if shift and name in bits}
            self.gotos[state] = {name: to for name, (shift, to) in row.items() if shift and name not in bits}
        self.exact = sum(map(len, self.shifts.values())) <= EXACT
        self.out: dict[int, Ways] = {state: {} for state in tables.rows}
        self._by: dict[tuple[int, int], Ways] = {}
        if self.exact:
            self._saturate()
        else:
            self._sample()
        same = dict[frozenset[tuple[tuple[str, int], int]], int]()
        self.kinds = {  # states without a known way are like no other
            state: same.setdefault(frozenset(ways.items()), state) if ways else state
            for state, ways in self.out.items()
        }

    # --- all ways --------------------------------------------------------------------------------------------------

    def _saturate(self) -> None:
        """Until nothing new is found."""
        moves = dict[tuple[int, int], tuple[str | None, int]]()
        for state in self.out:
            for rule, length, mask in self.reduces[state]:
                if length:
                    self.out[state][rule, length - 1] = mask
                else:
                    moves |= {(state, bit): (rule, 0) for bit in _single(mask)}
            moves |= {(state, bit): (None, to) for bit, to in self.shifts[state].items()}
        self._by = {key: {} for key in moves}
        changed = True
        while changed:
            changed = False
            for (state, bit), (empty, to) in moves.items():
                first = [(r, n, m) for (r, n), m in self.out[to].items()] if empty is None else [(empty, 0, bit)]
                ways = self._closed(state, first)
                if ways != self._by[state, bit]:
                    changed, self._by[state, bit] = True, ways
                    out = self.out[state]
                    for key, mask in ways.items():
                        out[key] = out.get(key, 0) | mask

    def _closed(self, state: int, first: list[tuple[str, int, int]]) -> Ways:
        """How `state` leaves, where what was above it has left by one of `first`."""
        ways, seen, open_ = Ways(), dict[str, int](), list(first)
        while open_:
            rule, length, mask = open_.pop()
            if length:
                ways[rule, length - 1] = ways.get((rule, length - 1), 0) | mask
                continue
            new, target = mask & ~seen.get(rule, 0), self.gotos[state].get(rule)
            if not new or target is None:
                continue
            seen[rule] = seen.get(rule, 0) | new
            open_ += [(r, n - 1, new & m) for r, n, m in self.reduces[target] if n and new & m]
            for bit in _single(new):
                open_ += [(r, n, m) for (r, n), m in self._by.get((target, bit), {}).items()]
        return ways

    # --- some ways -------------------------------------------------------------------------------------------------

    def _sample(self) -> None:
        """Until every state has a way, if possible."""
        for _ in range(20):
            found = False
            for state, ways in self.out.items():
                if not ways:
                    self.out[state] = self._tried(state, self.all)
                    found = found or bool(self.out[state])
            if not found:
                return

    def _tried(self, state: int, mask: int) -> Ways:
        """Ways of a state while one of `mask` waits, by the ways of the states after it."""
        ways = Ways()
        seen: dict[tuple[int, ...], int] = {(state,): mask}
        open_: deque[tuple[tuple[int, ...], int]] = deque([((state,), mask)])
        while open_ and len(seen) < (ENOUGH if ways else CONFIGS):
            stack, waits = open_.popleft()
            here = stack[-1]
            after = [(False, rule, n, waits & m) for rule, n, m in self.reduces[here] if waits & m]
            for bit, to in self.shifts[here].items():
                if waits & bit:
                    after += [(True, rule, n, m) for (rule, n), m in self.out[to].items()]
            for shifted, rule, length, waiting in after:
                if length >= len(stack):
                    key = rule, length - len(stack)
                    ways[key] = ways.get(key, 0) | waiting
                    continue
                base = stack[: len(stack) - length]
                target = self.gotos[base[-1]].get(rule)
                new = 0 if target is None else waiting & ~seen.get((*base, target), 0)
                if target is not None and new and len(base) < DEEP:
                    seen[*base, target] = seen.get((*base, target), 0) | new
                    (open_.append if shifted else open_.appendleft)(((*base, target), new))  # reductions lead out
        return ways

    def by(self, state: int, bit: int) -> Ways:
        """Ways of a state where the terminal `bit` is shifted, or an empty rule is reduced before it."""
        found = self._by.get((state, bit))
        if found is None:
            found = self._by[state, bit] = {} if self.exact else self._tried(state, bit)
        return found

    # --- one stack -------------------------------------------------------------------------------------------------

    def completes(self, stack: Stack) -> bool | None:
        """Whether some terminals lead from `stack` to the end; None where that is not known."""
        seen: dict[Stack, int] = {}
        start = _Config(stack, self.all, None, 0)
        open_ = [start]
        first = [(rule, length + 1, waiting) for (rule, length), waiting in self.out[stack.state].items()]
        if self.tables.ends(stack) or self._spread(start, first, 0, seen, open_):
            stack.completed = True
            return True
        while open_:
            config = open_.pop()
            state, mask = config.stack.state, config.mask
            reduces = self.reduces[state]
            if not config.shifting:
                if any(mask & bit for bit in self.shifts[state]):
                    open_.append(config._replace(shifting=True))  # later: reductions lead down at once
                ways = [(rule, length, mask & m) for rule, length, m in reduces if length and mask & m]
                if self._spread(config, ways, 0, seen, open_):
                    return True
            empty = sum(mask & m for _, length, m in reduces if not length)
            for bit in _single(mask & (sum(self.shifts[state]) if config.shifting else empty)):
                if self._spread(config, self._taking(config.stack, bit), bit, seen, open_):
                    return True
        return False if self.exact else None

    def _taking(self, stack: Stack, bit: int) -> list[tuple[str, int, int]]:
        """Ways of a stack where the terminal `bit` is taken for them."""
        state = stack.state
        if stack.below is not None:
            return [(rule, length + 1, mask) for (rule, length), mask in self.by(state, bit).items()]
        empty = [(rule, 0, bit) for rule, length, mask in self.reduces[state] if not length and mask & bit]
        ways = self.out[self.shifts[state][bit]].items() if bit in self.shifts[state] else ()
        return empty + [(rule, length, mask) for (rule, length), mask in ways]  # the lowest frame never leaves

    def _spread(
        self, config: _Config, ways: list[tuple[str, int, int]], bit: int, seen: dict[Stack, int], open_: list[_Config]
    ) -> bool:
        """Go `ways` from a stack, by the terminal `bit` where one is taken for it. True: the end is in reach."""
        for rule, length, waiting in ways:
            base: Stack | None = config.stack
            for _ in range(length):
                base = base.below if base is not None else None
            target = self.gotos[base.state].get(rule) if base is not None else None
            if base is None or target is None:
                continue
            after = base.push(target)
            known = after.waiting & waiting
            if target == self.tables.last_state:
                known |= self.end & waiting
            if known:
                self._remember(_Config(after, waiting, config, bit), known & -known)
                return True
            new = waiting & ~seen.get(after, 0)
            if new:
                seen[after] = seen.get(after, 0) | new
                open_.append(_Config(after, new, config, bit))
        return False

    def _remember(self, config: _Config, waiting: int) -> None:
        """The end is in reach from here where `waiting` waits, and so it is from all before."""
        here: _Config | None = config
        while here is not None:
            here.stack.completed = True
            if here.before is not None:
                here.stack.waiting |= waiting
                waiting = here.bit or waiting
            here = here.before


def _single(mask: int) -> list[int]:
    """The bits of a mask."""
    out = list[int]()
    while mask:
        out.append(mask & -mask)
        mask &= mask - 1
    return out
