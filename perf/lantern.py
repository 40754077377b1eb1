"""LANTERN and transport on the visual model: accepted length against quality, and the law of a step against its bound.

    python -m perf.lantern                # about half an hour on one core; plots and pictures go to docs/img
    python -m perf.lantern --part ambiguity steps curve headline grids      # parts of it; the rest is kept

*length* is tokens per target pass and row, the token after the last guess included (mean accepted length of the
papers). *TV* is the mean total variation between the law of a step and the target's, by enumeration of every guess
along pictures of the target. The Fréchet distance is that of a classifier's features to held-out pictures; distances
are compared at equal numbers of pictures, since few pictures make it larger.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import decodekit as dk
from decodekit.models.load import load
from decodekit.speculation.relaxed_acceptance import distance, step_law, transport
from decodekit.testing.harness import run
from decodekit.vision import images
from decodekit.zoo.data import json_examples, sql_examples
from perf.bench import RESULTS, save

SEED, TARGET, DRAFT, GUESSES = 2024, "zoo:visual", "zoo:visual-draft", 10
IMAGES = Path(__file__).parent.parent / "docs" / "img"
KINDS = range(10)
NOTE = "LANTERN and transport on zoo:visual; what the words mean is said in perf/lantern.py"


def speculative() -> Any:
    """The small model guesses."""
    return dk.speculative(draft=DRAFT, k=GUESSES)


def drawn(
    strategy: list[Any], count: int, seed: int = SEED, name: str = TARGET, begun: list[list[int]] | None = None
) -> tuple[list[list[int]], list[int], float]:
    """(codes of `count` pictures, their classes, mean tokens a target pass and row), in batches of 400.

    begun: first codes of each of `count` pictures, those of one class together, which the strategy only continues.
    """
    model, tokens, passes = load(name), 0, 0
    codes: list[list[int]] = []
    kinds: list[int] = []
    for at in range(0, count, 400):
        each = min(400, count - at) // len(KINDS)
        prompts = [images.prompt(kind) for kind in KINDS]
        own = [kind for kind in KINDS for _ in range(each)]
        given = [[] for _ in own] if begun is None else begun[at : at + len(own)]
        if begun is not None:
            prompts, each = [prompts[kind] + first for kind, first in zip(own, given, strict=True)], 1
        most = images.CODES - len(given[0])
        out = run(strategy, model, prompts, max_tokens=most, samples=each, seed=seed + at)
        codes += [first + list(text) for first, text in zip(given, out.texts, strict=True)]
        kinds += own
        tokens += sum(sum(takes) for takes in out.takes)
        passes += sum(sum(take > 0 for take in takes) for takes in out.takes)
    return codes, kinds, tokens / passes


def judged(strategy: list[Any], count: int, name: str = TARGET, begun: list[list[int]] | None = None) -> dict[str, Any]:
    """Length and quality of a strategy; `begun` as in :func:`drawn`."""
    codes, kinds, length = drawn(strategy, count, name=name, begun=begun)
    found = images.quality(images.decoded(codes), kinds)
    return {
        "strategy": " | ".join(str(dk.Strategy.of(part)) for part in strategy),
        "length": round(length, 3),
        "distance": round(found.distance, 3),
        "distance_interval": [round(found.distance_low, 3), round(found.distance_high, 3)],
        "accuracy": round(found.accuracy, 4),
        "accuracy_interval": [round(found.accuracy_low, 4), round(found.accuracy_high, 4)],
        "pictures": count,
    }


@torch.inference_mode()
def along(name: str, texts: list[list[int]], starts: list[int]) -> Tensor:
    """[M, V] laws of model `name` at every generated position of the texts, float64."""
    model = load(name).hf
    laws = [
        model(input_ids=torch.tensor([text[:-1]])).logits[0, start - 1 :].double().softmax(-1)
        for text, start in zip(texts, starts, strict=True)
    ]
    return torch.cat(laws)


def pictures(count: int) -> tuple[list[list[int]], list[int]]:
    """(prompt and codes of pictures that the target drew, where the codes begin)."""
    codes, kinds, _ = drawn([dk.sample()], count)
    return [[*images.prompt(kind), *row] for row, kind in zip(codes, kinds, strict=True)], [1] * len(codes)


def ambiguity() -> dict[str, Any]:
    """How flat the next-token laws are, of the visual model and of the text model, and how often guesses stand."""
    tokenizer = load("zoo:base").tokenizer
    examples = [*json_examples("heldout", 40, SEED), *sql_examples("heldout", 40, SEED)]
    prompts = [tokenizer(e.prompt)["input_ids"] for e in examples]
    answers = [tokenizer(e.answer)["input_ids"] for e in examples]
    text = [p + a for p, a in zip(prompts, answers, strict=True)], [len(p) for p in prompts]
    out = {}
    for name, draft, (texts, starts) in (
        ("visual", DRAFT, pictures(100)),
        ("text", "zoo:draft", text),
    ):
        p, q = along(TARGET if name == "visual" else "zoo:base", texts, starts), along(draft, texts, starts)
        width = min(p.shape[1], q.shape[1])
        best = q.argmax(1, keepdim=True)
        out[name] = {
            "top-1 probability": round(float(p.amax(1).mean()), 4),
            "entropy, nats": round(float(torch.special.entr(p).sum(1).mean()), 4),
            "sampled guess stands (1 - TV)": round(float(1 - distance(p[:, :width], q[:, :width]).mean()), 4),
            "draft's best guess stands, sampling": round(float(p.gather(1, best).mean()), 4),
            "draft's best guess stands, greedy": round(float((p.argmax(1) == best[:, 0]).double().mean()), 4),
            "positions": len(p),
        }
    return out


def steps(count: int = 150) -> list[dict[str, Any]]:
    """For every rule, k and delta: the true total variation of a step, and how often a sampled guess is taken."""
    texts, starts = pictures(60)
    p, q = along(TARGET, texts, starts), along(DRAFT, texts, starts)
    which = torch.randperm(len(p), generator=torch.Generator().manual_seed(SEED))[:count]
    p, q, model, out = p[which], q[which], load(TARGET), []
    for rule, bound, k, delta in settings():
        near = model.codebook.near(k + int(rule in ("dynamic", "static")), model.vocab)
        if rule == "transport":
            law, moved = transport(p, q, near, delta)
            taken, apart = 1 - distance(law, q), moved
        else:
            parts = [step_law(p[i : i + 10], q[i : i + 10], rule, near, delta, bound) for i in range(0, count, 10)]
            law, taken = (torch.cat(list(one)) for one in zip(*parts, strict=True))
            apart = distance(law, p)
        out.append(
            {
                "rule": rule,
                "bound": bound,
                "k": k,
                "delta": delta,
                "TV": round(float(apart.mean()), 4),
                "TV most": round(float(apart.max()), 4),
                "past delta": round(float((apart > delta + 1e-9).double().mean()), 4),
                "taken": round(float(taken.mean()), 4),
                "taken exactly": round(float(1 - distance(p, q).mean()), 4),
            }
        )
        print(out[-1], flush=True)
    return out


def settings() -> list[tuple[Any, Any, int, float]]:
    """(rule, bound, k, delta) of the curves."""
    every: list[tuple[Any, Any, int, float]] = []
    every += [("paper", "additive", k, delta) for k in (4, 64) for delta in (0.02, 0.1, 0.4)]
    every += [("transport", "additive", k, delta) for k in (4, 16, 64) for delta in (0.1, 0.2)]
    every += [("static", "additive", 64, 0.1), ("dynamic", "additive", 64, 0.4)]
    return [*every, *(("paper", "multiplicative", 64, delta) for delta in (0.5, 2.0))]


def strategies() -> dict[str, list[Any]]:
    """What is compared."""
    out: dict[str, list[Any]] = {
        "plain": [dk.sample()],
        "exact, acceptance-rejection": [speculative(), dk.rejection()],
        "exact, shared noise": [speculative(), dk.sample()],
        "exact, guesses without a law": [speculative(), dk.lantern(neighbours=8, delta=0.0, rule="dynamic")],
    }
    for rule, bound, k, delta in settings():
        name = f"{rule}{'++' if bound == 'multiplicative' else ''}, k={k}, delta={delta}"
        out[name] = [speculative(), dk.lantern(neighbours=k, delta=delta, rule=rule, bound=bound)]
    shared = dk.lantern(neighbours=16, delta=0.2, rule="transport", coupling="noise")
    out["transport with shared noise, k=16, delta=0.2"] = [speculative(), shared]
    return out


def curve(count: int = 400) -> dict[str, Any]:
    """Length, distance and accuracy of everything; what an interrupted run has found is kept."""
    kept = RESULTS / "lantern_curve.tmp.json"
    out: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    if "the draft alone" not in out:
        out["the draft alone"] = judged([dk.sample()], count, DRAFT)
    for name, strategy in strategies().items():
        if name in out:
            continue
        out[name] = judged(strategy, count)
        kept.write_text(json.dumps(out))
        print(name, out[name], flush=True)
    kept.unlink(missing_ok=True)
    return out


HEAD = (
    "plain",
    "exact, acceptance-rejection",
    "transport, k=16, delta=0.1",
)


def headline(count: int = 1200) -> dict[str, Any]:
    """The same with many pictures, for few; the distance's ratio to exact speculation's with its interval."""
    found = strategies()
    features: dict[str, Tensor] = {}
    out: dict[str, dict[str, Any]] = {}
    for name in HEAD:
        codes, kinds, length = drawn(found[name], count)
        shown = images.decoded(codes)
        seen, features[name] = images.judged(shown)
        right = (seen == torch.tensor(kinds)).double()
        out[name] = {"length": round(length, 3), "accuracy": round(float(right.mean()), 4), "pictures": count}
    held = images.parts(TARGET)
    noise = torch.Generator().manual_seed(SEED)
    draws = [torch.randint(count, (2, count), generator=noise) for _ in range(200)]  # independent for the two

    def apart(rows: Tensor) -> float:
        return images.frechet(rows.mean(0), rows.T.cov(), held.mean, held.covariance)

    exact = features["exact, acceptance-rejection"]
    base, bases = apart(exact), torch.tensor([apart(exact[index[0]]) for index in draws]).double()
    for name, rows in features.items():
        value = apart(rows)
        shift = torch.tensor([apart(rows[index[1]]) for index in draws]).double() - bases
        shift = shift - shift.mean() + (value - base)
        low, high = shift.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        longer = out[name]["length"] / out["exact, acceptance-rejection"]["length"]
        out[name] |= {
            "distance": round(value, 3),
            "distance ratio": round(value / base, 3),
            "distance ratio, interval": [round(1 + low / base, 3), round(1 + high / base, 3)],
            "length ratio": round(longer, 3),
        }
        print(name, out[name], flush=True)
    return out


def grids() -> dict[str, str]:
    """Pictures side by side: plain, exact speculation, LANTERN at three deltas, transport at one."""
    found, rows = strategies(), list[Tensor]()
    names = ["plain", "exact, acceptance-rejection"]
    names += [f"paper, k=64, delta={delta}" for delta in (0.02, 0.1, 0.4)] + ["transport, k=16, delta=0.2"]
    for name in names:
        codes, _, _ = drawn(found[name], 20, SEED + 7)
        rows.append(images.decoded(codes))
    images.png(IMAGES / "lantern.png", torch.cat(rows), columns=20, scale=1)
    return {"docs/img/lantern.png": "rows, two pictures of each class: " + "; ".join(names)}


def plot(results: dict[str, Any]) -> None:
    """Length against distance and against the true total variation."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    tv = {(s["rule"], s["bound"], s["k"], s["delta"]): s["TV"] for s in results["steps"]}
    exact = results["curve"]["exact, acceptance-rejection"]
    marks = {"paper": "o", "transport": "s", "static": "^", "dynamic": "v"}
    lines: dict[tuple[str, str, int], list[tuple[float, float, float]]] = {}
    for rule, bound, k, delta in settings():
        name = f"{rule}{'++' if bound == 'multiplicative' else ''}, k={k}, delta={delta}"
        one = results["curve"][name]
        ratio = one["length"] / exact["length"]
        lines.setdefault((rule, bound, k), []).append((tv[rule, bound, k, delta], ratio, one["distance"]))
    for (rule, bound, k), points in lines.items():
        label = f"{rule}{'++' if bound == 'multiplicative' else ''}, k={k}"
        style: dict[str, Any] = {"marker": marks[rule], "label": label, "markersize": 4, "linewidth": 1}
        left.plot([p[0] for p in points], [p[1] for p in points], **style)
        right.plot([p[2] for p in points], [p[1] for p in points], **style)
    left.set_xlabel("mean total variation of a step")
    left.set_ylabel("accepted length / exact speculation's")
    right.set_xlabel("Fréchet distance (400 pictures)")
    right.axvline(exact["distance"], color="grey", linewidth=0.8, linestyle=":")
    for axis in (left, right):
        axis.axhline(1.0, color="grey", linewidth=0.8, linestyle=":")
    left.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(IMAGES / "lantern_curve.png", dpi=90)


PARTS: dict[str, Callable[[], Any]] = {
    "ambiguity": ambiguity,
    "steps": steps,
    "curve": curve,
    "headline": headline,
    "grids": grids,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="LANTERN on the visual model.")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "lantern.json"
    kept = json.loads(path.read_text())["rows"] if path.is_file() else []
    results: dict[str, Any] = {row["part"]: row["found"] for row in kept}
    for part in options.part:
        results[part] = PARTS[part]()
        save("lantern", SEED, [{"part": name, "found": found} for name, found in results.items()], NOTE)
    if {"steps", "curve"} <= results.keys():
        plot(results)


if __name__ == "__main__":
    main()
