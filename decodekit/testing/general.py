"""Checks of every plugin, whatever its role."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import Tensor

from decodekit.core.bound import Model
from decodekit.core.cost import Cost
from decodekit.core.protocols import Round, Scorer
from decodekit.core.rows import NONE, Retired, Rows
from decodekit.errors import CompositionError, DecodekitError
from decodekit.registry import discovery
from decodekit.registry.spec import Strategy, parse
from decodekit.testing.harness import kit_for
from decodekit.testing.reference import Stay
from decodekit.testing.subject import Subject, demand


def facts(row: Retired) -> tuple[list[int], str, float]:
    """What two runs must agree on."""
    return row.tokens, row.reason, row.logw


def options_are_frozen(s: Subject) -> None:
    """Options cannot be changed after construction."""
    for field in dataclasses.fields(s.plugin):
        try:
            setattr(s.plugin, field.name, getattr(s.plugin, field.name))
        except (dataclasses.FrozenInstanceError, AttributeError):
            continue
        demand(False, f"option {field.name!r} can be assigned to")


def unknown_options_are_refused(s: Subject) -> None:
    """A misspelt option is an error that is a sentence."""
    options = {field.name: getattr(s.plugin, field.name) for field in dataclasses.fields(s.plugin) if field.init}
    try:
        type(s.plugin)(**options, no_such_option=1)
    except DecodekitError as error:
        demand("no_such_option" in str(error), "the error does not name the option")
    else:
        demand(False, "an unknown option was accepted")


def spec_round_trip(s: Subject) -> None:
    """The canonical spec of the plugin, read again, is the plugin; what cannot be written is shown as such."""
    strategy = Strategy((s.plugin,))
    text = str(strategy)
    demand(text.startswith(s.about.name), f"the spec {text!r} does not begin with the name {s.about.name!r}")
    if s.about.name not in discovery.names() or discovery.load(s.about.name) is not type(s.plugin):
        return
    if "<" not in text:
        demand(parse(text) == strategy, f"the spec {text!r} is not read back as the same strategy")


def bind_runs_no_model(s: Subject) -> None:
    """Everything that can be refused is refused before a model runs."""
    kit, _ = kit_for(s.parts(), cast(Model, _Mute(s.model)), constraint=s.constraint if s.needs_constraint else None)
    demand(kit is not None, "bind gave nothing")


class _Mute:
    """A model that must not be read; all else is passed through."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def reader(self, cost: Cost, label: str) -> Scorer:
        return cast(Scorer, _MuteReader())


class _MuteReader:
    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        demand(False, "the model was read while plugins were bound")
        raise NotImplementedError


def same_seed_same_tokens(s: Subject) -> None:
    """A run is reproduced from its seed alone, also by an instance that was used before."""
    first = s.run(samples=2, seed=3)
    torch.rand(3)  # a global generator must not matter
    again = s.run(samples=2, seed=3)
    demand([facts(r) for r in first.rows] == [facts(r) for r in again.rows], "the same seed gave other rows")


def batch_is_single_runs(s: Subject) -> None:
    """A row does not depend on the batch it is in: ragged prompts together give what each gives alone."""
    for seed in range(3):
        batch = s.run(samples=2, seed=seed)
        singles = [
            row
            for prompt, most in zip(s.prompts, s.most, strict=True)
            for row in s.run(prompts=[prompt], most=most, samples=2, seed=seed).rows
        ]
        for together, alone in zip(batch.rows, singles, strict=True):
            demand(facts(together) == facts(alone), f"in a batch {facts(together)}, alone {facts(alone)}")


def done_rows_are_ignored(s: Subject) -> None:
    """Rows that are done but still in the batch are neither changed nor in the way."""
    left, stayed = s.run(samples=3, seed=1), s.run(samples=3, seed=1, extra=[Stay()])
    demand(
        [facts(r) for r in left.rows] == [facts(r) for r in stayed.rows],
        "rows differ when finished ones stay in the batch",
    )


def only_what_was_asked_is_taken(s: Subject) -> None:
    """Taken tokens are ids of the vocabulary (or reopen a cell of a canvas), at positions that were asked for."""
    watch = _Watch(s.model.vocab, s.causal)
    s.run(samples=3, seed=2, observers=[watch])
    demand(watch.rounds > 0, "no round was run")


class _Watch:
    def __init__(self, vocab: int, causal: bool) -> None:
        self.vocab, self.causal, self.rounds = vocab, causal, 0
        self.group = torch.zeros(0)

    def round(self, what: Round) -> None:
        self.rounds += 1
        self.group = what.rows.group
        ask, token, take = what.ask, what.choice.tokens, what.take
        lowest = 0 if self.causal else NONE
        demand(token.shape == ask.at.shape == what.choice.take.shape, "choice and proposal differ in shape")
        demand(bool(((token >= lowest) & (token < self.vocab))[take].all()), "a taken token is not in the vocabulary")
        demand(bool((ask.guess < self.vocab).all()), "a guess is not in the vocabulary")
        asked = ask.at != NONE
        grows = (ask.at[:, 1:] > ask.at[:, :-1]) | ~asked[:, 1:] | ~asked[:, :-1]
        demand(bool(grows.all()), "positions are not in increasing order")
        if self.causal:
            width = torch.arange(ask.at.shape[1], device=take.device)
            due = what.before[:, None] + width
            demand(bool((ask.at == due)[take].all()), "a causal row is not continued without a gap")

    def moved(self, rows: Rows, index: Tensor) -> None:
        demand(bool((rows.group[1:] >= rows.group[:-1]).all()), "rows of a group are no longer neighbours")
        if len(index) == len(self.group):  # none has left: slots were given to other rows
            demand(torch.equal(rows.group, self.group), "a slot was given to a row of another group")


def observers_change_nothing(s: Subject) -> None:
    """With and without the observer the run is the same."""
    with_it, without = s.run(samples=2), s.run(samples=2, bare=True)
    demand([facts(r) for r in with_it.rows] == [facts(r) for r in without.rows], "the observer changed the rows")


def canvas_is_filled(s: Subject) -> None:
    """No mask token is left, and every row ends at an end token or at its full length."""
    for seed in range(3):
        out = s.run(samples=2, seed=seed)
        for row in out.rows:
            demand(s.model.mask not in row.tokens[row.start :], f"a mask token is left in {row.tokens}")
            demand(row.reason in ("eos", "length"), f"a row ended for the reason {row.reason!r}")


def refusals_are_kept(s: Subject) -> None:
    """What the plugin declares to refuse is refused by composition."""
    if "constraint" in s.about.conflicts_with:
        try:
            kit_for(s.parts(), s.model, constraint=s.constraint)
        except CompositionError:
            return
        demand(False, "a constraint was accepted, though the plugin declares that it refuses one")
