"""Rules that fill canvases on `zoo:sums`: rounds and canvases against sums that are right and bits that were spent.

Every canvas is drawn at temperature 1 from the same template, so a rule that is exact has 26.6 bits and 99 % of its
canvases right; a curve per family of rules, not a point. "price" is KL(rule || one cell a round) in bits, from texts of
the first seed scored again. Seconds are those of the whole batch on a shared machine: a rough guide, unlike the rest.

python -m perf.diffusion            # ten minutes on one core
python -m perf.diffusion --quick    # a tenth of it, nothing is saved
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

import decodekit as dk
from decodekit.diffusion import information
from decodekit.zoo import sums
from perf.bench import save

SEEDS, MANY = (11, 12, 13), 50
PRICED = 25  # canvases whose texts are scored again

POLICIES: dict[str, tuple[str, ...]] = {
    "threshold, block": tuple(f"threshold(tau={t}, block=16, sample=True)" for t in (0.9, 0.6)),
    "ETE": tuple(
        f"ete(explore={k}, gap={g}, block=16, sample=True)" for k, g in ((1, 1), (2, 12), (3, 12), (4, 12), (2, 8))
    ),
    "ETE, rounds given": tuple(f"ete(max_rounds={r}, sample=True)" for r in (4, 5, 6, 8)),
    "ETE, excess given": tuple(f"ete(max_excess={x}, sample=True)" for x in (0.2, 1.0)),
    "ETE, one a block": ("ete(explore=4, gap='block', block=16, sample=True)",),
    "ETE, one block": ("ete(window=1, block=16, sample=True)",),
    "no exploration": ("ete(explore=0, block=16, sample=True)",),
    "ETE, look-ahead": tuple(f"ete(explore={k}, gap=8, hypotheses=4, block=16, sample=True)" for k in (1, 2)),
    "ETE, revoking": ("ete(explore=1, gap=8, revoke=0.1, sample=True)",),
    "threshold, cross-block": tuple(f"threshold(tau={t}, block=16, window=4, sample=True)" for t in (0.9, 0.6)),
    "factor": tuple(f"factor(factor={f}, block=16, window=4, sample=True)" for f in (1.0, 2.0)),
    "EB": tuple(f"entropy_bounded(gamma={g}, block=16, window=4, sample=True)" for g in (0.1, 0.35, 1.4)),
    "WINO": ("wino(tau=0.6, block=16, sample=True)",),
    "LLaDA top-k": tuple(f"unmask(per_round={k}, block={b}, sample=True)" for k, b in ((2, 16), (8, 64))),
    "LLaDA random": ("unmask(order='random', per_round=4, block=64, sample=True)",),
    "Dream": tuple(f"dream(steps={n}, order='entropy', sample=True)" for n in (8, 32)),
    "one by one": ("threshold(tau=1.1, block=16, sample=True)",),
}


def measured(spec: str, seeds: Sequence[int], many: int) -> dict[str, Any]:
    """Means and standard errors of one rule over all canvases; the spread over seeds beside them."""
    decoder = dk.Decoder("zoo:sums", spec)
    paths: list[information.Path] = []
    right: list[float] = []
    texts: list[str] = []
    price: list[float] = []
    by_seed: list[float] = []
    seconds = 0.0
    for seed in seeds:
        out = decoder.generate(sums.PROMPT, n=many, seed=seed, batch_size=many)
        book = information.ledger(out.trace)
        paths += book.paths
        own = [float(sums.right(one.text, sums.RECORDS)) for one in out.samples]
        right, texts = right + own, texts + [one.text for one in out.samples]
        by_seed.append(round(100 * statistics.mean(own), 1))
        seconds += out.cost.seconds
        if seed == seeds[0]:
            price = prices(decoder, spec, min(PRICED, many), seed)
    figures = {
        "rounds": [float(p.rounds) for p in paths],
        "canvases": [float(p.canvases) for p in paths],
        "bits": [float(p.cost.sum()) for p in paths],
        "bits/round": [p.total / p.rounds for p in paths],
        "peak": [p.peak for p in paths],
        "valid %": [100 * one for one in right],
        "price": price,
    }
    row: dict[str, Any] = {"strategy": spec, "n": len(paths), "valid % by seed": by_seed}
    for name, values in figures.items():
        mean, error = information.summary(values)
        row[name], row[f"{name} +-"] = round(mean, 2), round(error, 2)
    distinct = round(100 * len(set(texts)) / len(texts), 1)
    return {**row, "distinct %": distinct, "seconds": round(seconds, 2)}


def prices(decoder: dk.Decoder, spec: str, many: int, seed: int) -> list[float]:
    """Bits that filling in parallel cost each of `many` texts."""
    return information.price(decoder.model, [decoder.generate(sums.PROMPT, n=many, seed=seed, batch_size=many)])


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The two targets: half the threshold rule's rounds at its validity, a third at five points less."""
    (base,) = [row for row in rows if row["strategy"] == "threshold(tau=0.9, block=16, sample=True)"]
    found = []
    for share, loss in ((1 / 2, None), (1 / 3, 5.0)):
        for row in rows:
            if not str(row["strategy"]).startswith("ete") or row["rounds"] > share * base["rounds"]:
                continue
            less = base["valid %"] - row["valid %"]
            bound = base["valid % +-"] if loss is None else loss
            if less <= bound:
                made = {"rounds": round(row["rounds"] / base["rounds"], 3), "points lost": round(less, 2)}
                found.append({"target": f"{share:.2f} of the rounds", "strategy": row["strategy"], **made})
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    seeds, many = (SEEDS[:1], 40) if quick else (SEEDS, MANY)
    rows: list[dict[str, Any]] = []
    for family, specs in POLICIES.items():
        for spec in specs:
            rows.append({"family": family, **measured(spec, seeds, many)})
            shown = {name: rows[-1][name] for name in ("rounds", "canvases", "bits", "price", "valid %", "seconds")}
            print(family, spec, shown, flush=True)
    met = verdicts(rows)
    print(*met, sep="\n")
    if not quick:
        note = f"zoo:sums, template {sums.PROMPT}, {len(seeds)} seeds of {many} canvases, temperature 1, 26.6 bits each"
        save("diffusion", SEEDS[0], [*rows, {"targets met by": met}], note)


if __name__ == "__main__":
    main()
