"""Diffusion and autoregression in one loop: canvases that draft, and cells that ponder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.errors import CompositionError
from decodekit.models.load import load
from decodekit.plugins.canvas_draft import CanvasDraft
from decodekit.registry.discovery import load as named
from decodekit.testing import checks_for
from decodekit.testing.conformance import Check
from decodekit.testing.tables import TableModel
from decodekit.zoo import sums
from decodekit.zoo.data import json_examples

PROMPTS = [example.prompt for example in json_examples("heldout", 3, 3)]


@pytest.mark.parametrize("rule", ["greedy", "sample | temperature(0.8)"])
@pytest.mark.parametrize("options", ["k=6", "k=6, every=2", "k=4, every=1, cells=20"])
def test_a_diffusion_draft_changes_nothing_but_the_number_of_passes(rule: str, options: str) -> None:
    plain = dk.Decoder("zoo:base", rule, dtype="float64").generate(PROMPTS, max_tokens=32, seed=4)
    drafted = dk.Decoder("zoo:base", f"canvas_draft(draft='zoo:masked', {options}) | {rule}", dtype="float64")
    found = drafted.generate(PROMPTS, max_tokens=32, seed=4)
    assert [one.tokens for one in found] == [one.tokens for one in plain]
    assert found[0].cost.models["target"].calls < plain[0].cost.models["target"].calls
    assert found[0].cost.models["draft"].calls > 0
    # Guesses that are never taken would keep the text, too.
    assert found[0].cost.models["target"].calls < 0.6 * plain[0].cost.models["target"].calls
    words = found[0].trace.header["words"]
    assert "draft" in words
    assert bool((found[0].trace.by("draft") & found[0].trace["accepted"]).any())


def test_one_reading_gives_as_many_guesses_as_are_asked() -> None:
    def calls(every: int) -> tuple[int, int]:
        spec = f"canvas_draft(draft='zoo:masked', k=6, every={every}) | greedy"
        out = dk.Decoder("zoo:base", spec).generate(PROMPTS[0], max_tokens=40)
        return out.cost.models["draft"].calls, out.cost.rounds

    once, rounds = calls(6)
    assert once <= rounds
    each, rounds = calls(1)
    assert each > 2 * rounds


@pytest.mark.parametrize(
    "check",
    checks_for(CanvasDraft(draft=TableModel(vocab=5, seed=8, masked=True), k=3, every=2)),
    ids=lambda check: check.name,
)
def test_conformance_of_the_draft(check: Check) -> None:
    check()


def test_drafts_that_cannot_work_are_refused_in_a_sentence() -> None:
    for draft, said in (("zoo:draft", "no masked language model"), ("zoo:sums", "other tokens")):
        with pytest.raises(CompositionError, match=said):
            dk.generate("zoo:base", "x", strategy=f"canvas_draft(draft='{draft}') | greedy", max_tokens=4)
    with pytest.raises(CompositionError, match="name a selector that goes with canvas_draft"):
        dk.generate("zoo:masked", "x", strategy="canvas_draft(draft='zoo:masked')", max_tokens=4)


def test_without_weight_soft_masks_are_the_model_itself() -> None:
    for name, prompt in (("zoo:sums", sums.PROMPT), ("zoo:masked", PROMPTS[0])):
        plain, soft = (
            dk.Decoder(name, spec, dtype="float64").generate(prompt, max_tokens=40 if name == "zoo:masked" else None)
            for spec in ("threshold", "threshold | soft_masks(weight=0.0)")
        )
        assert plain.tokens == soft.tokens
        assert plain.logp == pytest.approx(soft.logp, abs=1e-8)


@pytest.mark.parametrize("steps", [1, 2])
def test_extra_passes_read_the_expectation_of_the_pass_before(steps: int) -> None:
    model = load("zoo:sums", dtype="float64")
    ids = [17 if token != model.mask else token for token in [17, 13, *[model.mask] * 14]]
    seen: list[torch.Tensor] = []

    class Watch:
        def round(self, what: Any) -> None:
            seen.append(what.logits.clone())

        def moved(self, rows: Any, index: Any) -> None:
            pass

    from decodekit.testing.harness import run

    run(f"unmask | soft_masks(weight=0.3, steps={steps})", model, [ids], max_tokens=0, observers=[Watch()])
    with torch.inference_mode():
        table = model.hf.get_input_embeddings()
        given = torch.tensor([ids])
        plain, hidden = table(given), (given == model.mask)[..., None]
        logits = model.hf(input_ids=given).logits
        for _ in range(steps):
            logits = logits.index_fill(2, torch.tensor([model.mask]), -torch.inf)
            here = torch.where(hidden, 0.7 * plain + 0.3 * logits.softmax(-1) @ table.weight, plain)
            logits = model.hf(inputs_embeds=here).logits
    want = logits.index_fill(2, torch.tensor([model.mask]), -torch.inf)[0, 2:]
    assert torch.allclose(seen[0][0], want, atol=1e-10)


@pytest.mark.parametrize("spec", ["soft_masks(weight=0.25)", "soft_masks(weight=0.25, steps=1, top_k=4)"])
def test_soft_masks_do_not_depend_on_the_batch_and_cost_their_passes(spec: str) -> None:
    decoder = dk.Decoder("zoo:sums", f"threshold(block=8) | {spec}", dtype="float64")
    prompts = ["a={mask*30}", "a=3,b={mask},sum=11;\n", "a=1,b={mask*9}"]
    for prompt, one in zip(prompts, decoder.generate(prompts), strict=True):
        alone = decoder.generate(prompt)
        assert alone.tokens == one.tokens
        assert alone.logp == pytest.approx(one.logp, abs=1e-8)
        assert alone.cost.calls == alone.cost.rounds * (2 if "steps=1" in spec else 1)


def test_what_cannot_be_softened_is_refused() -> None:
    with pytest.raises(CompositionError, match="masked language model"):
        dk.generate("zoo:base", "x", strategy="sample | soft_masks", max_tokens=4)
    assert named("soft_masks")(weight=0.5).weight == 0.5
