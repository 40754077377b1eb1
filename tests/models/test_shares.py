"""What is fed is counted: shared prompts once, only what is new, nothing for rows that are done or not asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf

from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.errors import ModelError
from decodekit.models.append_only_cache import HolesReader
from decodekit.models.causal import CausalReader
from decodekit.models.forward import Forward
from decodekit.models.plain import PlainReader

READERS: dict[str, type[CausalReader] | type[HolesReader]] = {"slab": CausalReader, "holes": HolesReader}


@pytest.fixture(scope="module")
def forward() -> Forward:
    torch.manual_seed(3)
    config = hf.LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    model = hf.LlamaForCausalLM(config).eval()
    return Forward(model, "tiny", 64)


def new(prompts: list[list[int]]) -> Rows:
    n = torch.arange(len(prompts))
    return Rows(prompts, torch.full_like(n, 60), n, n, n * 0)


def close(forward: Forward, rows: Rows, at: torch.Tensor, got: torch.Tensor) -> None:
    want = PlainReader(forward, Cost(), "truth").read(rows, at)
    wanted = (at != NONE) & ~rows.done[:, None]
    torch.testing.assert_close(got[wanted], want[wanted], atol=1e-5, rtol=1e-5)


def test_a_shared_prompt_is_fed_once_and_the_copies_diverge(forward: Forward) -> None:
    cost, prompt = Cost(), [5, 6, 7, 8, 9, 10, 11, 12]
    rows, reader = new([prompt] * 4), CausalReader(forward, cost, "t")
    at = rows.n[:, None].clone()
    close(forward, rows, at, reader.read(rows, at))
    assert (cost.model("t").calls, cost.model("t").fed, cost.model("t").computed) == (1, 8, 8)
    rows.commit(at, torch.tensor([[1], [2], [3], [4]]), at != NONE)
    at = rows.n[:, None].clone()
    close(forward, rows, at, reader.read(rows, at))
    assert (cost.model("t").calls, cost.model("t").fed, cost.model("t").computed) == (2, 12, 12)


def test_clones_that_lag_alike_catch_up_once(forward: Forward) -> None:
    cost = Cost()
    rows, reader = new([[5, 6, 7], [8, 9, 10, 11]]), CausalReader(forward, cost, "t")
    reader.read(rows, rows.n[:, None].clone())
    at = rows.n[:, None] + torch.arange(6)
    rows.commit(at, at % 40, at != NONE)  # written without asking this model
    rows.fork(torch.tensor([1, 1]))
    before = cost.model("t").fed
    at = rows.n[:, None].clone()
    close(forward, rows, at, reader.read(rows, at))
    assert cost.model("t").fed - before == 6


@pytest.mark.parametrize("cache", list(READERS))
def test_few_positions_beside_many(forward: Forward, cache: str) -> None:
    """Rows that ask for one position and rows that ask for 14 may fall into passes of different widths."""
    rows, reader = new([[1, 2, 3], [4, 5, 6, 7]]), READERS[cache](forward, Cost(), "t")
    many = torch.arange(4, 18)
    at = torch.stack([torch.cat([torch.tensor([3]), many[1:] * 0 + NONE]), many])
    rows.write(at, at * 3 % 40, at != NONE)
    for _ in range(2):
        close(forward, rows, at, reader.read(rows, at))


@pytest.mark.parametrize("cache", list(READERS))
def test_rows_that_are_done_or_not_asked_cost_nothing(forward: Forward, cache: str) -> None:
    cost = Cost()
    rows, reader = new([[1, 2, 3], [4, 5, 6, 7], [8, 9]]), READERS[cache](forward, cost, "t")
    rows.end(torch.tensor([True, False, False]), rows.n, "eos")
    at = rows.n[:, None].masked_fill(rows.done[:, None], NONE)
    reader.read(rows, at, torch.tensor([True, True, False]))
    assert cost.model("t").fed == 4
    close(forward, rows, at, reader.read(rows, at))
    assert cost.model("t").fed == 4 + 1 + 2  # row 1 is asked for the same logits again, row 2 catches up
    reader.read(rows, torch.full_like(at, NONE))
    assert cost.model("t").fed == 7


def test_what_cannot_be_read_is_refused_and_leaves_the_reader_usable(forward: Forward) -> None:
    rows, reader = new([[1, 2, 3], [4, 5]]), CausalReader(forward, Cost(), "t")
    at = rows.n[:, None].clone()
    reader.read(rows, at)
    rows.reserve(70)
    with pytest.raises(ModelError, match="tiny reads at most 64 tokens, and this text has 66; shorten"):
        reader.read(rows, torch.tensor([[66], [2]]))
    with pytest.raises(ModelError, match="nothing stands before position 0"):
        reader.read(rows, torch.tensor([[0], [2]]))
    close(forward, rows, at, reader.read(rows, at))


def test_a_long_prompt_in_chunks(forward: Forward, monkeypatch: Any) -> None:
    monkeypatch.setattr(Forward, "widest", 5)
    for prompts in ([list(range(1, 24)), list(range(2, 19))], [list(range(1, 24)), list(range(3, 26))]):
        rows, reader = new(prompts), CausalReader(forward, Cost(), "t")
        at = rows.n[:, None] + torch.arange(-7, 1)
        close(forward, rows, at, reader.read(rows, at))


@pytest.mark.parametrize("cache", list(READERS))
def test_what_is_not_asked_has_the_type_of_what_is(cache: str) -> None:
    torch.manual_seed(3)
    config = hf.LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    exact = Forward(hf.LlamaForCausalLM(config).eval().double(), "exact", None)
    rows, reader = new([[1, 2, 3], [4, 5]]), READERS[cache](exact, Cost(), "t")
    nobody = torch.full_like(rows.n[:, None], NONE)
    assert reader.read(rows, nobody).dtype == reader.read(rows, rows.n[:, None].clone()).dtype == torch.float64
