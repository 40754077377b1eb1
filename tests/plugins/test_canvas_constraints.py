"""Constraints on canvases: every rule writes accepted texts only, and weighted texts have the enumerated law."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import decodekit as dk
from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.errors import CompositionError, ConstraintError, DecodekitError
from decodekit.models.load import load
from decodekit.testing.harness import run
from decodekit.testing.oracle import Z_ALARM, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint
from decodekit.zoo import sums
from decodekit.zoo.data import json_examples

V, T = 5, 4
MODEL = TableModel(vocab=V, masked=True, seed=6, eos=(0,), scale=1.0)
TOY = ToyConstraint(seed=4, vocab=V - 1, states=4, refuse=0.35)

RULES = [
    "threshold(tau=0.6{s})",
    "threshold(tau=1.1, block=2{s})",
    "unmask(per_round=2{s})",
    "unmask(order='random', per_round=2{s})",
    "unmask(order='margin', steps=3, block=3{s})",
    "dream(steps=4{s})",
    "factor(factor=1.0{s})",
    "entropy_bounded(gamma=0.5{s})",
    "wino(tau=0.4, block=3{s})",
    "ete(threshold=0.7, explore=2, block=3{s})",
    "ete(threshold=0.7, explore=1, hypotheses=3{s})",
    "ete(threshold=0.7, explore=2, revoke=0.3{s})",
    "ete(max_rounds=3{s})",
    "ete(threshold=0.7, explore=2, absorb=0.5, gap='block', block=2{s})",
]
LETTERS = Vocabulary((b"", b"a", b"b", b"c", b"ab", b"ca", b"", b""))
"""Ids are texts of one letter or two; 0 ends a text, 6 has no text, 7 is the mask."""
SPELT = TableModel(vocab=8, masked=True, seed=5, eos=(0,), tokenizer=LETTERS)
PATTERN = st.recursive(
    st.sampled_from(["a", "b", "c", "[ab]", "[a-c]", "ab", "ca"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "?", "{1,2}", "+"])).map(lambda two: f"({two[0]}){two[1]}"),
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pattern=PATTERN, rule=st.sampled_from(RULES), drawn=st.booleans(), seed=st.integers(0, 5))
def test_every_rule_writes_matching_texts(pattern: str, rule: str, drawn: bool, seed: int) -> None:
    spec = rule.format(s=", sample=True" if drawn else "")
    try:
        out = run(spec, SPELT, [[1, 2], [3]], constraint=dk.regex(pattern), max_tokens=[6, 4], samples=3, seed=seed)
    except ConstraintError as error:
        assert "needs at least" in str(error)  # noqa: PT017  # longer patterns than the shorter canvas
        return
    for row in out.rows:
        ids = row.tokens[row.start :]
        text = LETTERS.text(ids[: ids.index(0)] if 0 in ids else ids).decode()
        assert re.fullmatch(pattern, text), (spec, pattern, text)
        assert row.reason in ("eos", "length")
        assert 6 not in ids
        assert 7 not in ids


# --- weights ----------------------------------------------------------------------------------------------------------


def accepted(canvas: Sequence[int | None]) -> bool:
    state = 0
    automaton = TOY.automaton()
    ended = False
    for token in canvas:
        assert token is not None
        if ended:
            if token != 0:
                return False
        elif token == 0:
            if not bool(automaton.complete[state]):
                return False
            ended = True
        else:
            if token >= V - 1 or int(automaton.jump[state, token]) < 0:
                return False
            state = int(automaton.jump[state, token])
    return ended or bool(automaton.complete[state])


def law_of(canvas: Sequence[int | None]) -> dict[int, list[float]]:
    """The model's law of every open cell, without the mask."""
    known = [V - 1 if token is None else token for token in canvas]
    out = {}
    for i, token in enumerate(canvas):
        if token is None:
            out[i] = MODEL.cell([1, *known], i + 1).softmax(0).tolist()
    return out


def constrained(canvas: Sequence[int | None], law: dict[int, list[float]]) -> dict[int, list[float]]:
    """Marginals of the accepted fillings, by enumeration."""
    total = {i: [0.0] * V for i in law}

    def fill(at: int, done: list[int], weight: float) -> None:
        if at == T:
            if accepted(done):
                for i in law:
                    total[i][done[i]] += weight
            return
        if canvas[at] is not None:
            fill(at + 1, [*done, canvas[at]], weight)  # type: ignore[list-item]
            return
        for v in range(V - 1):
            fill(at + 1, [*done, v], weight * law[at][v])

    fill(0, [], 1.0)
    return {i: [w / max(1e-300, sum(ws)) for w in ws] for i, ws in total.items()}


