"""Cursors in step with rows: ragged rows, guesses, forks, drops, ends of text; compared with a fresh replay."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from decodekit.constraints.core.bound import Bound
from decodekit.constraints.core.cursor import Compiled, tokens_of
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.kinds.regex import Regex
from decodekit.core.rows import NONE, Rows
from decodekit.errors import ConstraintError

SIZE = 400
PATTERN = r"(the|café|[0-9]{1,3})( (quick|日本|name)){0,4}"


@pytest.fixture
def ids(tools: ModuleType) -> Callable[[str], list[int]]:
    return lambda text: tools.small_tokenizer()(text)["input_ids"]


@pytest.fixture
def bound(tools: ModuleType) -> Callable[..., Bound]:
    def make(pattern: str, vocab: int = SIZE, eos: tuple[int, ...] = (1,)) -> Bound:
        return Regex(pattern).bind(tools.run_of(tools.small_tokenizer(), vocab, eos))

    return make


@functools.cache
def compiled(pattern: str, vocabulary: Vocabulary) -> Compiled:
    return Regex(pattern).compile(vocabulary)


def fresh(tokenizer: Any, pattern: str, text: list[int], vocab: int = SIZE, eos: tuple[int, ...] = (1,)) -> Tensor:
    """[V] bool after the generated tokens `text`, from a new cursor; all True past an illegal token or an end."""
    cursor = compiled(pattern, vocabulary_of(tokenizer, vocab, eos)).start()
    for token in text:
        if token in eos or not cursor.allows(token):
            return torch.ones(vocab, dtype=torch.bool)
        cursor.advance(token)
    mask = torch.zeros(vocab, dtype=torch.bool)
    mask[torch.from_numpy(tokens_of(cursor.mask(), vocab))] = True
    mask[list(eos)] = cursor.is_complete()
    return mask


def test_rows_forks_guesses_and_drops_against_replay(
    tools: ModuleType, bound: Callable[..., Bound], ids: Callable[[str], list[int]]
) -> None:
    rng, tokenizer = random.Random(3), tools.small_tokenizer()
    constraint = bound(PATTERN, SIZE + 7)
    rows = tools.rows_of([ids("x" * k) for k in (1, 4, 2, 3)])
    for step in range(40):
        r_n = rows.n.tolist()
        width = rng.choice([1, 1, 3, 5])
        at = rows.n[:, None] + torch.arange(width)
        for r in range(len(rows)):
            if rng.random() < 0.2 and width > 1:
                at[r, rng.randrange(1, width) :] = NONE  # rows that ask for fewer
        guess = torch.randint(2, SIZE, at.shape, generator=torch.Generator().manual_seed(step))
        for r in range(len(rows)):  # half of the guesses are allowed ones
            for k in range(width):
                allowed = fresh(
                    tokenizer, PATTERN, rows.tokens[r, int(rows.start[r]) : r_n[r]].tolist() + guess[r, :k].tolist()
                )
                pick = allowed.nonzero()[:, 0].tolist()
                if pick and rng.random() < 0.7:
                    guess[r, k] = rng.choice(pick)
        rows.write(at, guess, at != NONE)
        mask = constraint.mask(rows, at)
        check = constraint.admits(rows, at[:, 0], torch.arange(SIZE + 7).expand(len(rows), -1))
        for r in range(len(rows)):
            for k in range(width):
                text = rows.tokens[r, int(rows.start[r]) : r_n[r]].tolist() + guess[r, :k].tolist()
                expected = fresh(tokenizer, PATTERN, text, SIZE + 7)
                if bool(rows.done[r]) or int(at[r, k]) == NONE:
                    expected = torch.ones(SIZE + 7, dtype=torch.bool)
                assert torch.equal(mask[r, k], expected), (step, r, k, tokenizer.decode(text))
            assert torch.equal(check[r], mask[r, 0])
        allowed = mask[:, 0].float()
        allowed[:, 1] *= 0.05
        token = torch.multinomial(allowed + 1e-9, 1, generator=torch.Generator().manual_seed(step))
        rows.commit(at[:, :1], token, ~rows.done[:, None])
        ended = rows.tokens.gather(1, rows.n[:, None] - 1)[:, 0] == 1
        rows.end(ended & (rows.n > rows.start), rows.n, "eos")
        if step % 7 == 3:
            rows.fork(torch.tensor([rng.randrange(len(rows)) for _ in range(len(rows))]))
        if step % 11 == 5 and len(rows) > 2:
            rows.keep(torch.tensor(rng.sample(range(len(rows)), len(rows) - 1)))
        if bool(rows.done.all()):
            rows = tools.rows_of([ids("y" * k) for k in (2, 1, 3, 3)])
            constraint = bound(PATTERN, SIZE + 7)


def test_complete_and_finished_see_the_end_of_text(
    tools: ModuleType, bound: Callable[..., Bound], ids: Callable[[str], list[int]]
) -> None:
    constraint = bound("ab+|the")
    rows = tools.rows_of([ids("p")] * 6)
    texts = [ids("a"), ids("ab"), ids("the"), [*ids("ab"), 1], [*ids("a"), 1], ids("zz")]
    put(rows, texts)
    assert constraint.complete(rows).tolist() == [False, True, True, True, False, False]
    assert constraint.finished(rows).tolist() == [False, False, True, True, False, False]


def put(rows: Rows, texts: list[list[int]]) -> None:
    for r, text in enumerate(texts):
        at = int(rows.start[r]) + torch.arange(len(text))[None].expand(len(rows), -1)
        where = torch.zeros(at.shape, dtype=torch.bool)
        where[r] = True
        rows.commit(at, torch.tensor(text)[None].expand(len(rows), -1), where)


def test_only_the_end_may_follow_a_finished_text(
    tools: ModuleType, bound: Callable[..., Bound], ids: Callable[[str], list[int]]
) -> None:
    constraint = bound("the", eos=(1, 300))
    rows = tools.rows_of([ids("p")])
    put(rows, [ids("the")])
    mask = constraint.mask(rows, rows.n[:, None])[0, 0]
    assert mask.nonzero()[:, 0].tolist() == [1, 300]
    assert constraint.forced(rows) == [[]]  # two ids end the text: neither is forced


def test_forced_tokens_are_the_only_ones_allowed(
    tools: ModuleType, bound: Callable[..., Bound], ids: Callable[[str], list[int]]
) -> None:
    constraint = bound("a日本")
    rows = tools.rows_of([ids("p")])
    put(rows, [ids("a")])
    text = rows.text(0)
    for token in constraint.forced(rows)[0]:
        assert constraint.mask(rows, rows.n[:, None])[0, 0].nonzero()[:, 0].tolist() == [token]
        rows.commit(rows.n[:, None], torch.tensor([[token]]), torch.ones(1, 1, dtype=torch.bool))
    assert rows.text(0)[: len(text)] == text


def test_masks_and_checks_are_counted(
    tools: ModuleType, bound: Callable[..., Bound], ids: Callable[[str], list[int]]
) -> None:
    run = tools.run_of(tools.small_tokenizer(), SIZE)
    constraint = Regex("[a-z]+").bind(run)
    rows = tools.rows_of([ids("p")] * 8)
    start = run.cost.masks
    constraint.mask(rows, rows.n[:, None])
    assert run.cost.masks - start <= 1  # eight rows in one state share their mask
    constraint.admits(rows, rows.n, torch.tensor([[5, NONE, 7]] * 8))
    assert run.cost.checks == 2  # of eight rows with one text: clones share their verdicts


def test_a_vocabulary_that_cannot_spell_it_is_refused(bound: Callable[..., Bound]) -> None:
    with pytest.raises(ConstraintError, match=r"no text of the constraint can be written with the tokens of tiny"):
        bound("ab", vocab=2)


def test_masks_begun_ahead_are_the_same_and_are_counted() -> None:
    """While the model reads, a thread computes what the selector will ask for."""
    import decodekit as dk

    rule, prompts = dk.json_schema({"type": "array", "items": {"type": "integer"}}), ["JSON: ", "List:\n"]
    made = dk.Decoder("zoo:base", "mask", rule, max_tokens=12)
    apart = made.generate(prompts)
    made = dk.Decoder("zoo:base", "mask", dk.all_of((rule,)), max_tokens=12)  # combined: not computed ahead
    here = made.generate(prompts)
    assert [one.tokens for one in apart] == [one.tokens for one in here]
    assert [one.logw for one in apart] == [one.logw for one in here]
    assert apart[0].cost.masks == here[0].cost.masks > 0
