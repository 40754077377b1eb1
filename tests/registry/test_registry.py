"""Discovery through entry points, and what the decorator makes of a class."""
# ruff: noqa: E501  # one refusal a line reads better than one that is folded

from __future__ import annotations

import dataclasses
import importlib
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from decodekit.errors import BrokenPlugin, ConstraintError, OptionError, UnknownPlugin
from decodekit.registry import declaration, discovery, metadata

Install = Callable[..., None]
ONE = '''
from decodekit import plugin
@plugin(role="warper")
class Warm:
    """Warm."""
    def bind(self, run): return self
'''


def said(error: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(error) as found:
        call()
    assert type(found.value) is error
    return str(found.value)


def test_the_table_of_the_project_is_what_is_installed() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = set(project["entry-points"]["decodekit.plugins"])
    installed = {name for name in discovery.names() if discovery.origin(name).distribution == "decodekit"}
    assert installed == declared, "repeat `pip install -e .`: entry points are read from the installed metadata"


def test_every_plugin_of_decodekit_can_be_used() -> None:
    assert not {why for name, why in discovery.broken().items() if discovery.origin(name).distribution == "decodekit"}


@pytest.mark.parametrize(
    "key", ["selector.causal_lm", "selector.causal_lm.randomness", "selector.causal_lm.weights", "selector.masked_lm"]
)
def test_defaults_are_selectors(key: str) -> None:
    about = metadata.info_of(discovery.default(key))
    assert about is not None
    assert "selector" in about.roles


def test_a_third_party_is_found_like_a_builtin(install: Install) -> None:
    install("my-warmth", "0.3", plugins={"warm": "warmth:Warm"}, modules={"warmth": ONE})
    assert "warm" in discovery.names()
    assert discovery.origin("warm") == ("my-warmth", "0.3")
    assert discovery.load("warm") is importlib.import_module("warmth").Warm
    assert metadata.name_of(discovery.load("warm")()) == "warm"


def test_reading_names_imports_nothing(install: Install) -> None:
    install("acme", plugins={"warm": "warmth:Warm"}, modules={"warmth": ONE})
    discovery.names(), discovery.origin("warm")
    assert "warmth" not in sys.modules
    discovery.load("warm")
    assert "warmth" in sys.modules


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise RuntimeError('two\\n lines')", "RuntimeError: two lines"),
        ("raise RuntimeError", "RuntimeError: no message"),
        ("Warm = ", "SyntaxError: invalid syntax (warmth.py, line 1)"),
        ("", "AttributeError: module 'warmth' has no attribute 'Warm'"),
    ],
)
def test_a_broken_plugin_is_named_and_hurts_nobody(install: Install, source: str, reason: str) -> None:
    install("cold", "1.5", plugins={"warm": "warmth:Warm"}, modules={"warmth": source})
    install("fine", plugins={"good": "good:Warm"}, modules={"good": ONE})
    assert discovery.load("good")
    message = said(BrokenPlugin, lambda: discovery.load("warm"))
    assert message == f"plugin 'warm' of cold 1.5 (warmth:Warm) cannot be imported: {reason}; repair or uninstall cold"
    assert discovery.broken()["warm"] == message
    assert "good" not in discovery.broken()


@pytest.mark.parametrize("source", ["def Warm(): ...", "class Warm: ...", "Warm = 3", ONE + "\nWarm = Warm()"])
def test_an_entry_point_must_be_a_plugin_class(install: Install, source: str) -> None:
    install("cold", plugins={"warm": "warmth:Warm"}, modules={"warmth": source})
    assert said(BrokenPlugin, lambda: discovery.load("warm")) == (
        "plugin 'warm' of cold 1.0 (warmth:Warm) is not a class decorated with @decodekit.registry.declaration.plugin; "
        "correct its entry point"
    )


@pytest.mark.parametrize("name", ["top-heat", "3d", "class"])
def test_a_name_must_be_a_word_of_a_spec(install: Install, name: str) -> None:
    install("cold", plugins={name: "warmth:Warm"}, modules={"warmth": ONE})
    assert said(BrokenPlugin, lambda: discovery.load(name)) == (
        f"plugin {name!r} of cold 1.0 (warmth:Warm) cannot be written in a strategy; its author must rename it"
    )


