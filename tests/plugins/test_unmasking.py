"""Rules that fill canvases, against implementations that know one row and no tensors."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from decodekit.core import noise
from decodekit.errors import CompositionError, OptionError
from decodekit.plugins.dream import Dream
from decodekit.plugins.entropy_bounded import EntropyBounded
from decodekit.plugins.factor import Factor
from decodekit.plugins.threshold import Threshold
from decodekit.plugins.unmask import Unmask
from decodekit.plugins.wino import Wino
from decodekit.registry.discovery import load
from decodekit.testing import checks_for
from decodekit.testing.conformance import Check
from decodekit.testing.harness import run
from decodekit.testing.tables import TableModel

Law = dict[int, list[float]]
Rule = Callable[[Law], list[int]]
"""Probabilities of the open cells of the scope -> the cells to commit."""


def top(p: Sequence[float]) -> float:
    return max(p)


def nats(p: Sequence[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def fill(
    model: TableModel,
    prompt: Sequence[int],
    cells: int,
    block: int | None,
    eos: Sequence[int],
    rule: Rule,
    window: int = 1,
) -> tuple[tuple[int, ...], int]:
    """(generated ids up to the first end token, rounds): the frame that all rules share, cell by cell."""
    assert model.mask is not None
    canvas, start, size, rounds = [*prompt, *[model.mask] * cells], len(prompt), block or cells, 0
    while True:
        ends = [i for i in range(start, len(canvas)) if canvas[i] in eos]
        stop = ends[0] if ends else len(canvas)
        todo = [i for i in range(start, stop) if canvas[i] == model.mask]
        if not todo:
            return tuple(canvas[start : stop + 1]), rounds
        current = (todo[0] - start) // size
        scope = [i for i in todo if (i - start) // size < current + window]
        law = {i: model.cell(canvas, i).softmax(0).tolist() for i in scope}
        rounds += 1
        for i in rule(law):
            canvas[i] = max(range(model.vocab), key=lambda v: law[i][v])


def best(law: Law) -> int:
    return max(law, key=lambda i: (top(law[i]), -i))


def by_factor(f: float) -> Rule:
    def rule(law: Law) -> list[int]:
        order = sorted(law, key=lambda i: (-top(law[i]), i))
        fits = [n for n in range(1, len(order) + 1) if (n + 1) * (1 - top(law[order[n - 1]])) < f]
        return order[: max(fits, default=1)]

    return rule


def by_bound(gamma: float) -> Rule:
    def rule(law: Law) -> list[int]:
        order = sorted(law, key=lambda i: (nats(law[i]), i))
        taken: list[int] = []
        for i in order:
            each = [nats(law[j]) for j in (*taken, i)]
            if sum(each) - max(each) > gamma:
                break
            taken.append(i)
        return taken

    return rule


def by_score(score: Callable[[int, list[float]], float], count: Callable[[Law], int]) -> Rule:
    return lambda law: sorted(law, key=lambda i: (-score(i, law[i]), i))[: count(law)]


def margin(p: Sequence[float]) -> float:
    one, two = sorted(p, reverse=True)[:2]
    return one - two


CASES: list[tuple[Any, Callable[[], Rule], int | None, int]] = [
    (Factor(factor=1.0, block=4), lambda: by_factor(1.0), 4, 1),
    (Factor(factor=1.7, block=3, window=2), lambda: by_factor(1.7), 3, 2),
    (EntropyBounded(gamma=0.4, block=5), lambda: by_bound(0.4), 5, 1),
    (EntropyBounded(gamma=1.5, block=None), lambda: by_bound(1.5), None, 1),
    (Unmask(), lambda: by_score(lambda i, p: top(p), lambda law: 1), None, 1),
    (Unmask(order="margin", per_round=3, block=4), lambda: by_score(lambda i, p: margin(p), lambda law: 3), 4, 1),
    (Unmask(order="entropy", per_round=2), lambda: by_score(lambda i, p: -nats(p), lambda law: 2), None, 1),
    (
        Threshold(tau=0.6, block=3, window=2),
        lambda: lambda law: sorted({best(law), *(i for i in law if top(law[i]) >= 0.6)}),
        3,
        2,
    ),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", range(len(CASES)))
def test_equal_to_the_hand_written_one_alone_and_in_a_ragged_batch(case: int, seed: int) -> None:
    plugin, rule, block, window = CASES[case]
    luck = random.Random(100 * case + seed)
    eos = (0,) if luck.random() < 0.6 else ()
    model = TableModel(vocab=luck.randint(4, 8), masked=True, seed=seed, eos=eos, scale=luck.choice([0.7, 1.5, 3.0]))
    prompts = [[luck.randrange(1, model.vocab - 1) for _ in range(luck.randint(1, 6))] for _ in range(4)]
    cells = [luck.randint(1, 17) for _ in prompts]
    want = [fill(model, p, c, block, eos, rule(), window) for p, c in zip(prompts, cells, strict=True)]
    batch = run(plugin, model, prompts, max_tokens=cells)
    assert batch.texts == [text for text, _ in want]
    assert batch.rounds == max(rounds for _, rounds in want)


def test_steps_are_spread_as_llada_spreads_them_without_divisibility() -> None:
    model = TableModel(vocab=6, masked=True, seed=1, eos=())
    out = run(Unmask(steps=5, block=7), model, [[1, 2]], max_tokens=17)
    # blocks of 7, 7 and 3 cells; 5 steps are 2, 2 and 1 of them; 7 cells in 2 steps are 4 and 3
    assert [take[0] for take in out.takes] == [4, 3, 4, 3, 3]
    assert [take[0] for take in run(Unmask(steps=40), model, [[1]], max_tokens=6).takes] == [1] * 6
    assert [take[0] for take in run(Unmask(steps=4), model, [[1]], max_tokens=10).takes] == [3, 3, 2, 2]


def test_random_order_is_random_and_a_pure_function_of_the_seed() -> None:
    model = TableModel(vocab=6, masked=True, seed=1, eos=())

    def order(seed: int) -> list[int]:
        firsts: list[int] = []
        watch = Watch()
        run(Unmask(order="random"), model, [[1]], max_tokens=8, seed=seed, observers=[watch])
        firsts += watch.at
        return firsts

    assert order(1) == order(1)
    assert sorted(order(1)) == list(range(1, 9))
    assert len({tuple(order(seed)) for seed in range(12)}) > 8


class Watch:
    """Observer: positions in the order in which they were taken."""

    def __init__(self) -> None:
        self.at: list[int] = []

    def round(self, what: Any) -> None:
        self.at += what.ask.at[0][what.take[0]].tolist()

    def moved(self, rows: Any, index: Any) -> None:
        pass


def test_end_tokens_come_last_or_never_where_that_is_asked() -> None:
    model = TableModel(vocab=5, masked=True, seed=4)
    model.table[:, :, 0] += 2.0  # floods canvases with end tokens
    assert any(0 in text for text in run(Unmask(), model, [[1], [2]], max_tokens=9).texts)
    never = run(Unmask(eos="never"), model, [[1], [2]], max_tokens=9)
    assert all(0 not in text and len(text) == 9 for text in never.texts)
    late, free = (run(Unmask(eos=how), model, [[1], [2], [3]], max_tokens=9) for how in ("last", "free"))
    assert sum(map(len, late.texts)) >= sum(map(len, free.texts))


def test_dream_fills_the_share_of_its_time() -> None:
    model = TableModel(vocab=6, masked=True, seed=2, eos=())
    times = torch.linspace(1, 1e-3, 9, dtype=torch.float64).tolist()
    left, want = 20, []
    for i in range(8):
        count = left if i == 7 else int(left * (1 - times[i + 1] / times[i]))
        want += [count] if count else []
        left -= count
    out = run(Dream(steps=8, order="maskgit_plus"), model, [[1]], max_tokens=20)
    assert [take[0] for take in out.takes] == want
    few = run(Dream(steps=50), model, [[1], [2]], max_tokens=[3, 5])
    assert [len(text) for text in few.texts] == [3, 5]
    assert few.rounds <= 5


def test_dreams_origin_flips_each_cell_with_the_chance_of_the_step() -> None:
    model = TableModel(vocab=6, masked=True, seed=2, eos=())
    steps, cells, samples = 4, 12, 200
    times = torch.linspace(1, 1e-3, steps + 1, dtype=torch.float64)
    out = run(Dream(steps=steps, order="origin"), model, [[1]], max_tokens=cells, samples=samples)
    first = torch.tensor(out.takes[0], dtype=torch.float64)
    share = float(1 - times[1])
    assert abs(float(first.mean()) / cells - share) < 4 * math.sqrt(share * (1 - share) / cells / samples)
    assert out.rounds <= steps


def test_alg_temp_changes_the_order_and_the_least_is_greedy() -> None:
    model = TableModel(vocab=6, masked=True, seed=2, eos=(), scale=0.5)
    cold, cool, hot = (run(Dream(steps=12, alg_temp=t), model, [[1]], max_tokens=12).texts for t in (0.0, 1e-6, 50.0))
    assert cold == cool
    assert cold != hot


def wino_by_hand(model: TableModel, prompt: Sequence[int], cells: int, o: Wino) -> tuple[tuple[int, ...], int, int]:
    """(ids, rounds, revocations), leave-one-out by masking each committed cell in turn."""
    assert model.mask is not None
    mask, start = model.mask, len(prompt)
    canvas, rounds, back = [*prompt, *[mask] * cells], 0, 0
    size = o.block or cells
    for begin in range(start, len(canvas), size):
        block, last = range(begin, min(begin + size, len(canvas))), 30
        while any(canvas[i] == mask for i in block):
            rounds += 1
            todo = [i for i in block if canvas[i] == mask]
            law = {i: model.cell([*canvas[:i], mask, *canvas[i + 1 :]], i).softmax(0).tolist() for i in block}
            most = min(max(int(0.7 * len(todo)), 5), 20)
            order = sorted(todo, key=lambda i: (-top(law[i]), i))
            accept = [i for i in order if top(law[i]) > o.tau][:most] or order[:1]
            held = {i: law[i][canvas[i]] for i in block if canvas[i] != mask}
            weak = sorted((i for i in held if held[i] < o.back), key=lambda i: (held[i], i))
            weak = (weak if len(weak) < last else weak[: last - 1]) if len(accept) > 1 else []
            for i in accept:
                canvas[i] = max(range(model.vocab), key=lambda v: law[i][v])
            for i in weak:
                canvas[i] = mask
            back, last = back + len(weak), len(accept)
    return tuple(canvas[start:]), rounds, back


@pytest.mark.parametrize("seed", range(8))
def test_wino_is_the_hand_written_one(seed: int) -> None:
    luck = random.Random(seed)
    model = TableModel(vocab=luck.randint(5, 7), masked=True, seed=seed, eos=(), scale=luck.choice([1.0, 2.0]))
    plugin = Wino(tau=luck.choice([0.3, 0.5]), back=luck.choice([0.4, 0.7]), block=luck.choice([4, 9, None]))
    prompts = [[1, 2], [3], [2, 1, 1]]
    cells = [luck.randint(3, 14) for _ in prompts]
    want = [wino_by_hand(model, p, c, plugin) for p, c in zip(prompts, cells, strict=True)]
    out = run(plugin, model, prompts, max_tokens=cells)
    assert out.texts == [text for text, *_ in want]
    assert out.rounds == max(rounds for _, rounds, _ in want)


def test_wino_takes_something_back_in_those_runs() -> None:
    model = TableModel(vocab=6, masked=True, seed=3, eos=(), scale=2.0)
    assert wino_by_hand(model, [1], 14, Wino(tau=0.3, back=0.7))[2] > 0


INSTANCES = [
    load("factor")(block=3),
    load("entropy_bounded")(gamma=0.5, block=4),
    load("unmask")(order="random", per_round=2, block=4),
    load("unmask")(steps=3, block=5),
    load("dream")(steps=6, order="origin"),
    load("dream")(steps=6, alg_temp=0.3),
    load("wino")(tau=0.4, block=4),
    load("threshold")(tau=0.5, block=3, window=2, sample=True),
]


@pytest.mark.parametrize(
    "check", [c for one in INSTANCES for c in checks_for(one)], ids=lambda c: f"{c.subject.about.name}-{c.name}"
)
def test_conformance(check: Check) -> None:
    check()


def test_what_cannot_work_is_refused_in_a_sentence() -> None:
    for name in ("factor", "entropy_bounded", "unmask", "dream", "wino"):
        with pytest.raises(CompositionError, match=name):
            run(name, TableModel(), [[1]])
        blind = TableModel(masked=True)
        blind.mask = None
        with pytest.raises(CompositionError, match="no mask token"):
            run(name, blind, [[1]])
    with pytest.raises(OptionError, match="per_round and steps"):
        Unmask(per_round=1, steps=2)


def test_noise_of_orders_is_not_that_of_tokens() -> None:
    stream, at = noise.streams(1, [1], 1), torch.arange(4)[None]
    assert not torch.equal(noise.uniform(stream, at, noise.Salt.ORDER), noise.uniform(stream, at, noise.Salt.TOKEN))
