"""From a strategy to a kit: who answers which question, whether the parts can work together, and their binding.

:func:`compose` decides before any model runs and before one is needed; :func:`bind` prepares the parts for one run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast, get_args

from decodekit.core import protocols
from decodekit.core.bound import BindContext, BoundStrategy
from decodekit.core.defaults import Alone, ModelScorer, Next
from decodekit.core.intersection import Product
from decodekit.core.protocols import Constraint, Observer, Stop
from decodekit.errors import BrokenPlugin, CompositionError, ConstraintError, UnknownPlugin
from decodekit.registry import discovery
from decodekit.registry.discovery import Plugin
from decodekit.registry.metadata import ROLES, SEVERAL, Exactness, PluginInfo, fields_of, form, info_of
from decodekit.registry.spec import Strategy

CORE: Final[dict[str, Any]] = {"proposer": Next(), "scorer": ModelScorer(), "population": Alone()}
"""Who answers what no part answers. Selectors are plugins: see :func:`_default_selector`."""
_KINDS: Final = ("causal_lm", "masked_lm")
_CHOICES: Final = ("weights", "randomness")
"""What a default selector is chosen for, the first that is asked for; see :func:`_default_selector`."""
_ASKS: Final = {"weights": "weights", "randomness": "randomness", "distribution": "randomness"}
"""What a part's need asks of the default selector."""

_OF_MODELS: Final = {
    "causal_lm": "a causal language model, which this one is not",
    "masked_lm": "a masked language model, which this one is not",
    "hidden": "hidden states, which this model does not give",
    "codebook": "a codebook, which this model does not have",
    "embeddings": "token embeddings, which this model does not give",
}
_PROTOCOLS: Final = {role: getattr(protocols, role.capitalize()) for role in ROLES}


@dataclass(frozen=True)
class Composition:
    """Parts that can work together.

    strategy: what the user asked for, with the selector that was filled in; its string is the key of reports.
    constraints: those that were given as objects, beside the strategy. have: capabilities of the model.
    exactness: the worst of what the parts keep. provides: all capabilities there are. requires: all that some part asks
    for.
    """

    strategy: Strategy
    constraints: tuple[Plugin, ...]
    have: frozenset[str]
    exactness: Exactness
    provides: frozenset[str]
    requires: frozenset[str]

    def __str__(self) -> str:
        return str(self.strategy)

    @property
    def weighs(self) -> bool:
        """Whether rows end with importance weights, so that their mean estimates something.

        Some part gives weights, something is weighed (a constraint, or what a population judges by), and no population
        has put a choice of its own in their place.
        """
        abouts = [_about(part) for part in self.parts]
        chooses = any("particles" in about.provides and "weights" not in about.requires for about in abouts)
        return (
            "weights" in self.provides
            and bool({"constraint"} & self.provides or {"weights"} & self.requires)
            and not chooses
        )

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
    """A plugin among the others. by_default: it was filled in, so the user may not know of it. made: the plugin."""

    about: PluginInfo
    by_default: bool = False
    made: Any = None

    def __str__(self) -> str:
        return f"{self.about.name} (the default {self.about.roles[-1]} here)" if self.by_default else self.about.name

    def could(self, word: str) -> bool:
        """Whether others of its class give `word`, with other options."""
        about = info_of(type(self.made))
        return about is not None and word in about.provides and word not in self.about.provides

    @property
    def way_out(self) -> str:
        return f"name another {self.about.roles[-1]}" if self.by_default else f"drop {self.about.name}"