def test_one_name_in_two_distributions_is_refused(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("one", plugins={"warm": "first:Warm"}, modules={"first": ONE})
    install("two", "2.0", plugins={"warm": "second:Warm", "other": "second:Warm"}, modules={"second": ONE})
    expected = {"one 1.0 (first:Warm)", "two 2.0 (second:Warm)"}
    for call in (discovery.load, discovery.origin):
        message = said(BrokenPlugin, lambda call=call: call("warm"))  # type: ignore[misc]
        start, _, way_out = message.partition("; ")
        assert set(start.removeprefix("plugin 'warm' is declared twice: by ").split(" and by ")) == expected
        assert way_out == "uninstall one of them, or switch one off by DECODEKIT_PLUGINS"
    assert set(discovery.broken()) >= {"warm"}
    assert discovery.load("other")
    monkeypatch.setenv("DECODEKIT_PLUGINS", "two")
    assert discovery.origin("warm").distribution == "two"


def test_the_variable_restricts_to_distributions(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("One.Two_three", plugins={"warm": "first:Warm"}, modules={"first": ONE})
    install("four", plugins={"cold": "second:Warm"}, modules={"second": ONE})
    everything = set(discovery.names())
    monkeypatch.setenv("DECODEKIT_PLUGINS", " one-two-three ,")
    assert everything - set(discovery.names()) == {"cold"}  # decodekit itself stays
    assert said(UnknownPlugin, lambda: discovery.load("cold")) == (
        "plugin 'cold' of four is switched off by DECODEKIT_PLUGINS=' one-two-three ,'; add its distribution there"
    )
    monkeypatch.setenv("DECODEKIT_PLUGINS", " ")
    assert set(discovery.names()) == everything


def test_near_names(acme: Any) -> None:
    hint = "(a new entry point is seen only after `pip install -e .` has been repeated)"
    assert said(UnknownPlugin, lambda: discovery.load("haet")) == (
        f"no plugin is called 'haet'; did you mean 'heat'? {hint}"
    )
    assert said(UnknownPlugin, lambda: discovery.load("Heat")).startswith(
        "no plugin is called 'Heat'; did you mean 'heat"
    )
    assert said(UnknownPlugin, lambda: discovery.origin("zzz")) == (
        "no plugin is called 'zzz'; there are anything, canvas, crowd, cut, draft, enough, heat, judge, never, only, "
        f"pick, plain, watch {hint}"
    )


def test_defaults_of_third_parties(install: Install) -> None:
    install("one", defaults={"selector.fish": "first:Warm", "front": "first:front"}, modules={"first": "front = len"})
    assert discovery.default("front") is len
    assert "default 'selector.fish' of one 1.0 (first:Warm) cannot be imported" in said(
        BrokenPlugin, lambda: discovery.default("selector.fish")
    )
    install("two", defaults={"front": "second:front"})
    assert said(BrokenPlugin, lambda: discovery.default("front")).startswith("default 'front' is declared twice: by ")
    assert said(BrokenPlugin, lambda: discovery.default("nobody")).startswith("no default is declared for 'nobody' in ")


def test_the_name_is_that_of_the_entry_point(install: Install) -> None:
    package = "from warmth import Warm"
    modules = {"warmth": ONE, "package": package, "aliased": ONE}
    install("one", plugins={"heat_up": "package:Warm", "warm": "aliased:Warm", "hot": "aliased:Warm"}, modules=modules)
    assert metadata.name_of(importlib.import_module("warmth").Warm) == "warm"  # not known by another name yet
    assert metadata.name_of(discovery.load("heat_up")()) == "heat_up"
    for order in (("hot", "warm"), ("warm", "hot")):  # an alias does not rename
        assert [metadata.name_of(discovery.load(name)) for name in order] == ["warm", "warm"]


def test_a_class_that_is_not_registered_is_called_by_its_own_name() -> None:
    @declaration.plugin(role="stop")
    class StopHereNow:
        def bind(self, run: object) -> object:
            return self

    assert metadata.name_of(StopHereNow) == metadata.name_of(StopHereNow()) == "stop_here_now"
    assert metadata.name_of(3) == "int"


# --- the decorator --------------------------------------------------------------------------------------------------


def test_options_by_position_and_name(acme: Any) -> None:
    assert acme.Heat(2) == acme.Heat(value=2.0) == acme.Heat(2.0, "slow")
    assert type(acme.Heat(2).value) is float
    assert acme.Cut(["a", "b"]).words == ("a", "b")
    assert acme.Cut(deep={"a": [1]}).deep == {"a": [1]}  # no tuple where the type says list
    assert acme.Anything([1, [2]]).thing == [1, [2]]
    thing = object()
    assert acme.Draft(thing).model is thing
    assert acme.Anything(acme.Heat(3)).thing == acme.Heat(3)
    assert hash(acme.Heat(2)) == hash(acme.Heat(2))


def test_a_list_stays_one_where_the_option_takes_either() -> None:
    @declaration.plugin(role="stop")
    class Either:
        value: tuple[int, ...] | list[int] = ()

        def bind(self, run: object) -> object:
            return self

    assert Either([1, 2]).value == [1, 2]
    assert Either((1, 2)).value == (1, 2)


def test_plugins_are_frozen(acme: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        acme.Heat().value = 3.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: m.Heat("1"), "heat(value='1'): should be a valid number; the option is value: float >= 0, < 100 = 1.0"),
        (lambda m: m.Heat(True), "heat(value=True): should be a valid number; the option is value: float >= 0, < 100 = 1.0"),
        (lambda m: m.Heat(value=-1), "heat(value=-1): should be greater than or equal to 0; the option is value: float >= 0, < 100 = 1.0"),
        (lambda m: m.Heat(mode="x"), "heat(mode='x'): should be 'slow' or 'fast'; the option is mode: 'slow' | 'fast' = 'slow'"),
        (lambda m: m.Heat(vale=1), "heat has no option 'vale'; did you mean 'value'? (options are value: float >= 0, < 100 = 1.0; mode: 'slow' | 'fast' = 'slow')"),
        (lambda m: m.Pick(x=1), "pick has no option 'x' (options are tries: int >= 1 = 64)"),
        (lambda m: m.Plain(x=1), "plain has no option 'x' (it has no options)"),
        (lambda m: m.Plain(1), "plain takes no options without a name (it has no options)"),
        (lambda m: m.Pick(1, 2, 3), "pick takes at most 1 options without a name (options are tries: int >= 1 = 64)"),
        (lambda m: m.Pick(1, tries=2), "pick is given 'tries' twice, by position and by name; drop one (options are tries: int >= 1 = 64)"),
        (lambda m: m.Pick(2.0), "pick(tries=2.0): should be a valid integer; the option is tries: int >= 1 = 64"),
        (lambda m: m.Only(), "only needs its option 'letters' (options are letters: str)"),
        (lambda m: m.Cut(("a", 3)), "cut(words=('a', 3)): words[1] should be a valid string; the option is words: tuple of str = ()"),
        (lambda m: m.Cut(at="3"), "cut(at='3'): does not fit; the option is at: int | float | None = None"),
        (lambda m: m.Only(object()), "only(letters=<object>): should be a valid string; the option is letters: str"),
        (lambda m: m.Only(["x" * 99]), "only(letters=['xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...): should be a valid string; the option is letters: str"),
    ],
)  # fmt: skip
def test_wrong_options(acme: Any, make: Callable[[Any], object], message: str) -> None:
    assert said(OptionError, lambda: make(acme)) == message


