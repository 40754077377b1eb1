"""Figures of correctness prediction, against their definitions and against lm-polygraph where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import decodekit as dk
from decodekit.cli.main import app
from decodekit.comparison import score_quality
from decodekit.scores.base import Text
from decodekit.scores.tools import Tools, jaccard

PEER = importlib.util.find_spec("lm_polygraph")


class Anything(types.ModuleType):
    """Stands for modules that annotations name and formulas do not use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


def peer(module: str) -> Any:
    """A module of lm-polygraph by its file: its package imports far more than these formulas need."""
    if PEER is None or not PEER.submodule_search_locations:
        pytest.skip("lm-polygraph is not installed (extra bench)")
    folder = Path(next(iter(PEER.submodule_search_locations)))
    for package in ("lm_polygraph", "lm_polygraph.estimators", "lm_polygraph.ue_metrics", "lm_polygraph.utils"):
        if package not in sys.modules:
            made = types.ModuleType(package)
            made.__path__ = [str(folder / Path(*package.split(".")[1:]))]
            sys.modules[package] = made
    sys.modules.setdefault("lm_polygraph.utils.model", Anything("lm_polygraph.utils.model"))
    return importlib.import_module(f"lm_polygraph.{module}")


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_auroc_counts_pairs(seed: int, count: int) -> None:
    made = np.random.default_rng(seed)
    unsure, right = made.integers(0, 5, count).astype(float), made.random(count) < 0.5
    pairs = [float(w > f) + 0.5 * float(w == f) for w in unsure[~right] for f in unsure[right]]
    found = score_quality.auroc(unsure, right)
    assert (np.isnan(found) and not pairs) or found == pytest.approx(np.mean(pairs))


def test_prr_in_its_limits() -> None:
    quality = np.random.default_rng(0).random(400)
    assert score_quality.prr(-quality, quality) == pytest.approx(1.0)
    assert score_quality.prr(quality, quality) < 0
    assert abs(score_quality.prr(np.random.default_rng(1).random(400), quality)) < 0.2
    random = [score_quality.rejection_area(np.random.default_rng(i).random(400), quality) for i in range(200)]
    scaled = (quality - quality.min()) / np.ptp(quality)
    assert np.mean(random) == pytest.approx(scaled.mean(), abs=0.005)  # what lm-polygraph estimates by shuffling


def test_calibration_error() -> None:
    made = np.random.default_rng(0)
    chance = made.random(2000)
    right = made.random(2000) < chance
    calibrated = score_quality.calibration_error(-np.log(chance / (1 - chance)), right)
    assert calibrated < 0.05
    assert score_quality.row("x", np.arange(10.0).tolist(), [1.0] * 10).auroc is None


@pytest.fixture(scope="module")
def drawn() -> list[Any]:
    made = dk.Decoder("zoo:base", "sample | temperature(1.2)", n=5, max_tokens=14)
    found: list[Any] = made.generate(["Ada Park is 36.", "The old dog", "A red ladder costs"])
    return found


def test_equal_to_lm_polygraph(drawn: list[Any]) -> None:
    texts = [[sample.text for sample in out.samples] for out in drawn]
    pairs = [
        ("eig_val_laplacian", "EigValLaplacian", "eigv"),
        ("deg_mat", "DegMat", "deg"),
        ("eccentricity", "Eccentricity", "ecc"),
    ]
    for module, name, mine in pairs:
        theirs = getattr(peer(f"estimators.{module}"), name)(similarity_score="Jaccard_score")
        assert dk.score(drawn, mine) == pytest.approx(theirs({"sample_texts": texts}).tolist(), abs=1e-5), mine


def test_semantic_entropy_and_sar_equal_to_lm_polygraph(drawn: list[Any]) -> None:
    from decodekit.scores.evaluate import samples_of
    from decodekit.scores.methods.meaning import clusters
    from decodekit.scores.methods.relevance import _pairs

    groups = [samples_of(out)[1] for out in drawn]
    number = [clusters(group, Tools(), 0.0) for group in groups]
    known = {
        "sample_texts": [group.said for group in groups],
        "semantic_classes_entail": {
            "sample_to_class": dict(enumerate(number)),
            "class_to_sample": {
                i: [[j for j, c in enumerate(one) if c == k] for k in range(max(one) + 1)]
                for i, one in enumerate(number)
            },
        },
    }
    theirs = peer("estimators.semantic_entropy").SemanticEntropy(class_probability_estimation="frequency")(known)
    assert dk.score(drawn, "semantic_entropy") == pytest.approx(theirs.tolist(), abs=1e-5)
    stats = {
        "sample_log_likelihoods": [[text.logp for text in group.texts] for group in groups],
        "sample_token_similarity": [
            [_token_similarity(text, _pairs(text)) for text in group.texts] for group in groups
        ],
        "sample_sentence_similarity": [
            np.array([[jaccard(a, b) for b in group.said] for a in group.said]) for group in groups
        ],
    }
    assert dk.score(drawn, "sar") == pytest.approx(peer("estimators.sar").SAR()(stats).tolist(), abs=1e-5)


def _token_similarity(text: Text, pairs: list[tuple[str, str]]) -> Any:
    """Of tokens without text (an end token) 1: they have no relevance."""
    out = np.ones(len(text))
    out[[i for i, piece in enumerate(text.pieces) if piece]] = [jaccard(a, b) for a, b in pairs]
    return out


def test_prr_equal_to_lm_polygraph() -> None:
    area = peer("ue_metrics.pred_rej_area").PredictionRejectionArea()
    made = np.random.default_rng(4)
    for _ in range(20):
        unsure, quality = made.random(30), made.random(30)
        assert score_quality.rejection_area(unsure, quality) == pytest.approx(
            area(unsure.tolist(), quality.tolist()), abs=1e-12
        )


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    arguments = ["eval-uq", "--task", "arithmetic(limit=4)", "--samples", "2", "--out", str(tmp_path / "u.json")]
    arguments += ["--score", "gnll", "--score", "perplexity", "--score", "deg", "--score", "ccp"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "AUROC" in done.output
    assert (tmp_path / "u.json").exists()
    done = CliRunner().invoke(app, ["eval-uq", "--score", "nothing"])
    assert done.exit_code == 2
