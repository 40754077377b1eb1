"""Spec strings: read, never run; the canonical form gives the strategy back; every refusal names its place."""
# ruff: noqa: E501  # one refusal a line reads better than one that is folded

from __future__ import annotations

import math
import os
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from decodekit.errors import DecodekitError, OptionError, SpecError, UnknownPlugin
from decodekit.registry import declaration, discovery
from decodekit.registry.metadata import fields_of
from decodekit.registry.spec import LONGEST, Strategy, parse

WAY = "write plugins joined by |, such as 'sample | top_k(50)'"
VALUES = "an option is a text in quotes, a number, True, False, None, a list, a dict or a plugin"
HINT = "(a new entry point is seen only after `pip install -e .` has been repeated)"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("heat", "heat"),
        ("heat()", "heat"),
        ("  heat ( 1.0 ) ", "heat"),
        ("heat(2)", "heat(value=2.0)"),
        ("heat(1, 'fast')", "heat(mode='fast')"),
        ("heat(mode='fast', value=.5)", "heat(value=0.5, mode='fast')"),
        ("heat(value=1e1)", "heat(value=10.0)"),
        ("pick | heat | draft(None)", "draft(model=None) | heat | pick"),
        ("heat(3) | cut | heat(2)", "heat(value=3.0) | cut | heat(value=2.0)"),
        ("(heat | cut) | (pick)", "heat | cut | pick"),
        ("heat # warm it", "heat"),
        ("heat\n  | cut(words=[\n'a'])\n", "heat | cut(words=('a',))"),
        ("cut(['a', 'b'])", "cut(words=('a', 'b'))"),
        ("cut(at=-1)", "cut(at=-1)"),
        ("cut(at=+1.5)", "cut(at=1.5)"),
        ("cut(at=inf)", "cut(at=inf)"),
        ("cut(at=-1e999)", "cut(at=-inf)"),
        ("cut(deep={'a': [1, 2]})", "cut(deep={'a': [1, 2]})"),
        ("cut(deep={})", "cut"),
        ("anything(heat)", "anything(thing=heat)"),
        ("anything(heat())", "anything(thing=heat)"),
        ("anything([heat(2), pick])", "anything(thing=[heat(value=2.0), pick])"),
        ("anything({-1: (), (1,): 'x'})", "anything(thing={-1: (), (1,): 'x'})"),
        ("anything(())", "anything(thing=())"),
        ("anything(False)", "anything(thing=False)"),
        ("anything(-0.0)", "anything(thing=-0.0)"),
        (r"only('\d+')", r"only(letters='\\d+')"),
        ('only("it\'s")', 'only(letters="it\'s")'),
        ("only('a' 'b')", "only(letters='ab')"),
        ("only('é\\n')", "only(letters='é\\n')"),
    ],
)
def test_canonical_form(acme: Any, text: str, canonical: str) -> None:
    read = parse(text)
    assert str(read) == canonical
    assert parse(canonical) == read
    assert read.readable


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", SpecError, f"the strategy is empty; {WAY}"),
        (" \n", SpecError, f"the strategy is empty; {WAY}"),
        ("x" * (LONGEST + 1), SpecError, f"a strategy may have {LONGEST} characters, and this one has {LONGEST + 1}; build it in Python"),
        ("haet", UnknownPlugin, f"column 1 of the strategy: no plugin is called 'haet'; did you mean 'heat'? {HINT}"),
        ("  heat | haet", UnknownPlugin, f"column 10 of the strategy: no plugin is called 'haet'; did you mean 'heat'? {HINT}"),
        ("only('é€😀') | haet", UnknownPlugin, f"column 15 of the strategy: no plugin is called 'haet'; did you mean 'heat'? {HINT}"),
        ("heat\n | haet", UnknownPlugin, f"line 2, column 4 of the strategy: no plugin is called 'haet'; did you mean 'heat'? {HINT}"),
        ("heat\n | cut | pick(0)", OptionError, "line 2, column 10 of the strategy: pick(tries=0): should be greater than or equal to 1; the option is tries: int >= 1 = 64"),
        ("heat(vale=1)", OptionError, "column 1 of the strategy: heat has no option 'vale'; did you mean 'value'? (options are value: float >= 0, < 100 = 1.0; mode: 'slow' | 'fast' = 'slow')"),
        ("cut | anything(pick('x'))", OptionError, "column 16 of the strategy: pick(tries='x'): should be a valid integer; the option is tries: int >= 1 = 64"),
        ("heat(value=2, value=3)", SpecError, "column 15 of the strategy: heat is given 'value' twice; drop one"),
        ("heat(**{'value': 2})", SpecError, "column 8 of the strategy: ** is not read; write the options of heat one by one"),
        ("heat(*[1])", SpecError, f"column 6 of the strategy: *[1] is not read; {VALUES}"),
        ("heat, pick", SpecError, f"column 1 of the strategy: heat, pick is not a plugin; {WAY}"),
        ("heat + pick", SpecError, f"column 1 of the strategy: heat + pick is not a plugin; {WAY}"),
        ("heat || pick", SpecError, "column 7 of the strategy: a plugin is missing between two |, or one | is too many"),
        ("heat |", SpecError, "the strategy begins or ends with |; drop it, or write the plugin that is missing"),
        ("| heat", SpecError, "the strategy begins or ends with |; drop it, or write the plugin that is missing"),
        ("he-at(3)", SpecError, "column 1 of the strategy: he-at(3) is not a plugin; a name has no hyphen: write _ for it"),
        ("'heat'", SpecError, "column 1 of the strategy: 'heat' is not a plugin; write the plugin's name without quotes"),
        ("dk.heat(3)", SpecError, "column 1 of the strategy: dk.heat is not a plugin; a name has no dot: write heat"),
        ("dk.heat", SpecError, "column 1 of the strategy: dk.heat is not a plugin; a name has no dot: write heat"),
        ("heat()()", SpecError, "column 1 of the strategy: heat() is not a plugin; call a plugin by its name"),
        ("heat = 3", SpecError, "column 6 of the strategy: options stand in brackets after the plugin's name, such as temperature(0.8)"),
        ("draft(model=zoo:draft)", SpecError, "column 16 of the strategy: a text stands in quotes, such as draft='zoo:draft'"),
        ("draft(model=zoo)", SpecError, "column 13 of the strategy: 'zoo' is neither a plugin nor a value; a text stands in quotes: 'zoo'"),
        ("draft(model=haet)", SpecError, "column 13 of the strategy: 'haet' is neither a plugin nor a value; did you mean 'heat'?"),
        ("draft(model=true)", SpecError, "column 13 of the strategy: true is not read; write True"),
        ("draft(model=<GPT2>, k=2)", SpecError, "<GPT2> stands for an object that cannot be written in a strategy; pass it from Python"),
        ("anything(1 + 2)", SpecError, f"column 10 of the strategy: 1 + 2 is not read; {VALUES}"),
        ("anything(--1)", SpecError, f"column 10 of the strategy: --1 is not read; {VALUES}"),
        ("anything(-True)", SpecError, f"column 10 of the strategy: -True is not read; {VALUES}"),
        ("anything(heat | pick)", SpecError, f"column 10 of the strategy: heat | pick is not read; {VALUES}"),
        ("anything(f'{heat}')", SpecError, f"column 10 of the strategy: f'{{heat}}' is not read; {VALUES}"),
        ("anything(b'x')", SpecError, f"column 10 of the strategy: b'x' is not read; {VALUES}"),
        ("anything(...)", SpecError, f"column 10 of the strategy: ... is not read; {VALUES}"),
        ("anything(lambda: 'a very long thing that goes on and on')", SpecError, f"column 10 of the strategy: lambda: 'a very long thing that goes ... is not read; {VALUES}"),
        ("anything(a.b)", SpecError, f"column 10 of the strategy: a.b is not read; {VALUES}"),
        ("anything(open('x').read())", SpecError, "column 10 of the strategy: open('x').read is not a plugin; call a plugin by its name"),
        ("anything({[]: 1})", SpecError, "column 11 of the strategy: a key of a dict is a text, a number or a tuple of these"),
        ("anything({**heat})", SpecError, "column 13 of the strategy: a key of a dict is a text, a number or a tuple of these"),
        ("heat(", SpecError, f"column 5 of the strategy: cannot be read: '(' was never closed; {WAY}"),
        ("heat)", SpecError, f"column 5 of the strategy: cannot be read: unmatched ')'; {WAY}"),
        ("heat pick", SpecError, f"column 6 of the strategy: cannot be read: invalid syntax; {WAY}"),
        ("only('\ud800')", SpecError, "the strategy cannot be read: 'utf-8' codec can't encode character '\\ud800' in position 6: surrogates not allowed"),
        ("anything(" + "-" * 3000 + "1)", SpecError, "the strategy is nested too deeply; build it in Python"),
        ("3", SpecError, f"column 1 of the strategy: 3 is not a plugin; {WAY}"),
    ],
)  # fmt: skip
def test_refusals(acme: Any, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as found:
        parse(text)
    assert type(found.value) is error
    assert str(found.value) == message


@pytest.mark.parametrize(
    "text", ["(" * 3000, "heat(\0)", "heat(" + "9" * 5000 + ")", "[" * 150 + "]" * 150, "\x0c", "heat\\"]
)
def test_hostile_text(acme: Any, text: str) -> None:
    with pytest.raises(SpecError, match=r"(column|the strategy)"):
        parse(text)


@pytest.mark.parametrize("text", ["{}", "heat({})", "anything([{}])", "{} | heat", "anything({{'a': {}}})"])
def test_nothing_is_run(acme: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    called: list[str] = []
    monkeypatch.setattr(os, "system", called.append)
    with pytest.raises(DecodekitError):
        parse(text.format("__import__('os').system('echo')"))
    assert not called


@given(
    st.text(alphabet=st.sampled_from("heatpick |()=,'\"[]{}:.-0123456789\\\n<>*é\0"), max_size=60)
    | st.text(max_size=60)
)
@settings(max_examples=300)
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    refused = ""
    try:
        read = parse(text)
    except DecodekitError as error:
        refused = str(error)
        assert refused.strip()  # whether it is refused is not known beforehand
    assert refused or parse(str(read)) == read
    assert "\n" not in refused


# --- the round trip over all registered plugins ----------------------------------------------------------------------

LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=5,
)


TEXTS = ("[ab]+", "CREATE TABLE t (a TEXT)", 'it\'s "quoted"\\', "zoo:draft", "")
"""Texts that some plugin asks for, so that examples of it are found."""


def values(annotation: Any, low: float | None = None, high: float | None = None) -> st.SearchStrategy[Any]:
    """Values of an annotation; not all of them need satisfy the plugin."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values(args[0], *bounds(args[1:]))
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, UnionType):
        return st.one_of(*map(values, args))
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        least = None if low is None else math.ceil(low)
        return st.integers(least, None if high is None else math.floor(high))
    if annotation is float:
        return st.floats(low, high, allow_nan=False, allow_infinity=low is None and high is None)
    if annotation is str:
        return st.text() | st.sampled_from(TEXTS)
    if annotation in (None, NoneType):
        return st.none()
    if origin is tuple and args[1:] == (Ellipsis,):
        return st.lists(values(args[0])).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, args))
    if origin is list:
        return st.lists(values(args[0]))
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]))
    return LITERALS


def bounds(metadata: Any) -> tuple[float | None, float | None]:
    def found(*keys: str) -> float | None:
        marks = [mark for outer in metadata for mark in (outer, *getattr(outer, "metadata", ()))]
        return next((float(getattr(m, key)) for m in marks for key in keys if getattr(m, key, None) is not None), None)

    return found("ge", "gt"), found("le", "lt")


def plugins(draw: Callable[[Any], Any], name: str) -> Any:
    """An instance with some options drawn, or a rejected example."""
    cls = discovery.load(name)
    options = {}
    for key, info in fields_of(cls).items():
        if info.is_required() or draw(st.booleans()):
            kind = guessers() if key == "proposers" else values(info.annotation, *bounds(info.metadata))
            options[key] = draw(kind)
    try:
        return cls(**options)
    except (DecodekitError, ValueError):
        reject()


def guessers() -> Any:
    """What joins proposers takes proposers only."""
    some = [
        discovery.load("ngram")(k=3),
        discovery.load("suffix")(sure=0.5),
        discovery.load("speculative")("zoo:draft"),
    ]
    return st.lists(st.sampled_from(some), min_size=2, max_size=3).map(tuple)


DRAWN_BY_NOBODY = ("predicate", "processor", "cfg")
"""They take a function, or a text that is not just any text."""


def check_round_trip(parts: list[Any]) -> None:
    made = Strategy.of(parts)
    assert parse(str(made)) == made
    assert str(parse(str(made))) == str(made)
    assert made.readable


@given(st.data())
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", [name for name in discovery.names() if name not in DRAWN_BY_NOBODY])
def test_round_trip_of_every_plugin(name: str, data: st.DataObject) -> None:
    check_round_trip([plugins(data.draw, name)])


@given(st.data())
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
def test_round_trip_of_strategies(acme: Any, data: st.DataObject) -> None:
    known = discovery.names()
    parts = [plugins(data.draw, name) for name in data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=4))]
    if data.draw(st.booleans()):
        parts.append(acme.Anything([parts[0], {"a": parts[-1]}]))
    check_round_trip(parts)


# --- strategies in Python ---------------------------------------------------------------------------------------------


def test_joining(acme: Any) -> None:
    heat, cut, pick = acme.Heat(2), acme.Cut(), acme.Pick()
    assert (heat | cut | pick).parts == (heat, cut, pick)
    assert (pick | heat) == (heat | pick) == (heat | "pick") == ("heat(2)" | pick) == [heat] | Strategy.of(pick)
    assert (heat | cut) != (cut | heat)  # the order of warpers has a meaning
    assert (heat | acme.Pick) == (heat | pick)
    assert list(heat | pick) == [heat, pick]
    assert len(heat | pick) == 2
    with pytest.raises(SpecError) as found:
        heat | 3
    assert str(found.value) == (
        "a strategy is a string such as 'sample | top_k(50)', a plugin, or a list of these, not 3"
    )


def test_strategy_of(acme: Any) -> None:
    assert Strategy.of(None) == Strategy() == Strategy.of([])
    assert str(Strategy()) == ""
    both = Strategy.of("heat | pick")
    assert Strategy.of(both) is both
    assert Strategy.of(["pick", acme.Heat(), None]) == both
    assert Strategy.of((both, "cut")) == Strategy.of("heat | cut | pick")
    for wrong in ({"heat": 1}, 3, object, b"heat"):
        with pytest.raises(SpecError, match="a strategy is a string such as"):
            Strategy.of(wrong)


def test_what_is_given_is_what_is_shown(acme: Any) -> None:
    class Net:
        pass

    made = acme.Draft(Net(), k=2) | acme.Anything([Net, np.zeros(2), len])
    assert str(made) == "draft(model=<Net>, k=2) | anything(thing=[<Net>, <ndarray>, <builtin_function_or_method>])"
    assert not made.readable
    assert not (acme.Anything(math.nan) | "pick").readable
    assert str(acme.Heat(np.float64(0.5)) | "pick") == "heat(value=0.5) | pick"


def test_a_class_without_a_name_is_not_readable(acme: Any) -> None:
    @declaration.plugin(role="warper")
    class Heat:  # the same word, another class
        def bind(self, run: object) -> object:
            return self

    assert str(Strategy.of(Heat())) == "heat"
    assert not Strategy.of(Heat()).readable


def test_roles_that_stand_several_times_keep_their_order() -> None:
    @declaration.plugin(role=("proposer", "warper"))
    class Both:
        def bind(self, run: object) -> object:
            return self

    @declaration.plugin(role="warper")
    class First:
        def bind(self, run: object) -> object:
            return self

    assert str(First() | Both()) == "first | both"  # type: ignore[operator]
    assert str(Both() | First()) == "both | first"  # type: ignore[operator]
