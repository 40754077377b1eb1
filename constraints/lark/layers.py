"""What stands between lexer and parser: nothing, or Lark's `Indenter`.

A layer turns the name of a lexeme into what the parser is fed. Its state is a hashable value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from .scanner import Place
from .tables import QUOTED, Stack, Tables

SEARCH: Final = 4_000
NEWLINE, TAB, SPACE = 10, 9, 32

Onward = Callable[[Stack], bool]
"""Whether a stack can come to an end."""


class Layer(Protocol):
    """Between lexer and parser. `count` is what :meth:`count` made of the lexeme so far."""

    def first(self) -> Any:
        """The state before the text."""

    def count(self, place: Place, count: int, byte: int) -> int:
        """What must be known of the open lexeme, after one more byte; -1 at its beginning."""

    def take(self, stack: Stack, state: Any, name: str, count: int) -> tuple[Stack, Any] | None:
        """After a lexeme; None where it is refused."""

    def ends(self, stack: Stack, state: Any) -> bool:
        """Whether the text may end."""

    def finds(self, stack: Stack, state: Any, place: Place, count: int, onward: Onward | None) -> bool:
        """Whether the open lexeme can still become one that is taken and, where given, leads `onward`."""


class Plain:
    """Lexemes go to the parser as they are."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def first(self) -> Any:
        """No state."""
        return None

    def count(self, place: Place, count: int, byte: int) -> int:
        """Nothing."""
        return -1

    def take(self, stack: Stack, state: Any, name: str, count: int) -> tuple[Stack, Any] | None:
        """Fed, or ignored."""
        if name in self.tables.ignored:
            return stack, state
        after = self.tables.feed(stack, name.removeprefix(QUOTED))
        return None if after is None else (after, state)

    def ends(self, stack: Stack, state: Any) -> bool:
        """Where the parser takes the end."""
        return self.tables.ends(stack)

    def finds(self, stack: Stack, state: Any, place: Place, count: int, onward: Onward | None) -> bool:
        """Some name that is ignored or accepted."""
        for name in self.names(stack, place):
            if place.can(name):
                if onward is None:
                    return True
                after = self.take(stack, state, name, 0)
                if after is not None and onward(after[0]):
                    return True
        return False

    def names(self, stack: Stack, place: Place) -> list[str]:
        """What the open lexeme could be called, as far as it would be taken."""
        accepted, ignored = self.tables.accepted(stack), self.tables.ignored
        return [n for n in place.names() if n in ignored or n.removeprefix(QUOTED) in accepted]


class Indented(Plain):
    """Lark's `Indenter`: outside brackets a newline is followed by what its indentation opens or closes.

    Its state is (brackets that are open, levels of indentation).
    """

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        given: Any = tables.indenter
        self.newline, self.tab = given.NL_type, given.tab_len
        self.opening, self.closing = frozenset(given.OPEN_PAREN_types), frozenset(given.CLOSE_PAREN_types)
        self.indent, self.dedent = given.INDENT_type, given.DEDENT_type
        self._found: dict[Any, frozenset[int]] = {}
        self._widths: dict[Any, frozenset[int]] = {}

    def first(self) -> Any:
        """No brackets, no indentation."""
        return 0, (0,)

    def count(self, place: Place, count: int, byte: int) -> int:
        """The width of the last line of a newline lexeme, in columns; -1 while it has no line break."""
        if not any(place.scanner.might(n, self.newline) for n, _ in place.entries) and (
            place.hit is None or place.hit[1] != self.newline
        ):
            return -1
        if byte == NEWLINE:
            return 0
        if count < 0:
            return -1
        return count + (self.tab if byte == TAB else byte == SPACE)

    def take(self, stack: Stack, state: Any, name: str, count: int) -> tuple[Stack, Any] | None:
        """As `Indenter._process` would."""
        depth, levels = state
        if name == self.newline and name not in self.tables.ignored:
            return (stack, state) if depth else self._line(stack, levels, count)
        found = super().take(stack, state, name, count)
        if found is None or name in self.tables.ignored:
            return found
        name = name.removeprefix(QUOTED)
        depth += (name in self.opening) - (name in self.closing and name not in self.opening)
        return None if depth < 0 else (found[0], (depth, levels))

    def _line(self, stack: Stack, levels: tuple[int, ...], count: int) -> tuple[Stack, Any] | None:
        here = self.tables.feed(stack, self.newline)
        if here is None or count < 0:  # Lark fails on a newline terminal without a line break
            return None
        if count > levels[-1]:
            here = self.tables.feed(here, self.indent)
            return None if here is None else (here, (0, (*levels, count)))
        while count < levels[-1]:
            here = here and self.tables.feed(here, self.dedent)
            levels = levels[:-1]
        return None if here is None or count != levels[-1] else (here, (0, levels))

    def ends(self, stack: Stack, state: Any) -> bool:
        """All levels close by themselves."""
        here: Stack | None = stack
        for _ in state[1][1:]:
            here = here and self.tables.feed(here, self.dedent)
        return here is not None and self.tables.ends(here)

    def names(self, stack: Stack, place: Place) -> list[str]:
        """Newlines are looked at in :meth:`finds`."""
        return [name for name in super().names(stack, place) if name != self.newline]

    def finds(self, stack: Stack, state: Any, place: Place, count: int, onward: Onward | None) -> bool:
        """Some name that is taken; for a newline, also some width of its last line."""
        if super().finds(stack, state, place, count, onward):
            return True
        if not place.can(self.newline):
            return False
        if state[0]:
            return True
        most = state[1][-1] + self.tab + 1
        key = (tuple((place.scanner.terminals[n], at) for n, at in place.entries), min(count, most), most)
        if key not in self._found:
            if len(self._found) > 50_000:
                self._found.clear()
            self._found[key] = self._search(place, *key[1:])
        return not self._found[key].isdisjoint(self._wide(stack, state[1], most))

    def _wide(self, stack: Stack, levels: tuple[int, ...], most: int) -> frozenset[int]:
        """The widths of a new line that the parser takes, deeper than the deepest level being all the same."""
        key = (stack, levels)
        found = self._widths.get(key)
        if found is None:
            if len(self._widths) > 50_000:
                self._widths.clear()
            good = {wide for wide in levels if self._line(stack, levels, wide) is not None}
            if self._line(stack, levels, most) is not None:
                good.update(range(levels[-1] + 1, most + 1))
            found = self._widths[key] = frozenset(good)
        return found

    def _search(self, place: Place, count: int, most: int) -> frozenset[int]:
        """The widths with which the lexeme can end as a newline, up to `most`."""
        out = set[int]()
        seen, open_ = {(place, count)}, deque([(place, count)])
        while open_:
            here, width = open_.popleft()
            for byte in {NEWLINE, TAB, SPACE, *here.scanner.bytes_of(here)}:
                after = here.step(byte)
                if after is None:
                    continue
                wide = min(self.count(after, width, byte), most)
                if after.hit and after.hit[1] == self.newline:
                    out.add(wide)
                if not after.dead and (after, wide) not in seen:
                    seen.add((after, wide))
                    open_.append((after, wide))
            if len(seen) > SEARCH:
                return frozenset(range(most + 1))
        return frozenset(out)
