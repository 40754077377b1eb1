"""The second leg of ``zoo:masked``: JSON alone, from the weights of the first (``train masked``).

The first leg had learnt the form of a record and half of its fields when its learning rate was spent, with a loss that
still fell. ``python -m decodekit.models.zoo.masked_recipe --start FOLDER --out FOLDER``.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM

from . import batches, objectives, tokenizer
from .settings import SETTINGS
from .train import FOLDER, notes, optimise, save

LEG = replace(
    SETTINGS["masked"], steps=3500, rate=1.2e-3, warmup=100, seed=2, easy=0, mixture={"json": 0.9, "sql": 0.1}
)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train zoo:masked further, on the JSON task alone.")
    parser.add_argument("--start", type=Path, default=FOLDER / "masked", help="folder of the weights to begin with")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=LEG.steps)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(LEG.seed)
    words, settings = tokenizer.load(FOLDER / "base"), replace(LEG, steps=options.steps)
    model = AutoModelForMaskedLM.from_pretrained(str(options.start), dtype=torch.float32)
    objective = objectives.masked(words.mask_token_id, torch.Generator().manual_seed(LEG.seed))
    losses: list[float] = []
    begin = time.process_time()
    for loss in optimise(model, objective, batches.steps(settings, words), settings):
        losses.append(loss)
        done = len(losses)
        if done % 100 == 0:
            mean = sum(losses[-100:]) / 100
            print(f"step {done}/{settings.steps} loss {mean:.4f} {time.process_time() - begin:.0f} s", flush=True)
        if done % 1000 == 0 or done == settings.steps:
            about = notes(settings, model, losses, time.process_time() - begin)
            save(model, words, options.out, about | {"start": "the weights of `train masked` (14,000 steps)"})


if __name__ == "__main__":
    main()
