"""One terminal as a lazily built automaton over bytes, with the matches that Python's `re.match` would choose.

A state is the ordered list of live threads of :mod:`lark_regex`, cut below the first that has matched for good: what is
left could still match longer and would then be preferred. Threads carry the look-aheads they still depend on.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from decodekit.errors import ConstraintError

from .terminal_regex import BEHIND, CHAR, END, LOOK, LOOP, MATCH, SPLIT, Program, program
from .threads import cuts, spread, target

STATES: Final = 20_000
"""The most states that one terminal may take."""
AGE: Final = 64
"""How many bytes past its own end a terminal may look ahead."""
UNKNOWN: Final = b"?not yet looked for"

Item = tuple[int, frozenset[Any], int, frozenset[Any]]
"""(instruction, look-aheads it depends on, bytes since it matched, spellings matched then)."""
_NONE: Final[frozenset[Any]] = frozenset()


class State:
    """A place inside one terminal.

    hit: (bytes since its end, spellings) of a match that became certain with the last byte, else None.
    keep: how many bytes must be remembered for a match that is not certain yet. suffix: :meth:`Terminal.shortest`.
    """

    __slots__ = ("behind", "edges", "hit", "items", "keep", "next", "spelled", "suffix", "words")

    def __init__(self, items: tuple[Item, ...], behind: tuple[Any, ...], words: frozenset[Any], hit: Any) -> None:
        self.items, self.behind, self.words, self.hit = items, behind, words, hit
        self.next: dict[int, State | None] = {}
        self.keep = max((item[2] for item in items if item[2] >= 0), default=0)
        self.suffix: bytes | None = UNKNOWN
        self.spelled: set[frozenset[str]] | None = None
        self.edges: list[int] | None = None


class Terminal:
    """The automaton of one terminal.

    words: spellings (name, pattern) that are told apart when the terminal has matched them exactly: the keywords
    that Lark's lexer looks up afterwards.
    """

    def __init__(self, name: str, pattern: str, flags: int, words: tuple[tuple[str, str], ...] = ()) -> None:
        self.name = name
        self.program: Program = program(pattern, flags)
        self.words = [(word, program(text, flags)) for word, text in words]
        self.looks = self.program.looks or bool(self.program.trackers)  # else every thread can match
        self._states: dict[Any, State] = {}

    @property
    def size(self) -> int:
        """States made so far."""
        return len(self._states)

    def start(self, recent: bytes, whole: bool) -> State:
        """Before the first byte, after `recent`; `whole` where nothing came before that."""
        code, reached, virgin = self.program.code, _NONE, whole
        for byte in recent[-self.program.reach :] if self.program.reach else b"":
            reached = self._tracked(reached, byte)
            virgin = False
        behind = (reached, virgin) if self.program.trackers else ()
        words = frozenset((n, pc) for n, (_, each) in enumerate(self.words) for pc in spread(each.code, each.start))
        items = list[Item]()
        self._close(code, self.program.start, _NONE, items, set(), behind, True)
        return self._made(items, behind, words)

    def step(self, state: State, byte: int) -> State | None:
        """After one more byte; None where no match can follow any more and none has just become certain."""
        found = state.next.get(byte, self)
        if found is self:
            found = state.next[byte] = self._step(state, byte)
        return found  # type: ignore[return-value]

    def end(self, state: State) -> tuple[int, frozenset[str]] | None:
        """The match that becomes certain because the text ends here: (bytes since its end, spellings)."""
        for _, needs, age, words in state.items:
            if age >= 0 and all(positive == self._ends(items) for positive, items in needs):
                return age, words
        return None

    def lives(self, state: State) -> bool:
        """Whether a match can become certain later."""
        return bool(state.items) and (not self.looks or self.shortest(state) is not None)

    def shortest(self, state: State) -> bytes | None:
        """A shortest text after which a match is certain; None where there is none."""
        if state.suffix == UNKNOWN:
            state.suffix = self._shortest(state)
        return state.suffix

    def _shortest(self, state: State) -> bytes | None:
        open_, seen = deque([(state, b"")]), {state}
        while open_:
            here, text = open_.popleft()
            for byte in self.bytes_of(here):
                after = self.step(here, byte)
                if after is None:
                    continue
                if after.hit:
                    return text + bytes([byte])
                if after not in seen:
                    seen.add(after)
                    open_.append((after, text + bytes([byte])))
        return None

    def bytes_of(self, state: State) -> list[int]:
        """One byte of each class that this state tells apart; bytes on which it dies are not all listed."""
        if state.edges is None:
            state.edges = self._all_edges(state)
        return state.edges

    def _all_edges(self, state: State) -> list[int]:
        edges = {0}
        for pc, needs, _, _ in state.items:
            self._edges(pc, needs, edges)
        for n, pc in state.words:
            cuts(self.words[n][1].code[pc], edges)
        if state.behind:
            for pc in [*state.behind[0], *self._heads()]:
                cuts(self.program.code[pc], edges)
        edges.discard(256)
        return sorted(edges)

    # --- how it moves ----------------------------------------------------------------------------------------------

    def _step(self, state: State, byte: int) -> State | None:
        code = self.program.code
        behind: tuple[Any, ...] = ()
        if state.behind:
            behind = (self._tracked(state.behind[0], byte), False)
        words = self._spelled(state.words, byte) if state.words else _NONE
        items, seen = list[Item](), set[Any]()
        for pc, needs, age, spelled in state.items:
            left = self._after(needs, byte, behind) if needs else needs
            if left is None:
                continue
            if age >= 0:
                if age + 1 > AGE:
                    raise ConstraintError(
                        f"the terminal {self.name} looks more than {AGE} bytes past its own end; shorten its look-ahead"
                    )
                if not left:
                    return self._made(items, behind, words, (age + 1, spelled))
                items.append((pc, left, age + 1, spelled))
                continue
            onward = target(code[pc], byte)
            if onward >= 0 and self._close(code, onward, left, items, seen, behind, True):
                return self._made(items, behind, words, (0, self._names(words)))
        if words and any(item[2] == 0 for item in items):
            names = self._names(words)
            items = [(pc, needs, age, names if age == 0 else old) for pc, needs, age, old in items]
        return self._made(items, behind, words) if items else None

    def _made(self, items: list[Item], behind: tuple[Any, ...], words: frozenset[Any], hit: Any = None) -> State:
        if not items:
            behind, words = (), _NONE
        key = (tuple(items), behind, words, hit)
        found = self._states.get(key)
        if found is None:
            if len(self._states) >= STATES:
                raise ConstraintError(f"the terminal {self.name} takes over {STATES} states; write it more simply")
            found = self._states[key] = State(*key)
        return found

    def _close(
        self, code: list[Any], pc: int, needs: frozenset[Any], out: list[Item], seen: set[Any], behind: Any, top: bool
    ) -> bool:
        """Add what `pc` leads to without reading, in order. True: it has matched for good, and `out` ends there."""
        stack = [(pc, needs)]
        while stack:
            pc, needs = stack.pop()
            op = code[pc]
            kind = op[0]
            if (pc, needs) in seen:
                if kind == LOOP:  # an empty round: the body is over, go on behind the loop
                    stack.append((op[2], needs))
                continue
            seen.add((pc, needs))
            if kind in (CHAR, END):
                out.append((pc, needs, -1, _NONE))
            elif kind == SPLIT:
                stack.extend((way, needs) for way in reversed(op[1]))
            elif kind == LOOP:
                ways = (op[2], op[1]) if op[3] else (op[1], op[2])
                stack.extend((way, needs) for way in ways)
            elif kind == BEHIND:
                if self._holds(op[2], behind) == op[1]:
                    stack.append((op[3], needs))
            elif kind == LOOK:
                inside, matched = list[Item](), False
                matched = self._close(code, op[2], _NONE, inside, set(), behind, False)
                if matched or not inside:
                    if matched == op[1]:
                        stack.append((op[3], needs))
                else:
                    stack.append((op[3], needs | {(op[1], frozenset(inside))}))
            elif not needs:
                return True
            else:
                out.append((pc, needs, 0, _NONE))
        return False

    def _after(self, needs: frozenset[Any], byte: int, behind: Any) -> frozenset[Any] | None:
        """The look-aheads after one more byte; None where one has failed."""
        left = set[Any]()
        for positive, items in needs:
            after, matched, seen = list[Item](), False, set[Any]()
            for pc, inner, age, _ in items:
                kept = self._after(inner, byte, behind) if inner else inner
                if kept is None:
                    continue
                if age >= 0:
                    matched = matched or not kept
                    after.append((pc, kept, 0, _NONE))
                    continue
                onward = target(self.program.code[pc], byte)
                if onward >= 0 and self._close(self.program.code, onward, kept, after, seen, behind, False):
                    matched = True
            if matched or not after:
                if matched != positive:
                    return None
            else:
                left.add((positive, frozenset(after)))
        return frozenset(left)

    def _ends(self, items: frozenset[Item]) -> bool:
        """Whether one of `items` matches because the text ends."""
        for pc, needs, age, _ in items:
            if not all(positive == self._ends(inner) for positive, inner in needs):
                continue
            op = self.program.code[pc]
            if age >= 0 or (op[0] == END and self._through(op[1])):
                return True
        return False

    def _through(self, pc: int) -> bool:
        return bool(self.program.code[pc][0] == MATCH)

    # --- what runs along -------------------------------------------------------------------------------------------

    def _heads(self) -> list[int]:
        return [pc for start, _ in self.program.trackers if start >= 0 for pc in spread(self.program.code, start)]

    def _tracked(self, reached: frozenset[int], byte: int) -> frozenset[int]:
        code, out = self.program.code, set[int]()
        for pc in [*reached, *self._heads()]:
            onward = target(code[pc], byte)
            if onward >= 0:
                out.update(spread(code, onward))
        return frozenset(out)

    def _holds(self, tracker: int, behind: Any) -> bool:
        start, last = self.program.trackers[tracker]
        return bool(behind[1]) if start == -1 else last in behind[0] or last in spread(self.program.code, start)

    def _spelled(self, words: frozenset[Any], byte: int) -> frozenset[Any]:
        out = set[Any]()
        for n, pc in words:
            code = self.words[n][1].code
            onward = target(code[pc], byte)
            if onward >= 0:
                out.update((n, each) for each in spread(code, onward))
        return frozenset(out)

    def _names(self, words: frozenset[Any]) -> frozenset[str]:
        return frozenset(self.words[n][0] for n, pc in words if self.words[n][1].code[pc][0] == MATCH)

    def _edges(self, pc: int, needs: frozenset[Any], edges: set[int]) -> None:
        cuts(self.program.code[pc], edges)
        for _, items in needs:
            for inner, more, _, _ in items:
                self._edges(inner, more, edges)
