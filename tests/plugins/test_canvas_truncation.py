"""Truncation on a constrained canvas: of each cell's marginal given the constraint, by enumeration of all fillings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch

import decodekit as dk
from decodekit.testing.harness import run
from decodekit.testing.oracle import FALSE_ALARM, Z_ALARM, chi_square, z_score
from decodekit.testing.tables import TableModel
from tests.plugins.test_canvas_constraints import (
    LETTERS,
    MODEL,
    RULES,
    TOY,
    Choose,
    T,
    V,
    accepted,
    law_of,
    stop_of,
    surest,
)

Canvas = Sequence[int | None]
Cells = dict[int, list[float]]


def fillings(canvas: Canvas, law: Cells) -> dict[tuple[int, ...], float]:
    """Accepted fillings of the open cells that have a law, each with its probability; behind an end stand ends."""
    stop, out = stop_of(canvas), dict[tuple[int, ...], float]()
    fixed = [*canvas[:stop], *[0] * (T - stop)]
    cells = [i for i in range(T) if fixed[i] is None]
    for values in itertools.product(range(V - 1), repeat=len(cells)):
        given = dict(zip(cells, values, strict=True))
        whole = [given.get(i, fixed[i]) for i in range(T)]
        if accepted(whole):
            weight = 1.0
            for i, v in given.items():
                weight *= law[i][v]
            out[tuple(v for v in whole if v is not None)] = weight
    return out


def marginals(found: dict[tuple[int, ...], float], cells: Sequence[int]) -> Cells:
    total = sum(found.values())
    return {i: [sum(w for f, w in found.items() if f[i] == v) / total for v in range(V)] for i in cells}


def top_k(p: list[float]) -> set[int]:
    return {v for v in range(V) if p[v] >= sorted(p)[-2] and p[v] > 0}


def top_p(p: list[float]) -> set[int]:
    kept, mass = set[int](), 0.0
    for v in sorted(range(V), key=lambda v: -p[v]):
        if mass < 0.6:
            kept.add(v)
        mass += p[v]
    return kept


def min_p(p: list[float]) -> set[int]:
    return {v for v in range(V) if p[v] >= 0.5 * max(p)}


CUTS: dict[str, Callable[[list[float]], set[int]]] = {"top_k(2)": top_k, "top_p(0.6)": top_p, "min_p(0.5)": min_p}


def truncated(canvas: Canvas, law: Cells, cut: Callable[[list[float]], set[int]]) -> dict[tuple[int, ...], float]:
    """Accepted fillings within what is kept of every cell."""
    found = fillings(canvas, law)
    best = max(found, key=lambda filling: found[filling])
    kept = {i: cut(p) | {best[i]} for i, p in marginals(found, list(law)).items()}
    return {f: w for f, w in found.items() if all(f[i] in kept[i] for i in law)}


def target(cut: Callable[[list[float]], set[int]], choose: Choose) -> tuple[dict[tuple[int, ...], float], ...]:
    """(what is drawn, what weighted texts aim at): probabilities and masses of texts, round by round."""
    drawn, aimed = dict[tuple[int, ...], float](), dict[tuple[int, ...], float]()

    def go(canvas: list[int | None], chance: float, weight: float, before: float) -> None:
        stop = stop_of(canvas)
        if None not in canvas[:stop]:
            text = tuple(token for token in canvas[: stop + 1] if token is not None)
            drawn[text] = drawn.get(text, 0.0) + chance
            aimed[text] = aimed.get(text, 0.0) + chance * weight
            return
        law = {i: p for i, p in law_of(canvas).items() if i < stop}
        z = sum(fillings(canvas, law).values())
        left = truncated(canvas, law, cut)
        cells = choose(marginals(left, list(law)))
        groups = dict[tuple[int, ...], float]()
        for filling, w in left.items():
            values = tuple(filling[i] for i in cells)
            groups[values] = groups.get(values, 0.0) + w / sum(left.values())
        for values, p in groups.items():
            here = list(canvas)
            for i, v in zip(cells, values, strict=True):
                here[i] = v
            after = sum(fillings(here, law).values())
            go(here, chance * p, weight * z / before, after)

    go([None] * T, 1.0, 1.0, 1.0)
    return drawn, aimed


WAYS: dict[str, tuple[str, Choose]] = {
    "one by one": ("threshold(tau=1.1, sample=True)", surest(1)),
    "all at once": ("threshold(tau=0.0, sample=True)", lambda p: list(p)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", CUTS)
def test_texts_and_weights_are_those_of_the_definition(cut: str, way: str) -> None:
    spec, choose = WAYS[way]
    drawn, aimed = target(CUTS[cut], choose)
    out = run(f"{spec} | {cut}", MODEL, [[1]], constraint=TOY, max_tokens=T, samples=1500, seed=11)
    assert chi_square(drawn, out.texts) > FALSE_ALARM
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    assert abs(z_score(weight, sum(aimed.values()))) < Z_ALARM
    for text in sorted(drawn, key=lambda text: -drawn[text])[:4]:
        here = torch.tensor([one == text for one in out.texts], dtype=torch.float64)
        assert abs(z_score(weight * here, aimed[text])) < Z_ALARM


def test_populations_have_the_same_mean() -> None:
    _, aimed = target(top_k, surest(1))
    out = run(
        "threshold(tau=1.1, sample=True) | top_k(2) | smc(particles=4, ess=0.9)",
        MODEL,
        [[1]],
        constraint=TOY,
        max_tokens=T,
        samples=800,
        seed=12,
    )
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp().view(800, 4)
    assert abs(z_score(weight.mean(1), sum(aimed.values()))) < Z_ALARM


def test_the_cuts_of_these_tests_matter() -> None:
    """Else they would say nothing: neither no cut, nor the raw one, gives these texts."""
    law = law_of([None] * T)
    whole = fillings([None] * T, law)
    for cut in CUTS.values():
        left = truncated([None] * T, law, cut)
        assert len(left) < len(whole)
        raw = {i: cut(p) for i, p in law.items()}
        assert {f for f in whole if all(f[i] in raw[i] for i in law)} != set(left)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cut", ["top_k(1)", "top_p(0.2)", "temperature(0.5) | min_p(0.9)", "top_h(0.1)"])
def test_no_warper_causes_a_dead_end(rule: str, cut: str) -> None:
    for drawn in ("", ", sample=True"):
        spec = rule.format(s=drawn) + " | " + cut
        out = run(spec, MODEL, [[1], [2, 3]], constraint=TOY, max_tokens=T, samples=4, seed=3)
        assert {row.reason for row in out.rows} <= {"eos", "length"}, spec


def test_the_best_tokens_of_the_cells_need_not_be_a_text() -> None:
    """ "a" first and "c" second may each be the most probable, though "ac" is no text: some text is written even so."""
    options = ["aa", "ab", "bc"]
    for seed in range(25):
        model = TableModel(vocab=8, masked=True, seed=seed, eos=(0,), scale=0.5, tokenizer=LETTERS)
        for spec in ("threshold(tau=0.0) | top_k(1)", "threshold(tau=0.0, sample=True) | top_k(1)"):
            out = run(spec, model, [[1]], constraint=dk.choice(options), max_tokens=2, samples=2)
            for row in out.rows:
                assert row.reason != "dead end"
                assert LETTERS.text(row.tokens[row.start :]).decode() in options
