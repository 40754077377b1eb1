"""LANTERN over trees of guesses: exact at delta = 0, within delta by transport, more tokens a pass for more delta."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.registry import discovery
from decodekit.testing import FALSE_ALARM, TableModel, chi_square, enumerate_law, run

pytestmark = pytest.mark.skipif("tree" not in discovery.names(), reason="no plugin guesses trees")

VOCAB = 6
BOOK = torch.randn(VOCAB, 2, generator=torch.Generator().manual_seed(3))
TARGET = TableModel(vocab=VOCAB, seed=5, eos=(), scale=1.2)
DRAFT = TableModel(vocab=VOCAB, seed=5, eos=(), scale=1.2, blur=1.0)


def tree(*branch: int) -> Any:
    return discovery.load("tree")(draft=DRAFT, branch=branch)


def lantern(rule: str, delta: float, k: int = 5) -> Any:
    return discovery.load("lantern")(neighbours=k, delta=delta, rule=rule, codebook=BOOK)


@pytest.mark.parametrize("rule", ["paper", "dynamic", "transport"])
def test_delta_zero_has_the_targets_law(rule: str) -> None:
    law = enumerate_law(TARGET.logits, [1], 3).plain
    out = run([tree(2, 2), lantern(rule, 0.0)], TARGET, [[1]], max_tokens=3, samples=3000, seed=4)
    assert chi_square(law, out.texts) > FALSE_ALARM


def test_delta_zero_is_rejection_token_for_token() -> None:
    given: dict[str, Any] = {"prompts": [[1], [2, 3]], "max_tokens": 9, "samples": 10, "seed": 4}
    for rule in ("paper", "transport"):
        relaxed = run([tree(2, 2), lantern(rule, 0.0)], TARGET, **given)
        assert relaxed.texts == run([tree(2, 2), dk.rejection()], TARGET, **given).texts


def test_transport_stays_within_delta() -> None:
    out = run([tree(3), lantern("transport", 0.2)], TARGET, [[1]], max_tokens=2, samples=6000, seed=4)
    seen, p = Counter(text[0] for text in out.texts), TARGET.logits([1]).softmax(-1)
    apart = sum(abs(seen[v] / 6000 - float(p[v])) for v in range(VOCAB)) / 2
    assert 0.05 < apart < 0.2 + 0.03


def test_more_delta_writes_more_a_pass() -> None:
    lengths = []
    for delta in (0.0, 0.2, 0.5):
        out = run([tree(2, 2, 2), lantern("transport", delta)], TARGET, [[1]], max_tokens=24, samples=40, seed=4)
        lengths.append(sum(map(sum, out.takes)) / sum(take > 0 for takes in out.takes for take in takes))
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[2]
