"""A feature head: same texts as plain decoding whatever it says, features that follow the rows, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import decodekit as dk
from decodekit.core.protocols import Round
from decodekit.core.rows import Rows
from decodekit.errors import CompositionError, ModelError
from decodekit.models.feature_head import FILE, READ, STATES, FeatureHead
from decodekit.testing import TableModel
from decodekit.testing.harness import run


@pytest.fixture(scope="module")
def base() -> Any:
    return dk.load("zoo:base", dtype="float64")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random head for `zoo:base`: it guesses badly, and must change nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("head")
    save_file(FeatureHead(192, 6, 64).state_dict(), folder / FILE)
    return str(folder)


class Watch:
    """Compares the features in the columns with a plain pass over the text."""

    def __init__(self, model: Any) -> None:
        self.model, self.worst, self.seen = model, 0.0, 0

    def round(self, what: Round) -> None:
        rows = what.rows
        for r in range(len(rows)):
            upto = min(int(rows.n[r]) - 1, int(rows.columns[READ][r]))
            with torch.inference_mode():
                truth = self.model.hf.model(input_ids=rows.tokens[r : r + 1, :upto], use_cache=False)[0][0]
            self.worst = max(self.worst, float((rows.columns[STATES][r, :upto] - truth).abs().max()))
            self.seen += upto

    def moved(self, rows: Rows, index: Any) -> None: ...


def test_same_texts_as_plain_and_features_that_follow(base: Any, head: str) -> None:
    prompts = [base.tokenizer(text)["input_ids"] for text in ("Which pets", "For 3 euros Vixa", "a")]
    given: dict[str, Any] = {"max_tokens": [12, 7, 9], "samples": 2, "seed": 3}
    for strategy in (["sample"], ["greedy"]):
        plain = run(strategy, base, prompts, **given)
        watch = Watch(base)
        drafted = run([*strategy, dk.eagle(head=head, k=3, window=5)], base, prompts, observers=[watch], **given)
        assert drafted.texts == plain.texts
        assert watch.seen > 100
        assert watch.worst < 1e-5


def test_features_follow_particles(base: Any, head: str) -> None:
    prompt = [base.tokenizer("Which pets")["input_ids"]]
    watch = Watch(base)
    parts = [dk.temperature(1.5), dk.awrs(), dk.smc(particles=4, ess=1.0), dk.eagle(head=head, k=2)]
    run(parts, base, prompt, constraint=dk.regex("[a-zA-Z ]{20}"), max_tokens=10, seed=1, observers=[watch])
    assert watch.seen > 100
    assert watch.worst < 1e-5


def test_the_trained_head_saves_passes() -> None:
    prompts = [dk.images.prompt(kind) for kind in range(5)]
    given: dict[str, Any] = {"max_tokens": 49, "seed": 1}
    plain = dk.generate("zoo:visual", prompts, strategy="sample", **given)
    drafted = dk.generate("zoo:visual", prompts, strategy="sample | eagle('zoo:visual', k=6)", **given)
    assert [one.tokens for one in drafted] == [one.tokens for one in plain]
    assert drafted[0].cost.rounds < 40
    paced = dk.generate("zoo:visual", prompts, strategy="sample | eagle('zoo:visual', k=6, adapt=True)", **given)
    assert [one.tokens for one in paced] == [one.tokens for one in plain]
    assert paced[0].cost.models["draft"].fed < 0.8 * drafted[0].cost.models["draft"].fed  # they rarely stand there
    verified = dk.generate("zoo:visual", prompts, strategy="rejection | eagle('zoo:visual', k=6)", **given)
    assert all(len(one.tokens) == 49 for one in verified)


def test_what_cannot_be_is_said(base: Any, head: str, tmp_path: Path) -> None:
    with pytest.raises(CompositionError, match="hidden"):
        run([dk.eagle(head=head)], TableModel(), [[1]])
    with pytest.raises(ModelError, match="no feature head at"):
        run([dk.eagle(head=str(tmp_path))], base, [[1]])
    with pytest.raises(ModelError, match="width 192, and this one's is 160"):
        run([dk.eagle(head=head)], dk.load("zoo:visual"), [[1]])
    save_file({"a": torch.zeros(1)}, tmp_path / FILE)
    with pytest.raises(ModelError, match=r"lacks join\.weight"):
        run([dk.eagle(head=str(tmp_path))], base, [[1]])
    plain = dk.load("zoo:base", cache="none")
    with pytest.raises(CompositionError, match="cache='slab'"):
        run([dk.eagle(head=head)], plain, [[1]])
