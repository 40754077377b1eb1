"""The recipes of the visual models: data without any file, a few steps of training, and runs that go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training import visual_recipe
from training.visual_data import on_paper, pictures, shapes


def test_shapes_are_drawn_where_there_are_no_digits(tmp_path: Path) -> None:
    ink, labels = pictures(str(tmp_path))
    assert ink.shape[1:] == (28, 28)
    assert set(labels.tolist()) == set(range(10))
    again, _ = shapes(len(ink), torch.Generator().manual_seed(7))
    assert torch.equal(ink, again)
    paper = on_paper(ink[:8], torch.Generator().manual_seed(1))
    assert float(paper.min()) >= 0.0
    assert float(paper.max()) <= 1.0
    assert float(paper.std()) > 0.05


@pytest.mark.parametrize("what", ["vq", "draft", "head"])
def test_a_training_stops_goes_on_and_is_saved(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODEKIT_DATA", str(tmp_path))  # drawn shapes: no file is read
    settings = replace(visual_recipe.SETTINGS[what], steps=4, batch=4)
    visual_recipe.train(what, replace(settings, steps=2), tmp_path / "state.pt", every=2)
    model, about = visual_recipe.train(what, settings, tmp_path / "state.pt", every=2)
    assert len(about["losses"]) == 2
    planned = [(part["from_step"], part["planned_steps"]) for part in about["schedules"]]
    assert planned == [(0, 2), (2, 4)]
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    visual_recipe.save(what, model, about, tmp_path)
    assert (tmp_path / ("visual-draft" if what == "draft" else "visual") / "training.json").is_file()
