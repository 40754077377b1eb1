"""Who may stand beside whom, decided before any model runs, and the binding of what may."""
# ruff: noqa: E501  # one refusal a line reads better than one that is folded

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from decodekit.core.bound import BindContext
from decodekit.core.defaults import Alone, Next
from decodekit.core.intersection import Product
from decodekit.errors import BrokenPlugin, CompositionError, ConstraintError, DecodekitError, SpecError
from decodekit.registry import declaration, discovery, metadata
from decodekit.registry.compose import bind, compose
from decodekit.registry.metadata import options_of
from decodekit.registry.spec import Strategy
from decodekit.testing.tables import TableModel

CAUSAL, MASKED = frozenset({"causal_lm"}), frozenset({"masked_lm"})


@pytest.fixture
def house(acme: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The plugins of acme, which also answer for the defaults."""
    defaults = {"selector.causal_lm": acme.Plain, "selector.masked_lm": acme.Canvas}
    monkeypatch.setattr(discovery, "default", defaults.__getitem__)
    acme.LOG.clear()
    yield acme
    acme.LOG.clear()


def names(parts: Any) -> list[str]:
    return [metadata.name_of(part) for part in parts]


@pytest.mark.parametrize(
    ("spec", "have", "whole", "exactness"),
    [
        (None, CAUSAL, "plain", "exact"),
        ("heat(2)", CAUSAL, "heat(value=2.0) | plain", "exact"),
        ("only('a')", CAUSAL, "only(letters='a') | plain", "exact"),
        ("only('a') | plain", CAUSAL, "only(letters='a') | plain", "exact"),
        (None, MASKED, "canvas", "approximate"),
        (None, CAUSAL | MASKED, "plain", "exact"),
        ("draft('m')", CAUSAL, "draft(model='m') | plain", "exact"),
        ("draft('m') | judge | only('a')", CAUSAL, "draft(model='m') | only(letters='a') | judge", "exact"),
        ("crowd | pick | only('a') | never", CAUSAL, "only(letters='a') | never | pick | crowd", "weighted"),
        ("enough", CAUSAL | {"hidden"}, "plain | enough", "exact"),
    ],
)
def test_what_composes(house: Any, spec: Any, have: frozenset[str], whole: str, exactness: str) -> None:
    made = compose(spec, have)
    assert str(made) == whole
    assert made.exactness == exactness
    assert made.strategy == Strategy.of(whole)


def test_what_there_is(house: Any) -> None:
    made = compose("draft('m') | judge | only('a')", CAUSAL)
    assert made.provides == {"causal_lm", "logq", "constraint", "mask", "admits"}
    assert made.requires == {"causal_lm", "logq", "admits"}
    assert names(made.of("proposer")) == ["draft"]
    assert made.of("population") == (Alone(),)
    assert compose(None, CAUSAL).of("proposer") == (Next(),)
    assert made.of("warper") == ()


def test_constraints_given_as_objects(house: Any) -> None:
    class Mine:
        def bind(self, run: object) -> object:
            return self

    made = compose("heat", CAUSAL, [house.Only("a"), Mine()])
    assert names(made.strategy) == ["heat", "plain"]  # the task's constraint is no part of the strategy
    assert names(made.of("constraint")) == ["only", "Mine"]
    assert names(made.parts) == ["heat", "plain", "only", "Mine"]
    with pytest.raises(CompositionError) as refused:
        compose(None, CAUSAL, [house.Heat()])
    assert str(refused.value) == "heat is a warper, not a constraint; give it in the strategy"
    for wrong in (Mine, 3, None):
        with pytest.raises(ConstraintError, match=r"is not a constraint: it needs a method bind\(run\)"):
            compose(None, CAUSAL, [wrong])


@pytest.mark.parametrize(
    ("spec", "have", "message"),
    [
        ("pick | plain | only('a')", CAUSAL, "pick and plain are both a selector, and a strategy has one: drop either"),
        ("crowd | crowd(2)", CAUSAL, "crowd stands twice, and a strategy has one population: drop either"),
        ("draft('m') | canvas", MASKED, "draft and canvas are both a proposer, and a strategy has one: drop either"),
        ("draft('m')", MASKED, "draft and canvas (the default selector here) are both a proposer, and a strategy has one: name a selector that goes with draft, or drop draft"),
        ("canvas", CAUSAL, "canvas needs a masked language model, which this one is not: use another model, or drop canvas"),
        ("enough", CAUSAL, "enough needs hidden states, which this model does not give: use another model, or drop enough"),
        ("pick", CAUSAL, "pick needs a constraint: give one as constraint=, or add never or only, or drop pick"),
        ("judge | only('a')", CAUSAL, "judge needs logq, which neither the model nor another part gives: add draft, or drop judge"),
        ("judge | draft('m')", CAUSAL, "judge needs admits, which neither the model nor another part gives: add only, or drop judge"),
        ("judge | draft('m') | only('a') | never", CAUSAL, "judge needs admits, which neither the model nor another part gives: add only, or drop judge"),
        ("watch", CAUSAL, "watch needs uncertainty, which neither the model nor any registered plugin gives: install one that does, or drop watch"),
        ("canvas | only('a')", MASKED, "canvas refuses any constraint, and only is one: drop either"),
        ("only('a')", MASKED, "canvas (the default selector here) refuses any constraint, and only is one: name another selector"),
        ("draft('m') | only('a') | pick", CAUSAL, "pick refuses logq, which draft gives: drop either"),
        ("pick | only('a')", CAUSAL | {"logq"}, "pick refuses logq, which the model gives: drop pick or use another model"),
        ("crowd | heat", CAUSAL, "crowd refuses heat: drop either"),
        ("crowd | enough", CAUSAL | {"hidden"}, "crowd refuses any stop, and enough is one: drop either"),
        ("plain", MASKED, "plain without a proposer decides the next position, and this model is not causal: use a causal language model, or canvas"),
        ("heat", frozenset(), "no selector is named, and the model is neither causal_lm nor masked_lm; name a selector"),
    ],
)  # fmt: skip
def test_what_does_not(house: Any, spec: str, have: frozenset[str], message: str) -> None:
    with pytest.raises(CompositionError) as refused:
        compose(spec, have)
    assert type(refused.value) is CompositionError
    assert str(refused.value) == message
    assert not house.LOG, "nothing may be bound before the composition is found to work"


def test_constraints_of_both_ways_count(house: Any) -> None:
    with pytest.raises(CompositionError, match=r"canvas refuses any constraint, and only is one: drop either"):
        compose("canvas", MASKED, [house.Only("a")])


def test_a_bad_spec_is_refused_as_such(house: Any) -> None:
    with pytest.raises(SpecError, match="the strategy is empty"):
        compose("", CAUSAL)


def test_a_default_may_refuse_what_else_is_named(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @declaration.plugin(role="population", requires="weights")
    class Tally:
        def bind(self, run: object) -> object: ...

    @declaration.plugin(role="selector", provides="weights", conflicts_with="logq")
    class Weigh:
        def bind(self, run: object) -> object: ...

    monkeypatch.setattr(discovery, "default", {"selector.causal_lm.weights": Weigh}.__getitem__)
    assert names(compose([Tally(), "only('a')"], CAUSAL).strategy) == ["only", "weigh", "tally"]
    with pytest.raises(CompositionError) as refused:
        compose([Tally(), "draft('m') | only('a')"], CAUSAL)
    assert str(refused.value) == (
        "weigh (the default selector here) refuses logq, which draft gives: name another selector"
    )


def test_a_default_that_is_no_plugin(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "default", lambda key: len)
    with pytest.raises(BrokenPlugin) as refused:
        compose(None, CAUSAL)
    assert str(refused.value) == (
        "the default 'selector.causal_lm' is neither a plugin class nor a function that makes a plugin; "
        "correct the entry point of decodekit.defaults"
    )


def made(name: str) -> Any:
    """A plugin with as few options as it takes; the values stand for any."""
    cls = discovery.load(name)
    if name == "sql":  # one of two options that are both optional
        return cls(schema="CREATE TABLE t (a TEXT)")
    if name == "cfg":  # a text, but not any text
        return cls(grammar='start: "a"')
    if name == "fast_slow":  # guidance alone can do without
        return cls(slow="a")
    if name == "lantern":
        return cls(neighbours=1, delta=0.1)
    if name == "abstain":  # one of two thresholds
        return cls("nll", above=1.0)
    if name == "template":
        return cls("a{x}", {"x": ["b", "c"]})
    if name in ("first_of", "longest_of"):
        return cls([discovery.load("ngram")(), discovery.load("suffix")()])
    if name == "guidance":
        return cls(scale=1.5, prompt="a")
    required = [option.name for option in options_of(cls) if option.default is None]
    for value in ("a", ("a", "b"), {"type": "integer"}, 1, str.isprintable, ({"type": "integer"},)):
        with contextlib.suppress(DecodekitError):
            return cls(**dict.fromkeys(required, value))
    pytest.fail(f"no value found for the options of {name}: add one here")


@pytest.mark.parametrize("have", [CAUSAL, MASKED], ids=lambda have: next(iter(have)))
def test_every_pair_composes_or_is_refused_by_name(have: frozenset[str]) -> None:
    parts = {name: made(name) for name in discovery.names()}
    for one, two in itertools.combinations_with_replacement(parts, 2):
        try:
            whole = compose([parts[one], parts[two]], have)
        except CompositionError as error:
            assert one in str(error) or two in str(error)  # noqa: PT017  # which pairs work is the plugins' to say
        else:
            assert {one, two} <= {part.about.name for part in whole.parts}
            assert len(whole.of("selector")) == len(whole.of("proposer")) == len(whole.of("population")) == 1


# --- binding ---------------------------------------------------------------------------------------------------------


def bound(spec: Any, have: frozenset[str] = CAUSAL, constraints: Any = (), **own: Any) -> tuple[Any, BindContext]:
    run = BindContext(model=TableModel(masked="masked_lm" in have), open=lambda thing: TableModel())
    return bind(compose(spec, have, constraints), run, **own), run


def test_the_order_of_binding(house: Any) -> None:
    kit, run = bound("draft('m') | judge | cut | only('a') | anything | only('b')")
    assert house.LOG == ["only", "only", "cut", "anything", "judge", "draft"]
    assert kit.constraint is run.constraint
    assert [warper.part for warper in kit.warpers] == [house.Cut(), house.Anything()]
    assert kit.population == Alone()
    assert (kit.selector.part, kit.proposer.part) == (house.Judge(), house.Draft("m"))
    assert run.kit is kit


def test_the_rest_of_the_order(house: Any) -> None:
    kit, _ = bound("enough | watch | cut | plain", CAUSAL | {"hidden", "uncertainty"}, stops=["s"], observers=["o"])
    assert house.LOG == ["cut", "plain", "enough", "watch"]
    assert kit.stops[0] == "s"  # the caller's own come first
    assert kit.stops[1].part == house.Enough()
    assert kit.observers[0] == "o"
    assert kit.observers[1].part == house.Watch()


def test_what_is_bound_before_can_be_used(house: Any) -> None:
    kit, run = bound("only('a')")
    assert run.constraint is kit.constraint
    assert kit.selector.run.constraint is kit.constraint
    assert not isinstance(kit.constraint, Product)


def test_several_constraints_become_a_product(house: Any) -> None:
    kit, _ = bound("only('a')", constraints=[house.Never()])
    assert isinstance(kit.constraint, Product)
    assert [part.part for part in kit.constraint.parts] == [house.Only("a"), house.Never()]  # type: ignore[attr-defined]


def test_one_object_may_answer_two_questions(house: Any) -> None:
    kit, _ = bound("canvas", MASKED)
    assert kit.proposer is kit.selector
    assert house.LOG == ["canvas"]


def test_an_instance_that_stands_twice_is_bound_twice(house: Any) -> None:
    heat = house.Heat(2)
    kit, _ = bound([heat, heat])
    assert kit.warpers[0] is not kit.warpers[1]


def test_an_answer_that_lacks_a_method_is_refused() -> None:
    @declaration.plugin(role="population")
    class Lonely:
        def bind(self, run: object) -> object:
            return object()

    with pytest.raises(BrokenPlugin) as refused:
        bound([Lonely(), "sample"])
    assert str(refused.value) == (
        "lonely.bind(run) gave object, which lacks leaving, survivors, width of a population "
        "(decodekit.core.protocols.Population); its author must add it"
    )
