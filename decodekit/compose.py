"""From a strategy to a kit: who answers which question, whether the parts can work together, and their binding.

:func:`compose` decides before any model runs and before one is needed; :func:`bind` prepares the parts for one run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from decodekit import registry, roles
from decodekit.about import ROLES, SEVERAL, About, Keeps, about_of
from decodekit.defaults import Alone, ModelScorer, Next
from decodekit.errors import BrokenPlugin, CompositionError, ConstraintError, UnknownPlugin
from decodekit.kit import Kit, Run
from decodekit.product import Product
from decodekit.registry import Plugin
from decodekit.roles import Constraint, Observer, Stop
from decodekit.spec import Strategy

CORE: Final[dict[str, Any]] = {"proposer": Next(), "scorer": ModelScorer(), "population": Alone()}
"""Who answers what no part answers. Selectors are plugins: see the entry-point group `decodekit.defaults`."""

_OF_MODELS: Final = {
    "causal_lm": "a causal language model, which this one is not",
    "masked_lm": "a masked language model, which this one is not",
    "hidden": "hidden states, which this model does not give",
    "codebook": "a codebook, which this model does not have",
    "embeddings": "token embeddings, which this model does not give",
}
_PROTOCOLS: Final = {role: getattr(roles, role.capitalize()) for role in ROLES}


@dataclass(frozen=True)
class Composition:
    """Parts that can work together.

    strategy: what the user asked for, with the selector that was filled in; its string is the key of reports.
    constraints: those that were given as objects, beside the strategy. have: capabilities of the model.
    keeps: the worst of what the parts keep. gives: all capabilities there are. needs: all that some part asks for.
    """

    strategy: Strategy
    constraints: tuple[Plugin, ...]
    have: frozenset[str]
    keeps: Keeps
    gives: frozenset[str]
    needs: frozenset[str]

    def __str__(self) -> str:
        return str(self.strategy)

    @property
    def parts(self) -> tuple[Plugin, ...]:
        """All plugins of the composition; core defaults (next position, one forward pass, alone) are not among them."""
        return (*self.strategy.parts, *self.constraints)

    def of(self, role: str) -> tuple[Any, ...]:
        """Who answers a question, in order; the core's default where no part does."""
        found = tuple(part for part in self.parts if role in _about(part).roles)
        return found if found or role not in CORE else (CORE[role],)


@dataclass(frozen=True)
class _Part:
    """A plugin among the others. by_default: it was filled in, so the user may not know of it."""

    about: About
    by_default: bool = False

    def __str__(self) -> str:
        return f"{self.about.name} (the default {self.about.roles[-1]} here)" if self.by_default else self.about.name

    @property
    def way_out(self) -> str:
        return f"name another {self.about.roles[-1]}" if self.by_default else f"drop {self.about.name}"


def compose(strategy: object, have: frozenset[str], constraints: Sequence[object] = ()) -> Composition:
    """Decide whether the parts of a strategy (whatever :meth:`Strategy.of` takes) can work together, and with a model.

    have: capabilities of the model (`model.gives`). constraints: plugins, or other objects with `bind(run)`, that are
    given beside the strategy. A missing selector is filled in: by the default for constrained causal models, else by
    the one for the kind of model.

    Raises:
        CompositionError: two parts for one role, a need that nothing meets, a part that refuses another or the model.
        ConstraintError: an object given as a constraint that is none.
        SpecError, UnknownPlugin, BrokenPlugin, OptionError: as :func:`decodekit.spec.parse`.
    """
    asked = Strategy.of(strategy)
    given = tuple(_constraint(thing) for thing in constraints)
    abouts = [_about(part) for part in (*asked.parts, *given)]
    parts = [_Part(about) for about in abouts]
    _refuse_doubles(parts)
    if not any("selector" in about.roles for about in abouts):
        selector = _default_selector(have, any("constraint" in about.roles for about in abouts))
        asked = asked | selector
        parts.append(_Part(_about(selector), by_default=True))
        _refuse_doubles(parts)
    _refuse_refused(parts, have)
    _refuse_unmet(parts, have)
    _refuse_sideways(parts, have)
    order = get_args(Keeps)
    return Composition(
        strategy=asked,
        constraints=given,
        have=have,
        keeps=max((part.about.keeps for part in parts), key=order.index),
        gives=have | _given(parts),
        needs=frozenset(need for part in parts for need in part.about.needs),
    )


