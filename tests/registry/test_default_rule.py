"""Who chooses tokens where no selector is named: one rule, with a constraint and without; and what is refused by it."""
# ruff: noqa: E501  # one refusal a line reads better than one that is folded

from __future__ import annotations

import re
from typing import Any

import pytest

from decodekit.errors import CompositionError
from decodekit.registry.compose import compose, copies
from decodekit.registry.discovery import load
from decodekit.registry.metadata import info_of
from decodekit.registry.spec import Strategy
from decodekit.testing.toy import ToyConstraint

CAUSAL = frozenset({"causal_lm", "hidden", "embeddings"})
MASKED = frozenset({"masked_lm", "embeddings"})
TOY = ToyConstraint(seed=3, vocab=5)


def chosen(spec: Any, have: frozenset[str], constraints: tuple[Any, ...], draws: bool = False) -> str:
    made = compose(spec, have, constraints, draws)
    asked = {part.about.name for part in Strategy.of(spec).parts}
    (selector,) = (part for part in made.strategy.parts if part.about.name not in asked)
    return str(Strategy.of(selector))


RULE = [
    (None, "greedy", "threshold"),
    ("temperature(3.0)", "sample", "threshold(sample=True)"),
    ("top_k(4)", "sample", "threshold(sample=True)"),
    ("top_p(0.9)", "sample", "threshold(sample=True)"),
    ("min_p(0.1)", "sample", "threshold(sample=True)"),
    ("top_h(0.4)", "sample", "threshold(sample=True)"),
    ("best_of(n=8)", "sample", "threshold(sample=True)"),
    ("temperature(3.0) | best_of(n=8)", "sample", "threshold(sample=True)"),
    ("abstain('nll', above=3.0)", "greedy", "threshold"),
    ("repetition_penalty(1.2)", "greedy", None),
    ("contrast('zoo:draft')", "greedy", None),
    ("speculative('zoo:draft')", "greedy", None),
    ("speculative('zoo:draft') | temperature(3.0)", "sample", None),
    ("early_exit | temperature(3.0)", "sample", None),
    ("cascade('zoo:base')", "greedy", None),
]


@pytest.mark.parametrize(("spec", "causal", "masked"), RULE, ids=[str(spec) for spec, _, _ in RULE])
@pytest.mark.parametrize("constraints", [(), (TOY,)], ids=["free", "constrained"])
def test_the_rule(spec: Any, causal: str, masked: str | None, constraints: tuple[Any, ...]) -> None:
    assert chosen(spec, CAUSAL, constraints) == causal
    drawing = "sample" if causal == "greedy" else causal
    assert chosen(spec, CAUSAL, constraints, draws=True) == drawing  # n > 1 and do_sample
    if masked is not None:
        assert chosen(spec, MASKED, constraints) == masked
        assert chosen(spec, MASKED, constraints, draws=True) == "threshold(sample=True)"


@pytest.mark.parametrize("spec", ["smc(particles=4)", "smc(particles=4) | temperature(2.0)", "retained((1,)) | smc"])
def test_weights_come_first(spec: str) -> None:
    for draws in (False, True):
        assert chosen(spec, CAUSAL, (TOY,), draws) == "mask"
    who = spec.partition("(")[0]
    with pytest.raises(
        CompositionError, match=rf"^{who} asks for mask \(the default selector here\), which needs a constraint: "
    ):
        compose(spec, CAUSAL)
    if "retained" not in spec:  # which writes from left to right
        assert chosen(spec, MASKED, (TOY,)) == chosen(spec, MASKED, ()) == "threshold(sample=True)"


def test_what_is_named_stays() -> None:
    for named in ("greedy", "sample", "mask", "awrs"):
        made = compose(named, CAUSAL, (TOY,), draws=True)
        assert str(made) == named


