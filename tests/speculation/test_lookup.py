"""What look-ups find, against a naive search; rows that fork; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import decodekit as dk
from decodekit.core.protocols import Proposal
from decodekit.core.rows import Rows
from decodekit.errors import DecodekitError, OptionError
from decodekit.models.load import load
from decodekit.speculation.draft_length import Pace
from decodekit.speculation.lookup import earlier
from decodekit.speculation.suffix_automaton import KEPT, Automaton, Reading, automaton
from decodekit.testing.oracle import rows_of
from decodekit.zoo.data import JSON_SCHEMAS, json_examples

TEXT = st.lists(st.integers(0, 2), min_size=1, max_size=14)


def naive(text: list[int], most: int, least: int, k: int) -> tuple[int, list[int]]:
    """The longest end of a text that ends earlier as well, and what followed its last place, in its period."""
    for size in range(min(most, len(text) - 1), least - 1, -1):
        for end in range(len(text) - 2, size - 2, -1):
            if text[end + 1 - size : end + 1] == text[-size:]:
                out = list(text)
                for step in range(k):
                    out.append(out[end + 1 + step])
                return size, out[len(text) :]
    return 0, []


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=4), most=st.integers(1, 5), least=st.integers(1, 3))
def test_look_up_is_the_naive_search(texts: list[list[int]], most: int, least: int) -> None:
    rows = rows_of(texts)
    lengths, runs = earlier(rows, most, least, 5)
    for text, length, found in zip(texts, lengths, runs, strict=True):
        want, after = naive(text, most, least, 5)
        assert (length if found else 0, found) == (want, after)


def counted(texts: list[list[int]], part: list[int]) -> int:
    return sum(text[at : at + len(part)] == part for text in texts for at in range(len(text)))


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=4), text=TEXT)
def test_the_automaton_finds_the_longest_end_and_counts_its_places(texts: list[list[int]], text: list[int]) -> None:
    made = Automaton(texts)
    state = length = 0
    for token in text:
        state, length = made.follow(state, length, token)
    ends = [size for size in range(len(text) + 1) if size == 0 or counted(texts, text[-size:])]
    assert length == max(ends)
    if length:
        part = text[-length:]
        assert made.count[state] == counted(texts, part)
        after = {token: counted(texts, [*part, token]) for token in range(3)}
        steps = {token: made.count[next_] for token, next_ in made.step[state].items()}
        assert steps == {token: many for token, many in after.items() if many}
        best = made.ahead(state, 1, 0.0)
        assert not steps or after[best[0]] == max(after.values())
        assert made.ahead(state, 1, 1.0) == [t for t, many in after.items() if many == counted(texts, part)][:1]


def test_rows_that_fork_leave_and_shrink_are_followed() -> None:
    made = Automaton([[1, 2, 3, 1, 2, 4], [3, 3, 1]])
    reading = Reading(made)
    luck = torch.Generator().manual_seed(3)
    rows = rows_of([[1, 2], [3], [2, 2, 1]])
    for turn in range(30):
        alone = []
        for r in range(len(rows)):
            state = (0, 0)
            for token in rows.text(r):
                state = made.follow(*state, token)
            alone.append(state)
        assert reading.states(rows) == alone
        rows.limit = rows.limit + 2
        at = rows.n[:, None] + torch.arange(2)
        rows.commit(
            at, torch.randint(1, 5, at.shape, generator=luck), torch.rand(at.shape, generator=luck).cumprod(1) > 0.3
        )
        if turn % 3 == 0:
            rows.fork(torch.randint(len(rows), (len(rows),), generator=luck))
        if turn == 20:
            rows.keep(torch.tensor([2, 0]))


def test_a_pace_follows_what_stood() -> None:
    rows = rows_of([[1], [1]])
    rows.limit = rows.limit + 500
    pace = Pace(8, 0.1)
    for _ in range(30):
        count = pace.length(rows)
        at = rows.n[:, None] + torch.arange(9)
        guess = torch.full_like(at, 2).masked_fill(torch.arange(9) >= count[:, None], -1)
        pace.asked(rows, Proposal(at, guess))
        stood = torch.stack([count[0], torch.tensor(0)])  # all of the first row's, none of the second's
        said = torch.full_like(at, 2).masked_fill(torch.arange(9) == stood[:, None], 3)
        rows.commit(at, said, torch.arange(9) <= stood[:, None])
    assert pace.length(rows).tolist() == [8, 1]
    rows.fork(torch.tensor([1, 0]))
    assert pace.length(rows).tolist() == [1, 8]


def offered(pace: Pace, rows: Rows, guess: int, count: Tensor) -> None:
    """`count` [R] guesses of one token a row, told to the pace."""
    at = rows.n[:, None] + torch.arange(5)
    pace.asked(rows, Proposal(at, torch.full_like(at, guess).masked_fill(torch.arange(5) >= count[:, None], -1)))


def test_paces_learn_apart_from_what_became_of_their_own_guesses() -> None:
    """Two of them over the same rows, one of which is asked in some rounds only, and guesses wrongly."""
    rows = rows_of([[1], [1]])
    rows.limit = rows.limit + 500
    right, wrong = Pace(4, 0.05), Pace(4, 0.05)
    for number in range(40):
        offered(right, rows, 2, right.length(rows))
        if number % 3 == 0:
            offered(wrong, rows, 3, wrong.length(rows))  # as a part of longest_of whose guess was not taken
        at = rows.n[:, None] + torch.arange(3)
        rows.commit(at, torch.full_like(at, 2), torch.ones_like(at, dtype=torch.bool))
    assert right.length(rows).tolist() == [4, 4]
    assert wrong.length(rows).tolist() == [1, 1]


@pytest.mark.parametrize("cost", [0.0, 0.1, 0.5, 1.5])
def test_the_length_is_the_best_of_the_formula(cost: float) -> None:
    made = Pace(6, cost)._best
    for number, rate in enumerate(torch.linspace(0.0, 0.995, 200, dtype=torch.float64).tolist()):
        worth = [sum(rate**j for j in range(k + 1)) / (1 + cost * k) for k in range(1, 7)]
        assert worth[int(made[number]) - 1] == pytest.approx(max(worth))


def test_a_corpus_of_answers_saves_passes(tmp_path: Path) -> None:
    prompt = json_examples("heldout", 1, 5)[0].prompt
    answers = [one.answer for one in json_examples("train", 60, 5)]
    lines = tmp_path / "answers.jsonl"
    lines.write_text("\n".join(json.dumps(one) for one in ({"text": answer} for answer in answers)) + "\n")
    words = tmp_path / "answers.txt"
    words.write_text("\n".join(answers))
    plain = dk.generate("zoo:base", prompt, strategy="sample", max_tokens=60, seed=2)
    passes = []
    for source in (answers, str(lines), str(words)):
        out = dk.generate("zoo:base", prompt, strategy=[dk.suffix(corpus=source), dk.sample()], max_tokens=60, seed=2)
        assert out.tokens == plain.tokens
        passes.append(out.cost.calls)
    assert passes[0] == passes[1]
    assert max(passes) < 0.8 * plain.cost.calls
    own = dk.generate("zoo:base", prompt, strategy="suffix | sample", max_tokens=60, seed=2)
    assert passes[0] < own.cost.calls


def test_a_corpus_is_built_once_and_again_when_its_file_changes(tmp_path: Path) -> None:
    model, path = load("zoo:base"), tmp_path / "answers.txt"
    path.write_text("one two three")
    first = automaton(str(path), model, "suffix")
    assert automaton(path, model, "suffix") is first
    path.write_text("four five six seven")
    assert automaton(str(path), model, "suffix") is not first
    listed = automaton(["a b", [1, 2]], model, "suffix")
    assert automaton(("a b", (1, 2)), model, "suffix") is listed
    for number in range(KEPT):
        automaton([[number]], model, "suffix")
    assert automaton(["a b", [1, 2]], model, "suffix") is not listed


def test_the_trace_says_who_guessed() -> None:
    prompts = [one.prompt for one in json_examples("heldout", 4, 5)]
    strategy = "first_of([ngram(), speculative('zoo:draft')]) | sample"
    out = dk.generate("zoo:base", prompts, strategy=strategy, max_tokens=60, seed=1)
    trace = out[0].trace
    assert trace is not None
    assert {"ngram", "draft"} <= set(trace.header["words"])
    found = dk.diagnostics.acceptance(out)
    assert set(found.by_word) == {"ngram", "draft"}
    assert dk.Strategy.of(str(dk.Strategy.of(strategy))) == dk.Strategy.of(strategy)


def test_forced_text_counts_as_guesses() -> None:
    """Its word is also the one of a canvas for cells that nothing else qualified for."""
    prompt = json_examples("heldout", 1, 5)[0].prompt
    strategy = "first_of([forced(), speculative('zoo:draft')]) | sample"
    rule = dk.json_schema(JSON_SCHEMAS["order"])
    out = dk.generate("zoo:base", prompt, strategy=strategy, constraint=rule, max_tokens=60, seed=1)
    assert set(dk.diagnostics.acceptance(out).by_word) == {"forced", "draft"}


def refused(match: str, kind: type[DecodekitError], strategy: Any, **more: Any) -> None:
    with pytest.raises(kind, match=match):
        dk.generate("zoo:base", "x", strategy=strategy, max_tokens=4, **more)


def test_bad_input_is_refused_in_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('"fine"\n{"no": 1}\n')
    refused("k", DecodekitError, "ngram(k=0) | sample")
    refused("give least <= n", OptionError, "ngram(n=1, least=2) | sample")
    refused("give least <= most", OptionError, "suffix(least=4, most=2) | sample")
    refused("the corpus is empty", OptionError, [dk.suffix(corpus=[]), dk.sample()])
    refused("cannot be read", OptionError, f"suffix({str(tmp_path / 'none.txt')!r}) | sample")
    refused("line 2 of .* is no text", OptionError, f"suffix({str(broken)!r}) | sample")
    refused("is no list of texts", OptionError, [dk.suffix(corpus=5), dk.sample()])
    refused("is no list of texts", OptionError, [dk.suffix(corpus=[[1, "a"]]), dk.sample()])
    refused("the token 99999, and .* give its own", OptionError, [dk.suffix(corpus=[[1, 99999]]), dk.sample()])
    refused("give two at least", OptionError, "first_of([ngram()]) | sample")
    refused("is no proposer of guesses alone", OptionError, "first_of([ngram(), sample()]) | sample")
    refused("is no proposer of guesses alone", OptionError, "longest_of([ngram(), ete()]) | sample")
    refused("a tree", DecodekitError, "first_of([tree('zoo:draft'), ngram()]) | sample")
    refused("logq", DecodekitError, "longest_of([ngram(), speculative('zoo:draft')]) | rejection")
    refused("constraint", DecodekitError, "first_of([forced(), ngram()]) | sample")


def test_certain_parts_may_be_joined_under_rejection() -> None:
    out = dk.generate("zoo:base", "x", strategy="longest_of([ngram(), suffix()]) | rejection", max_tokens=12)
    assert out.tokens
