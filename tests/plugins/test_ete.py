"""Explore-then-exploit: what pins the reconstruction down, on models whose law is known, and the invariants of bits."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import decodekit as dk
from decodekit.core.cost import Cost
from decodekit.core.rows import Rows
from decodekit.diffusion import information
from decodekit.errors import CompositionError, DecodekitError, OptionError
from decodekit.plugins.ete import ETE
from decodekit.plugins.threshold import Threshold
from decodekit.registry.discovery import load
from decodekit.testing import checks_for
from decodekit.testing.conformance import Check
from decodekit.testing.harness import run
from decodekit.testing.oracle import FALSE_ALARM, chi_square
from decodekit.testing.tables import TableModel, ToyTokenizer
from decodekit.zoo import sums


@dataclass(eq=False)
class Joint:
    """A masked model that is exactly the conditionals of a joint law over N cells of tokens 0..V-2; V-1 is the mask."""

    law: Tensor  # [V-1] * N
    name: str = "joint"
    eos: tuple[int, ...] = ()
    context: int | None = None
    provides: frozenset[str] = frozenset({"masked_lm"})

    def __post_init__(self) -> None:
        self.vocab, self.cells = self.law.shape[0] + 1, self.law.dim()
        self.mask: int | None = self.vocab - 1
        self.tokenizer: Any = ToyTokenizer(self.vocab)
        self.device, self.dtype = torch.device("cpu"), torch.float64

    def reader(self, cost: Cost, label: str) -> Joint:
        self.cost = cost.model(label)
        return self

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        self.cost.calls += 1
        out = torch.zeros(*at.shape, self.vocab, dtype=torch.float64)
        for r, k in itertools.product(*map(range, at.shape)):
            if at[r, k] >= 1 and not rows.done[r]:
                out[r, k] = self.cell(rows.tokens[r, 1 : 1 + self.cells].tolist(), int(at[r, k]) - 1)
        return out

    def cell(self, canvas: Sequence[int], i: int) -> Tensor:
        """[V] log-probabilities of cell `i` given the cells that stand (itself not counted)."""
        p = self.law
        for j, token in enumerate(canvas):
            if token != self.mask and j != i:
                p = p.index_select(j, torch.tensor([token]))
        p = p.sum([j for j in range(self.cells) if j != i])
        return torch.cat([(p / p.sum()).log(), torch.tensor([-torch.inf], dtype=torch.float64)])


def coins(n: int) -> Joint:
    return Joint(torch.full((2,) * n, 0.5**n, dtype=torch.float64))


def copies(n: int) -> Joint:
    """All cells say the same, one of four tokens."""
    law = torch.zeros((4,) * n, dtype=torch.float64)
    for token in range(4):
        law[(token,) * n] = 0.25
    return Joint(law)


def xor() -> Joint:
    law = torch.zeros(2, 2, 2, dtype=torch.float64)
    for a, b in itertools.product(range(2), repeat=2):
        law[a, b, a ^ b] = 0.25
    return Joint(law)


def fill(plugin: Any, model: Joint, samples: int = 1, seed: int = 0) -> Any:
    return run(plugin, model, [[0]], max_tokens=model.cells, samples=samples, seed=seed)


@pytest.mark.parametrize("seed", range(12))
def test_without_exploration_and_with_one_block_it_is_the_threshold_rule(seed: int) -> None:
    luck = random.Random(seed)
    model = TableModel(vocab=luck.randint(5, 8), masked=True, seed=seed, eos=(0,), scale=luck.choice([0.7, 1.5, 3.0]))
    prompts = [[luck.randrange(1, model.vocab - 1) for _ in range(luck.randint(1, 5))] for _ in range(4)]
    cells = [luck.randint(1, 15) for _ in prompts]
    block, tau = luck.choice([3, 5, 32]), luck.choice([0.4, 0.6, 0.9])
    # The threshold rule always takes the best cell; without exploration, only a round without a sure cell does.
    ete = run(ETE(threshold=tau, explore=0, window=1, block=block), model, prompts, max_tokens=cells)
    plain = run(Threshold(tau=tau, block=block), model, prompts, max_tokens=cells)
    assert ete.texts == plain.texts
    assert ete.takes == plain.takes


def test_a_threshold_above_one_and_no_exploration_commits_one_cell_a_round() -> None:
    model = TableModel(vocab=6, masked=True, seed=1, eos=())
    assert run(ETE(threshold=1.1, explore=0), model, [[1, 2]], max_tokens=7).takes == [[1]] * 7


def test_independent_coins_need_one_round_and_keep_their_law() -> None:
    n = 5
    slow = fill(ETE(explore=0, sample=True), coins(n), samples=50)
    fast = fill(ETE(explore=n, sample=True), coins(n), samples=2000)
    assert slow.rounds == n
    assert fast.rounds == 1
    law = dict.fromkeys(itertools.product(range(2), repeat=n), 0.5**n)
    assert chi_square(law, fast.texts) > FALSE_ALARM


def test_one_explored_copy_settles_all_others_in_the_next_round() -> None:
    out = fill(ETE(explore=1, sample=True), copies(5), samples=400)
    assert out.rounds == 2
    assert all(len(set(text)) == 1 for text in out.texts)
    assert chi_square({(t,) * 5: 0.25 for t in range(4)}, out.texts) > FALSE_ALARM


def test_exclusive_or_breaks_blind_exploration_and_not_one_cell_a_block() -> None:
    def broken(plugin: ETE) -> float:
        return float(np.mean([a ^ b != c for a, b, c in fill(plugin, xor(), samples=400).texts]))

    assert 0.4 < broken(ETE(explore=3, sample=True)) < 0.6
    for gap in ({"gap": 3}, {"gap": "block", "block": 3}):
        assert broken(ETE(explore=3, sample=True, **gap)) == 0.0
    assert broken(ETE(explore=2, sample=True)) == 0.0  # any two of the three are independent


def test_cells_that_were_seen_to_depend_are_not_explored_together() -> None:
    blind = [len(set(text)) > 1 for text in fill(ETE(explore=2, sample=True), copies(4), samples=300).texts]
    kept = fill(ETE(max_excess=0.0, sample=True), copies(4), samples=300)
    assert np.mean(blind) > 0.5
    assert all(len(set(text)) == 1 for text in kept.texts)


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_a_budget_of_rounds_is_kept_by_every_row(most: int) -> None:
    model = TableModel(vocab=6, masked=True, seed=4, eos=(), scale=1.0)
    out = run(ETE(max_rounds=most, block=3), model, [[1], [2, 2], [3]], max_tokens=[9, 4, 12])
    assert out.rounds <= most
    assert [len(text) for text in out.texts] == [9, 4, 12]


@pytest.mark.parametrize("seed", range(4))
def test_looking_ahead_with_equal_hypotheses_changes_nothing(seed: int) -> None:
    model = TableModel(vocab=6, masked=True, seed=seed, eos=(0,), scale=1.2)
    prompts, cells = [[1, 2], [3], [2, 1, 1]], [11, 6, 9]
    for explore in (0, 40):  # nothing, or everything, is explored: all hypotheses are the same
        one, many = (
            run(ETE(threshold=0.6, explore=explore, block=4, window=2, hypotheses=m), model, prompts, max_tokens=cells)
            for m in (1, 4)
        )
        assert one.texts == many.texts
        assert one.takes == many.takes


def test_looking_ahead_costs_canvases_and_not_rounds() -> None:
    decoder = dk.Decoder("zoo:sums", "ete(sample=True, explore=2, gap=8, hypotheses=4)")
    out = decoder.generate(sums.PROMPT, seed=1)
    path = information.ledger(out.trace).paths[0]
    assert out.cost.calls == path.rounds == out.cost.rounds
    assert path.rounds < path.canvases <= 4 * path.rounds


def test_the_best_hypothesis_is_the_one_that_settles_most() -> None:
    # Cells 0 and 1 are a fair coin, twice; 2 to 4 copy another: exploring 2, 3 or 4 settles two more, 0 or 1 one more.
    law = torch.zeros((3,) * 5, dtype=torch.float64)
    for a, b in itertools.product(range(3), repeat=2):
        law[a, a, b, b, b] = 1 / 9
    firsts: Counter[bool] = Counter()
    for seed in range(12):
        out = fill(ETE(explore=1, hypotheses=8, sample=True), Joint(law), seed=seed)
        firsts[out.takes[1] == [2]] += 1  # the second round takes the two copies (and explores one of the others)
    plain = fill(ETE(explore=1, sample=True), Joint(law))
    assert plain.takes[0] == [1]
    assert firsts[True] + firsts[False] == 12


def test_revoked_cells_end_filled_and_count_once() -> None:
    out = dk.generate("zoo:sums", sums.PROMPT, strategy="ete(sample=True, explore=3, revoke=0.3)", seed=3)
    path = information.ledger(out.trace).paths[0]
    assert path.revoked > 0
    assert len(path.position) == 62
    assert "<" not in out.text
    assert out.logp == pytest.approx(-path.cost.sum() * information.LN2, abs=1e-3)


def test_triggers_floors_and_absorption_hold_exploration_back() -> None:
    def rounds(**options: Any) -> int:
        made = dk.Decoder("zoo:sums", ETE(sample=True, **options)).generate(sums.PROMPT, seed=5)
        return int(made.cost.rounds)

    plain = rounds()
    assert rounds(trigger=0.0) > plain
    assert rounds(floor=0.5) > plain
    assert rounds(absorb=0.0) > plain
    assert rounds(trigger=1e9, absorb=1e9) == plain


@pytest.mark.parametrize(
    "spec",
    [
        "threshold(block=16)",
        "threshold(tau=0.6, window=4, block=16)",
        "factor(block=16, window=4)",
        "factor(factor=1.8)",
        "ete(block=16)",
        "ete(explore=3, gap=12)",
        "wino",
        "unmask(per_round=3)",
    ],
)
def test_the_ledger_adds_up_and_no_rule_exceeds_its_cap(spec: str) -> None:
    outs = dk.Decoder("zoo:sums", spec).generate([sums.PROMPT, "a=3,b={mask*60}", "a={mask*30}"])
    for out in outs:
        for law in ("raw", "used"):
            book = information.ledger(out.trace, law)
            book.check()
            path = book.paths[0]
            assert path.total == pytest.approx(float(path.bits.sum()))
            assert path.rounds >= path.total / max(path.peak, 1e-9) - 1e-3
        events = out.trace.events
        taken = events["accepted"]
        assert path.total == pytest.approx(-float(events["logt"][taken].sum()) / information.LN2, rel=1e-5)
        again = information.one_by_one(
            dk.Decoder("zoo:sums").model, [out], [p.when for p in book.paths], [path.position]
        )
        if path.revoked == 0:
            assert again[0] == pytest.approx(float(path.cost.sum()), abs=1e-3)


def test_a_contradiction_in_the_ledger_is_found() -> None:
    out = dk.generate("zoo:sums", sums.PROMPT, strategy="threshold(tau=0.9)")
    events = dict(out.trace.events)
    events["logt"] = events["logt"] - 1.0
    broken = dk.Trace(out.trace.header, events, out.trace.rounds, out.trace.moves, facts=out.trace.facts)
    with pytest.raises(DecodekitError, match="its rule allows"):
        information.ledger(broken, "used").check()
    with pytest.raises(DecodekitError, match="trace=True"):
        information.ledger(dk.generate("zoo:sums", sums.PROMPT, trace=False).trace)
    with pytest.raises(DecodekitError, match="law='odd'"):
        information.ledger(out.trace, "odd")


def test_the_price_of_parallelism_is_nothing_one_by_one_and_much_for_the_reckless() -> None:
    def price(spec: str) -> float:
        outs = dk.Decoder("zoo:sums", spec).generate(sums.PROMPT, n=6, seed=2)
        return float(np.mean(information.price(dk.Decoder("zoo:sums").model, [outs])))

    assert abs(price("threshold(tau=1.1, block=64, sample=True)")) < 1e-3
    assert price("unmask(sample=True, per_round=16)") > 5.0


INSTANCES = [
    load("ete")(block=3),
    load("ete")(explore=2, gap="block", block=4, window=2, sample=True),
    load("ete")(explore=1, hypotheses=3, block=4),
    load("ete")(explore=2, revoke=0.4),
    load("ete")(max_rounds=4),
    load("ete")(max_excess=1.0, sample=True),
]


@pytest.mark.parametrize("check", [c for one in INSTANCES for c in checks_for(one)], ids=lambda c: c.name)
def test_conformance(check: Check) -> None:
    check()


def test_bad_input_is_refused_in_a_sentence() -> None:
    with pytest.raises(CompositionError, match="masked language model"):
        dk.generate("zoo:base", "x", strategy="ete")
    with pytest.raises(OptionError, match="hypotheses and revoke"):
        ETE(hypotheses=2, revoke=0.5)
    with pytest.raises(OptionError, match="max_rounds and max_excess"):
        ETE(max_rounds=3, max_excess=1.0)
    with pytest.raises(OptionError, match="gap"):
        ETE(gap="record")  # type: ignore[arg-type]
