"""The default rule where a user meets it: constraint, n, seeds, streams and transformers; evidence and posterior."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.errors import CompositionError, OptionError
from decodekit.plugins.speculative import Speculative
from decodekit.testing.oracle import Z_ALARM, enumerate_law, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

MODEL = TableModel(vocab=6, eos=(0,), seed=4)
MASKED = TableModel(vocab=7, eos=(0,), seed=4, masked=True)
RULE = ToyConstraint(seed=6, vocab=6)
DEADLY = ToyConstraint(seed=6, vocab=6, dead_ends=True)
WIDE = ToyConstraint(seed=6, vocab=7)
PROMPTS = [[1, 2], [3], [2, 4, 1], [5, 5]]


def written(strategy: Any, constraint: Any = None, model: Any = MODEL, **options: Any) -> list[list[int]]:
    made = dk.Decoder(model, strategy, constraint, max_tokens=6, **options).generate(PROMPTS)
    return [sample.tokens for one in made for sample in one.samples]


def test_a_constraint_does_not_turn_greedy_into_sampling() -> None:
    free, held = dk.Decoder(MODEL), dk.Decoder(MODEL, constraint=RULE)
    assert free.spec == held.spec == "greedy"
    assert written(None, RULE, seed=0) == written(None, RULE, seed=1) == written("greedy", RULE)


@pytest.mark.parametrize("constraint", [None, RULE], ids=["free", "constrained"])
@pytest.mark.parametrize(
    "spec",
    [
        "temperature(3.0)",
        "top_p(0.9)",
        "top_k(4)",
        "min_p(0.1)",
        "top_h(0.9)",
        "best_of(n=4)",
        "best_of(n=4) | top_k(4)",
    ],
)
def test_what_asks_for_randomness_gets_it(spec: str, constraint: Any) -> None:
    texts = {tuple(map(tuple, written(spec, constraint, seed=seed))) for seed in range(3)}
    assert len(texts) == 3


def test_a_draft_with_a_temperature_samples() -> None:
    """The form that the pages show; its text is that of plain sampling with the same seed."""
    blurred = TableModel(vocab=6, eos=(0,), seed=4, blur=0.5)
    spec = [Speculative(blurred, k=2), "temperature(3.0)"]
    assert written(spec, seed=0) != written(spec, seed=1)
    assert written(spec, seed=1) == written("temperature(3.0) | sample", seed=1)


@pytest.mark.parametrize(("model", "constraint"), [(MODEL, None), (MODEL, RULE), (MASKED, None), (MASKED, WIDE)])
def test_several_samples_differ(model: Any, constraint: Any) -> None:
    drawing = "sample" if model is MODEL else "threshold(sample=True)"
    made = dk.Decoder(model, None, constraint, max_tokens=6)
    one, four = made.generate([1, 2], n=1), made.generate([1, 2], n=4)
    assert (one.spec, four.spec) == (made.spec, drawing)
    assert len({tuple(sample.tokens) for sample in four.samples}) > 1
    assert one.tokens == made.generate([1, 2], seed=9).tokens  # a seed alone asks for nothing
    always = dk.Decoder(model, None, constraint, max_tokens=6, n=4)
    assert always.spec == drawing
    assert always.generate([1, 2]).tokens == four.tokens
    assert always.generate([1, 2], n=1).tokens == one.tokens
    said = dk.Decoder(model, drawing, constraint, max_tokens=6).generate([1, 2], n=4)
    assert [sample.tokens for sample in said.samples] == [sample.tokens for sample in four.samples]


def test_copies_are_refused() -> None:
    for make in (lambda: dk.Decoder(MODEL, "greedy", n=4), lambda: dk.Decoder(MODEL, "greedy").generate([1, 2], n=4)):
        with pytest.raises(OptionError) as refused:
            make()
        assert str(refused.value) == "n=4 under greedy gives 4 equal texts: name sample, or n=1"
    with pytest.raises(OptionError, match=r"n=2 under threshold gives 2 equal texts: name threshold\(sample=True\)"):
        dk.Decoder(MASKED, "threshold").generate([1, 2], n=2, max_tokens=4)


@pytest.mark.parametrize("name", ["do_sample", "num_return_sequences", "max_new_tokens", "temperature", "top_p"])
def test_names_of_other_libraries_are_answered(name: str) -> None:
    with pytest.raises(OptionError, match=rf"generation has no option '{name}'; (it is|the strategy)") as refused:
        dk.Decoder(MODEL, **{name: 1})  # type: ignore[arg-type]
    said = str(refused.value).rpartition(": ")[2]  # the way out works as it stands
    how: dict[str, Any] = eval(f"dict({said})")
    assert dk.generate(MODEL, [1, 2], **{"max_tokens": 3, "seed": 1, **how}).tokens


def test_streams_follow_the_rule() -> None:
    made = dk.Decoder(MODEL, "temperature(3.0)", max_tokens=6)
    assert made.spec == "temperature(value=3.0) | sample"
    greedy = dk.Decoder(MODEL, None, RULE, max_tokens=6)
    assert greedy.generate([1, 2]).spec == "greedy"


# --- transformers ----------------------------------------------------------------------------------------------------


def inside(model: Any, strategy: Any, do_sample: bool, seed: int, **more: Any) -> list[int]:
    ids = torch.tensor([[5, 6, 7]])
    found: list[int] = model.generate(
        ids, do_sample=do_sample, max_new_tokens=12, custom_generate=dk.hf(strategy, seed=seed), **more
    )[0].tolist()
    return found


def test_transformers_follow_the_rule(gpt2: Any) -> None:
    assert inside(gpt2, None, False, 0) == inside(gpt2, None, False, 1)
    assert inside(gpt2, None, True, 0) != inside(gpt2, None, True, 1)
    assert inside(gpt2, "temperature(3.0)", False, 0) != inside(gpt2, "temperature(3.0)", False, 1)
    assert inside(gpt2, "greedy", True, 0) == inside(gpt2, "greedy", True, 1)  # what is named stays


# --- evidence and posterior ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["mask(greedy=True)", "awrs(weight='none')", "sample", "greedy", "sample | best_of(n=3)"]
)
@pytest.mark.parametrize("must_end", [False, True])
def test_no_weights_no_evidence(spec: str, must_end: bool) -> None:
    """Dead ends and forced ends are no weights: what is left of the mean would be no estimate of anything."""
    made = dk.Decoder(MODEL, spec, DEADLY, max_tokens=3, must_end=must_end)
    for one in made.generate(PROMPTS, n=1 if "reedy" in spec else 8):
        assert one.evidence is None


@pytest.mark.parametrize("spec", ["mask | best_of(n=4)", "awrs | best_of(n=4)"])
def test_a_choice_in_place_of_weights_is_no_evidence(spec: str) -> None:
    assert {one.evidence for one in dk.Decoder(MODEL, spec, RULE, max_tokens=4).generate(PROMPTS)} == {None}


@pytest.mark.parametrize("spec", ["mask", "awrs", "mask | smc(particles=4)"])
@pytest.mark.parametrize("must_end", [False, True])
def test_where_there_are_weights_there_is_evidence(spec: str, must_end: bool) -> None:
    laws = enumerate_law(MODEL.logits, [1, 2], 3, eos=(0,), constraint=DEADLY)
    truth = laws.evidence * (sum(p for text, p in laws.posterior.items() if text[-1] == 0) if must_end else 1.0)
    made = dk.Decoder(MODEL, spec, DEADLY, max_tokens=3, must_end=must_end)
    found = [made.generate([1, 2], n=4, seed=seed).evidence for seed in range(60)]
    assert abs(z_score(torch.tensor([math.exp(one) for one in found], dtype=torch.float64), truth)) < Z_ALARM


def test_a_canvas_weighs_only_what_it_draws() -> None:
    def evidence(spec: str) -> float | None:
        found: float | None = dk.Decoder(MASKED, spec, WIDE, max_tokens=4).generate([1, 2]).evidence
        return found

    for spec in (
        "threshold",
        "factor",
        "entropy_bounded",
        "ete",
        "dream",
        "unmask(order='random')",
        "wino(sample=True)",
    ):
        assert evidence(spec) is None
    for spec in ("threshold(sample=True)", "unmask(order='random', sample=True)"):
        assert evidence(spec) is not None
    assert dk.Decoder(MASKED, "threshold(sample=True)", max_tokens=4).generate([1, 2]).evidence is None  # no constraint


def test_one_text_has_no_posterior() -> None:
    with pytest.raises(
        OptionError, match=r"posterior\(\) of one text without a weight \('greedy'\) would be 1 whatever"
    ):
        dk.generate(MODEL, [1, 2], max_tokens=3).posterior()
    assert len(dk.generate(MODEL, [1, 2], strategy="mask", constraint=RULE, max_tokens=3).samples) == 1


def test_a_population_over_equal_texts_is_refused() -> None:
    with pytest.raises(CompositionError, match="smc needs weights, which ete does not give: name ete"):
        dk.Decoder(MASKED, "ete | smc(particles=4)", WIDE)