Choose = Callable[[dict[int, list[float]]], list[int]]


def stop_of(canvas: Sequence[int | None]) -> int:
    """Where the text ends, as far as that is decided."""
    return canvas.index(0) if 0 in canvas else T


def path_law(choose: Choose) -> dict[tuple[int, ...], float]:
    """Probability of every text on the rule's own path when values are drawn from the model, accepted canvases only."""
    out: dict[tuple[int, ...], float] = {}

    def go(canvas: list[int | None], weight: float) -> None:
        stop = stop_of(canvas)
        if None not in canvas[:stop]:
            if accepted([*canvas[:stop], *[0] * (T - stop)]):
                text = tuple(token for token in canvas[: stop + 1] if token is not None)
                out[text] = out.get(text, 0.0) + weight
            return
        law = {i: one for i, one in law_of(canvas).items() if i < stop}
        cells = choose(constrained([*canvas[:stop], *[0] * (T - stop)], law))

        def commit(left: list[int], here: list[int | None], w: float) -> None:
            if left:
                for v in range(V - 1):
                    commit(left[1:], [*here[: left[0]], v, *here[left[0] + 1 :]], w * law[left[0]][v])
                return
            end = stop_of(here)  # behind an end that stands now, ends would have been drawn
            for i in range(end + 1, stop):
                w *= law[i][0] if here[i] is None else float(here[i] == 0)
            if w > 0:
                go(here, w)

        commit(cells, canvas, weight)

    go([None] * T, 1.0)
    return out


def surest(count: int) -> Choose:
    return lambda p: sorted(p, key=lambda i: (-max(p[i]), i))[:count]


def above(tau: float) -> Choose:
    return lambda p: [i for i in p if max(p[i]) >= tau or i == surest(1)(p)[0]]


def entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


WEIGHED: dict[str, tuple[str, Choose]] = {
    "one by one": ("threshold(tau=1.1, sample=True)", surest(1)),
    "threshold": ("threshold(tau=0.55, sample=True)", above(0.55)),
    "entropy, two": (
        "unmask(order='entropy', per_round=2, sample=True)",
        lambda p: sorted(p, key=lambda i: (entropy(p[i]), i))[:2],
    ),
    "all at once": ("threshold(tau=0.0, sample=True)", lambda p: list(p)),
}


@pytest.mark.parametrize("name", WEIGHED)
@pytest.mark.parametrize("population", ["", " | smc(particles=4, ess=0.9)"])
def test_weighted_texts_have_the_law_of_the_path(name: str, population: str) -> None:
    spec, choose = WEIGHED[name]
    truth, groups = path_law(choose), 1500
    out = run(spec + population, MODEL, [[1]], constraint=TOY, max_tokens=T, samples=groups, seed=7)
    width = len(out.rows) // groups
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp().view(groups, width)
    assert abs(z_score(weight.mean(1), sum(truth.values()))) < Z_ALARM
    texts = [tuple(row.tokens[row.start :]) for row in out.rows]
    assert set(texts) <= set(truth)
    total, drawn = sum(truth.values()), groups * width
    often = [text for text in sorted(truth, key=lambda text: -truth[text])[:6] if truth[text] * drawn > 60 * total]
    assert len(often) > 1
    for text in often:
        here = torch.tensor([one == text for one in texts], dtype=torch.float64).view(groups, width)
        assert abs(z_score((weight * here).mean(1), truth[text])) < Z_ALARM
    if name == "one by one" and not population:  # unweighted it is another law, and this would be seen
        share = torch.tensor([one == often[0] for one in texts], dtype=torch.float64)
        assert abs(z_score(share, truth[often[0]] / sum(truth.values()))) > Z_ALARM


# --- as users meet it -------------------------------------------------------------------------------------------------

RECORDS = r"(a=3,b=\d,sum=1\d;\n){4}"


