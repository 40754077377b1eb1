"""A suite that cannot fail is worth nothing: plugins that break one promise each, and the check that must notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.protocols import Constraint, Proposal, Round, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.registry.declaration import plugin
from decodekit.testing import ConformanceError, ToyConstraint, check_plugin, checks_for
from decodekit.testing.reference import Stay
from decodekit.testing.toy import BoundToy


class Selects:
    """A right selector: each wrong one changes one thing."""

    def bind(self, run: BindContext) -> Any:
        return self

    def scores(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        return logits.double().log_softmax(2) + noise.gumbel(rows.stream, ask.at, logits.shape[2])

    def logw(self, mass: Tensor) -> Tensor | None:
        return None

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        legal = torch.ones_like(logits, dtype=torch.bool) if constraint is None else constraint.mask(rows, ask.at)
        tokens = self.scores(rows, ask, logits).masked_fill(~legal, -torch.inf).argmax(2)
        agree = (tokens == ask.guess) & (ask.guess != NONE)
        take = torch.nn.functional.pad(agree[:, :-1].long(), (1, 0), value=1).cumprod(1).bool()
        mass = logits.log_softmax(2).masked_fill(~legal, -torch.inf).logsumexp(2)
        stuck = mass == -torch.inf
        logw = self.logw(mass)
        logw = None if logw is None else logw.masked_fill(~take | stuck, 0.0)
        return Selection(tokens, take & ~stuck, logw=logw, dead=(take & stuck).any(1))


@plugin(role="selector")
class Right(Selects): ...


@plugin(role="selector")
class Greedy(Selects):
    def scores(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        return logits


@plugin(role="selector")
class Dice(Selects):
    def scores(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        return logits - torch.empty_like(logits).exponential_().log()


@plugin(role="selector")
class ByPlace(Selects):
    def scores(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        place = torch.arange(len(rows))  # noise of the place in the batch instead of the slot
        return logits + noise.gumbel(place, ask.at, logits.shape[2])


@plugin(role="selector")
class Deaf(Selects):
    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        return super().select(rows, ask, logits, None)


@plugin(role="selector")
class Credulous(Selects):
    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        right = super().select(rows, ask, logits, constraint)
        guess = torch.where((ask.guess == NONE) | (torch.arange(ask.at.shape[1]) > 0), right.tokens, ask.guess)
        take = right.take & (torch.arange(ask.at.shape[1]) == 0)
        return Selection(guess, take, dead=right.dead)


@plugin(role="selector")
class Hanging(Selects):
    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Selection:
        right = super().select(rows, ask, logits, constraint)
        return Selection(right.tokens, right.take & False)


@plugin(role="selector", exactness="weighted", requires=("constraint",))
class Weighing(Selects):
    def logw(self, mass: Tensor) -> Tensor | None:
        return mass


@plugin(role="selector", exactness="weighted", requires=("constraint",))
class Careless(Selects):
    def logw(self, mass: Tensor) -> Tensor | None:
        return mass * 0.8


@plugin(role="selector")
class Eager(Selects):
    def bind(self, run: BindContext) -> Any:
        rows = Rows([[1]], torch.tensor([3]), *[torch.zeros(1, dtype=torch.int64)] * 3)
        run.model.reader(Cost(), "target").read(rows, torch.tensor([[1]]))
        return self


@dataclass(frozen=True)
class Warps:
    work: Callable[[Rows, Proposal, Tensor], Tensor]

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        return self.work(rows, ask, logits)


def ban_last(rows: Rows, ask: Proposal, logits: Tensor, at: Tensor) -> Tensor:
    """Halve the logit of the token before `at` [R, K]."""
    last = rows.tokens.gather(1, (at - 1).clamp(min=0))  # [R, K]
    return logits.scatter_add(2, last[..., None], torch.full_like(logits[..., :1], -1.0))


@plugin(role="warper")
class RightWarper:
    def bind(self, run: BindContext) -> Warps:
        return Warps(lambda rows, ask, logits: ban_last(rows, ask, logits, ask.at))


@plugin(role="warper")
class InPlace:
    def bind(self, run: BindContext) -> Warps:
        return Warps(lambda rows, ask, logits: logits.mul_(0.5))


@plugin(role="warper")
class BlindToGuesses:
    def bind(self, run: BindContext) -> Warps:
        return Warps(lambda rows, ask, logits: ban_last(rows, ask, logits, rows.n[:, None].expand_as(ask.at)))


@plugin(role="warper")
class OverTheBatch:
    def bind(self, run: BindContext) -> Warps:
        return Warps(lambda rows, ask, logits: logits / (1 + logits.amax().abs()))


@plugin(role="population")
class Mixing(Stay):
    def survivors(self, rows: Rows) -> Tensor | None:
        return torch.zeros_like(rows.n) if len(rows.moves) == 0 else None


@plugin(role="observer")
class Meddling:
    def bind(self, run: BindContext) -> Meddling:
        return self

    def round(self, what: Round) -> None:
        what.rows.tokens[:, 0] += 1
        what.rows.tokens[:, 0] %= 4

    def moved(self, rows: Rows, index: Tensor) -> None: ...


@plugin(role="constraint", provides=("mask", "admits"))
class Disagreeing:
    def bind(self, run: BindContext) -> BoundToy:
        class Bound(BoundToy):
            def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
                return super().admits(rows, at, tokens) | (tokens == 3)

        return Bound(ToyConstraint(seed=4).automaton(), run)


@plugin(role="constraint", provides=("mask", "admits"))
class Forgetful:
    def bind(self, run: BindContext) -> BoundToy:
        class Bound(BoundToy):
            def fork(self, index: Tensor) -> None:
                self.trail = self.trail[: len(index)]

        return Bound(ToyConstraint(seed=4).automaton(), run)


@plugin(role="constraint", provides=("mask", "admits"))
class NeverBack:
    def bind(self, run: BindContext) -> BoundToy:
        class Bound(BoundToy):
            state: Tensor | None = None

            def fork(self, index: Tensor) -> None:
                super().fork(index)
                self.state = None if self.state is None else self.state[index]

            def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> None:
                super().feed(rows, keep, upto, only)  # then walk on from where it stands, whatever was taken back
                state = torch.zeros_like(keep) if self.state is None else self.state
                for r in only.nonzero()[:, 0].tolist():
                    for token in rows.tokens[r, max(int(keep[r]), int(rows.start[r])) : int(upto[r])].tolist():
                        state[r] = self.jump[state[r], token]
                    self.trail[r, int(upto[r])] = state[r]
                self.state = state

        return Bound(ToyConstraint(seed=4).automaton(), run)


@plugin(role="proposer")
class Skipping:
    def bind(self, run: BindContext) -> Skipping:
        return self

    def start(self, rows: Rows) -> None: ...

    def propose(self, rows: Rows) -> Proposal:
        at = (rows.n + 1).masked_fill(rows.done, NONE)[:, None]
        return Proposal(at, torch.full_like(at, NONE))


WRONG: list[tuple[Any, str]] = [
    (Greedy(), "law_of_the_model"),
    (Dice(), "same_seed_same_tokens"),
    (ByPlace(), "batch_is_single_runs"),
    (ByPlace(), "done_rows_are_ignored"),
    (Deaf(), "law_under_a_constraint"),
    (Credulous(), "law_with_guesses"),
    (Hanging(), "same_seed_same_tokens"),
    (Careless(), "weighted_estimates"),
    (Eager(), "bind_runs_no_model"),
    (InPlace(), "warps_not_in_place"),
    (BlindToGuesses(), "many_positions_are_single_ones"),
    (BlindToGuesses(), "law_with_guesses"),
    (OverTheBatch(), "many_positions_are_single_ones"),
    (OverTheBatch(), "batch_is_single_runs"),
    (Mixing(), "batch_is_single_runs"),
    (Mixing(), "only_what_was_asked_is_taken"),
    (Meddling(), "observers_change_nothing"),
    (Disagreeing(), "mask_is_admits"),
    (Forgetful(), "moves_are_replays"),
    (NeverBack(), "mask_is_admits"),
    (Skipping(), "only_what_was_asked_is_taken"),
]


@pytest.mark.parametrize(("instance", "name"), WRONG, ids=str)
def test_a_broken_promise_is_noticed_and_named(instance: Any, name: str) -> None:
    check = next(check for check in checks_for(instance) if check.name == name)
    with pytest.raises(ConformanceError, match=name):
        check()


@pytest.mark.parametrize("instance", [Right(), Weighing(), RightWarper()])
def test_right_ones_pass(instance: Any) -> None:
    check_plugin(instance)


def test_expected_failures_must_fail() -> None:
    known = ("law_of_the_model", "law_under_a_constraint", "law_with_guesses")
    check_plugin(Greedy(), expected_failures=dict.fromkeys(known, "it takes the mode"))
    with pytest.raises(ConformanceError, match="expected to fail"):
        check_plugin(Right(), expected_failures={"law_of_the_model": "no reason at all"})
    with pytest.raises(ConformanceError, match="not among the checks"):
        checks_for(Right(), expected_failures={"no_such_check": "a slip"})
    with pytest.raises(ConformanceError, match="not an instance"):
        checks_for(Right)