@pytest.mark.parametrize(
    ("spec", "have", "message"),
    [
        ("greedy | temperature(3.0)", CAUSAL, "temperature changes nothing under greedy: drop it, or name sample"),
        ("greedy | top_p(0.9)", CAUSAL, "top_p changes nothing under greedy: drop it, or name sample"),
        ("mask(greedy=True) | top_k(2)", CAUSAL, "top_k changes nothing under mask(greedy=True): drop it, or name mask"),
        ("early_exit(rule='never') | greedy | min_p(0.1)", CAUSAL, "min_p changes nothing under greedy: drop it, or name sample"),
        ("adadec(candidates=1) | top_h", CAUSAL, "top_h changes nothing under adadec(candidates=1): drop it, or name sample"),
        ("greedy | best_of", CAUSAL, "best_of would choose among equal texts under greedy: drop it, or name sample"),
        ("adadec | best_of", CAUSAL, "best_of would choose among equal texts under adadec: drop it, or name sample"),
        ("wino | best_of", MASKED, "best_of would choose among equal texts under wino: drop it, or name wino(sample=True)"),
        ("ete | smc", MASKED, "smc needs weights, which ete does not give: name ete(sample=True), or drop smc"),
        ("threshold | smc", MASKED, "smc needs weights, which threshold does not give: name threshold(sample=True), or drop smc"),
        ("mask(greedy=True) | smc", CAUSAL, "smc needs weights, which mask(greedy=True) does not give: name mask, or drop smc"),
        ("awrs(weight='none') | smc", CAUSAL, "smc needs weights, which awrs(weight='none') does not give: change its options, or drop smc"),
        ("unmask | smc", MASKED, "smc needs weights, which unmask does not give: change its options, or drop smc"),
        ("greedy | smc", CAUSAL, "smc needs weights, which greedy does not give: name awrs or mask instead, or drop smc"),
    ],
)  # fmt: skip
def test_what_cannot_act_is_refused(spec: str, have: frozenset[str], message: str) -> None:
    with pytest.raises(CompositionError) as refused:
        compose(spec, have, (TOY,))
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("spec", "have"),
    [
        ("greedy | early_exit | temperature(0.5)", CAUSAL),  # the exit is judged by the warped distribution
        ("adadec | temperature(0.5)", CAUSAL),  # so is a pause, and so are the continuations
        ("greedy | top_k(1) | repetition_penalty(1.5)", CAUSAL),  # the best of what is left may be another
        ("threshold | temperature(0.5)", MASKED),  # how sure is sure enough
        ("mask | best_of", CAUSAL),
        ("unmask(order='random') | best_of", MASKED),  # the cells come by chance
    ],
)
def test_what_acts_is_not(spec: str, have: frozenset[str]) -> None:
    compose(spec, have, (TOY,))


def test_equal_texts() -> None:
    assert copies(compose("greedy", CAUSAL), 4) == "n=4 under greedy gives 4 equal texts: name sample, or n=1"
    assert copies(compose("threshold", MASKED), 2) == (
        "n=2 under threshold gives 2 equal texts: name threshold(sample=True), or n=1"
    )
    assert copies(compose("greedy", CAUSAL), 1) == ""
    assert copies(compose("sample", CAUSAL), 4) == ""
    assert copies(compose("greedy | fast_slow('zoo:base', route='random')", CAUSAL), 4) == ""  # it asks by chance


def test_exactness_follows_the_options() -> None:
    mask, awrs = load("mask"), load("awrs")
    assert (mask.about.exactness, mask().about.exactness, mask(greedy=True).about.exactness) == (
        "weighted",
        "weighted",
        "approximate",
    )
    assert (awrs.about.exactness, awrs(weight="none").about.exactness) == ("weighted", "approximate")
    assert mask.about.provides == ("weights", "randomness", "distribution")  # an instance changes nothing of its class
    assert compose("mask(greedy=True)", CAUSAL, (TOY,)).exactness == "approximate"


def test_every_sampling_warper_says_so() -> None:
    """By what it does: a warper that leaves the best token where it is needs somebody who looks at the others."""
    for name in ("temperature", "top_k", "top_p", "min_p", "top_h"):
        about = info_of(load(name))
        assert about is not None
        assert about.requires == ("distribution",)
    assert re.search("distribution", str(info_of(load("contrast"))))
