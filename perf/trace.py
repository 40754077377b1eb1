"""What the trace costs: the recorder's share of a step, with the 20 likeliest tokens at a vocabulary of 128,256.

The model has random weights and the shape of a 0.5B one (24 layers of width 896), so a step is as long as a real one's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import pairwise
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import decodekit as dk
from decodekit.core.uncertainty import Reading
from decodekit.models.load import load
from decodekit.trace import logit_statistics
from decodekit.trace.recorder import Recorder
from perf.bench import save

VOCAB = 128_256
SEED = 0


def model(device: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    with torch.device(device):
        return LlamaForCausalLM(config).to(dtype).eval()


def measured(hf: Any, rows: int, tokens: int, top_k: int) -> dict[str, Any]:
    """Time of the recorder and of whole steps in one run: by the clock, and processor time of this process, in which
    others on the machine do not count.
    """
    spent: list[float] = []
    own_cpu: list[float] = []
    stamps: list[float] = []
    tokenizer = load("zoo:base").tokenizer  # a run has one; the prompts are ids
    plain = Recorder.round
    sync: Any = torch.cuda.synchronize if hf.device.type == "cuda" else (lambda: None)

    def timed(self: Recorder, what: Any) -> None:
        sync()
        stamps.append(time.process_time())
        begun = time.perf_counter()
        plain(self, what)
        sync()
        spent.append(time.perf_counter() - begun)
        own_cpu.append(time.process_time() - stamps[-1])

    Recorder.round = timed  # type: ignore[method-assign]
    try:
        prompts = [[5 + r, 6, 7, 8] for r in range(rows)]
        out = dk.Decoder((hf, tokenizer), "sample", max_tokens=tokens, eos=(), top_k=top_k).generate(prompts)
    finally:
        Recorder.round = plain  # type: ignore[method-assign]
    steps = out[0].trace.rounds["seconds"][2:]
    own, step = statistics.median(spent[2:]), float(statistics.median(steps))
    own_busy = statistics.median(own_cpu[2:])
    busy = statistics.median(b - a for a, b in pairwise(stamps[2:]))
    return {
        "rows": rows,
        "top_k": top_k,
        "recorder ms": round(1e3 * own, 3),
        "step ms": round(1e3 * step, 2),
        "share": round(own / step, 4),
        "recorder cpu ms": round(1e3 * own_busy, 3),
        "step cpu ms": round(1e3 * busy, 2),
        "share of cpu": round(own_busy / busy, 4),
    }


def passes() -> dict[str, Any]:
    """One pass over the logits of a step against the passes of version 1 of the trace."""
    logits = 3 * torch.randn(1, 1, VOCAB, generator=torch.Generator().manual_seed(SEED))

    def old() -> None:
        law = logits.log_softmax(-1)
        law.topk(20, -1)
        torch.linalg.vecdot(law.exp(), law.clamp(min=-1e4))
        assert Reading(logits).varentropy is not None

    found = {}
    for name, run in (("one pass ms", lambda: logit_statistics.digest(logits, 20)), ("version 1 ms", old)):
        times = []
        for _ in range(30):
            begun = time.process_time()
            run()
            times.append(time.process_time() - begun)
        found[name] = round(1e3 * statistics.median(times), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--name", default="trace")
    given = parser.parse_args()
    torch.set_num_threads(1)
    dtype = torch.float32 if given.device == "cpu" else torch.bfloat16
    hf = model(given.device, dtype)
    size = sum(p.numel() for p in hf.parameters())
    rows = [measured(hf, rows, given.tokens, 20) for rows in (1, 4)]
    note = f"recorder against step, random weights, {size / 1e6:.0f}M parameters, {dtype}, on {given.device}"
    said = [*({"what": "recorder", **row} for row in rows), {"what": "law", **passes()}]
    for row in said:
        print(row)
    print(save(given.name, SEED, said, note))


if __name__ == "__main__":
    main()
