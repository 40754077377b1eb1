"""What is read from a stock `lark.Lark` object: LALR tables, terminals in the lexer's order, keyword tables.

Nothing of Lark's meaning is worked out anew: which terminals a LALR state's lexer has, in which order, and which
spellings are keywords is taken from the lexer objects that Lark itself built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lark import Lark
from lark.indenter import Indenter
from lark.lexer import BasicLexer, ContextualLexer, UnlessCallback

from decodekit.errors import ConstraintError

from .scanner import Scanner
from .terminal_automaton import Terminal
from .terminal_regex import Beyond
from .threads import cuts

END = "$END"
QUOTED = "!"
"""Put before the name of an ignored literal that was found as the spelling of another terminal: Lark hands such a one
to the parser instead of ignoring it."""


@dataclass(eq=False)
class Stack:
    """A stack of LALR states, shared by all that have it below theirs; equal stacks are one object."""

    state: int
    below: Stack | None
    height: int
    above: dict[int, Stack] = field(default_factory=dict)
    fed: dict[str, Stack | None] = field(default_factory=dict)
    accepted: frozenset[str] | None = None
    ends: bool | None = None
    completed: bool | None = None
    waiting: int = 0
    spots: dict[Any, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)

    def push(self, state: int) -> Stack:
        """One state more."""
        found = self.above.get(state)
        if found is None:
            found = self.above[state] = Stack(state, self, self.height + 1)
        return found


class Tables:
    """The grammar of a `lark.Lark` object with parser="lalr".

    Raises:
        ConstraintError: an option, a terminal or a lexer of the object cannot be followed byte by byte.
    """

    def __init__(self, lark: Lark, start: str | None) -> None:
        self.lark = lark
        _check_options(lark)
        self.start_name = _start(lark, start)
        table = lark.parser.parser._parse_table
        self.rows: dict[int, dict[str, tuple[bool, Any]]] = {
            state: {str(name): _action(action, arg) for name, (action, arg) in row.items()}
            for state, row in table.states.items()
        }
        self.first_state, self.last_state = table.start_states[self.start_name], table.end_states[self.start_name]
        conf = lark.parser.lexer_conf
        self.ignored = frozenset(conf.ignore)
        self.indenter: Any = conf.postlex
        self._flags = int(conf.g_regex_flags)
        self._terminals: dict[str, Terminal] = {}
        self._scanners: dict[int, Scanner] = {}
        self._accepted: dict[tuple[int, ...], frozenset[str]] = {}
        self._deep: dict[int, int] = {}
        lexer = lark.parser.lexer
        self._lexer = lexer.lexer if conf.postlex else lexer
        if not isinstance(self._lexer, BasicLexer | ContextualLexer):
            raise ConstraintError("the Lark object has a lexer of its own; use lexer='contextual' or lexer='basic'")
        try:
            self._words = self._all_words()
            self.scanners = {state: self.scanner(state) for state in self.rows}
        except re.error as error:  # each terminal is a pattern, but all of them together are not
            raise ConstraintError(
                f"the terminals of the grammar cannot stand in one regular expression: {error}; a reference to a group "
                f"by number is the usual reason"
            ) from None
        self.reach = max((each.reach for each in self._scanners.values()), default=0)

    def scanner(self, state: int) -> Scanner:
        """The lexer of a LALR state."""
        lexer = self._lexer_of(state)
        found = self._scanners.get(id(lexer))
        if found is None:
            terminals = [self.terminal(each) for each in lexer.scanner.terminals]
            words = {name: self._labels(call) for name, call in self._calls(lexer).items() if name not in self.ignored}
            found = self._scanners[id(lexer)] = Scanner(terminals, words)
        return found

    def terminal(self, definition: Any) -> Terminal:
        """The automaton of a terminal."""
        name = definition.name
        if name not in self._terminals:
            try:
                made = Terminal(name, definition.pattern.to_regexp(), self._flags, self._words.get(name, ()))
            except Beyond as error:
                raise ConstraintError(
                    f"the terminal {definition.user_repr()}: {error}; write it without, or judge the text afterwards"
                ) from None
            self._terminals[name] = made
        return self._terminals[name]

    @cached_property
    def classes(self) -> list[int]:
        """One byte of each class that any terminal tells apart."""
        edges = {0}
        for terminal in self._terminals.values():
            for each in (terminal.program, *(program for _, program in terminal.words)):
                for op in each.code:
                    cuts(op, edges)
        return sorted(edges - {256})

    def feed(self, stack: Stack, name: str) -> Stack | None:
        """The stack after terminal `name`: reductions, then a shift; None where the parser refuses it."""
        found: Stack | None
        if name in stack.fed:
            return stack.fed[name]
        here: Stack | None = stack
        while True:
            assert here is not None
            action = self.rows[here.state].get(name)
            if action is None:
                found = None
                break
            if action[0]:
                found = here.push(action[1])
                break
            here = self._reduced(here, action[1])
        stack.fed[name] = found
        return found

    def ends(self, stack: Stack) -> bool:
        """Whether the text may end here."""
        if stack.ends is None:
            here, stack.ends = stack, False
            while (action := self.rows[here.state].get(END)) is not None and not action[0]:
                here = self._reduced(here, action[1])
                if here.state == self.last_state:
                    stack.ends = True
                    break
        return stack.ends

    def accepted(self, stack: Stack) -> frozenset[str]:
        """The terminals that the parser takes next, by name."""
        if stack.accepted is None:
            known = self._accepted.get(self._top(stack))
            stack.accepted = self._looked(stack) if known is None else known
        return stack.accepted

    def _looked(self, stack: Stack) -> frozenset[str]:
        """What is accepted depends on the frames that reductions uncover: remembered for all stacks with these."""
        low = stack.height
        out = list[str]()
        for name, action in self.rows[stack.state].items():
            if name == END or name.islower():
                continue
            here: Stack = stack
            found: tuple[bool, Any] | None = action
            while found is not None and not found[0]:
                here = self._reduced(here, found[1])
                low = min(low, here.height - 1)
                found = self.rows[here.state].get(name)
            if found is not None:
                out.append(name)
        deep = stack.height - low
        if deep > self._deep.get(stack.state, 0):
            self._deep[stack.state] = deep
        accepted = self._accepted[self._top(stack)] = frozenset(out)
        return accepted

    def _top(self, stack: Stack) -> tuple[int, ...]:
        """The frames at the top of a stack, as many as matter for its state, as far as is known."""
        out, here = [stack.state], stack.below
        for _ in range(self._deep.get(stack.state, 0)):
            if here is None:
                break
            out.append(here.state)
            here = here.below
        return tuple(out)

    def _reduced(self, stack: Stack, rule: tuple[int, str]) -> Stack:
        here = stack
        for _ in range(rule[0]):
            assert here.below is not None
            here = here.below
        return here.push(self.rows[here.state][rule[1]][1])

    def _lexer_of(self, state: int) -> Any:
        return self._lexer.lexers[state] if isinstance(self._lexer, ContextualLexer) else self._lexer

    def _calls(self, lexer: Any) -> dict[str, UnlessCallback]:
        _ = lexer.scanner  # makes the table
        return {name: call for name, call in lexer.callback.items() if isinstance(call, UnlessCallback)}

    def _labels(self, call: UnlessCallback) -> list[str]:
        return [QUOTED + each.name if each.name in self.ignored else each.name for each in call.scanner.terminals]

    def _all_words(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """For each terminal the spellings that some LALR state's lexer looks up after it."""
        out: dict[str, dict[str, str]] = {}
        for state in self.rows:
            for name, call in self._calls(self._lexer_of(state)).items():
                spelled = out.setdefault(name, {})
                for label, each in zip(self._labels(call), call.scanner.terminals, strict=True):
                    spelled[label] = each.pattern.to_regexp()
        return {name: tuple(spelled.items()) for name, spelled in out.items() if name not in self.ignored}


