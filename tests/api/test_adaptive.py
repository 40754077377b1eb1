"""A strategy for each request: the probe decides, batches do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import decodekit as dk
from decodekit.cli.main import app
from decodekit.ensembles.adaptive import hidden_states
from decodekit.ensembles.probing import CLASSES, fit_probe, judged, labels_of, trained
from decodekit.errors import CompositionError, OptionError
from decodekit.models.load import load
from decodekit.testing.tables import TableModel
from decodekit.zoo.data import json_examples, sql_examples
from decodekit.zoo.scoring import judge_sql

PROMPTS = [e.prompt for e in [*json_examples("heldout", 2, 3), *sql_examples("heldout", 3, 3)]]
BUNDLES = {"easy": "greedy", "normal": dk.Bundle("sample", max_tokens=20), "hard": dk.Bundle(prompt="Well: {prompt}")}


def probe() -> dk.Probe:
    """Knows records from statements: the hidden state was trained to say what comes."""
    records, questions = json_examples("train", 20, 1), sql_examples("train", 20, 1)
    model = load("zoo:base")
    ids = [model.tokenizer(e.prompt)["input_ids"] for e in (*records, *questions)]
    return trained(hidden_states(model, ids), torch.tensor([0] * 20 + [1] * 20), 8, 200, 0)


def test_a_constant_probe_is_its_bundle() -> None:
    for name in BUNDLES:
        adaptive = dk.Adaptive("zoo:base", BUNDLES, dk.Probe.constant(name, 192), max_tokens=30)
        got = adaptive.generate(PROMPTS, seed=5)
        bundle = BUNDLES[name] if isinstance(BUNDLES[name], dk.Bundle) else dk.Bundle(BUNDLES[name])
        assert isinstance(bundle, dk.Bundle)
        texts = [bundle.prompt.replace("{prompt}", p) for p in PROMPTS]
        want = dk.generate("zoo:base", texts, strategy=bundle.strategy, max_tokens=bundle.max_tokens or 30, seed=5)
        assert [one.tokens for one in got] == [one.tokens for one in want]


def test_a_mixed_batch_is_its_classes_alone() -> None:
    adaptive = dk.Adaptive("zoo:base", BUNDLES, probe(), max_tokens=30)
    assert adaptive.chosen(PROMPTS) == ["easy"] * 2 + ["normal"] * 3
    together = adaptive.generate(PROMPTS, seed=5)
    alone = [adaptive.generate(p, seed=5) for p in PROMPTS]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    assert [one.spec for one in together] == ["greedy"] * 2 + ["sample"] * 3
    assert all(len(one.tokens) <= 20 for one in together[2:])
    assert together[0].cost.models["probe"].calls == 2
    assert adaptive.generate([]) == []


def test_a_saved_probe_is_the_same(tmp_path: Path) -> None:
    one = probe()
    one.save(tmp_path / "p.safetensors")
    again = dk.Probe.load(tmp_path / "p.safetensors")
    hidden = torch.randn(9, 192, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one.scores(hidden), again.scores(hidden))
    assert again.names == CLASSES


def test_labels() -> None:
    accuracy, entropy = [1.0, 0.9, 0.5, 0.2, 0.0, 0.9], [0.9, 0.1, 0.1, 0.1, 0.1, 0.9]
    assert [CLASSES[i] for i in labels_of(accuracy, entropy)] == ["easy", "easy", "normal", "hard", "hard", "normal"]


def test_a_probe_that_knows_nothing_is_found_out() -> None:
    noise = torch.Generator().manual_seed(0)
    label = torch.randint(3, (90,), generator=noise)
    told = torch.nn.functional.one_hot(label, 3).float() * 4
    auc, chance, high = judged(told, label, 0)
    assert auc == 1.0
    assert chance == pytest.approx(0.5, abs=0.02)
    assert judged(torch.randn(90, 3, generator=noise), label, 0)[0] < high + 0.1


def test_fitting_on_sampled_answers(tmp_path: Path) -> None:
    asked = sql_examples("train", 24, 2)
    made = fit_probe(
        "zoo:draft", [e.prompt for e in asked], lambda at, t: float(judge_sql(asked[at], t).rows), samples=3, most=40
    )
    assert sum(made.made["shares"].values()) == pytest.approx(1.0)
    assert 0.0 <= made.made["held-out AUC"] <= 1.0 or made.made["held-out AUC"] != made.made["held-out AUC"]
    out = tmp_path / "probe.safetensors"
    done = CliRunner().invoke(
        app, ["fit", "probe", "--fast", "zoo:draft", "--task", "sql(limit=12)", "--out", str(out), "--max-tokens", "30"]
    )
    assert done.exit_code == 0, done.output
    assert dk.Probe.load(out).made["requests"] == 12
    bad = CliRunner().invoke(app, ["fit", "probe", "--prompts", str(out), "--out", str(out)])
    assert bad.exit_code == 2


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(CompositionError, match="the probe chooses 'hard', and there is no bundle of this name"):
        dk.Adaptive("zoo:base", {"easy": "greedy", "normal": "sample"}, probe())
    with pytest.raises(CompositionError, match="there is no probe"):
        dk.Adaptive("zoo:base", BUNDLES, tmp_path / "none.safetensors")
    (tmp_path / "odd").write_text("x" * 40)
    with pytest.raises(CompositionError, match="cannot be read"):
        dk.Adaptive("zoo:base", BUNDLES, tmp_path / "odd")
    with pytest.raises(CompositionError, match="hidden states of width 7, and zoo:base has 192"):
        dk.Adaptive("zoo:base", BUNDLES, dk.Probe.constant("easy", 7))
    with pytest.raises(CompositionError, match="does not give"):
        hidden_states(TableModel(vocab=5), [[1]])
    with pytest.raises(OptionError, match="reads text"):
        dk.Adaptive("zoo:base", BUNDLES, probe()).generate([[1, 2]])
