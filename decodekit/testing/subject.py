"""A plugin on the bench: the partners, model and constraint that it is tested with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from decodekit.core.bound import Model
from decodekit.core.protocols import Observer
from decodekit.registry.metadata import PluginInfo, info_of
from decodekit.testing.harness import Outcome, run
from decodekit.testing.reference import Plain, Uniform
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint


class ConformanceError(AssertionError):
    """A plugin does not keep what it declares; the message names the check."""


def demand(holds: bool, sentence: str) -> None:
    """Raise :class:`ConformanceError` with `sentence` unless `holds`."""
    if not holds:
        raise ConformanceError(sentence)


@dataclass(frozen=True)
class Subject:
    """What the checks work on.

    plugin, about: who is tested. model: tiny and exactly known. partners: other parts of the strategy; what is missing
    is filled in by plain ones. constraint: given beside the strategy where the plugin needs one, and for its law.
    prompts, most: ragged requests and their most tokens. horizon, samples: of statistical checks.
    """

    plugin: Any
    about: PluginInfo
    model: Model
    partners: tuple[Any, ...]
    constraint: Any
    prompts: Sequence[Sequence[int]]
    most: Sequence[int]
    horizon: int
    samples: int

    @property
    def causal(self) -> bool:
        """Whether the model is causal."""
        return "causal_lm" in self.model.provides

    def has(self, role: str) -> bool:
        """Whether the plugin answers `role`."""
        return role in self.about.roles

    def takes(self, thing: str) -> bool:
        """Whether the plugin can stand beside `thing` (a capability or role)."""
        return thing not in self.about.conflicts_with

    @property
    def needs_constraint(self) -> bool:
        """Whether it does nothing without a constraint."""
        return not self.has("constraint") and bool({"constraint", "weights", "mask", "admits"} & {*self.about.requires})

    def parts(self, extra: Iterable[Any] = ()) -> list[Any]:
        """The strategy: the plugin, its partners, `extra`, and plain partners for what it needs and nobody answers."""
        parts = [self.plugin, *self.partners, *extra]
        abouts = [about for about in map(info_of, parts) if about]
        roles = {role for about in abouts for role in about.roles}
        given = {word for about in abouts for word in about.provides}
        if self.causal and "selector" not in roles:
            parts.append(Plain())
        if "proposer" not in roles and {"guesses", "logq"} & {*self.about.requires} - given:
            parts.append(Uniform())
        return parts

    def run(
        self,
        *,
        prompts: Sequence[Sequence[int]] | None = None,
        most: int | Sequence[int] | None = None,
        samples: int = 1,
        seed: int = 0,
        constraint: Any = None,
        extra: Iterable[Any] = (),
        observers: Sequence[Observer] = (),
        bare: bool = False,
    ) -> Outcome:
        """Decode with the plugin among its partners, or (`bare`) with these alone."""
        return run(
            [part for part in self.parts(extra) if not bare or part is not self.plugin],
            self.model,
            self.prompts if prompts is None else prompts,
            constraint=self.constraint if constraint is None and self.needs_constraint else constraint,
            max_tokens=self.most if most is None else most,
            samples=samples,
            seed=seed,
            observers=observers,
        )


def subject(
    plugin: Any,
    *,
    model: Model | None = None,
    partners: Iterable[Any] = (),
    constraint: Any = None,
    prompts: Sequence[Sequence[int]] = ((1, 2), (3,), (2, 1, 1, 3)),
    most: Sequence[int] = (7, 4, 9),
    horizon: int = 3,
    samples: int = 1500,
) -> Subject:
    """Put `plugin` on the bench; see :func:`decodekit.testing.check_plugin` for what the arguments mean."""
    about = info_of(plugin)
    if about is None or isinstance(plugin, type):
        raise ConformanceError(
            f"{plugin!r} is not an instance of a class decorated with @decodekit.registry.declaration.plugin; make one"
        )
    if model is None:
        model = TableModel(vocab=5, seed=3, scale=1.0, masked="masked_lm" in about.requires)
    toy = ToyConstraint(seed=19, vocab=model.vocab, eos=model.eos, refuse=0.3)
    return Subject(
        plugin,
        about,
        model,
        tuple(partners),
        toy if constraint is None else constraint,
        prompts,
        most,
        horizon,
        samples,
    )
