"""The noise field at the vocabulary of a large model: dense, lazy, and what others pay for a random token.

Usage: python -m perf.noise [--vocab 128000] [--repeats 41] [--seed 0]. Prints a table, writes perf/results/noise.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from decodekit.core import noise
from perf.bench import Timed, paired, ratio, save

SHAPES = {"flat (sd 1)": 1.0, "middling (sd 3)": 3.0, "peaked (sd 6)": 6.0}


def contenders(logits: Tensor, stream: Tensor, at: Tensor) -> dict[str, Callable[[], object]]:
    vocab, rows = logits.shape[-1], len(logits)
    return {
        "lazy argmax": lambda: noise.argmax(logits[:, None], stream, at),
        "lazy order(8)": lambda: noise.order(logits, stream, at[:, 0], 8),
        "lazy order(64)": lambda: noise.order(logits, stream, at[:, 0], 64),
        "dense gumbel + argmax": lambda: (logits[:, None].double() + noise.gumbel(stream, at, vocab)).argmax(-1),
        "rand + 2 logs + argmax": lambda: (logits - (-torch.rand(rows, vocab, dtype=torch.float64).log()).log()).argmax(
            -1
        ),
        "softmax + multinomial": lambda: logits.softmax(-1).multinomial(1),
        "argmax alone": lambda: logits.argmax(-1),
    }


def measure(vocab: int, rows: int, sd: float, seed: int, repeats: int) -> dict[str, Timed]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocab, generator=generator) * sd
    stream, at = noise.streams(seed, [1, 2, 3], rows), torch.full((rows, 1), 17)
    return paired(contenders(logits, stream, at), repeats, warm=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=128_000)
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table: list[dict[str, object]] = []
    for rows in (1, 16):
        for shape, sd in SHAPES.items():
            timed = measure(options.vocab, rows, sd, options.seed, options.repeats)
            print(f"\n{rows} rows, {shape} logits, V = {options.vocab}: ms per row, ratio to multinomial (quartiles)")
            for name, one in timed.items():
                against = ratio(one, timed["softmax + multinomial"])
                each = one.median / rows * 1e3
                print(
                    f"  {name:24} {each:8.3f}   {against['median']:6.2f} ({against['q25']:.2f} - {against['q75']:.2f})"
                )
                table.append(
                    {
                        "rows": rows,
                        "logits": shape,
                        "what": name,
                        "ms per row": round(each, 4),
                        "to multinomial": against,
                    }
                )
    note = (
        f"One thread, V = {options.vocab}, float32 logits; medians of {options.repeats} paired repeats on a shared, "
        "busy machine: trust ratios."
    )
    print("\nwritten:", save("noise", options.seed, table, note).name)


if __name__ == "__main__":
    main()
