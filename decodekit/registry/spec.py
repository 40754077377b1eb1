"""Spec strings: `awrs(max_rejects=64) | smc(particles=16)`, a Python expression that is read and never run.

    strategy = plugin ("|" plugin)*
    plugin   = NAME | NAME "(" value* (NAME "=" value)* ")"
    value    = text | number | True | False | None | inf | [value*] | (value*) | {value: value} | plugin

`str(strategy)` is the canonical spec: the same strategy always has the same one, and reading it gives the strategy
back. It is the key of reports and seeds.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from decodekit.errors import BrokenPlugin, DecodekitError, OptionError, SpecError, UnknownPlugin
from decodekit.registry import discovery
from decodekit.registry.discovery import Plugin
from decodekit.registry.metadata import ROLES, SEVERAL, TASK, form, info_of, opaque

LONGEST: Final = 10_000
"""Characters of a spec string."""

_WORDS: Final = {"inf": float("inf")}
_ELSEWHERE: Final = {"true": "True", "false": "False", "null": "None", "none": "None", "nil": "None"}


@dataclass(frozen=True)
class Strategy:
    """Plugins that are to work together, in canonical order: by role, and as given where a role may stand twice."""

    parts: tuple[Plugin, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(sorted(self.parts, key=_rank)))  # the sort is stable

    def __str__(self) -> str:
        return " | ".join(map(form, self.parts))

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __or__(self, other: object) -> Strategy:
        return joined(self, other)

    def __ror__(self, other: object) -> Strategy:
        return joined(other, self)

    @property
    def readable(self) -> bool:
        """Whether `parse(str(self))` gives this strategy back: not if it holds a loaded model or an unnamed class."""
        try:
            return not any(True for part in self.parts for _ in opaque(part)) and parse(str(self)) == self
        except DecodekitError:
            return False

    @staticmethod
    def of(value: object) -> Strategy:
        """A strategy from a spec string, a plugin (instance, or class without options), a list of these, or None.

        Raises:
            SpecError: it is none of these, or the string cannot be read.
            UnknownPlugin, BrokenPlugin, OptionError: as :func:`parse`.
        """
        if value is None:
            return Strategy()
        if isinstance(value, Strategy):
            return value
        if isinstance(value, str):
            return parse(value)
        if about := info_of(value):
            if about.roles == (TASK,):
                raise SpecError(f"{about.name} is a task, which strategies are compared on; it cannot be part of one")
            made: Any = value() if isinstance(value, type) else value
            return Strategy((made,))
        if isinstance(value, list | tuple):
            return Strategy(tuple(part for item in value for part in Strategy.of(item).parts))
        raise SpecError(
            f"a strategy is a string such as 'sample | top_k(50)', a plugin, or a list of these, not {form(value)}"
        )


def joined(left: object, right: object) -> Strategy:
    """`left | right`; each is whatever :meth:`Strategy.of` takes."""
    return Strategy((*Strategy.of(left).parts, *Strategy.of(right).parts))


def _rank(part: Plugin) -> int:
    """A role that may stand several times counts first: its order has a meaning that sorting must keep."""
    about = info_of(part)
    roles = about.roles if about else ("constraint",)
    return ROLES.index(next((role for role in ROLES if role in roles and role in SEVERAL), min(roles, key=ROLES.index)))


def parse_task(text: str) -> Any:
    """Read the spec of a task, such as `sql(limit=50)`: one name of the group `decodekit.tasks` with its options.

    Raises:
        SpecError, UnknownPlugin, BrokenPlugin, OptionError: as :func:`parse`.
    """
    return _one(text, discovery.TASKS, "sql(limit=50)")


def parse_score(text: str) -> Any:
    """Read the spec of a score, such as `epr(k=10)`: one name of the group `decodekit.scores` with its options.

    Raises:
        SpecError, UnknownPlugin, BrokenPlugin, OptionError: as :func:`parse`.
    """
    return _one(text, discovery.SCORES, "epr(k=10)")


def _one(text: str, group: str, example: str) -> Any:
    parts = _Reader(text[:LONGEST], group).strategy() if text.strip() else []
    if len(parts) != 1:
        word = discovery.word_of(group)
        raise SpecError(f"{text[:40]!r} is not one {word}; write its name, with options in brackets: {example}")
    return parts[0]


def parse(text: str) -> Strategy:
    """Read a spec string.

    Raises:
        SpecError: the string is too long or cannot be read; the message names the column, counted from 1.
        UnknownPlugin: a name that is not registered.
        BrokenPlugin: a plugin that cannot be imported.
        OptionError: options that the plugin does not take.
    """
    if len(text) > LONGEST:
        raise SpecError(f"a strategy may have {LONGEST} characters, and this one has {len(text)}; build it in Python")
    if not text.strip():
        raise SpecError("the strategy is empty; write plugins joined by |, such as 'sample | top_k(50)'")
    try:
        return Strategy(tuple(_Reader(text).strategy()))
    except (RecursionError, MemoryError):
        raise SpecError("the strategy is nested too deeply; build it in Python") from None


class _Reader:
    """Turns the syntax tree of one spec string into plugins."""

    def __init__(self, text: str, group: str = discovery.PLUGINS) -> None:
        self.text = text
        self.group = group  # of the names that stand between two |; those within options are plugins
        self.wrap = "\n" in text.strip()  # several lines are one expression only within brackets
        self.code = f"({text}\n)" if self.wrap else text.lstrip()

    def strategy(self) -> list[Plugin]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # '\d' in a pattern may stand as it is
            try:
                node = ast.parse(self.code, mode="eval").body
            except SyntaxError as error:
                raise SpecError(self._unreadable(error)) from None
            except (ValueError, OverflowError) as error:  # null bytes, half characters, endless numbers
                raise SpecError(f"the strategy cannot be read: {str(error).split(';')[0]}") from None
        parts: list[Plugin] = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            parts.append(self._part(node.right))
            node = node.left
        return [self._part(node), *reversed(parts)]

    def _part(self, node: ast.expr) -> Plugin:
        """A plugin that stands between two `|`."""
        if isinstance(node, ast.Name | ast.Call):
            return self._plugin(node, self.group)
        way = "write plugins joined by |, such as 'sample | top_k(50)'"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            way = "write the plugin's name without quotes"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            way = "a name has no hyphen: write _ for it"
        elif isinstance(node, ast.Attribute) and _is_dotted(node):
            way = f"a name has no dot: write {node.attr}"
        raise SpecError(f"{self._at(node)}: {self._quote(node)} is not a plugin; {way}")

    def _plugin(self, node: ast.Name | ast.Call, group: str = discovery.PLUGINS) -> Plugin:
        name = node.func if isinstance(node, ast.Call) else node
        if not isinstance(name, ast.Name):
            way = f"a name has no dot: write {name.attr}" if _is_dotted(name) else "call a plugin by its name"
            raise SpecError(f"{self._at(name)}: {self._quote(name)} is not a plugin; {way}")
        args = [self._value(arg) for arg in node.args] if isinstance(node, ast.Call) else []
        options: dict[str, object] = {}
        for word in node.keywords if isinstance(node, ast.Call) else ():
            if word.arg is None:
                raise SpecError(f"{self._at(word.value)}: ** is not read; write the options of {name.id} one by one")
            if word.arg in options:
                raise SpecError(f"{self._at(word)}: {name.id} is given {word.arg!r} twice; drop one")
            options[word.arg] = self._value(word.value)
        try:
            made: Plugin = discovery.load(name.id, group)(*args, **options)
        except (UnknownPlugin, BrokenPlugin, OptionError) as error:
            raise type(error)(f"{self._at(node)}: {error}") from error
        return made

    def _value(self, node: ast.expr) -> object:
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str()):
                return node.value
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                number = self._value(node.operand)
                if (
                    isinstance(number, int | float)
                    and not isinstance(number, bool)
                    and not isinstance(node.operand, ast.UnaryOp)
                ):
                    return -number if isinstance(node.op, ast.USub) else number
            case ast.List():
                return [self._value(item) for item in node.elts]
            case ast.Tuple():
                return tuple(self._value(item) for item in node.elts)
            case ast.Dict():
                return self._dict(node)
            case ast.Name(id=word) if word in _WORDS:
                return _WORDS[word]
            case ast.Name(id=word) if word not in discovery.names():
                raise SpecError(f"{self._at(node)}: {_neither(word)}")
            case ast.Name() | ast.Call():
                return self._plugin(node)
        raise SpecError(
            f"{self._at(node)}: {self._quote(node)} is not read; an option is a text in quotes, a number, True, False, "
            "None, a list, a dict or a plugin"
        )

    def _dict(self, node: ast.Dict) -> dict[object, object]:
        found: dict[object, object] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            word = [] if key is None else self._value(key)
            try:
                found[word] = self._value(value)
            except TypeError:  # unhashable
                said = f"{self._at(key or value)}: a key of a dict is a text, a number or a tuple of these"
                raise SpecError(said) from None
        return found

    def _at(self, node: ast.expr | ast.keyword) -> str:
        line = self.code.splitlines(keepends=True)[node.lineno - 1] if "\n" in self.code else self.code
        return self._place(node.lineno, len(line.encode()[: node.col_offset].decode(errors="ignore")))

    def _place(self, line: int, offset: int) -> str:
        """A place in `code`, `offset` in characters from 0, as the user counts it."""
        if self.wrap:
            return f"line {line}, column {offset + (line > 1)} of the strategy"
        return f"column {offset + 1 + len(self.text) - len(self.text.lstrip())} of the strategy"

    def _quote(self, node: ast.expr) -> str:
        found = ast.get_source_segment(self.code, node) or "this"
        return found if len(found) <= 40 else found[:37] + "..."

    def _unreadable(self, error: SyntaxError) -> str:
        offset = max((error.offset or 1) - 1, 0)
        place = self._place(error.lineno or 1, offset)
        here = (self.code.splitlines() or [""])[min(error.lineno or 1, self.code.count("\n") + 1) - 1][offset:]
        said = (error.msg or "invalid syntax").split(";")[0]
        if found := re.search(r"[=(,:\[]\s*(<\w+>)", self.text):
            return f"{found[1]} stands for an object that cannot be written in a strategy; pass it from Python"
        if here.startswith(":"):
            return f"{place}: a text stands in quotes, such as draft='zoo:draft'"
        if re.match(r"\s*\w+\s*=[^=]", self.text):
            return f"{place}: options stand in brackets after the plugin's name, such as temperature(0.8)"
        if self.text.strip()[0] == "|" or self.text.strip()[-1] == "|":
            return "the strategy begins or ends with |; drop it, or write the plugin that is missing"
        if here.startswith("|"):
            return f"{place}: a plugin is missing between two |, or one | is too many"
        return f"{place}: cannot be read: {said}; write plugins joined by |, such as 'sample | top_k(50)'"


def _is_dotted(node: ast.expr) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)


def _neither(word: str) -> str:
    if word.lower() in _ELSEWHERE:
        return f"{word} is not read; write {_ELSEWHERE[word.lower()]}"
    near = difflib.get_close_matches(word, discovery.names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; a text stands in quotes: {word!r}"
    return f"{word!r} is neither a plugin nor a value{hint}"