@pytest.mark.parametrize("rule", ["threshold", "ete(explore=3, gap=12, absorb=1.0)", "unmask(per_round=4)"])
def test_templates_and_the_zoo(rule: str) -> None:
    out = dk.generate("zoo:sums", sums.PROMPT, strategy=rule, constraint=dk.regex(RECORDS))
    assert re.fullmatch(RECORDS, out.text)
    template = "a=3,b={mask},sum={mask*2};\n" + "{mask*16}" * 3
    out = dk.generate("zoo:sums", template, strategy=rule, constraint=dk.regex(RECORDS))
    assert re.fullmatch(RECORDS, out.text)


def test_a_prompt_an_end_and_blocks() -> None:
    prompt = json_examples("heldout", 1, 5)[0].prompt
    rule = dk.regex(r"\{\"[a-z]+\":(\d{1,5}|\"[A-Za-z ]{1,20}\")\}")
    for spec in ("threshold", "threshold(block=8, sample=True)", "ete(explore=1, block=8, window=2)"):
        out = dk.generate("zoo:masked", prompt, strategy=spec, constraint=rule, max_tokens=48)
        assert rule.judge(out.text), (spec, out.text)
        assert out.finish == "eos"


def test_rows_do_not_depend_on_the_batch() -> None:
    model = load("zoo:masked", dtype="float64")
    prompts = [example.prompt for example in json_examples("heldout", 4, 5)]
    rule = dk.regex(r"\{\"[a-z]+\":(\d{1,5}|\"[A-Za-z ]{1,20}\").{0,30}\}")
    decoder = dk.Decoder(model, "threshold(sample=True)", rule, max_tokens=30)
    together = decoder.generate(prompts)
    for prompt, one in zip(prompts, together, strict=True):
        alone = decoder.generate(prompt)
        assert (alone.tokens, alone.finish) == (one.tokens, one.finish)
        assert alone.logw == pytest.approx(one.logw, abs=1e-9)


def test_all_of_choice_and_template_hold_too() -> None:
    joined = dk.all_of((dk.regex(RECORDS), dk.regex(r"(.|\n)*b=9(.|\n)*")))
    assert "b=9" in dk.generate("zoo:sums", sums.PROMPT, strategy="threshold", constraint=joined).text
    chosen = dk.choice([sums.record(1, 2) * 4, sums.record(9, 9) * 4])
    assert dk.generate("zoo:sums", sums.PROMPT, strategy="threshold", constraint=chosen).text in chosen.options
    held = dk.template("a=1,b={b},sum={s};\n", {"b": dk.regex(r"\d"), "s": dk.regex(r"\d\d")})
    out = dk.generate("zoo:sums", "{mask*16}", strategy="threshold", constraint=held)
    assert held.judge(out.text)


def refused(match: str, kind: type[DecodekitError], **more: Any) -> None:
    options: dict[str, Any] = {"strategy": "threshold", "max_tokens": 16, **more}
    with pytest.raises(kind, match=match):
        dk.generate("zoo:sums", options.pop("prompt", "a="), **options)


def test_what_cannot_hold_is_refused_before_decoding() -> None:
    refused("needs at least 64 cells, and the canvas has 16", ConstraintError, constraint=dk.regex("[0-9]{64}"))
    contradiction = {"prompt": "b={mask*14}", "max_tokens": None}
    refused("what the template gives", ConstraintError, constraint=dk.regex("a=.{14}"), **contradiction)
    refused("a finite automaton", CompositionError, constraint=dk.predicate(lambda text: len(text) < 9))
    refused("a finite automaton", CompositionError, constraint=dk.sql("CREATE TABLE t (a TEXT)"))
    refused("more than 4000 states", ConstraintError, constraint=dk.regex("a{5000}"))
    refused("eos='never'", CompositionError, constraint=dk.regex("a.*"), strategy="unmask(eos='never')")
    refused("weights", CompositionError, constraint=dk.regex("a.*"), strategy="unmask(sample=True) | smc(particles=2)")


def test_warpers_that_leave_no_filling_are_a_dead_end() -> None:
    rule, hard = dk.regex("a=={62}"), "threshold | top_k(1, within='model')"
    assert rule.judge(dk.generate("zoo:sums", sums.PROMPT, strategy="threshold | top_k(1)", constraint=rule).text)
    out = dk.generate("zoo:sums", sums.PROMPT, strategy=hard, constraint=rule)
    assert "leave within out" in out.message
    assert out.finish == "dead end"
