"""Fitted rules: what they ask for on the data, what files say, and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import decodekit as dk
from decodekit.cli.main import app
from decodekit.core.uncertainty import ANSWER, SIGNALS
from decodekit.ensembles.calibrate import cascade, router
from decodekit.errors import CompositionError, DecodekitError
from decodekit.models.load import load
from decodekit.scores.fitted_rules import Fitted, Observed, balanced, by_rate, logistic
from decodekit.scores.methods.entropy import Coefficients
from decodekit.zoo.data import json_examples

PROMPTS = [e.prompt for e in json_examples("train", 12, 6)]


def seen(n: int = 4000) -> Observed:
    random = np.random.default_rng(0)
    signals = {name: random.exponential(size=n) for name in SIGNALS}
    suspicion = 2 * signals["entropy"] - 1.5 * signals["gap"]
    return Observed(signals, suspicion + random.normal(size=n) > 1.0)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_a_threshold_asks_at_the_given_rate_on_the_uncertain_side(signal: str, rate: float) -> None:
    data = seen()
    rule = by_rate(data, signal, rate)
    asks = rule.score(data.signals) > rule.threshold
    assert asks.mean() == pytest.approx(rate, abs=2 / len(asks))
    rising = signal in ("entropy", "varentropy")
    values = data.signals[signal]
    assert values[asks].min() >= values[~asks].max() if rising else values[asks].max() <= values[~asks].min()


def test_logistic_regression_finds_what_made_the_labels() -> None:
    data = seen()
    rule = logistic(data)
    assert rule.weights["entropy"] > 0 > rule.weights["gap"]
    assert abs(rule.weights["top1"]) < 0.2 > abs(rule.weights["varentropy"])
    assert rule.made["accuracy"] > 0.85
    rated = logistic(data, 0.25)
    assert rated.made["call rate"] == pytest.approx(0.25, abs=0.01)
    # The gradient of the penalised balanced loss vanishes at the answer.
    weights, bias, mean, scale = balanced(data.signals, data.mismatch)
    x = np.stack([(data.signals[n] - mean[n]) / scale[n] for n in SIGNALS], 1)
    p = 1 / (1 + np.exp(-(x @ np.array(list(weights.values())) + bias)))
    share = data.mismatch.mean()
    weight = np.where(data.mismatch, 0.5 / share, 0.5 / (1 - share)) / len(x)
    assert np.abs(x.T @ (weight * (p - data.mismatch)) + 1e-3 * np.array(list(weights.values()))).max() < 1e-8


def test_labels_that_a_plane_parts_do_not_run_away() -> None:
    x = np.linspace(-1, 1, 50)
    weights, *_ = balanced({"a": x, "b": x**2}, x > 0)
    assert np.isfinite(list(weights.values())).all()


def test_a_router_on_models_and_back(tmp_path: Path) -> None:
    rule, _ = router("zoo:draft", "zoo:base", PROMPTS, rate=0.15, strategy="greedy", most=60)
    assert rule.made["call rate"] == pytest.approx(0.15, abs=0.01)
    assert 0.0 < rule.made["mismatches"] < 0.5
    assert rule.made["mismatches caught"] > 0.3  # disagreement sits where the fast model is unsure
    rule.save(tmp_path / "r.json")
    assert Fitted.load(tmp_path / "r.json", "test") == rule
    out = dk.generate(
        "zoo:draft",
        PROMPTS,
        strategy=f"greedy | fast_slow(slow='zoo:base', route='fitted', fitted={str(tmp_path / 'r.json')!r})",
        max_tokens=60,
    )
    assert out[0].trace is not None
    facts = out[0].trace.whole
    asked = sum(len(facts.told("position asked", g)["value"]) for g in range(len(PROMPTS)))
    assert 0.05 < asked / sum(len(one.tokens) for one in out) < 0.35
    with pytest.raises(CompositionError, match="have other tokens"):
        router("zoo:draft", "zoo:hops", PROMPTS)


def test_a_cascade_defers_the_given_share() -> None:
    for rule in (
        cascade("zoo:draft", "zoo:base", PROMPTS, rate=0.25, strategy="greedy", most=60),
        cascade(
            "zoo:draft",
            "zoo:base",
            PROMPTS,
            rate=0.25,
            strategy="greedy",
            most=60,
            quality=lambda at, text: len(text) % 7,
        ),
    ):
        assert rule.made["deferred"] == pytest.approx(0.25, abs=1 / 12)
        assert set(rule.weights) <= set(ANSWER)


def test_the_command_line(tmp_path: Path) -> None:
    run, out = CliRunner(), tmp_path / "rule.json"
    good = run.invoke(
        app, ["fit", "router", "--out", str(out), "--task", "json(limit=6)", "--rate", "0.3", "--learned"]
    )
    assert good.exit_code == 0, good.output
    assert json.loads(out.read_text())["made"]["fast"] == "zoo:draft"
    good = run.invoke(app, ["fit", "cascade", "--out", str(out), "--task", "json(limit=6)", "--learned"])
    assert good.exit_code == 0, good.output
    assert json.loads(out.read_text())["made"]["method"] == "logistic"
    for words, said in (
        (["router"], "give either --prompts FILE or --task TASK"),
        (["router", "--task", "json(limit=2)", "--rate", "1.5"], "is no share"),
        (["router", "--task", "json(limit=2)", "--signal", "mean"], "choose one of"),
        (["cascade", "--prompts", "x", "--learned"], "cannot be read"),
        (["router", "--task", "nothing"], "nothing"),
    ):
        bad = run.invoke(app, ["fit", *words, "--out", str(out)])
        assert bad.exit_code == 2
        assert said in bad.output


def test_wepr_from_the_command_line(tmp_path: Path) -> None:
    runner, out, prompts = CliRunner(), tmp_path / "wepr.json", tmp_path / "prompts.txt"
    prompts.write_text("Ada\nBo\n", encoding="utf-8")
    words = ["fit", "wepr", "--task", "json(limit=24)", "--fast", "zoo:skip", "--k", "6", "--samples", "3"]
    done = runner.invoke(app, [*words, "--temperature", "1.2", "--max-tokens", "48", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "held-out AUROC" in done.output
    told = Coefficients.load(out)
    assert (told.k, told.temperature, told.model) == (6, 1.2, load("zoo:skip").name)
    assert told.made["strategy"] == "sample | temperature(1.2)"
    found = dk.generate(
        "zoo:skip", "Ada", strategy="sample", scores=[f"wepr(fitted={str(out)!r})"], max_tokens=12
    )  # the score plans top_k by itself
    ((_, value),) = found.scores.items()
    assert 0.0 < value < 1.0
    with pytest.raises(DecodekitError, match=r"was fitted for .*, and this text is of"):
        dk.score(dk.generate("zoo:base", "Ada", max_tokens=8), f"wepr(fitted={str(out)!r})")
    for more, said in (
        ([*words[:2], "--prompts", str(prompts)], "fit wepr needs --task"),
        ([*words, "--k", "99999"], "has 1280 tokens; give a smaller --k"),
        (["fit", "wepr", "--task", "json(limit=1)", "--max-tokens", "1"], "texts that are wrong and texts that are"),
    ):
        done = runner.invoke(app, [*more, "--out", str(out)])
        assert done.exit_code == 2, done.output
        assert said in " ".join((done.stderr or str(done.exception)).split())