def compose(
    strategy: object, have: frozenset[str], constraints: Sequence[object] = (), draws: bool = False
) -> Composition:
    """Decide whether the parts of a strategy (whatever :meth:`Strategy.of` takes) can work together, and with a model.

    have: capabilities of the model (`model.provides`). constraints: plugins, or other objects with `bind(run)`, that
    are given beside the strategy. draws: the caller wants texts that differ (n > 1, `do_sample`).

    Where no selector is named, one rule chooses it, with a constraint and without: where a part needs weights (`smc`),
    the one that weighs; else where a part or the caller asks for randomness (`temperature`, `top_p`, `best_of`, n > 1),
    the one that draws; else the one that takes the most probable token.

    Raises:
        CompositionError: two parts for one role, a need that nothing meets, a part that refuses another or the model.
        ConstraintError: an object given as a constraint that is none.
        SpecError, UnknownPlugin, BrokenPlugin, OptionError: as :func:`decodekit.registry.spec.parse`.
    """
    asked = Strategy.of(strategy)
    given = tuple(_constraint(thing) for thing in constraints)
    abouts = [_about(part) for part in (*asked.parts, *given)]
    parts = [_Part(about, made=part) for about, part in zip(abouts, (*asked.parts, *given), strict=True)]
    _refuse_doubles(parts)
    if not any("selector" in about.roles for about in abouts):
        selector = _default_selector(have, {need for about in abouts for need in about.requires}, draws)
        asked = asked | selector
        parts.append(_Part(_about(selector), by_default=True, made=selector))
        _refuse_doubles(parts)
    _refuse_refused(parts, have)
    _refuse_unmet(parts, have)
    _refuse_sideways(parts, have)
    order = get_args(Exactness)
    return Composition(
        strategy=asked,
        constraints=given,
        have=have,
        exactness=max((part.about.exactness for part in parts), key=order.index),
        provides=have | _given(parts),
        requires=frozenset(need for part in parts for need in part.about.requires),
    )


def _constraint(thing: object) -> Plugin:
    if isinstance(thing, type) or not callable(getattr(thing, "bind", None)):
        name = thing.__name__ if isinstance(thing, type) else type(thing).__name__
        raise ConstraintError(f"{name} is not a constraint: it needs a method bind(run); make an instance of a plugin")
    if "constraint" not in _about(thing).roles:
        about = _about(thing)
        raise CompositionError(f"{about.name} is a {about.roles[0]}, not a constraint; give it in the strategy")
    return cast(Plugin, thing)


def _about(part: object) -> PluginInfo:
    """The record of a part; an object that has none came in as a constraint."""
    return info_of(part) or PluginInfo(type(part).__name__, ("constraint",), provides=("mask", "admits"))


def _default_selector(have: frozenset[str], requires: Iterable[str], draws: bool) -> Plugin:
    """Who chooses tokens where no part does: the entry point `selector.KIND` of the group `decodekit.defaults`, or
    `selector.KIND.weights` or `selector.KIND.randomness` where that is asked for.
    """
    kind = next((kind for kind in _KINDS if kind in have), None)
    if kind is None:
        raise CompositionError(
            "no selector is named, and the model is neither causal_lm nor masked_lm; name a selector"
        )
    asked = {_ASKS[need] for need in requires if need in _ASKS} | ({"randomness"} if draws else set())
    chosen = next((f".{choice}" for choice in _CHOICES if choice in asked), "")
    key = f"selector.{kind}{chosen}"
    found = discovery.default(key)
    made = found() if info_of(found) is not None or inspect.isfunction(found) else None
    if info_of(made) is None:
        raise BrokenPlugin(
            f"the default {key!r} is neither a plugin class nor a function that makes a plugin; "
            "correct the entry point of decodekit.defaults"
        )
    return cast(Plugin, made)


def copies(composition: Composition, n: int) -> str:
    """Why `n` texts of a composition would be one text `n` times, in one sentence; empty if they are not."""
    if n == 1 or "randomness" in composition.provides:
        return ""
    parts = [_Part(_about(part), made=part) for part in composition.parts]
    selector = _selector(parts)
    return f"n={n} under {_written(selector)} gives {n} equal texts: {_drawing(selector, composition.have)}, or n=1"


def _selector(parts: Iterable[_Part]) -> _Part:
    return next(part for part in parts if "selector" in part.about.roles)


def _written(part: _Part) -> str:
    """A part with its options, which decide what it gives; its name alone where that is long."""
    text = form(part.made)
    return text if len(text) <= 40 else str(part)


def _switched(part: _Part, word: str) -> str:
    """The part with one of its switches turned, so that it gives `word`; empty if no single one does that."""
    for name, info in fields_of(type(part.made)).items():
        if info.annotation is bool:
            other = replace(part.made, **{name: not getattr(part.made, name)})
            if word in _about(other).provides:
                return form(other)
    return ""


def _drawing(selector: _Part, have: frozenset[str]) -> str:
    """The way out where nothing is drawn."""
    if switched := _switched(selector, "randomness"):
        return f"name {switched}"
    kind = next((kind for kind in _KINDS if kind in have), None)
    return "name a selector that draws" if kind is None else f"name {form(_default_selector(have, (), True))}"


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
        for word in part.about.conflicts_with:
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
                if word in other.about.provides:
                    raise CompositionError(f"{part} refuses {word}, which {other} gives: {ways}")