def test_a_plugins_own_check() -> None:
    @declaration.plugin(role="stop")
    class Picky:
        value: int = 0

        def __post_init__(self) -> None:
            if self.value == 1:
                raise ValueError("1 is unlucky")
            if self.value == 2:
                raise ConstraintError("2 is no constraint")

        def bind(self, run: object) -> object:
            return self

    assert said(OptionError, lambda: Picky(1)) == "picky: 1 is unlucky (options are value: int = 0)"
    assert said(ConstraintError, lambda: Picky(value=2)) == "2 is no constraint"


class Bindable:
    def bind(self, run: object) -> object:
        return self


@pytest.mark.parametrize(
    ("declare", "base", "message"),
    [
        ({"role": "wraper"}, Bindable, "declares the role 'wraper'; roles are proposer, scorer, warper, constraint, selector, population, stop, observer, each once"),
        ({"role": ()}, Bindable, "declares the roles (); roles are proposer, "),
        ({"role": ("stop", "stop")}, Bindable, "declares the roles ('stop', 'stop'); roles are proposer, "),
        ({"role": "stop", "exactness": "all"}, Bindable, "declares exactness='all'; write one of exact, weighted, approximate"),
        ({"role": "stop"}, object, "has no method bind(self, run); define it"),
    ],
)  # fmt: skip
def test_wrong_declarations(declare: dict[str, Any], base: type, message: str) -> None:
    made = type("Sketch", (base,), {})
    assert said(BrokenPlugin, lambda: declaration.plugin(**declare)(made)).startswith(f"plugin class Sketch {message}")


def test_about_is_taken() -> None:
    made = type("Sketch", (Bindable,), {"__annotations__": {"about": str}, "about": "x"})
    assert said(BrokenPlugin, lambda: declaration.plugin(role="stop")(made)) == (
        "plugin class Sketch has an option `about`, which holds its record; rename it"
    )


def test_words_may_be_one_string(acme: Any) -> None:
    about = metadata.info_of(acme.Pick)
    assert about == metadata.PluginInfo("pick", ("selector",), "weighted", ("constraint",), (), ("logq",), "")
