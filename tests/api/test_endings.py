"""Texts that must end by themselves: unbiased weights, no truncated answer, and reasons where there is none."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.constraints.kinds.predicate import Predicate
from decodekit.errors import OptionError
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.smc import SMC
from decodekit.testing.oracle import Z_ALARM, enumerate_law, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

MODEL = TableModel(vocab=5, eos=(0,), seed=4)
RULE = ToyConstraint(seed=6, dead_ends=True)
HORIZON = 3


@pytest.mark.parametrize("strategy", ["awrs", "awrs(weight='recursive')", "mask", "awrs | smc(particles=4, ess=0.9)"])
def test_a_forced_end_has_its_probability_as_its_weight(strategy: str) -> None:
    """Mean evidence = probability of the allowed texts that end by themselves within the horizon."""
    laws = enumerate_law(MODEL.logits, [1, 2], HORIZON, eos=(0,), constraint=RULE)
    ended = sum(p for text, p in laws.posterior.items() if text[-1] == 0) * laws.evidence
    assert 0 < ended < 0.9 * laws.evidence  # there is something to force
    made = dk.Decoder(MODEL, strategy, RULE, must_end=True)
    out = made.generate([[1, 2]], n=1200, max_tokens=HORIZON)[0]
    weight = torch.tensor([math.exp(one.logw) for one in out.samples], dtype=torch.float64)
    assert abs(z_score(weight.view(-1, made.width).mean(1), ended)) < Z_ALARM
    assert all(one.tokens[-1] == 0 for one in out.samples if one.weight > 0)


def test_without_a_constraint_every_sample_ends() -> None:
    out = dk.generate(MODEL, [1, 2], must_end=True, n=40, max_tokens=4, strategy="sample")
    assert {one.finish for one in out.samples} == {"eos"}
    assert max(len(one.tokens) for one in out.samples) == 4


def test_a_schema_is_whole_or_a_dead_end_says_so() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    schema["properties"]["name"]["maxLength"] = 10
    schema["additionalProperties"] = False
    prompt = "Ada Park is 36."
    cut = dk.generate("zoo:base", prompt, constraint=schema, strategy="mask", max_tokens=4)
    assert cut.finish == "length"
    out = dk.generate("zoo:base", prompt, constraint=schema, strategy="mask", max_tokens=4, must_end=True)
    assert (out.finish, out.value) == ("dead end", None)
    assert "had to end here" in out.message
    assert "raise max_tokens" in out.message
    whole = dk.generate("zoo:base", prompt, constraint=schema, strategy="awrs", max_tokens=60, must_end=True)
    assert whole.finish == "eos"
    assert "name" in json.loads(whole.text)


def fails(text: str) -> bool:
    if "z" in text:
        raise RuntimeError("no z please")
    return set(text) <= {"z", "y"}


def test_the_reason_of_a_failing_check_is_in_the_result() -> None:
    def only_z(text: str) -> bool:
        if text:
            raise RuntimeError("the checker broke")
        return True

    out = dk.generate("zoo:base", "x", constraint=Predicate(only_z, lambda text: False), strategy="awrs", max_tokens=4)
    assert out.finish == "dead end"
    assert "the checker broke" in out.message


@pytest.mark.parametrize(("critic", "words"), [(fails, "no z please"), (lambda text: False, "forbids")])
def test_the_reason_of_a_failing_critic_is_in_the_result(critic: Any, words: str) -> None:
    def judge(text: str) -> bool:
        return bool(critic("z" + text))

    out = dk.generate(
        "zoo:base", "x", constraint={"type": "integer"}, strategy=[AWRS(), SMC(particles=3, critic=judge)], max_tokens=5
    )
    assert out.finish == "refused"
    assert words in out.message


def test_what_cannot_end_is_refused() -> None:
    with pytest.raises(OptionError, match=r"needs a token that ends a text.*eos="):
        dk.generate(TableModel(vocab=5, eos=(), seed=1), [1], strategy="sample", must_end=True, max_tokens=3)
    with pytest.raises(OptionError, match="left to right"):
        dk.generate("zoo:masked", "x", must_end=True, max_tokens=3)
