"""Fast and slow models on one text: quality against cost, for every route and combiner, and the paper's claims.

    python -m perf.fast_slow            # about ten minutes on one core; plots go to docs/img
    python -m perf.fast_slow --quick    # a look

Held-out records and questions, greedy, `zoo:draft` (fast) and `zoo:base` (slow) unless a row says otherwise. *asked at*
is the share of tokens at which the slow model was asked; *random* routes ask at random with the same rate and are the
baseline. CoF (collaboration frequency) is the share of tokens that are other than the best one of the model that
speaks where the slow one is not asked.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import decodekit as dk
from decodekit.analysis import deferral
from decodekit.core.uncertainty import ANSWER
from decodekit.ensembles.calibrate import cascade as fit_cascade
from decodekit.ensembles.calibrate import features_of
from decodekit.ensembles.calibrate import router as fit_router
from decodekit.models.load import load
from decodekit.scores.fitted_rules import Observed
from decodekit.zoo.data import Example, json_examples, sql_examples
from decodekit.zoo.scoring import judge_json, judge_sql
from perf.bench import save

SEED, FAST, SLOW, MOST = 2024, "zoo:draft", "zoo:base", 96
IMAGES = Path(__file__).parent.parent / "docs" / "img"


def right(example: Example, text: str) -> float:
    """1 for an exact record, or for a statement that returns the gold rows."""
    judged = judge_json(example, text).exact if example.task == "json" else judge_sql(example, text).rows
    return float(judged)


def examples(n: int, split: Any = "heldout", seed: int = SEED) -> list[Example]:
    """`n` of each task."""
    return [*json_examples(split, n, seed), *sql_examples(split, n, seed)]


def write(model: str, strategy: str, asked: Sequence[Example]) -> list[Any]:
    """Answers, in batches of 16."""
    decoder = dk.Decoder(load(model), strategy, max_tokens=MOST)
    return [one for at in range(0, len(asked), 16) for one in decoder.generate([e.prompt for e in asked[at : at + 16]])]


def told(answers: Sequence[Any], name: str) -> np.ndarray[Any, Any]:
    """All values of one fact."""
    return np.concatenate([one.trace.told(name, one.trace.groups[0])["value"] for one in answers])


def row(name: str, model: str, strategy: str, asked: Sequence[Example]) -> dict[str, Any]:
    """Quality and cost of one strategy."""
    answers = write(model, strategy, asked)
    score = [right(e, one.text) for e, one in zip(asked, answers, strict=True)]
    half = len(asked) // 2
    tokens = sum(len(one.tokens) for one in answers)
    costs = [answers[at].cost for at in range(0, len(answers), 16)]
    asks = told(answers, "position asked")
    return {
        "what": name,
        "strategy": f"{model}: {strategy}",
        "json exact": round(float(np.mean(score[:half])), 3),
        "sql match": round(float(np.mean(score[half:])), 3),
        "standard errors": [round(float(np.std(part) / math.sqrt(half)), 3) for part in (score[:half], score[half:])],
        "asked at": round(len(asks) / tokens, 4),
        "CoF": round(len(told(answers, "position changed")) / tokens, 4),
        "MFLOP per token": round(sum(sum(w.flops for w in c.models.values()) for c in costs) / tokens / 1e6, 3),
    }


def routes(asked: Sequence[Example], folder: Path) -> list[dict[str, Any]]:
    """Every route at several rates, every combiner by one route."""
    train = [e.prompt for e in examples(40, "train", 5)]
    rows = [row("fast alone", FAST, "greedy", asked), row("slow alone", SLOW, "greedy", asked)]
    for rate in (0.05, 0.1, 0.2, 0.4):
        for signal in ("entropy", "top1", "gap", "varentropy", "learned"):
            file = folder / f"{signal}-{rate}.json"
            learned = signal == "learned"
            named = "entropy" if learned else signal
            fit_router(FAST, SLOW, train, signal=named, learned=learned, rate=rate, strategy="greedy", most=MOST)[
                0
            ].save(file)
            part = f"fast_slow(slow={SLOW!r}, route='fitted', fitted={str(file)!r})"
            found = row(f"{signal}, fitted to {rate}", FAST, f"greedy | {part}", asked)
            rows.append({**found, "strategy": f"{FAST}: greedy | fast_slow(route='fitted'), oracle"})
        part = f"fast_slow(slow={SLOW!r}, route='random', threshold={rate})"
        rows.append(row(f"random, {rate}", FAST, f"greedy | {part}", asked))
    for combine in ("oracle", "contrastive", "interpolate", "ensemble", "product", "proxy"):
        more = ", tuned='zoo:deep'" if combine == "proxy" else ""
        for route, name in (("always'", "always"), ("entropy', threshold=0.5", "entropy above 0.5")):
            part = f"fast_slow(slow={SLOW!r}, combine={combine!r}, route='{route}{more})"
            rows.append(row(f"{combine}, {name}", FAST, f"greedy | {part}", asked))
    return rows


def sizes(asked: Sequence[Example]) -> list[dict[str, Any]]:
    """CoF of the oracle by the ratio of the sizes."""
    rows = []
    for fast, slow in (("zoo:draft", "zoo:deep"), ("zoo:draft", "zoo:base"), ("zoo:deep", "zoo:base")):
        ratio = load(slow).hf.num_parameters() / load(fast).hf.num_parameters()
        found = row(f"oracle, {fast} and {slow}", fast, f"greedy | fast_slow(slow={slow!r})", asked)
        rows.append({**found, "ratio of sizes": round(ratio, 2)})
    return rows


def uncertain(seen: Observed) -> dict[str, Any]:
    """Where the models disagree: at what entropy, and how well each signal tells."""
    found: dict[str, Any] = {"what": "disagreement of the best tokens, along the slow model's texts"}
    found["mismatches"] = round(float(seen.mismatch.mean()), 4)
    for name, values in seen.signals.items():
        sign = 1.0 if name in ("entropy", "varentropy") else -1.0
        found[f"AUROC, {name}"] = round(area(sign * values, seen.mismatch), 4)
    entropy = seen.signals["entropy"]
    found["entropy there"] = round(float(entropy[seen.mismatch].mean()), 4)
    found["entropy elsewhere"] = round(float(entropy[~seen.mismatch].mean()), 4)
    return found


def area(score: np.ndarray[Any, Any], label: np.ndarray[Any, Any]) -> float:
    """AUROC by ranks, ties shared."""
    order = np.argsort(score, kind="stable")
    rank = np.empty(len(score))
    rank[order] = np.arange(1, len(score) + 1)
    for value in np.unique(score):
        rank[score == value] = rank[score == value].mean()
    positive = int(label.sum())
    return float((rank[label].sum() - positive * (positive + 1) / 2) / (positive * (len(label) - positive)))


def cascades(asked: Sequence[Example]) -> tuple[list[dict[str, Any]], dict[str, deferral.Curve]]:
    """Area under the deferral curve, by rule."""
    small, large = write(FAST, f"greedy | cascade(slow={SLOW!r}, threshold=-1e9)", asked), write(SLOW, "greedy", asked)
    quality = [[right(e, one.text) for e, one in zip(asked, part, strict=True)] for part in (small, large)]
    known = features_of(small)
    train = examples(60, "train", 7)
    learned = fit_cascade(
        FAST,
        SLOW,
        [e.prompt for e in train],
        quality=lambda at, text: right(train[at], text),
        strategy="greedy",
        most=MOST,
    )
    curves = {name: deferral.curve((-known[name]).tolist(), *quality) for name in ANSWER}
    curves["learned"] = deferral.curve(learned.score(known).tolist(), *quality)
    curves["random"], curves["oracle"] = deferral.at_random(*quality), deferral.oracle(*quality)
    rows = [
        {"what": f"cascade, {name}", "area under the deferral curve": round(c.area, 4)} for name, c in curves.items()
    ]
    return rows, curves


def plots(
    curves: dict[str, deferral.Curve], positions: Sequence[np.ndarray[Any, Any]], seen: Observed, at: float
) -> None:
    """Three PNG files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    IMAGES.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name in ("oracle", "learned", "mean", "sum", "q0", "random"):
        axes.plot(100 * curves[name].rates, 100 * curves[name].quality, label=name, ls=":" if name == "random" else "-")
    axes.set(xlabel="answers deferred to zoo:base (%)", ylabel="right answers (%)", title="Deferral")
    axes.legend()
    figure.savefig(IMAGES / "deferral.png", dpi=110, bbox_inches="tight")
    figure, axes = pyplot.subplots(figsize=(6, 4))
    changed, lengths = positions
    bins = np.arange(0, 61, 5)
    reached = np.array([(lengths > b).sum() for b in bins[:-1]])
    axes.bar(bins[:-1], 100 * np.histogram(changed, bins)[0] / np.maximum(1, 5 * reached), width=4.5, align="edge")
    axes.set(xlabel="position in the answer", ylabel="tokens that are other (%)", title="CoF by position (oracle)")
    figure.savefig(IMAGES / "cof_by_position.png", dpi=110, bbox_inches="tight")
    figure, axes = pyplot.subplots(figsize=(6, 4))
    edges = np.linspace(0, max(2.0, float(np.quantile(seen.signals["entropy"], 0.999))), 40)
    for label, where in (("agree", ~seen.mismatch), ("disagree", seen.mismatch)):
        axes.hist(seen.signals["entropy"][where], edges, density=True, alpha=0.6, label=label)
    axes.axvline(at, color="black", ls="--", label="threshold for 10 %")
    axes.set(xlabel="entropy of zoo:draft (nats)", ylabel="density", yscale="log", title="Where the models disagree")
    axes.legend()
    figure.savefig(IMAGES / "entropy.png", dpi=110, bbox_inches="tight")


def main() -> None:
    """Command line."""
    import tempfile

    parser = argparse.ArgumentParser(description="Fast and slow models.")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = examples(16 if options.quick else 96)
    with tempfile.TemporaryDirectory() as folder:
        rows = routes(asked, Path(folder))
    rows += sizes(asked)
    rule, seen = fit_router(FAST, SLOW, [e.prompt for e in asked], rate=0.1, strategy="greedy", most=MOST)
    rows.append(uncertain(seen))
    more, curves = cascades(asked)
    rows += more
    table = Table("what", "figures")
    for one in rows:
        table.add_row(
            one["what"], str({k: v for k, v in one.items() if k not in ("what", "strategy", "standard errors")})
        )
    Console().print(table)
    if options.quick:
        return
    oracle = write(FAST, f"greedy | fast_slow(slow={SLOW!r})", asked)
    lengths = np.array([len(one.tokens) for one in oracle])
    plots(curves, (told(oracle, "position changed"), lengths), seen, rule.threshold)
    print(save("fast_slow", SEED, rows, __doc__ or ""))


if __name__ == "__main__":
    main()
