"""Token weights, the contrast of two models, and where spelling in tokens is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import decodekit as dk
from decodekit.analysis import token_weights as tw
from decodekit.errors import OptionError
from decodekit.models.load import load
from decodekit.text.canonical import canonicality_of

LOGP = np.array([-0.1, -3.0, -0.2, -5.0, -0.3, -0.2])
LOW, HIGH = np.full(6, 0.1), np.full(6, 3.0)


def test_q_tuning_by_quadrant() -> None:
    limits = {"ppl_limit": 1.0, "entropy_limit": 1.0}
    assert tw.q_tuning(LOGP, HIGH, **limits).sum() == 0
    assert tw.q_tuning(LOGP / 100, LOW, **limits).sum() == 0
    assert tw.q_tuning(LOGP / 100, HIGH, **limits).sum() == 6
    kept = tw.q_tuning(LOGP, LOW, **limits, keep=0.5, smooth=0.0)
    assert kept.tolist() == [1, 0, 1, 0, 0, 1]
    smoothed = tw.q_tuning(LOGP, LOW, **limits, keep=1 / 6, smooth=1.0)
    assert smoothed.tolist() == [0, 1, 0, 0, 0, 0]  # its neighbours are the least surprising


def test_ss_token() -> None:
    before = LOGP - np.array([0, 1, 2, 3, 4, 5])
    assert tw.ss_token(LOGP, before, np.zeros(6), rho=0.5).tolist() == [0, 0, 0, 1, 1, 1]
    by_attention = tw.ss_token(LOGP, before, np.array([9, 8, 7, 0, 0, 0]), gamma=0.0, rho=0.5)
    assert by_attention.tolist() == [1, 1, 1, 0, 0, 0]


def test_cdpo_is_the_contrast_at_decoding_time() -> None:
    made = torch.Generator().manual_seed(0)
    strong, weak = (torch.randn(5, 9, generator=made, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    token = torch.arange(5)[:, None]
    law = (2 * strong - weak).log_softmax(-1)
    mine = tw.cdpo(
        strong.gather(1, token)[:, 0].numpy(),
        weak.gather(1, token)[:, 0].numpy(),
        (2 * strong - weak).logsumexp(-1).numpy(),
    )
    assert mine == pytest.approx(law.gather(1, token)[:, 0].exp().numpy())


def test_lp_reg_and_uncertainty_aware() -> None:
    top = np.log(np.array([[0.7, 0.2, 0.01], [0.6, 0.3, 0.05], [0.98, 0.005, 0.004]]))
    own = np.array([np.log(0.2), np.log(0.05), np.log(0.004)])
    found = tw.lp_reg(own, top, share=1.0)
    assert found == pytest.approx([0.2 / 0.9, 0.05 / 0.95, 0.0])  # the last is noise
    assert tw.lp_reg(own, top, advantage=1.0).sum() == 0
    assert np.count_nonzero(tw.lp_reg(own, top, share=2 / 3)) == 1
    assert tw.uncertainty_aware([2.0, 2.0], [True, False]) == pytest.approx([np.tanh(2), 1 - np.tanh(2)])
    with pytest.raises(OptionError, match="give one number for each of the 6 tokens"):
        tw.ss_token(LOGP, LOGP[:2], LOGP)


def test_contrast_as_a_warper() -> None:
    strong, weak = load("zoo:base"), load("zoo:draft")
    out = dk.generate(strong, "Ada Park is", strategy="greedy | contrast('zoo:draft', keep=0.1)", max_tokens=8, eos=())
    text = list(out.prompt.tokens)
    for token in out.tokens:
        with torch.no_grad():
            own, other = (m.hf(torch.tensor([text])).logits[0, -1].log_softmax(-1) for m in (strong, weak))
        other = torch.nn.functional.pad(other, (0, len(own) - len(other)), value=-torch.inf)[: len(own)]
        mixed = (2 * own - other).masked_fill(own < own.max() + np.log(0.1), -torch.inf)
        assert int(mixed.argmax()) == token
        text.append(token)
    same = dk.generate(strong, "Ada Park is", strategy="greedy | contrast('zoo:base')", max_tokens=8, eos=())
    assert same.tokens == dk.generate(strong, "Ada Park is", max_tokens=8, eos=()).tokens


def test_the_observer_of_spelling() -> None:
    tokenizer: Any = load("zoo:base").tokenizer
    found = dk.generate(
        "zoo:base", "Ada", strategy="sample | canonicality | temperature(3.0)", max_tokens=30, n=6, seed=1
    )
    verdicts, seen = canonicality_of(tokenizer), 0
    for number, sample in enumerate(found.samples):
        ids = sample.tokens[:-1] if sample.finish == "eos" else sample.tokens
        so_far = verdicts.so_far(ids)
        told = found.trace.told("not canonical at", number)["value"].tolist()
        start = len(found.prompt.tokens)
        assert told == ([start + so_far.index(False)] if False in so_far else [])
        seen += len(told)
    assert seen > 0


def test_which_tokens_the_tokenizer_writes() -> None:
    tokenizer: Any = load("zoo:base").tokenizer
    verdicts = canonicality_of(tokenizer)
    ids = verdicts.encode("Ada Park is here, and")
    assert len(ids) > 4
    assert verdicts.written(ids) == [True] * len(ids)
    cut = next(i for i, token in enumerate(ids) if len(verdicts.bytes_of(token)) > 1)
    letters = [t for byte in verdicts.bytes_of(ids[cut]) for t in range(300) if verdicts.bytes_of(t) == bytes([byte])]
    spelt = [*ids[:cut], *letters, *ids[cut + 1 :]]
    assert verdicts.written(spelt) == [True] * cut + [False] * len(letters) + [True] * (len(ids) - cut - 1)
    assert verdicts.so_far(spelt)[-1] is False  # which stays False to the end
    broken = next(t for t in range(300) if verdicts.bytes_of(t) == b"\xff")
    assert verdicts.written([*ids, broken, *ids]) == [True] * len(ids) + [False] + [True] * len(ids)
    begun = next(t for t in range(300) if verdicts.bytes_of(t) == b"\xc3")
    assert verdicts.written([*ids, begun]) == [True] * (len(ids) + 1)
