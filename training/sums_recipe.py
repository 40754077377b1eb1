"""Train ``zoo:sums``, the masked diffusion model of records with sums: ``python -m training.sums_recipe``.

The recipe is one of few that work at this size: fixed-width fields, random preferences for relative positions (biases
of queries and keys under the rotary embedding, see `settings`), a stratified number of masks, and enough steps. Without
the biases training stays for thousands of steps where every field is guessed by itself.
"""

import argparse
import json
import math
import time
from pathlib import Path
from random import Random

import torch
import transformers
from torch import nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from decodekit.models.full_attention import Full
from decodekit.zoo import FOLDER as ZOO
from decodekit.zoo import sums
from training import objectives
from training.batches import Chunk

WIDTH, LAYERS, HEADS, INNER = 64, 2, 4, 192
STEPS, BATCH, RATE, SEED = 14000, 32, 3e-3, 1
BIAS, EASY = 1.5, 4000
#: How often a batch has fewer records than the canvas holds, so that shorter canvases are known as well.
SHORT = 0.2


def build(words: transformers.PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A randomly initialised model in the layout of LLaDA; seed torch before calling it."""
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=2 * sums.CELLS,
        # A canvas is short: a small base gives every head frequencies that tell near positions apart.
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        initializer_range=0.05,
        attention_bias=True,
        tie_word_embeddings=False,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        bos_token_id=None,
        mask_token_id=words.mask_token_id,
        diffusion={"attention": "full", "shift": False},
        canvas=sums.CELLS,
    )
    model = LlamaForCausalLM(config)
    nn.init.normal_(model.model.embed_tokens.weight, std=1.0)
    nn.init.normal_(model.lm_head.weight, std=0.02)
    for layer in model.model.layers:
        for one in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            nn.init.normal_(one.bias, std=BIAS)
    return model


def train(seed: int, steps: int) -> tuple[LlamaForCausalLM, list[float]]:
    """The trained model and its loss at every step; decided by the seed and the number of steps alone."""
    torch.manual_seed(seed)
    words = sums.tokenizer()
    model = build(words)
    generator, rng = torch.Generator().manual_seed(seed), Random(f"sums-{seed}")
    objective, full = objectives.masked(words.mask_token_id, generator, EASY), Full(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    model.train()
    losses: list[float] = []
    begin = time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            rise = min(1.0, (step + 1) / 100)
            group["lr"] = RATE * rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        records = rng.randint(1, sums.RECORDS - 1) if rng.random() < SHORT else sums.RECORDS
        tokens = sums.batch(words, rng, BATCH, records)  # [B, N]
        chunk = Chunk(tokens, torch.ones_like(tokens), torch.ones(tokens.shape))
        total, rows = objective(full, chunk)
        loss = total / rows
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 250 == 0:
            bits = sum(losses[-250:]) / 250 * sums.CELLS / math.log(2)
            print(f"step {step + 1}: about {bits:.1f} bits a canvas, {time.process_time() - begin:.0f} s", flush=True)
    return model.eval(), losses


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the embedded model of records with sums.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=ZOO / "sums", help="folder to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    model, losses = train(options.seed, options.steps)
    words = sums.tokenizer()
    options.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(options.out))
    words.save_pretrained(str(options.out))
    GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id).save_pretrained(str(options.out))
    every = max(1, options.steps // 20)
    curve = [losses[at : at + every] for at in range(0, len(losses), every)]
    about = {
        "seed": options.seed,
        "steps": options.steps,
        "batch": BATCH,
        "layers": LAYERS,
        "width": WIDTH,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu_seconds": round(time.process_time() - begin),
        "bits": [round(sum(part) / len(part) * sums.CELLS / math.log(2), 2) for part in curve],
        "bits_are": f"any-order bound on a canvas of four records in bits, means over {every} steps; the data has 26.6",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    (options.out / "training.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
