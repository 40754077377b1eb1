"""Every built-in plugin keeps what it declares."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from decodekit.registry.discovery import load
from decodekit.testing import Check, TableModel, ToyConstraint, checks_for

MODEL = TableModel(vocab=5, seed=3, scale=1.0)


def make(name: str, **options: Any) -> Any:
    return load(name)(**options)


INSTANCES: list[tuple[Any, dict[str, Any]]] = [
    (make("greedy"), {}),
    (make("sample"), {}),
    (make("mask"), {}),
    (make("awrs"), {}),
    (make("smc", particles=3, ess=0.9), {"samples": 500}),
    (make("temperature", value=0.7), {}),
    (make("top_k", k=3), {}),
    (make("top_p", p=0.8), {}),
    (make("min_p", p=0.2), {}),
    (make("repetition_penalty", penalty=1.6), {}),
    (make("speculative", draft=TableModel(vocab=5, seed=3, scale=1.0, blur=0.6), k=3), {}),
    (make("rejection"), {}),
    (make("lantern", neighbours=2, delta=0.3, codebook=torch.arange(10.0).sin().view(5, 2)), {}),
    (make("guidance", scale=1.5, prompt=(1,)), {}),
    (make("threshold", tau=0.5, block=3), {}),
    (ToyConstraint(seed=4), {}),
    (ToyConstraint(seed=4, dead_ends=True), {}),
]
ALL = [check for instance, context in INSTANCES for check in checks_for(instance, **context)]


@pytest.mark.parametrize("check", ALL, ids=lambda check: f"{check.subject.about.name}-{check.name}")
def test_built_in(check: Check) -> None:
    check()
