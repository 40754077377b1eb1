"""What the drafter writes, where it stops, what it costs and what it refuses; exactness is in tests/exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from decodekit.core.protocols import Round
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, OptionError
from decodekit.plugins.speculative import Speculative
from decodekit.testing.harness import run
from decodekit.testing.tables import TableModel, ToyTokenizer
from decodekit.testing.toy import ToyConstraint


class Keep:
    """Observer that keeps what was asked."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, Any]] = []

    def round(self, what: Round) -> None:
        self.rounds.append(
            {
                "at": what.ask.at.clone(),
                "guess": what.ask.guess.clone(),
                "logq": what.ask.logq,
                "limit": what.rows.limit.clone(),
                "text": what.rows.tokens.clone(),
                "before": what.before.clone(),
            }
        )

    def moved(self, rows: Rows, index: Tensor) -> None: ...


def test_a_perfect_draft_saves_target_passes() -> None:
    model = TableModel(seed=1, eos=())
    out = run([Speculative(model, k=3), "greedy"], model, [[1], [2, 3, 1]], max_tokens=8)
    assert out.takes == [[4, 4], [4, 4]]
    assert out.cost.calls == 2
    assert out.cost.models["draft"].calls == 6
    assert out.texts == run("greedy", model, [[1], [2, 3, 1]], max_tokens=8).texts


def test_a_useless_draft_costs_no_more_target_passes_than_plain_decoding() -> None:
    target = TableModel(seed=1, eos=(), scale=3.0)
    contrary = TableModel(seed=1, eos=(), scale=-3.0)
    out = run([Speculative(contrary, k=3), "greedy"], target, [[1]], max_tokens=8)
    assert out.takes == [[1]] * 8
    assert out.texts == run("greedy", target, [[1]], max_tokens=8).texts


@pytest.mark.parametrize("selector", ["sample", "rejection"])
def test_nothing_is_guessed_where_it_could_not_count(selector: str) -> None:
    target, draft = TableModel(seed=3), TableModel(seed=3, blur=0.5)
    seen = Keep()
    run([Speculative(draft, k=4), selector], target, [[1], [2, 3]], max_tokens=[5, 9], samples=100, observers=[seen])
    ended = 0
    for what in seen.rounds:
        at, guess = what["at"], what["guess"]
        asked = at != NONE
        assert bool((asked[:, 1:] <= asked[:, :-1]).all())  # padding stands on the right
        assert bool((at < what["limit"][:, None]).all())
        assert bool(((guess != NONE) <= (at < what["limit"][:, None] - 1)).all())
        assert bool((guess[:, 1:] != NONE).le(guess[:, :-1] != NONE).all())
        end = (guess == 0).int()
        ended += int(end.sum())
        after = (end.cumsum(1) - end) > 0
        assert not bool((asked & after).any())  # an end token closes the round
        assert bool((at[:, 0] == what["before"])[asked[:, 0]].all())
    assert ended > 10


def test_the_law_of_the_guesses_is_given_to_whom_it_matters_only() -> None:
    target, draft = TableModel(seed=3, eos=()), TableModel(seed=3, eos=(), blur=0.5)
    seen = Keep()
    run([Speculative(draft, k=2), "sample"], target, [[1]], max_tokens=6, observers=[seen])
    assert all(what["logq"] is None for what in seen.rounds)
    seen, toy = Keep(), ToyConstraint(seed=2, eos=(), refuse=0.3)
    run([Speculative(draft, k=2), "rejection"], target, [[1]], constraint=toy, max_tokens=6, observers=[seen])
    what = seen.rounds[0]
    text: list[int] = [1]
    for k in range(2):
        legal = torch.zeros(5, dtype=torch.bool)
        legal[toy.allowed(text[1:])] = True
        want = draft.logits(text).masked_fill(~legal, -torch.inf).log_softmax(0)
        torch.testing.assert_close(what["logq"][0, k], want, rtol=0, atol=1e-12)
        text.append(int(what["guess"][0, k]))


def test_a_draft_with_a_shorter_context_stops_guessing_and_nothing_else_changes() -> None:
    target = TableModel(seed=5, eos=())
    short = TableModel(seed=5, eos=(), context=4)
    out = run([Speculative(short, k=3), "sample"], target, [[1], [2, 3, 1, 1, 2, 4]], max_tokens=9, samples=3)
    assert out.texts == run("sample", target, [[1], [2, 3, 1, 1, 2, 4]], max_tokens=9, samples=3).texts
    assert out.takes[0][:3] == [4, 4, 4]
    assert out.takes[0][3:] == [1, 1, 1]


def test_a_draft_with_a_padded_vocabulary_is_the_same_draft() -> None:
    tokenizer = ToyTokenizer(5, 0)
    target = TableModel(seed=5, tokenizer=tokenizer)
    wide, narrow = TableModel(vocab=7, seed=5, tokenizer=tokenizer), TableModel(vocab=4, seed=5, tokenizer=tokenizer)
    plain = run("sample", target, [[1], [2, 3]], max_tokens=9, samples=20).texts
    for draft in (wide, narrow):
        assert run([Speculative(draft), "sample"], target, [[1], [2, 3]], max_tokens=9, samples=20).texts == plain


def test_drafts_that_cannot_work_are_refused_in_a_sentence() -> None:
    with pytest.raises(CompositionError, match=r"draft 'table' has other tokens \(6\) than the target 'table' \(5\)"):
        run([Speculative(TableModel(vocab=6)), "sample"], TableModel(), [[1]])
    with pytest.raises(CompositionError, match="not a causal language model"):
        run([Speculative(TableModel(masked=True)), "sample"], TableModel(), [[1]])
    with pytest.raises(CompositionError, match="speculative"):
        run([Speculative(TableModel())], TableModel(masked=True), [[1]])
    with pytest.raises(OptionError, match="k"):
        Speculative(TableModel(), k=0)
    with pytest.raises(OptionError, match="draft"):
        Speculative()  # type: ignore[call-arg]
