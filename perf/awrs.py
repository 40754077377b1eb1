"""What a constrained step costs and how uncertain its weight is, for every estimator of AWRS.

The rows are Zipf laws of a 5,000-token vocabulary, from loose to hard constraints; of the reference implementation
(genlm-control) the default looks one token ahead ("recursive").
`python -m perf.awrs` writes results/awrs.json, `python -m perf.awrs long` results/awrs_long.json: what one step costs
where the allowed tokens of a large vocabulary are improbable, next to a step with a mask and to one full sort.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

import torch
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.plugins.awrs import AWRS, Weight
from decodekit.plugins.mask import Mask
from decodekit.registry.metadata import form
from decodekit.testing.oracle import rows_of
from decodekit.testing.single import Fixed
from decodekit.testing.tables import TableModel
from perf.bench import save

VOCAB, DRAWS = 5_000, 600
ROWS = {
    "peaked, loose": (1.6, 11, 3),
    "flat, loose": (0.6, 4, 1),
    "peaked, hard": (1.6, 400, 30),
    "flat, hard": (0.6, 45, 7),
}
"""Exponent of the law; every how many tokens one is allowed, and from which on."""
ARMS = (
    AWRS(),
    AWRS(chunk=64),
    AWRS(accepts=2),
    AWRS(weight="replay", accepts=2, replays=1),
    AWRS(weight="recursive", chunk=1),
    AWRS(weight="recursive", ahead=15),
    AWRS(weight="two_loops"),
    AWRS(weight="head"),
)


def row(exponent: float, every: int, start: int) -> tuple[Tensor, list[bool]]:
    """(log-probabilities [V] float64, verdicts)."""
    p = torch.arange(1, VOCAB + 1, dtype=torch.float64).pow(-exponent)
    return (p / p.sum()).log(), [i >= start and (i - start) % every == 0 for i in range(VOCAB)]


def alone(vocab: int, slot: int, rows: int = 1) -> tuple[Rows, Proposal, BindContext]:
    """Rows that stand at the same place, with noise of their own, and what a selector is bound to."""
    model = TableModel(vocab=5, eos=(), seed=0)
    model.vocab = vocab
    run = BindContext(model=model, open=lambda thing: model)
    made = rows_of([[0]] * rows)
    made.stream = made.stream + slot
    return made, Proposal(made.n[:, None], torch.full((rows, 1), NONE)), run


def measure(logp: Tensor, ok: list[bool], arm: AWRS) -> dict[str, float]:
    """Squared coefficient of variation of the weight, checks a step, their product, and rounds of a row by itself."""
    rule, z = Fixed(ok), float(logp[torch.tensor(ok)].exp().sum())
    rows, ask, run = alone(VOCAB, 0, DRAWS)
    choice = arm.bind(run).select(rows, ask, logp.expand(DRAWS, 1, -1), rule)
    assert choice.logw is not None
    weight = choice.logw[:, 0].exp() * choice.take[:, 0]
    spread, checks, calls = float(weight.var() / z**2), rule.checks / DRAWS, list[int]()
    for slot in range(60):
        single = Fixed(ok)
        rows, ask, run = alone(VOCAB, slot)
        arm.bind(run).select(rows, ask, logp[None, None], single)
        calls.append(single.calls)
    found = {"cv2": spread, "checks": checks, "cv2_x_checks": spread * checks, "rounds": statistics.fmean(calls)}
    return {**found, "mean_over_z": float(weight.mean()) / z}


def selection(vocab: int, rows: int) -> float:
    """Milliseconds of selection per row and step, constraint aside, at a vocabulary of this size."""
    logits = torch.randn(rows, 1, vocab, generator=torch.Generator().manual_seed(0)) * 3
    made, ask, run = alone(vocab, 0, rows)
    bound, rule, seconds = AWRS().bind(run), Fixed([i % 3 > 0 for i in range(vocab)]), list[float]()
    for _ in range(9):
        begin = time.perf_counter()
        bound.select(made, ask, logits, rule)
        seconds.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(seconds[1:]) / rows


class Measured(Fixed):
    """A constraint whose mask costs as much as 22 checks, and that has measured it."""

    checks_per_mask = 22.0


class Python(Fixed):
    """A constraint whose checks call Python code: it is never asked for a mask."""

    dear = True


def long_walks(vocab: int, z: float, repeats: int = 3) -> list[dict[str, object]]:
    """One row, every thousandth token allowed, all of them with mass `z`: for each weight and kind of constraint."""
    logits = torch.randn(1, 1, vocab, generator=torch.Generator().manual_seed(1)) * 3
    allowed = torch.arange(vocab) % 1000 == 7
    for part, mass in ((allowed, math.log(z)), (~allowed, math.log1p(-z))):
        logits[..., part] += mass - logits[..., part].logsumexp(-1, keepdim=True)
    ok, table = allowed.tolist(), list[dict[str, object]]()
    plain = Fixed(ok)
    for kind in (Measured, Fixed, Python):
        rule = kind(ok)
        for weight in get_args(Weight):
            if weight in ("auto", "exact"):  # "auto" is "replay"
                continue
            steps, masks, sorts, found = list[float](), list[float](), list[float](), list[tuple[int, int, int]]()
            for slot in range(repeats):
                made, ask, run = alone(vocab, slot)
                bound, mask = AWRS(weight=weight).bind(run), Mask().bind(run)
                rule.checks = rule.masks = 0
                with fetches() as sizes:
                    steps.append(seconds(lambda: bound.select(made, ask, logits, rule)))  # noqa: B023
                masks.append(seconds(lambda: mask.select(made, ask, logits, plain)))  # noqa: B023
                sorts.append(seconds(lambda: noise.order(logits[0], made.stream, ask.at[:, 0], vocab)))  # noqa: B023
                found.append((rule.checks, len(sizes), rule.masks))
            checks, fetched, asked = (statistics.fmean(column) for column in zip(*found, strict=True))
            fact = {"vocab": vocab, "z": z, "constraint": kind.__name__, "arm": form(AWRS(weight=weight))}
            cost = {"checks": checks, "fetches": fetched, "masks": asked, "ms": 1e3 * statistics.median(steps)}
            ratios = {
                f"over_{name}": statistics.median(a / b for a, b in zip(steps, other, strict=True))
                for name, other in (("mask_step", masks), ("sort", sorts))
            }
            table.append({**fact, **cost, **ratios})
            print(table[-1], flush=True)
    return table


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@contextmanager
def fetches() -> Iterator[list[int]]:
    """How many tokens of an order each fetch asks for."""
    sizes, real = list[int](), noise.order

    def counted(logits: Tensor, stream: Tensor, at: Tensor, count: int, salt: int = 0) -> tuple[Tensor, Tensor]:
        sizes.append(count)
        return real(logits, stream, at, count, salt)

    noise.order = counted
    try:
        yield sizes
    finally:
        noise.order = real


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:] == ["long"]:
        walks = [row for vocab in (100_256, 262_144) for z in (1e-4, 1e-6, 1e-9) for row in long_walks(vocab, z)]
        save("awrs_long", 0, walks, "one constrained step, allowed tokens improbable; constraints cost next to nothing")
        return
    table = list[dict[str, object]]()
    for name, (exponent, every, start) in ROWS.items():
        logp, ok = row(exponent, every, start)
        refused = ~torch.tensor(ok)
        z, p = float(logp[~refused].exp().sum()), logp[refused].exp()
        walk = Fixed(ok)
        rows, ask, run = alone(VOCAB, 0, DRAWS)
        AWRS(weight="none", chunk=1).bind(run).select(rows, ask, logp.expand(DRAWS, 1, -1), walk)
        fact = {"row": name, "z": z, "checks_of_a_walk": walk.needed / DRAWS, "law": 1 + float((p / (p + z)).sum())}
        print(fact)
        for arm in ARMS:
            table.append({**fact, "arm": form(arm), **measure(logp, ok, arm)})
            print("   ", table[-1])
    for vocab in (4_096, 32_000, 128_000):
        table += [{"vocab": vocab, "rows": rows, "ms_per_row": selection(vocab, rows)} for rows in (1, 8, 32)]
        print(table[-3:])
    save("awrs", 0, table, "weights of one constrained step; selection time, one thread")


if __name__ == "__main__":
    main()
