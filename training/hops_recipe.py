"""Pondering and its controls on k hops: ``python -m training.hops_recipe ARM --out FOLDER``.

All arms are GPT-2 models of width 64 with the paper's initialisation (arXiv 2505.20674: truncated normal of deviation
sqrt(2 / 5H), output projections divided by sqrt(2 L)), the paper's embedding scale sqrt(H) folded into the table, and
the same data in the same order. ``plain`` is one layer read once; ``ponder`` is the same layer read four times (three
steps of pondering); ``deep`` has four layers read once, the compute of ``ponder`` with 3.5 times its parameters;
``long`` is ``plain`` for four times the steps, which is the compute of ``ponder`` on four times its data.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from decodekit.zoo import hops

WIDTH, BATCH, RATE, STEPS = 64, 64, 3e-3, 2400


@dataclass(frozen=True)
class Arm:
    """layers of the model, passes of pondering before the last, and how much longer it trains."""

    layers: int
    ponder: int
    longer: int = 1


ARMS = {"plain": Arm(1, 0), "ponder": Arm(1, 3), "deep": Arm(4, 0), "long": Arm(1, 0, 4)}


def build(arm: Arm) -> GPT2LMHeadModel:
    """A randomly initialised model; seed torch before calling it."""
    config = GPT2Config(
        vocab_size=len(hops.vocabulary()),
        n_embd=WIDTH,
        n_layer=arm.layers,
        n_head=4,
        n_positions=hops.M + hops.QUERIES + 2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=len(hops.vocabulary()) - 1,
        tie_word_embeddings=False,
    )
    model = GPT2LMHeadModel(config)
    deviation = math.sqrt(2 / (5 * WIDTH))
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            nn.init.trunc_normal_(weight, std=deviation, a=-3 * deviation, b=3 * deviation)
        if name.endswith("c_proj.weight"):
            weight.data /= math.sqrt(2 * arm.layers)
    model.transformer.wte.weight.data *= math.sqrt(WIDTH)
    return model


def ponder(model: Any, tokens: Tensor, steps: int) -> Tensor:
    """Logits [B, T, V] of the last pass, by the definition and without a cache (arXiv 2505.20674, section 2)."""
    table = model.get_input_embeddings().weight
    here = table[tokens]
    for _ in range(steps):
        here = here + model(inputs_embeds=here, use_cache=False).logits.softmax(-1) @ table
    logits: Tensor = model(inputs_embeds=here, use_cache=False).logits
    return logits


def accuracy(model: Any, steps: int, which: str = "heldout", count: int = 512) -> dict[str, float]:
    """Share of right answers by number of hops, over fixed texts of one split."""
    generator = torch.Generator().manual_seed(999)
    drawn = hops.texts(hops.split("train" if which == "train" else "heldout"), count, generator)
    with torch.no_grad():
        logits = ponder(model, drawn.tokens.to(model.device), steps)[:, hops.M :, : hops.M].cpu()
    right = (logits.argmax(-1) == drawn.answers).double()
    return {str(k): round(float(right[drawn.hops == k].mean()), 4) for k in range(1, hops.HOPS + 1)}


def train(arm: Arm, seed: int, steps: int) -> tuple[Any, list[dict[str, Any]]]:
    """The trained model and its held-out accuracy along the way."""
    torch.manual_seed(seed)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    model = build(arm)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.01)
    model, optimizer = accelerator.prepare(model, optimizer)
    generator, known = torch.Generator().manual_seed(seed), hops.split("train")
    total, curve = steps * arm.longer, []
    for step in range(total):
        rate = RATE * min(1.0, (step + 1) / 50) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / total)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        drawn = hops.texts(known, BATCH, generator)
        logits = ponder(model, drawn.tokens.to(accelerator.device), arm.ponder)[:, hops.M :]
        loss = F.cross_entropy(logits.flatten(0, 1), drawn.answers.flatten().to(accelerator.device))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % max(1, total // 6) == 0 or step + 1 == total:
            curve.append({"step": step + 1, "loss": round(loss.item(), 4), "heldout": accuracy(model, arm.ponder)})
            print(json.dumps(curve[-1]), flush=True)
    return accelerator.unwrap_model(model), curve


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a pondering model on k hops, or a control of it.")
    parser.add_argument("arm", choices=list(ARMS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    arm, begin = ARMS[options.arm], time.process_time()
    model, curve = train(arm, options.seed, options.steps)
    options.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(options.out))
    hops.tokenizer().save_pretrained(str(options.out))
    GenerationConfig(eos_token_id=model.config.eos_token_id).save_pretrained(str(options.out))
    about = {
        "arm": options.arm,
        "seed": options.seed,
        "steps": options.steps * arm.longer,
        "layers": arm.layers,
        "ponder": arm.ponder,
        "passes": (arm.ponder + 1) * arm.layers,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu_seconds": round(time.process_time() - begin),
        "curve": curve,
        "train": accuracy(model, arm.ponder, "train"),
        "by_steps": {str(s): accuracy(model, s) for s in range(5)} if arm.ponder else {},
        "torch": torch.__version__,
    }
    (options.out / "training.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
