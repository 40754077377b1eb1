"""Processors of others as constraints."""

from __future__ import annotations

import pytest
import torch

import decodekit as dk
from decodekit.constraints.kinds.logits_processor import LogitsProcessorOf
from decodekit.errors import ConstraintError, OptionError
from decodekit.models.load import load


@pytest.mark.parametrize("strategy", ["sample", "awrs", "greedy", "speculative(draft='zoo:draft') | sample"])
def test_our_own_processor_comes_back_as_the_constraint_that_it_is(strategy: str) -> None:
    model, rule = load("zoo:base"), dk.regex("(yes|no|maybe)(, (yes|no)){0,3}!")
    there = dk.processor(lambda: LogitsProcessorOf(rule, model))
    for seed in range(3):
        plain = dk.generate(model, "Well: ", constraint=rule, strategy=strategy, seed=seed, max_tokens=30)
        back = dk.generate(model, "Well: ", constraint=there, strategy=strategy, seed=seed, max_tokens=30)
        assert plain.tokens == back.tokens
        assert plain.finish == back.finish == "eos"


def test_what_is_no_processor_is_refused() -> None:
    with pytest.raises(OptionError, match="should be callable"):
        dk.processor(3)
    with pytest.raises(ConstraintError, match="gave no scores"):
        dk.generate("zoo:base", "x", constraint=dk.processor(lambda: lambda ids, scores: torch.zeros(2)), max_tokens=2)
