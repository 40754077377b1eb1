"""Plugins: how a class declares itself, and how a name finds its class.

A plugin is one class whose fields are its options, decorated with :func:`plugin`, and named in the entry-point group
`decodekit.plugins` of the distribution that ships it. Built-in plugins are declared in the same way as a third
party's. Discovery reads metadata only: a plugin is imported when its name is first used, so a broken package cannot
hurt the others. `DECODEKIT_PLUGINS=dist1,dist2` restricts discovery to these distributions and decodekit itself.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import os
import re
from dataclasses import dataclass, replace
from keyword import iskeyword
from typing import Any, ClassVar, Final, NamedTuple, Protocol, cast

from decodekit.core.bound import BindContext
from decodekit.errors import BrokenPlugin, UnknownPlugin
from decodekit.registry.metadata import SCORE, TASK, PluginInfo, info_of

PLUGINS: Final = "decodekit.plugins"
TASKS: Final = "decodekit.tasks"  # what strategies are compared on: declared and found like plugins
SCORES: Final = "decodekit.scores"  # uncertainty scores: functions of a trace, likewise
DEFAULTS: Final = "decodekit.defaults"
VARIABLE: Final = "DECODEKIT_PLUGINS"
REPEAT: Final = "a new entry point is seen only after `pip install -e .` has been repeated"


class Plugin(Protocol):
    """A class decorated with :func:`plugin`: frozen options, and `bind`, which prepares an answer for one run."""

    about: ClassVar[PluginInfo]

    def bind(self, run: BindContext) -> object:
        """The object that answers all of the plugin's roles in this run. Called once per run."""


class Origin(NamedTuple):
    """Where a plugin comes from."""

    distribution: str
    version: str


@dataclass(frozen=True)
class _Entry:
    """One line of one distribution's entry-point table."""

    point: importlib.metadata.EntryPoint
    origin: Origin

    def __str__(self) -> str:
        return f"{self.origin.distribution} {self.origin.version} ({self.point.value})"


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _allowed() -> frozenset[str]:
    """Normalised names of the distributions that DECODEKIT_PLUGINS allows; empty for all."""
    listed = frozenset(_normal(name) for name in os.environ.get(VARIABLE, "").split(",") if name.strip())
    return listed | {"decodekit"} if listed else listed


@functools.cache
def _scan(group: str, allowed: frozenset[str]) -> dict[str, tuple[_Entry, ...]]:
    """All declarations by name, sorted. Reads metadata files, imports nothing."""
    found: dict[str, dict[tuple[str, str], _Entry]] = {}
    for point in importlib.metadata.entry_points(group=group):
        dist = point.dist
        origin = Origin((dist and dist.name) or "an unnamed distribution", (dist and dist.version) or "")
        if not allowed or _normal(origin.distribution) in allowed:
            found.setdefault(point.name, {})[_normal(origin.distribution), point.value] = _Entry(point, origin)
    return {name: tuple(found[name].values()) for name in sorted(found)}


@functools.cache
def _import(entry: _Entry) -> Any:
    return entry.point.load()


def refresh() -> None:
    """Forget what was read and imported: after an installation in a running process, and for tests."""
    _scan.cache_clear()
    _import.cache_clear()


def names(group: str = PLUGINS) -> tuple[str, ...]:
    """All registered names, sorted, whether or not they can be imported."""
    return tuple(_scan(group, _allowed()))


def load(name: str, group: str = PLUGINS) -> type[Any]:
    """The plugin class called `name` in `group`; its module is imported at the first call.

    Raises:
        UnknownPlugin: nothing has this name; the message offers near ones.
        BrokenPlugin: it cannot be imported, is no plugin, or two distributions claim the name.
    """
    word = word_of(group)
    entry = _single(word, name, _scan(group, _allowed()).get(name) or _unknown(name, group))
    if not name.isidentifier() or iskeyword(name):
        raise BrokenPlugin(f"{word} {name!r} of {entry} cannot be written in a strategy; its author must rename it")
    found = _resolve(word, name, entry)
    about = info_of(found)
    if about is None or not isinstance(found, type):
        raise BrokenPlugin(
            f"{word} {name!r} of {entry} is not a class decorated with @decodekit.registry.declaration.plugin; "
            "correct its entry point"
        )
    alias = any(other.point.value == entry.point.value for other in _scan(group, _allowed()).get(about.name, ()))
    if about.name != name and not alias:  # exported under another path than it is defined at
        cast(Any, found).about = replace(about, name=name)
    return found


def word_of(group: str) -> str:
    """What messages call a member of `group`."""
    return {TASKS: TASK, SCORES: SCORE}.get(group, "plugin")


def origin(name: str) -> Origin:
    """(distribution, version) that declares the plugin `name`. Raises what :func:`load` raises, imports nothing."""
    return _single("plugin", name, _scan(PLUGINS, _allowed()).get(name) or _unknown(name, PLUGINS)).origin


def broken() -> dict[str, str]:
    """Name -> sentence for every plugin that cannot be used. Imports all of them."""
    found = {}
    for name in names():
        try:
            load(name)
        except BrokenPlugin as error:
            found[name] = str(error)
    return found


def default(key: str) -> Any:
    """Who answers a question that the user left open: the object under `key` in the group `decodekit.defaults`.

    Raises:
        BrokenPlugin: nothing or more than one object is declared for it, or it cannot be imported.
    """
    entries = _scan(DEFAULTS, _allowed()).get(key)
    if not entries:
        raise BrokenPlugin(f"no default is declared for {key!r} in the entry points of decodekit; {REPEAT}")
    return _resolve("default", key, _single("default", key, entries))


def _single(kind: str, name: str, entries: tuple[_Entry, ...]) -> _Entry:
    if len(entries) > 1:
        raise BrokenPlugin(
            f"{kind} {name!r} is declared twice: by {' and by '.join(map(str, entries))}; "
            f"uninstall one of them, or switch one off by {VARIABLE}"
        )
    return entries[0]


def _resolve(kind: str, name: str, entry: _Entry) -> Any:
    try:
        return _import(entry)
    except Exception as error:  # whatever a foreign module raises while it is imported
        said = " ".join(str(error).split()) or "no message"
        raise BrokenPlugin(
            f"{kind} {name!r} of {entry} cannot be imported: {type(error).__name__}: {said}; "
            f"repair or uninstall {entry.origin.distribution}"
        ) from error


def _unknown(name: str, group: str) -> tuple[_Entry, ...]:
    hidden = _scan(group, frozenset()).get(name)
    word = word_of(group)
    if hidden:
        raise UnknownPlugin(
            f"{word} {name!r} of {hidden[0].origin.distribution} is switched off by {VARIABLE}="
            f"{os.environ.get(VARIABLE)!r}; add its distribution there"
        )
    known = names(group)
    near = difflib.get_close_matches(_snake(name), known, n=3, cutoff=0.6)
    way = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(known) or 'none'}"
    raise UnknownPlugin(f"no {word} is called {name!r}; {way} ({REPEAT})")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()


def declared_as(cls: type) -> str:
    """The name under which metadata declares `cls`, or else its own name in snake case."""
    path, own = f"{cls.__module__}:{cls.__qualname__}", _snake(cls.__name__)
    every = [found for group in (PLUGINS, TASKS, SCORES) for found in _scan(group, _allowed()).items()]
    declared = [name for name, all_ in every for e in all_ if e.point.value == path]
    return own if own in declared or not declared else declared[0]