def _constraint(thing: object) -> Plugin:
    if isinstance(thing, type) or not callable(getattr(thing, "bind", None)):
        name = thing.__name__ if isinstance(thing, type) else type(thing).__name__
        raise ConstraintError(f"{name} is not a constraint: it needs a method bind(run); make an instance of a plugin")
    if "constraint" not in _about(thing).roles:
        about = _about(thing)
        raise CompositionError(f"{about.name} is a {about.roles[0]}, not a constraint; give it in the strategy")
    return cast(Plugin, thing)


def _about(part: object) -> About:
    """The record of a part; an object that has none came in as a constraint."""
    return about_of(part) or About(type(part).__name__, ("constraint",), gives=("mask", "admits"))


def _default_selector(have: frozenset[str], constrained: bool) -> Plugin:
    kind = next((kind for kind in ("causal_lm", "masked_lm") if kind in have), None)
    if kind is None:
        raise CompositionError(
            "no selector is named, and the model is neither causal_lm nor masked_lm; name a selector"
        )
    key = "selector.constraint" if constrained and kind == "causal_lm" else f"selector.{kind}"
    found = registry.default(key)
    if about_of(found) is None:
        raise BrokenPlugin(f"the default {key!r} is not a plugin class; correct the entry point of decodekit.defaults")
    return cast(Plugin, found())


def _refuse_doubles(parts: Sequence[_Part]) -> None:
    for role in ROLES:
        both = [part for part in parts if role in part.about.roles]
        if role in SEVERAL or len(both) < 2:
            continue
        one, two = both[:2]
        if two.by_default:
            way = f"name a selector that goes with {one}, or drop {one}"
            raise CompositionError(f"{one} and {two} are both a {role}, and a strategy has one: {way}")
        if one.about.name == two.about.name:
            raise CompositionError(f"{one} stands twice, and a strategy has one {role}: drop either")
        raise CompositionError(f"{one} and {two} are both a {role}, and a strategy has one: drop either")


def _refuse_refused(parts: Sequence[_Part], have: frozenset[str]) -> None:
    for part in parts:
        for word in part.about.refuses:
            if word in have:
                raise CompositionError(
                    f"{part} refuses {word}, which the model gives: {part.way_out} or use another model"
                )
            for other in parts:
                if other is part:
                    continue
                ways = part.way_out if not other.by_default else other.way_out
                ways = "drop either" if not part.by_default and not other.by_default else ways
                if word == other.about.name:
                    raise CompositionError(f"{part} refuses {other}: {ways}")
                if word in other.about.roles:
                    raise CompositionError(f"{part} refuses any {word}, and {other} is one: {ways}")
                if word in other.about.gives:
                    raise CompositionError(f"{part} refuses {word}, which {other} gives: {ways}")


def _given(parts: Iterable[_Part]) -> frozenset[str]:
    """What the parts give together. Several constraints, of which only some give something, do not give it."""
    limits = [set(part.about.gives) for part in parts if "constraint" in part.about.roles]
    common = set.intersection(*limits) if limits else set()
    free = [part.about.gives for part in parts if "constraint" not in part.about.roles]
    return frozenset(common.union(*free, ["constraint"] if limits else []))


def _refuse_unmet(parts: Sequence[_Part], have: frozenset[str]) -> None:
    for part in parts:
        others = [other for other in parts if other is not part]
        met = have | _given(others)
        for other in others:
            met |= {other.about.name, *other.about.roles}
        for need in part.about.needs:
            if need not in met:
                raise CompositionError(f"{part} needs {_unmet(need)}, or {part.way_out}")


