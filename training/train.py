"""Train a zoo model: ``python -m training.train base|draft|masked|tokenizer [--steps --seed --out]``.

A run is decided by its settings and seed alone: exact step counts, seeded generators, one thread.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from decodekit.zoo import FOLDER as ZOO
from training import batches, objectives, tokenizer
from training.settings import SETTINGS, Settings, build

FOLDER = ZOO


def rate(step: int, settings: Settings) -> float:
    """Learning rate of ``step``: linear warm-up, then half a cosine down to 2 % of the peak."""
    if step < settings.warmup:
        return settings.rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def _optimizer(model: PreTrainedModel, settings: Settings) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), fused=True)


def optimise(
    model: PreTrainedModel, objective: objectives.Objective, steps: Iterator[list[batches.Chunk]], settings: Settings
) -> Iterator[float]:
    """Train ``model`` in place for ``settings.steps`` steps; yields the loss of each."""
    optimizer = _optimizer(model, settings)
    model.train()
    for step, chunks in enumerate(islice(steps, settings.steps)):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, settings)
        total, weight = 0.0, sum(float(c.weights.sum()) for c in chunks)
        if settings.name == "masked":
            weight = float(sum(len(c.tokens) for c in chunks))
        for chunk in chunks:
            loss = objective(model, chunk)[0] / weight
            torch.autograd.backward(loss)
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield total


def prepare(settings: Settings, words: PreTrainedTokenizerFast) -> tuple[PreTrainedModel, objectives.Objective]:
    """The seeded model and the loss that it is trained with."""
    torch.manual_seed(settings.seed)
    model = build(settings, words)
    if settings.start:
        begun = LlamaForCausalLM.from_pretrained(str(FOLDER / settings.start), dtype=torch.float32)
        model.load_state_dict(begun.state_dict())
    if settings.name == "masked":
        generator = torch.Generator().manual_seed(settings.seed)
        return model, objectives.full(objectives.masked(words.mask_token_id, generator))
    if settings.distil > 0.0:
        teacher = LlamaForCausalLM.from_pretrained(str(FOLDER / "base"), dtype=torch.float32).eval()
        return model, objectives.distilled(teacher, settings.distil)
    return model, objectives.causal


def save(model: PreTrainedModel, words: PreTrainedTokenizerFast, out: Path, about: dict[str, object]) -> None:
    """Write the Hugging Face folder: configuration, bfloat16 weights, tokenizer and ``training.json``."""
    out.mkdir(parents=True, exist_ok=True)
    half = type(model)(model.config)
    half.load_state_dict(model.state_dict())
    half.to(torch.bfloat16).save_pretrained(str(out))
    words.save_pretrained(str(out))
    GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id).save_pretrained(str(out))
    (out / "training.json").write_text(json.dumps(about, indent=2) + "\n")


def notes(settings: Settings, model: PreTrainedModel, losses: list[float], seconds: float) -> dict[str, object]:
    """What `training.json` says of a training."""
    every = max(1, settings.steps // 20)
    curve = [losses[at : at + every] for at in range(0, len(losses), every)]
    return {
        "settings": asdict(settings),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps_done": len(losses),
        "examples_seen": len(losses) * settings.batch,
        "data_hash": batches.data_hash(settings),
        "losses": [round(sum(part) / len(part), 5) for part in curve],
        "losses_are": f"means over {every} steps",
        "cpu_seconds": round(seconds),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def run(settings: Settings, out: Path, every: int = 100, snapshot: int = 1000) -> None:
    """Train, print the loss ``every`` steps, write the folder each ``snapshot`` steps and at the end."""
    words = tokenizer.load(FOLDER / "base")
    model, objective = prepare(settings, words)
    losses: list[float] = []
    begin = time.process_time()
    for loss in optimise(model, objective, batches.steps(settings, words), settings):
        losses.append(loss)
        if len(losses) % every == 0:
            mean = sum(losses[-every:]) / every
            print(
                f"step {len(losses)}/{settings.steps} loss {mean:.4f} {time.process_time() - begin:.0f} s", flush=True
            )
        if len(losses) % snapshot == 0 or len(losses) == settings.steps:
            save(model, words, out, notes(settings, model, losses, time.process_time() - begin))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train an embedded model of the zoo.")
    parser.add_argument("what", choices=[*SETTINGS, "tokenizer"])
    parser.add_argument("--steps", type=int, help="optimiser steps (default: what the shipped weights had)")
    parser.add_argument("--seed", type=int, help="seed of data order and initial weights")
    parser.add_argument("--out", type=Path, help="folder to write (default: the package's own)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "tokenizer":
        words = tokenizer.build()
        for name in SETTINGS:
            words.save_pretrained(str((options.out or FOLDER) / name))
        return
    settings = SETTINGS[options.what]
    if options.steps is not None:
        settings = replace(settings, steps=options.steps)
    if options.seed is not None:
        settings = replace(settings, seed=options.seed)
    run(settings, options.out or FOLDER / options.what)


if __name__ == "__main__":
    main()
