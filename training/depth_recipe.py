"""SkipDecode and its controls: ``python -m training.depth_recipe ARM --out FOLDER [--steps --seed]``.

Every arm but one starts from ``deep`` (8 layers), trained as usual; what counts is what each gains from the same few
steps more. Arms: ``skip2`` and ``skip4`` are tuned under SkipDecode's schedule at a half and a quarter of the mean
depth, ``bottom2`` exits at the bottom on the same schedule as ``skip2``, ``full`` goes on at full depth, and
``exits`` learns to speak at every second layer (the sum of the losses of its exits, LayerSkip's early-exit loss with
equal weights, arXiv 2404.16710, section 4.1.2). ``shallow`` is a model of half the layers trained from scratch on as
many tokens as ``deep`` and its tuning together.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel

from decodekit.models.layer_schedule import Depths
from decodekit.models.stack import Stack
from decodekit.zoo import FOLDER as ZOO
from training import batches, objectives, tokenizer, train
from training.partial import running
from training.settings import SETTINGS, Settings, build

FOLDER = ZOO
#: The answers of the JSON task have about 40 tokens; depth has fallen to its least after 32.
LENGTH = 32
SCHEDULES = {
    "skip2": Depths(8, most=6, least=2, length=LENGTH),
    "skip4": Depths(8, most=3, least=1, length=LENGTH),
    "bottom2": Depths(8, most=6, least=2, length=LENGTH, kind="bottom"),
}
EXITS = (2, 4, 6, 8)
TUNING = 800
ARMS = (*SCHEDULES, "exits", "full", "shallow")


def indices(chunk: batches.Chunk) -> Tensor:
    """[B, T] generated index of each token: 0 for the first of the answer, negative in the prompt."""
    answer = chunk.weights == 1.0
    start = torch.where(answer.any(1), answer.to(torch.int64).argmax(1), chunk.tokens.shape[1])  # [B]
    return torch.arange(chunk.tokens.shape[1]) - start[:, None]


def under(depths: Depths) -> objectives.Objective:
    """Next-token loss of a model whose layers run on `depths`."""

    def objective(model: PreTrainedModel, chunk: batches.Chunk) -> tuple[Tensor, Tensor]:
        with running(model, depths, indices(chunk)):
            return objectives.causal(model, chunk)

    return objective


def exits(model: PreTrainedModel, chunk: batches.Chunk) -> tuple[Tensor, Tensor]:
    """Mean of the next-token losses at :data:`EXITS`, each through the shared final norm and head."""
    stack, here = Stack(model), chunk.tokens
    position = torch.arange(chunk.tokens.shape[1], device=chunk.tokens.device)[None]
    goal, weights = chunk.tokens[:, 1:].flatten(), chunk.weights[:, 1:].flatten()  # [B*(T-1)]
    losses = []
    for low, high in pairwise((0, *EXITS)):
        here = stack.run(range(low, high), here, position, None, None)  # [B, T, H]
        losses.append(F.cross_entropy(stack.logits(here)[:, :-1].flatten(0, 1), goal, reduction="none"))
    return (torch.stack(losses).mean(0) * weights).sum(), weights.sum()


def _start(arm: str, seed: int, steps: int | None) -> tuple[PreTrainedModel, objectives.Objective, Settings]:
    words = tokenizer.load(FOLDER / "base")
    deep = SETTINGS["deep"]
    torch.manual_seed(seed)
    if arm == "shallow":
        settings = replace(deep, layers=4, steps=steps or deep.steps + TUNING, seed=seed)
        return build(settings, words), objectives.causal, settings
    # Another order of the data than `deep` saw, a rate that its end can bear, and no weight on what it knows.
    settings = replace(deep, steps=steps or TUNING, seed=100 + seed, rate=2e-3, warmup=40)
    model = AutoModelForCausalLM.from_pretrained(str(FOLDER / "deep"), dtype=torch.float32)
    objective = objectives.causal if arm == "full" else exits if arm == "exits" else under(SCHEDULES[arm])
    return model, objective, settings


def tune(
    model: PreTrainedModel, objective: objectives.Objective, steps: Iterator[list[batches.Chunk]], settings: Settings
) -> Iterator[float]:
    """Train `model` in place, on whatever device accelerate finds; yields the loss of each step."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=settings.decay)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    for step, chunks in zip(range(settings.steps), steps, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = train.rate(step, settings)
        total, weight = 0.0, sum(float(c.weights.sum()) for c in chunks)
        for chunk in chunks:
            parts = (chunk.tokens, chunk.attention, chunk.weights)
            placed = batches.Chunk(*(part.to(accelerator.device) for part in parts))
            loss = objective(model, placed)[0] / weight
            accelerator.backward(loss)
            total += loss.item()
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield total


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Tune the deep model of the zoo for less depth, or a control of that.")
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--steps", type=int, help="optimiser steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, objective, settings = _start(options.arm, options.seed, options.steps)
    words, begin, losses = tokenizer.load(FOLDER / "base"), time.process_time(), []
    for loss in tune(model, objective, batches.steps(settings, words), settings):
        losses.append(loss)
        if len(losses) % 100 == 0:
            print(f"{options.arm} {len(losses)}/{settings.steps} {sum(losses[-100:]) / 100:.4f}", flush=True)
    notes: dict[str, object] = {"arm": options.arm, **train.notes(settings, model, losses, time.process_time() - begin)}
    if options.arm in SCHEDULES:
        notes["depths"] = asdict(SCHEDULES[options.arm])
    train.save(model, words, options.out, notes)
    print(json.dumps({"arm": options.arm, "loss": losses[-1]}))


if __name__ == "__main__":
    main()
