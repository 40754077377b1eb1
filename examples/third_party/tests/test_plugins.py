"""The public conformance suite on both plugins, and one fact of each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from decodekit.registry.discovery import load
from decodekit.testing import check_plugin


@pytest.mark.parametrize("instance", [load("epsilon")(0.05), load("blind")()], ids=["epsilon", "blind"])
def test_conformance(instance: Any) -> None:
    check_plugin(instance)


def test_epsilon_drops_what_is_less_probable() -> None:
    logits = torch.tensor([[[0.5, 0.3, 0.15, 0.05], [0.01, 0.97, 0.01, 0.01]]]).log()  # [1, 2, 4]
    kept = load("epsilon")(0.2).warp(None, None, logits).isfinite()
    assert kept.tolist() == [[[True, True, False, False], [False, True, False, False]]]
    assert load("epsilon")(0.99).warp(None, None, logits).isfinite().sum(-1).tolist() == [[1, 1]]
