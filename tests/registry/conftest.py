"""Distributions that exist for one test only: metadata and modules in a temporary folder on `sys.path`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from decodekit.registry import discovery

Install = Callable[..., None]

ACME = '''
from __future__ import annotations
from typing import Annotated, Any, Literal
from pydantic import Field
from decodekit import plugin


class Bound:
    width = 2
    reason = "enough"
    def __init__(self, part, run): self.part, self.run = part, run; LOG.append(part.about.name)
    def start(self, rows): ...
    def propose(self, rows): ...
    def read(self, rows, at, only=None): ...
    def warp(self, rows, ask, logits): ...
    def mask(self, rows, at): ...
    def admits(self, rows, at, tokens): ...
    def complete(self, rows): ...
    def forced(self, rows): ...
    def select(self, rows, ask, logits, constraint): ...
    def survivors(self, rows): ...
    def leaving(self, rows): ...
    def ended(self, rows, before): ...
    def round(self, what): ...
    def moved(self, rows, index): ...


class Part:
    def bind(self, run): return Bound(self, run)


LOG = []


@plugin(role="warper", paper="Book of Heat, section 3")
class Heat(Part):
    """Make it warm.

    And more about it.
    """
    value: Annotated[float, Field(ge=0, lt=100)] = 1.0
    mode: Literal["slow", "fast"] = "slow"


@plugin(role="warper")
class Cut(Part):
    """Cut."""
    words: tuple[str, ...] = ()
    at: int | float | None = None
    deep: dict[str, list[int]] = Field(default_factory=dict, description="how deep")


@plugin(role="warper")
class Anything(Part):
    """Holds anything."""
    thing: Any = None


@plugin(role="constraint", provides=("mask", "admits"))
class Only(Part):
    """Only these."""
    letters: str


@plugin(role="constraint", provides="mask")
class Never(Part):
    """Never that."""
    letter: str = "x"


@plugin(role="selector", exactness="weighted", requires="constraint", conflicts_with="logq")
class Pick(Part):
    """Pick one."""
    tries: Annotated[int, Field(ge=1)] = 64


@plugin(role="selector")
class Plain(Part):
    """The plain way."""


@plugin(role="selector", requires=("logq", "admits"))
class Judge(Part):
    """Judges guesses."""


@plugin(role="proposer", provides=("logq",), requires="causal_lm")
class Draft(Part):
    """Guesses."""
    model: Any
    k: int = 4


@plugin(role=("proposer", "selector"), exactness="approximate", requires="masked_lm", conflicts_with="constraint")
class Canvas(Part):
    """Both at once."""


@plugin(role="population", conflicts_with=("heat", "stop"))
class Crowd(Part):
    """Many."""
    size: int = 8


@plugin(role="stop", requires="hidden")
class Enough(Part):
    """Stops."""


@plugin(role="observer", requires="uncertainty")
class Watch(Part):
    """Watches."""
'''
WORDS = ("heat", "cut", "anything", "only", "never", "pick", "plain", "judge", "draft", "canvas", "crowd", "enough")
PLUGINS = {name: f"acme_plugins:{name.title()}" for name in (*WORDS, "watch")}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(name, version, plugins={...}, defaults={...}, modules={...})`, as pip would, until the test ends."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def put(
        name: str,
        version: str = "1.0",
        plugins: Mapping[str, str] = {},
        defaults: Mapping[str, str] = {},
        modules: Mapping[str, str] = {},
    ) -> None:
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        table = ["[decodekit.plugins]", *(f"{key} = {value}" for key, value in plugins.items())]
        table += ["[decodekit.defaults]", *(f"{key} = {value}" for key, value in defaults.items())]
        (info / "entry_points.txt").write_text("\n".join(table), encoding="utf-8")
        for module, source in modules.items():
            (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        discovery.refresh()

    yield put
    for module in set(sys.modules) - before:
        if Path(getattr(sys.modules[module], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[module]
    monkeypatch.undo()
    importlib.invalidate_caches()
    discovery.refresh()


@pytest.fixture
def acme(install: Install, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A third party's distribution with a plugin for every role, and nothing of decodekit beside it."""
    install("acme", "2.1", plugins=PLUGINS, modules={"acme_plugins": ACME})
    real = discovery._scan

    def only_acme(group: str, allowed: frozenset[str]) -> Any:
        found = real(group, allowed)
        if group != discovery.PLUGINS:
            return found
        return {name: entries for name, entries in found.items() if entries[0].origin.distribution == "acme"}

    only_acme.cache_clear = real.cache_clear  # type: ignore[attr-defined]
    monkeypatch.setattr(discovery, "_scan", only_acme)
    return importlib.import_module("acme_plugins")
