"""Acceptance-rejection: the law of the texts, the rate of acceptance, guesses without a law."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Round
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError
from decodekit.plugins.speculative import Speculative
from decodekit.registry.declaration import plugin
from decodekit.speculation.drafting import Drafter
from decodekit.testing.harness import run
from decodekit.testing.oracle import FALSE_ALARM, chi_square, enumerate_law
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

SAMPLES = 3000


@plugin(role="proposer", provides=("guesses", "logq"))
class Stubborn:
    """Guesses the same two tokens whatever the text says; it is certain, so it gives no law."""

    first: int = 2
    second: int = 3

    def bind(self, run: BindContext) -> Stubborn:
        return self

    def start(self, rows: Rows) -> None: ...

    def propose(self, rows: Rows) -> Proposal:
        at = rows.n[:, None] + torch.arange(3)
        at = at.masked_fill((at >= rows.limit[:, None]) | rows.done[:, None], NONE)
        guess = torch.tensor([[self.first, self.second, NONE]]).expand_as(at)
        return Proposal(at, guess.masked_fill(at == NONE, NONE), by="stubborn")


@plugin(role="proposer", provides=("guesses", "logq"))
class Shy:
    """Stops guessing where the draft is unsure."""

    draft: Any
    sure: float

    def bind(self, run: BindContext) -> Drafter:
        draft = run.open(self.draft)
        return Drafter(run, draft.reader(run.cost, "draft"), draft.vocab, None, 2, self.sure)


@pytest.mark.parametrize("sure", [0.3, 0.5])
def test_where_a_draft_stops_does_not_depend_on_what_was_drawn(sure: float) -> None:
    target, draft = TableModel(vocab=4, seed=3, scale=1.0), TableModel(vocab=4, seed=3, scale=1.0, blur=2.0)
    out = run([Shy(draft, sure), "rejection"], target, [[1, 2]], max_tokens=2, samples=4 * SAMPLES)
    assert chi_square(enumerate_law(target.logits, [1, 2], 2, target.eos, None).masked, out.texts) > FALSE_ALARM


@pytest.mark.parametrize("dead_ends", [None, False, True])
@pytest.mark.parametrize("blur", [0.4, 4.0])
def test_the_law_is_the_targets(blur: float, dead_ends: bool | None) -> None:
    target = TableModel(vocab=4, seed=11, scale=1.0)
    draft = TableModel(vocab=4, seed=11, scale=1.0, blur=blur)
    toy = None if dead_ends is None else ToyConstraint(seed=6, vocab=4, refuse=0.2, dead_ends=dead_ends)
    strategy, prompts = [Speculative(draft, k=2), "rejection"], [[1, 2], [3]]
    out = run(strategy, target, prompts, constraint=toy, max_tokens=4, samples=SAMPLES)
    for i, prompt in enumerate(prompts):
        laws = enumerate_law(target.logits, prompt, 4, target.eos, toy)
        rows = out.rows[i * SAMPLES : (i + 1) * SAMPLES]
        texts = [(*row.tokens[row.start :], *((NONE,) if row.reason == "dead end" else ())) for row in rows]
        assert chi_square(laws.masked, texts) > FALSE_ALARM
        wrong = enumerate_law(draft.logits, prompt, 4, target.eos, toy)
        assert chi_square(wrong.masked, texts) < FALSE_ALARM  # the drafter's law would be noticed


@pytest.mark.parametrize("constrained", [False, True])
def test_guesses_without_a_law_count_as_certain(constrained: bool) -> None:
    target = TableModel(vocab=4, seed=3, scale=1.0)
    toy = ToyConstraint(seed=1, vocab=4, refuse=0.3) if constrained else None
    out = run([Stubborn(), "rejection"], target, [[1]], constraint=toy, max_tokens=4, samples=SAMPLES)
    law = enumerate_law(target.logits, [1], 4, target.eos, toy).masked
    assert chi_square(law, out.texts) > FALSE_ALARM


def test_a_guess_is_accepted_as_often_as_the_two_laws_overlap() -> None:
    target, draft = TableModel(vocab=5, seed=2), TableModel(vocab=5, seed=2, blur=1.0)
    n, kept = 4000, []

    class Count:
        def round(self, what: Round) -> None:
            if what.number == 0:
                kept.append(int((what.take[:, 0] & (what.choice.tokens[:, 0] == what.ask.guess[:, 0])).sum()))

        def moved(self, rows: Rows, index: Tensor) -> None: ...

    run([Speculative(draft, k=1), "rejection"], target, [[1]], max_tokens=3, samples=n, observers=[Count()])
    p, q = target.logits([1]).softmax(0), draft.logits([1]).softmax(0)
    due = float(torch.minimum(p, q).sum())  # a residual draw never equals the refused guess
    assert abs(kept[0] / n - due) < 5 * math.sqrt(due * (1 - due) / n)


def test_an_equal_draft_is_always_accepted() -> None:
    model = TableModel(vocab=5, seed=9, eos=())
    out = run([Speculative(model, k=3), "rejection"], model, [[1], [2, 2]], max_tokens=8, samples=50)
    assert out.takes == [[4] * 100] * 2


def test_without_a_drafter_there_is_nothing_to_verify() -> None:
    with pytest.raises(CompositionError, match="rejection"):
        run("rejection", TableModel(), [[1]])
