"""Grammars on canvases: what a canvas holds of a context-free language, against enumeration and stock Lark."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.constraints.canvas.unrolled import unrolled
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.core.bound import BindContext
from decodekit.core.rows import NONE
from decodekit.diffusion.marginals import Cells, Sums
from decodekit.errors import CompositionError, ConstraintError
from decodekit.testing.harness import opened, run
from decodekit.testing.oracle import FALSE_ALARM, Z_ALARM, chi_square, z_score
from decodekit.testing.tables import TableModel
from decodekit.zoo import sums

SIGNS = Vocabulary((b"", b"(", b")", b"a", b"()", b",", b""))
"""0 ends a text, 4 is two signs in one token, 6 is the mask."""
MODEL = TableModel(vocab=7, masked=True, seed=5, eos=(0,), scale=1.0, tokenizer=SIGNS)
NESTED = 'start: item*\nitem: "(" start ")" | "a"'
LISTS = 'start: "(" [start ("," start)*] ")" | NAME\nNAME: /a+/'
MIRROR = 'start: "a" | "(" start ")" | "," start ","'
RULES = [
    "threshold(tau=0.6{s})",
    "threshold(tau=1.1, block=2{s})",
    "unmask(order='random', per_round=2{s})",
    "dream(steps=4{s})",
    "factor(factor=1.0{s})",
    "entropy_bounded(gamma=0.5{s})",
    "wino(tau=0.4, block=3{s})",
    "ete(threshold=0.7, explore=2, block=3{s})",
    "ete(threshold=0.7, explore=1, hypotheses=3{s})",
]


def whole(grammar: Any, canvas: tuple[int, ...]) -> bool:
    """Whether a canvas is a text of the grammar with nothing but ends behind it."""
    end = canvas.index(0) if 0 in canvas else len(canvas)
    if any(token != 0 for token in canvas[end:]) or any(token >= 6 for token in canvas):
        return False
    return bool(grammar.judge(SIGNS.text(canvas[:end]).decode()))


@pytest.mark.parametrize("text", [NESTED, LISTS, MIRROR])
def test_sums_marginals_best_and_draws_are_those_of_enumeration(text: str) -> None:
    grammar, cells, many = dk.cfg(text), 4, 3
    lattice = unrolled([grammar.unbounded()], [], SIGNS, BindContext(model=MODEL, open=opened, eos=(0,)), "cfg")(cells)
    p = torch.rand(many, cells, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    p[:, :, 6] = 0.0
    p = p / p.sum(2, keepdim=True)
    token = torch.full((many, cells), NONE)
    token[1, 2], token[2, 0] = 2, 1  # a committed ")" in the middle, a committed "("
    at = torch.arange(cells).expand(many, -1)
    read = at.masked_fill(token != NONE, NONE)
    length, zero = torch.full((many,), cells), torch.zeros(many, dtype=torch.int64)
    sums = Sums(lattice, Cells(token, read, length, torch.arange(many) * 77, at, zero), p)
    best, marginals = sums.best(), sums.marginals()
    for r in range(many):
        law: dict[tuple[int, ...], float] = {}
        for canvas in itertools.product(range(7), repeat=cells):
            stands = all(t in (NONE, mine) for t, mine in zip(token[r].tolist(), canvas, strict=True))
            if stands and whole(grammar, canvas):
                free = [i for i in range(cells) if token[r, i] == NONE]
                law[canvas] = math.prod(float(p[r, i, canvas[i]]) for i in free)
        total = sum(law.values())
        assert total > 0
        assert float(sums.log_z()[r].exp()) == pytest.approx(total, rel=1e-9)
        top = max(law, key=lambda canvas: law[canvas])
        for i in range(cells):
            if token[r, i] != NONE:
                continue
            assert int(best[r, i]) == top[i]
            want = torch.zeros(7, dtype=torch.float64)
            for canvas, mass in law.items():
                want[canvas[i]] += mass / total
            torch.testing.assert_close(marginals[r, i], want, rtol=1e-9, atol=1e-12)
    draws = 4000
    alike = torch.zeros(draws, dtype=torch.int64)
    drawn = Cells(token[alike], read[alike], length[alike], torch.arange(draws) * 1_000_003, at[alike], alike)
    law = {c: math.prod(float(p[0, i, c[i]]) for i in range(cells)) for c in itertools.product(range(7), repeat=cells)}
    law = {canvas: mass for canvas, mass in law.items() if whole(grammar, canvas)}
    total = sum(law.values())
    found = [tuple(line) for line in Sums(lattice, drawn, p[alike]).draw().tolist()]
    assert chi_square({canvas: mass / total for canvas, mass in law.items()}, found) > FALSE_ALARM


@pytest.mark.parametrize("text", [NESTED, LISTS, MIRROR])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_writes_texts_that_stock_lark_parses(rule: str, text: str) -> None:
    grammar = dk.cfg(text)
    for spec in (rule.format(s=""), rule.format(s=", sample=True")):
        out = run(spec, MODEL, [[1, 2], [3]], constraint=grammar, max_tokens=[7, 4], samples=3)
        for row in out.rows:
            ids = row.tokens[row.start :]
            written = SIGNS.text(ids[: ids.index(0)] if 0 in ids else ids).decode()
            assert grammar.judge(written), (spec, written)


def test_weights_estimate_the_chance_of_a_text_of_the_grammar() -> None:
    grammar, cells = dk.cfg(MIRROR), 3

    def chance(canvas: list[int], i: int) -> float:
        if i == len(canvas):
            return float(whole(grammar, tuple(canvas[1:])))
        total = 0.0
        for token, p in enumerate(MODEL.cell(canvas, i).softmax(0).tolist()):
            if p > 0:
                after = [*canvas[:i], token, *canvas[i + 1 :]]
                if token == 0:  # what stands behind an end is left alone
                    total += p * float(whole(grammar, (*after[1:i], *[0] * (len(canvas) - i))))
                else:
                    total += p * chance(after, i + 1)
        return total

    out = run(
        "threshold(tau=1.1, block=1, sample=True)", MODEL, [[3]], constraint=grammar, max_tokens=cells, samples=4000
    )
    weights = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    assert abs(z_score(weights, chance([3, *[6] * cells], 1))) < Z_ALARM


def test_a_template_is_filled() -> None:
    out = run("threshold(tau=1.1)", MODEL, [[6, 6, 3, 6, 6]], constraint=dk.cfg(MIRROR), max_tokens=0)
    assert dk.cfg(MIRROR).judge(SIGNS.text(out.rows[0].tokens).decode())


def test_a_pattern_may_hold_beside_the_grammar() -> None:
    grammar = dk.cfg('start: record+\nrecord: "a=" D ",b=" D ",sum=" D D ";" "\\n"\nD: /[0-9]/')
    decoder = dk.Decoder("zoo:sums", "ete(threshold=0.9, explore=1, sample=True)", [grammar, dk.regex(r"(a=3[^a]*)+")])
    for one in decoder.generate(sums.PROMPT, n=2).samples:
        assert re.fullmatch(r"(a=3,b=\d,sum=\d\d;\n){4}", one.text)


def test_rows_do_not_depend_on_the_batch() -> None:
    prompts, spec = [[1], [2, 3], [3]], "threshold(tau=0.5, sample=True)"
    many = run(spec, MODEL, prompts, constraint=dk.cfg(LISTS), max_tokens=6, samples=2)
    alone = [
        text
        for one in prompts
        for text in run(spec, MODEL, [one], constraint=dk.cfg(LISTS), max_tokens=6, samples=2).texts
    ]
    assert many.texts == alone


def test_what_cannot_be_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    long = dk.cfg('start: "(((" "a" ")))"')
    with pytest.raises(ConstraintError, match="fits the 4 cells"):
        run("threshold", MODEL, [[1]], constraint=long, max_tokens=4)
    with pytest.raises(CompositionError, match="finite automaton"):
        run("threshold", MODEL, [[1]], constraint=dk.cfg('start: "a"', dialect="llguidance"), max_tokens=4)
    with monkeypatch.context() as less:
        less.setattr("decodekit.constraints.canvas.unrolled.STATES", 5)
        with pytest.raises(ConstraintError, match="5 are the most"):
            run("threshold", MODEL, [[1]], constraint=dk.cfg(LISTS), max_tokens=9)
    monkeypatch.setattr("decodekit.constraints.canvas.unrolled.PLACES", 5)
    with pytest.raises(ConstraintError, match="more than 5 places within"):
        run("threshold", MODEL, [[1]], constraint=dk.cfg(LISTS), max_tokens=19)
