"""Training is reproducible bit for bit, learns, and its batches say what they should."""

from dataclasses import replace

import pytest
import torch

from decodekit import zoo
from decodekit.zoo import sums
from decodekit.zoo.data import json_examples
from training import batches, objectives, sums_recipe, tokenizer, train
from training.settings import SETTINGS, Settings

WORDS = tokenizer.load(zoo.path("base"))


def _tiny(name: str) -> Settings:
    return replace(
        SETTINGS[name],
        hidden=32,
        layers=1,
        heads=2,
        inner=48,
        steps=20,
        batch=8,
        chunk=4,
        warmup=5,
        distil=0.0,
        start="",
    )


def _run(settings: Settings) -> tuple[list[float], dict[str, torch.Tensor]]:
    model, objective = train.prepare(settings, WORDS)
    losses = list(train.optimise(model, objective, batches.steps(settings, WORDS), settings))
    return losses, model.state_dict()


@pytest.mark.parametrize("name", ["base", "masked"])
def test_twenty_steps_are_reproducible_and_the_loss_falls(name: str) -> None:
    torch.set_num_threads(1)
    losses, weights = _run(_tiny(name))
    again, same = _run(_tiny(name))
    assert losses == again
    assert len(losses) == 20
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    assert sum(losses[-4:]) / 4 < sum(losses[:4]) / 4 - 0.5
    other, _ = _run(replace(_tiny(name), seed=2))
    assert other != losses


def test_rate_warms_up_peaks_and_decays() -> None:
    settings = SETTINGS["base"]
    rates = [train.rate(step, settings) for step in range(settings.steps)]
    assert max(rates) == pytest.approx(settings.rate)
    assert rates.index(max(rates)) in (settings.warmup - 1, settings.warmup)
    assert rates[-1] < 0.03 * settings.rate
    assert rates[0] < 0.01 * settings.rate


def test_causal_batches_weigh_the_answer_and_its_end() -> None:
    rows = batches.encode(json_examples("train", 5, 1), WORDS)
    chunk = batches.causal(rows, WORDS.pad_token_id, 0.1)
    for row, e in enumerate(rows):
        assert chunk.tokens[row, chunk.weights[row] == 1.0].tolist() == e.answer
        assert e.answer[-1] == WORDS.eos_token_id
        assert int((chunk.weights[row] == 0.1).sum()) == len(e.prompt)


def test_padding_changes_no_loss() -> None:
    rows = batches.encode(json_examples("train", 6, 2), WORDS)
    settings = _tiny("base")
    torch.manual_seed(0)
    model = train.prepare(settings, WORDS)[0].double()
    together = objectives.causal(model, batches.causal(rows, WORDS.pad_token_id, 0.1))
    alone = [objectives.causal(model, batches.causal([row], WORDS.pad_token_id, 0.1)) for row in rows]
    assert together[0].item() == pytest.approx(sum(loss.item() for loss, _ in alone), rel=1e-6)
    assert together[1].item() == pytest.approx(sum(weight.item() for _, weight in alone), rel=1e-6)


def test_canvas_is_the_answer_then_end() -> None:
    rows = batches.encode(json_examples("train", 5, 1), WORDS)
    chunk = batches.canvas(rows, WORDS.pad_token_id, WORDS.eos_token_id, 60)
    for row, e in enumerate(rows):
        assert chunk.tokens[row, -60:].tolist() == e.answer + [WORDS.eos_token_id] * (60 - len(e.answer))
        assert chunk.tokens[row, chunk.attention[row] == 1].tolist()[: len(e.prompt)] == e.prompt


def test_masked_loss_reads_only_masked_cells() -> None:
    rows = batches.encode(json_examples("train", 4, 1), WORDS)
    chunk = batches.canvas(rows, WORDS.pad_token_id, WORDS.eos_token_id)
    seen: list[torch.Tensor] = []

    class Perfect(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
            seen.append(input_ids)
            logits = torch.nn.functional.one_hot(chunk.tokens, len(WORDS)).float() * 50  # [B, T, V]
            logits[input_ids != WORDS.mask_token_id] = 0.0  # wrong wherever nothing was asked
            return type("Out", (), {"logits": logits})()

    loss, weight = objectives.masked(WORDS.mask_token_id, torch.Generator().manual_seed(3))(Perfect(), chunk)
    assert float(loss) == pytest.approx(0.0, abs=1e-5)
    assert float(weight) == 4.0
    prompts = [len(r.prompt) for r in rows]
    assert max(prompts) + 48 == seen[0].shape[1]
    assert bool((seen[0][:, : max(prompts)] != WORDS.mask_token_id).all())


def test_data_hash_changes_with_the_seed() -> None:
    assert batches.data_hash(SETTINGS["base"], 50) != batches.data_hash(replace(SETTINGS["base"], seed=9), 50)
    assert len(next(batches.steps(SETTINGS["base"], WORDS))) == SETTINGS["base"].batch // SETTINGS["base"].chunk


def test_sums_train_reproducibly_and_the_loss_falls() -> None:
    torch.set_num_threads(1)
    model, losses = sums_recipe.train(1, 40)
    again, same = sums_recipe.train(1, 40)
    assert losses == same
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.2
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_sums_are_judged_by_adding_up() -> None:
    good = sums.record(3, 8) + sums.record(9, 9)
    assert sums.right(good)
    assert sums.right(good, 2)
    assert not sums.right(good, 3)
    assert not sums.right(good.replace("18", "17"))
    assert not sums.right(good[:-1])
    assert not sums.right("x" * 32)
    words = sums.tokenizer()
    assert words.decode(words(good)["input_ids"]) == good
    assert len(words(good)["input_ids"]) == 2 * sums.WIDTH