def _unmet(need: str) -> str:
    if need in _OF_MODELS:
        return f"{_OF_MODELS[need]}: use another model"
    offers = [name for name, about in _registered() if need == name or need in about.roles or need in about.gives]
    if need == "constraint":
        return f"a constraint: give one as constraint=, or add {_either(offers) or 'one'}"
    what = f"a {need}" if need in ROLES else need
    if not offers:
        return f"{what}, which neither the model nor any registered plugin gives: install one that does"
    return f"{what}, which neither the model nor another part gives: add {_either(offers)}"


def _registered() -> Iterator[tuple[str, About]]:
    for name in registry.names():
        try:
            about = about_of(registry.load(name))
        except (BrokenPlugin, UnknownPlugin):
            continue
        if about:
            yield name, about


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _refuse_sideways(parts: Sequence[_Part], have: frozenset[str]) -> None:
    """The core's default proposer writes from left to right, which a masked language model is not made for."""
    if "causal_lm" in have or any("proposer" in part.about.roles for part in parts):
        return
    selector = next(part for part in parts if "selector" in part.about.roles)
    offers = [name for name, about in _registered() if "proposer" in about.roles and "masked_lm" in about.needs]
    raise CompositionError(
        f"{selector} without a proposer decides the next position, and this model is not causal: "
        f"use a causal language model, or {_either(offers) or 'a proposer for masked language models'}"
    )


def bind(composition: Composition, run: Run, *, stops: Sequence[Stop] = (), observers: Sequence[Observer] = ()) -> Kit:
    """Bind every part once, in an order in which each may use what was bound before it, and set `run.kit`.

    Order: constraints (then `run.constraint` is set), warpers, scorer, selector, population, stops, observers,
    proposer. `stops` and `observers` are bound answers of the caller's own; they come before those of the strategy.

    Raises:
        BrokenPlugin: a plugin's `bind` gave an object that does not answer its roles.
        DecodekitError: whatever a part finds wrong with the model.
    """
    bound: dict[int, object] = {}  # by place: the same instance may stand twice

    def answers(role: str) -> list[Any]:
        places = [i for i, part in enumerate(composition.parts) if role in _about(part).roles]
        for i in places:
            if i not in bound:
                bound[i] = composition.parts[i].bind(run)
            _check_answer(composition.parts[i], bound[i], role)
        return [bound[i] for i in places] if places or role not in CORE else [CORE[role].bind(run)]

    run.needs, run.watchers = composition.needs, []
    run.limits = tuple(part for part in composition.parts if "constraint" in _about(part).roles)
    limits: list[Constraint] = answers("constraint")
    run.constraint = Product(limits) if len(limits) > 1 else next(iter(limits), None)
    warpers = answers("warper")
    (scorer,), (selector,), (population,) = answers("scorer"), answers("selector"), answers("population")
    own_stops, own_observers = answers("stop"), answers("observer")
    (proposer,) = answers("proposer")
    run.kit = Kit(
        proposer=proposer,
        scorer=scorer,
        selector=selector,
        population=population,
        warpers=tuple(warpers),
        constraint=run.constraint,
        stops=(*stops, *own_stops),
        observers=(*observers, *own_observers, *run.watchers),
    )
    return run.kit


def _check_answer(part: object, answer: object, role: str) -> None:
    protocol = _PROTOCOLS[role]
    wanted = {name for name in {**vars(protocol), **inspect.get_annotations(protocol)} if not name.startswith("_")}
    missing = sorted(name for name in wanted if not hasattr(answer, name))
    if missing:
        raise BrokenPlugin(
            f"{_about(part).name}.bind(run) gave {type(answer).__name__}, which lacks {', '.join(missing)} of a {role} "
            f"(decodekit.roles.{protocol.__name__}); its author must add it"
        )