def _given(parts: Iterable[_Part]) -> frozenset[str]:
    """What the parts give together. Several constraints, of which only some give something, do not give it."""
    limits = [set(part.about.provides) for part in parts if "constraint" in part.about.roles]
    common = set.intersection(*limits) if limits else set()
    free = [part.about.provides for part in parts if "constraint" not in part.about.roles]
    return frozenset(common.union(*free, ["constraint"] if limits else []))


def _refuse_unmet(parts: Sequence[_Part], have: frozenset[str]) -> None:
    for part in parts:
        others = [other for other in parts if other is not part]
        met = have | _given(others)
        for other in others:
            met |= {other.about.name, *other.about.roles}
        for need in part.about.requires:
            if need not in met:
                raise CompositionError(_idle(part, need, parts, have) or _lacking(part, need, parts, have))


def _idle(part: _Part, need: str, parts: Sequence[_Part], have: frozenset[str]) -> str:
    """A part that could not act, in one sentence; empty if `need` says nothing of the kind."""
    what = {"distribution": "changes nothing under", "randomness": "would choose among equal texts under"}.get(need)
    if what is None:
        return ""
    selector = _selector(parts)
    return f"{part} {what} {_written(selector)}: drop it, or {_drawing(selector, have)}"


def _lacking(part: _Part, need: str, parts: Sequence[_Part], have: frozenset[str]) -> str:
    """A need that nothing meets, in one sentence; a part that meets it with other options is named before others."""
    able = next((other for other in parts if other is not part and other.could(need)), None)
    if able is not None:
        way = f"name {switched}" if (switched := _switched(able, need)) else "change its options"
        return f"{part} needs {need}, which {_written(able)} does not give: {way}, or {part.way_out}"
    asked = [(choice, other) for choice in _CHOICES for other in parts if part.by_default]
    asker = next((other for choice, other in asked if choice in map(_ASKS.get, other.about.requires)), None)
    who = str(part) if asker is None else f"{asker} asks for {part}, which"
    return f"{who} needs {_unmet(need, _selector(parts), have)}, or {part.way_out}"


def _unmet(need: str, selector: _Part, have: frozenset[str]) -> str:
    if need in _OF_MODELS:
        return f"{_OF_MODELS[need]}: use another model"
    able = [
        (name, about)
        for name, about in _registered()
        if (need == name or need in about.roles or need in about.provides)
        and not _OF_MODELS.keys() & {*about.requires} - have
    ]
    offers = [name for name, _ in able]
    if need == "constraint":
        return f"a constraint: give one as constraint=, or add {_either(offers) or 'one'}"
    what = f"a {need}" if need in ROLES else need
    if not offers:
        return f"{what}, which neither the model nor any registered plugin gives: install one that does"
    if all("selector" in about.roles for _, about in able) and not selector.by_default:  # a strategy has one
        return f"{what}, which {selector} does not give: name {_either(offers)} instead"
    return f"{what}, which neither the model nor another part gives: add {_either(offers)}"


def _registered() -> Iterator[tuple[str, PluginInfo]]:
    for name in discovery.names():
        try:
            about = info_of(discovery.load(name))
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
    offers = [name for name, about in _registered() if "proposer" in about.roles and "masked_lm" in about.requires]
    raise CompositionError(
        f"{selector} without a proposer decides the next position, and this model is not causal: "
        f"use a causal language model, or {_either(offers) or 'a proposer for masked language models'}"
    )


def bind(
    composition: Composition, run: BindContext, *, stops: Sequence[Stop] = (), observers: Sequence[Observer] = ()
) -> BoundStrategy:
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

    run.requires, run.watchers = composition.requires, []
    run.limits = tuple(part for part in composition.parts if "constraint" in _about(part).roles)
    limits: list[Constraint] = answers("constraint")
    run.constraint = Product(limits) if len(limits) > 1 else next(iter(limits), None)
    warpers = answers("warper")
    (scorer,), (selector,), (population,) = answers("scorer"), answers("selector"), answers("population")
    own_stops, own_observers = answers("stop"), answers("observer")
    (proposer,) = answers("proposer")
    run.kit = BoundStrategy(
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
            f"(decodekit.core.protocols.{protocol.__name__}); its author must add it"
        )