def _action(action: Any, arg: Any) -> tuple[bool, Any]:
    if str(action) == "Shift":
        return True, arg
    return False, (len(arg.expansion), str(arg.origin.name))


def _start(lark: Lark, start: str | None) -> str:
    starts = list(lark.options.start)
    if start is None and len(starts) == 1:
        return str(starts[0])
    if start not in starts:
        raise ConstraintError(
            f"the Lark object has the start rules {', '.join(starts)}"
            f"{'' if start is None else f' and no {start}'}; say start= with one of them"
        )
    return start


def _check_options(lark: Lark) -> None:
    options = lark.options
    if options.parser != "lalr":
        raise ConstraintError(
            f"the Lark object was made with parser={options.parser!r}, which cannot be followed byte by byte; make it "
            f"with parser='lalr', or give an ambiguous grammar in llguidance's dialect (dialect='llguidance')"
        )
    if options.use_bytes:
        raise ConstraintError("a grammar with use_bytes=True reads bytes, and a model writes text; make it without")
    if options.regex:
        raise ConstraintError("a grammar with regex=True uses the regex module's dialect; make it without")
    if lark.parser.lexer_conf.callbacks:
        names = ", ".join(sorted(lark.parser.lexer_conf.callbacks))
        raise ConstraintError(
            f"lexer_callbacks ({names}) may change what a terminal is, which cannot be followed; make it without"
        )
    postlex = lark.parser.lexer_conf.postlex
    if postlex is not None:
        kind = type(postlex)
        same = isinstance(postlex, Indenter) and all(
            getattr(kind, name) is getattr(Indenter, name)
            for name in ("process", "_process", "handle_NL", "always_accept")
        )
        if not same:
            raise ConstraintError(
                f"the postlex {kind.__name__} is not lark.indenter.Indenter with its own methods; leave it out"
            )
