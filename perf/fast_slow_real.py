"""Fast and slow on two real story models with one tokenizer: what is written against how often the slow one is asked.

    DECODEKIT_DATA=... python -m perf.fast_slow_real     # two minutes on one core

`lm-stories-xs` (fast) and `lm-stories260k` (slow) are as large as each other, so nothing is saved here: what is
measured is the quality of the routes. Beginnings of held-out stories, sampled with one seed for all rows (shared
noise: where the laws agree, so do the texts). *slow nats* is the mean negative log-probability of the text under the
slow model, read again afterwards; a text drawn from the slow model itself is what to reach. *kept* is the share of
the gap between fast alone and slow alone that is closed. *Random* routes ask as often as the
fitted ones and are the baseline.
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import decodekit as dk
from decodekit.ensembles.calibrate import router as fit_router
from decodekit.models.load import load
from perf.bench import save
from perf.fast_slow import area, told

SEED, LENGTH, STORIES, FITTED_ON = 2024, 96, 96, 48


def stories(data: Path) -> list[str]:
    """First sentences of held-out stories."""
    text = (data / "text-tinystories" / "valid.txt").read_text(encoding="utf-8")
    parts = [part.strip() for part in text.split("<|endoftext|>")]
    heads = [part.split(".")[0] + "." for part in parts if part.count(".") > 3]
    return list(dict.fromkeys(heads))[: STORIES + FITTED_ON]


def nats(slow: Any, answers: list[Any]) -> np.ndarray[Any, Any]:
    """Mean negative log-probability of each answer under the slow model."""
    out = []
    for one in answers:
        ids = torch.tensor([[*one.prompt.tokens, *one.tokens]])
        with torch.inference_mode():
            logp = slow.hf(ids).logits[0].double().log_softmax(-1)
        start = len(one.prompt.tokens)
        out.append(-float(logp[start - 1 : -1].gather(1, ids[0, start:, None]).mean()))
    return np.array(out)


def row(name: str, fast: Any, slow: Any, strategy: str, prompts: list[str]) -> dict[str, Any]:
    """Quality and calls of one route."""
    decoder = dk.Decoder(fast, strategy, max_tokens=LENGTH, seed=SEED)
    answers: list[Any] = [a for i in range(0, len(prompts), 16) for a in decoder.generate(prompts[i : i + 16])]
    tokens, found = sum(len(one.tokens) for one in answers), nats(slow, answers)
    return {
        "what": name,
        "asked at": round(len(told(answers, "position asked")) / tokens, 4),
        "slow nats": round(float(found.mean()), 4),
        "standard error": round(float(found.std() / math.sqrt(len(found))), 4),
    }


def main() -> None:
    """Command line."""
    if not os.environ.get("DECODEKIT_DATA"):
        raise SystemExit("perf.fast_slow_real needs the real models: set DECODEKIT_DATA to their folder")
    data = Path(os.environ["DECODEKIT_DATA"])
    torch.set_num_threads(1)
    fast, slow = load(str(data / "lm-stories-xs")), load(str(data / "lm-stories260k"))
    heads = stories(data)
    asked, train = heads[:STORIES], heads[STORIES:]
    ask = f"sample | fast_slow(slow={str(data / 'lm-stories260k')!r}, "
    rows = [row("fast alone", fast, slow, "sample", asked), row("slow alone", slow, slow, "sample", asked)]
    seen = None
    with tempfile.TemporaryDirectory() as folder:
        for rate in (0.1, 0.2, 0.4, 0.6):
            for signal in ("entropy", "top1", "gap", "varentropy", "learned"):
                learned, file = signal == "learned", Path(folder) / f"{signal}-{rate}.json"
                named = "entropy" if learned else signal
                rule, seen = fit_router(
                    fast, slow, train, signal=named, learned=learned, rate=rate, strategy="sample", most=LENGTH
                )
                rule.save(file)
                part = f"{ask}route='fitted', fitted={str(file)!r})"
                rows.append(row(f"{signal}, fitted to {rate}", fast, slow, part, asked))
            rows.append(row(f"random, {rate}", fast, slow, f"{ask}route='random', threshold={rate})", asked))
    low, high = rows[0]["slow nats"], rows[1]["slow nats"]
    for one in rows:
        one["kept"] = round((low - one["slow nats"]) / (low - high), 3)
    assert seen is not None
    found: dict[str, Any] = {"what": "disagreement of the best tokens", "mismatches": round(seen.mismatch.mean(), 4)}
    for name, values in seen.signals.items():
        found[f"AUROC, {name}"] = round(area((1 if "entropy" in name else -1) * values, seen.mismatch), 4)
    rows.append(found)
    table = Table("what", "figures")
    for one in rows:
        table.add_row(one["what"], str({k: v for k, v in one.items() if k != "what"}))
    Console().print(table)
    print(save("fast_slow_real", SEED, rows, __doc__ or ""))


if __name__ == "__main__":
    main()
