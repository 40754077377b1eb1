"""Scores where their value is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decodekit.registry.discovery import SCORES, load
from decodekit.scores.base import Samples, Text
from decodekit.scores.evaluate import fold_values
from decodekit.scores.folds import Tokens
from decodekit.scores.methods.claims import combined, conditioned
from decodekit.scores.methods.meaning import inverse, joint
from decodekit.scores.methods.relevance import relevance, shifted
from decodekit.scores.tools import Tools
from decodekit.trace.logit_statistics import digest


def of(name: str, *args: Any, **options: Any) -> Any:
    return load(name, SCORES)(*args, **options)


def text(said: str, logp: Sequence[float] = (-1.0,), weight: float = 1.0, **columns: Any) -> Text:
    pieces = [word.encode() for word in said.split("|")]
    pieces += [b""] * (len(logp) - len(pieces))
    known = {"logp": np.array(logp), "token": np.arange(len(logp)), **columns}
    return Text(said.replace("|", ""), known, pieces, weight)


def group(*said: str, weights: Sequence[float] | None = None) -> Samples:
    shares = weights or [1 / len(said)] * len(said)
    return Samples([text(one, weight=w) for one, w in zip(said, shares, strict=True)])


SAME, APART, TWO = ["a b"] * 6, list("abcdef"), ["a", "a", "a", "b", "b", "b"]


@pytest.mark.parametrize(
    ("said", "eigv", "deg", "ecc", "entropy"),
    [(SAME, 1, 0, 0, 0), (APART, 6, 5 / 6, math.sqrt(5), math.log(6)), (TWO, 2, 0.5, 1, math.log(2))],
)
def test_three_graphs(said: list[str], eigv: float, deg: float, ecc: float, entropy: float) -> None:
    for name, value in (("eigv", eigv), ("deg", deg), ("ecc", ecc), ("semantic_entropy", entropy)):
        assert of(name).of_samples(group(*said), Tools()) == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("affinity", ["similarity", "entail", "contradict"])
@pytest.mark.parametrize("name", ["eigv", "deg", "ecc", "semantic_entropy"])
@given(data=st.data())
def test_a_weight_is_a_number_of_copies(name: str, affinity: str, data: Any) -> None:
    words = st.lists(st.sampled_from(["red", "blue", "a red", "red dog", "cat"]), min_size=2, max_size=4, unique=True)
    said = data.draw(words)
    copies = data.draw(st.lists(st.integers(1, 3), min_size=len(said), max_size=len(said)))
    score = of(name) if name == "semantic_entropy" else of(name, affinity=affinity)
    total = sum(copies)
    heavy = group(*said, weights=[c / total for c in copies])
    light = group(*(one for one, c in zip(said, copies, strict=True) for _ in range(c)))
    assert score.of_samples(heavy, Tools()) == pytest.approx(score.of_samples(light, Tools()), abs=1e-6)


def test_semantic_volume() -> None:
    eps, n = 1e-6, 5
    volume = of("semantic_volume", eps=eps)
    same = volume.of_samples(group(*["a"] * n), Tools(embed=lambda texts: np.ones((len(texts), 3))))
    assert same == pytest.approx(math.log(n + eps) + (n - 1) * math.log(eps), rel=1e-6)
    apart = volume.of_samples(group(*"abcde"), Tools(embed=lambda texts: np.eye(len(texts))))
    assert apart == pytest.approx(0.0, abs=1e-4)
    flat = of("semantic_volume", dimensions=2).of_samples(
        group(*"abcde"), Tools(embed=lambda texts: np.random.default_rng(0).normal(size=(len(texts), 9)))
    )
    assert flat < apart


def test_sentence_sar_in_its_limits() -> None:
    even, energy = np.full(4, 0.25), np.array([1.0, 2.0, 0.5, 3.0])
    alike = np.full((4, 4), 0.7)
    assert shifted(energy, alike, even, 1e12) == pytest.approx(energy.mean())
    assert shifted(energy, np.zeros((4, 4)), even, 0.001) == pytest.approx(energy.mean())
    same = shifted(np.full(4, 2.0), np.ones((4, 4)), even, 0.001)
    assert same == pytest.approx(2 - math.log(1 + 3 / 0.001))


def test_token_sar_in_its_limits() -> None:
    told = text("a |b |c", (-1.0, -2.0, -6.0))
    assert of("token_sar").of_text(told, Tools(similarity=lambda a, b: 0.25)) == pytest.approx(3.0)
    assert of("token_sar").of_text(told, Tools(similarity=lambda a, b: 1.0)) == pytest.approx(3.0)  # nothing matters
    only = Tools(similarity=lambda a, b: 0.0 if "b" not in b else 1.0)
    assert of("token_sar").of_text(told, only) == pytest.approx(2.0)
    special = text("a |b", (-1.0, -2.0, -50.0))  # an end token says nothing
    assert of("token_sar").of_text(special, Tools(similarity=lambda a, b: 0.5)) == pytest.approx(1.5)
    twice = text("a |b |a ", (-1.0, -2.0, -6.0))
    seen: list[str] = []

    def listens(a: str, b: str) -> float:
        seen.append(b)
        return 0.5

    relevance(twice, Tools(similarity=listens))
    assert seen == ["b a ", "a a ", "a b "]  # left out at its position, not everywhere


def test_claim_conditioned_probability() -> None:
    law = {"entail": (1, 0, 0), "neutral": (0, 1, 0), "contradict": (0, 0, 1)}
    pairs = [(a, b) for a in law for b in law]
    found = combined(np.array([[law[a], law[b]] for a, b in pairs], dtype=np.float64))
    for (a, b), word in zip(pairs, found, strict=True):
        expected = a if a == b else "neutral" if {a, b} == {"entail", "contradict"} else ({a, b} - {"neutral"}).pop()
        assert word == expected
    chance = np.array([0.5, 0.2, 0.1])
    assert conditioned(chance, ["neutral", "neutral"]) == 1.0
    assert conditioned(chance, ["entail", "entail"]) == 1.0
    assert conditioned(chance, ["contradict", "contradict"]) == pytest.approx(0.5 / 0.8)
    assert conditioned(chance, ["entail", "contradict"]) == pytest.approx(0.7 / 0.8)


def test_inverse_entropy_is_of_probabilities() -> None:
    made = np.random.default_rng(3)
    phrasings, answers = (np.abs(np.corrcoef(made.normal(size=(6, 8)))) for _ in range(2))
    prior, back = joint(phrasings, answers)
    assert back.sum(1) == pytest.approx(np.ones(6))
    assert prior.sum() == pytest.approx(1.0)
    assert inverse(np.eye(5), np.eye(5)) == pytest.approx(0.0)  # an answer goes back to its own phrasing
    assert inverse(np.ones((5, 5)), np.ones((5, 5))) == pytest.approx(math.log(5))
    paraphrases = [group("x", "x"), group("x", "x"), group("x", "x")]
    score = of("inv_entropy").of_results(paraphrases, Tools())
    assert score == pytest.approx(math.log(3))


def laws(vocab: int, rows: int, seed: int) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    scale = torch.rand(rows, 1, generator=made, dtype=torch.float64) * 8
    return (scale * torch.randn(rows, vocab, generator=made, dtype=torch.float64)).log_softmax(-1)


def tokens(law: torch.Tensor, k: int) -> Tokens:
    found = digest(law, k)
    assert found.top_logps is not None
    assert found.top_ids is not None
    named = {name: getattr(found, name) for name in ("entropy", "varentropy", "s2", "s3", "s4", "top_ids", "top_logps")}
    return Tokens({**named, "logp": found.top_logps[:, 0], "token": found.top_ids[:, 0]}, law.shape[-1])


@given(st.integers(3, 60), st.integers(0, 10_000))
def test_kurtosis_from_power_sums(vocab: int, seed: int) -> None:
    law = laws(vocab, 5, seed)
    p = law.exp()
    centred = p - p.mean(1, keepdim=True)
    spread = centred.square().mean(1)
    plain = centred.pow(4).mean(1) / spread.square() - 3
    sure = (spread > 1e-4 * p.square().mean(1)).numpy()  # rounding costs 2e-16 / ratio^2 of the figure
    found = of("kurtosis").each(tokens(law, 1))[:, 0].numpy()
    assert found[sure] == pytest.approx(plain.numpy()[sure], rel=1e-5)


def test_kurtosis_of_one_certain_token() -> None:
    vocab = 100
    law = torch.full((1, vocab), -torch.inf, dtype=torch.float64)
    law[0, 7] = 0.0
    found = float(of("kurtosis").each(tokens(law, 1))[0, 0])
    assert found == pytest.approx((vocab - 1) + 1 / (vocab - 1) - 4)


@given(st.integers(3, 60), st.integers(1, 20), st.integers(0, 10_000))
def test_bounds_on_the_entropy(vocab: int, k: int, seed: int) -> None:
    k = min(k, vocab)
    seen = tokens(laws(vocab, 5, seed), vocab)
    whole = of("epr", k=vocab).each(seen)[:, 0]
    assert whole == pytest.approx(seen["entropy"], abs=1e-9)  # EPR of everything is the entropy
    head = of("epr", k=k).each(seen)[:, 0].numpy()
    entropy, logp = seen["entropy"].numpy(), seen["top_logps"].numpy()
    assert (head <= entropy + 1e-9).all()
    rest = (1 - np.exp(logp[:, :k]).sum(1)).clip(min=1e-300)
    if k < vocab:
        low = head + rest * np.maximum(-np.log(rest), -logp[:, k - 1])
        high = head - rest * np.log(rest) + rest * math.log(vocab - k)
        assert (low <= entropy + 1e-9).all()
        assert (entropy <= high + 1e-9).all()


def test_one_pass_scores() -> None:
    logp = np.array([-0.5, -2.0, -0.1])
    one = text("a|b|c", logp.tolist(), entropy=np.array([1.0, 3.0, 0.2]))
    expected = {
        "nll": 2.6,
        "perplexity": 2.6 / 3,
        "geometric_mean": math.exp(-2.6 / 3),
        "arithmetic_mean": np.exp(logp).mean(),
        "mean_entropy": 1.4,
        "max_entropy": 3.0,
        "quantile": -2.0,
    }
    for name, value in expected.items():
        assert fold_values(of(name), [one]) == pytest.approx([value]), name
    for q in (0.0, 0.25, 0.5, 1.0):
        assert fold_values(of("quantile", q=q), [one]) == pytest.approx([np.quantile(logp, q)])
