"""Pictures from a visual autoregressive model: plain, by exact speculation, and with relaxed acceptance.

python examples/images.py [pictures.png]
"""

import sys

import decodekit as dk

DRAFT = "speculative(draft='zoo:visual-draft', k=8)"
STRATEGIES = {
    "plain sampling": "sample",
    "exact speculation": f"sample | {DRAFT}",
    "transport, at most 0.2 away": f"lantern(neighbours=16, delta=0.2, rule='transport') | {DRAFT}",
    "LANTERN, delta 0.1": f"lantern(neighbours=16, delta=0.1) | {DRAFT}",
}


def main() -> None:
    prompts = [dk.images.prompt(kind) for kind in range(10)]
    rows = []
    for name, strategy in STRATEGIES.items():
        drawn = dk.generate("zoo:visual", prompts, strategy=strategy, max_tokens=dk.images.CODES, seed=1)
        shown = dk.images.decoded(drawn)
        seen, _ = dk.images.judged(shown)
        right = sum(int(kind == wanted) for wanted, kind in enumerate(seen.tolist()))
        print(f"{name:30} {drawn[0].cost.rounds:3} rounds, {right} of 10 pictures are of their class")
        rows += list(shown)
    if sys.argv[-1].endswith(".png"):
        import torch

        print(f"written: {dk.images.png(sys.argv[-1], torch.stack(rows))}")


if __name__ == "__main__":
    main()
