"""Measure a zoo model on held-out examples: ``python -m training.evaluate NAME [--n 200]``.

Writes ``evaluation.json`` beside the weights; the model card is made from it. Weights are read as shipped (bfloat16)
and computed with in float32.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from decodekit import zoo
from decodekit.models.full_attention import DIFFUSION, Full
from decodekit.zoo import FOLDER as ZOO
from decodekit.zoo import hops, sums
from decodekit.zoo.data import Example, json_examples, sql_examples
from decodekit.zoo.scoring import Share, judge_json, judge_sql, share
from training import batches, card, decoding, tokenizer
from training.settings import CANVAS

FOLDER = ZOO
#: Seed of the held-out examples that the reported figures are measured on.
SEED = 2024
#: How models are decoded that were trained for a scorer of their own; the others by transformers' own greedy search.
STRATEGIES = {
    "skip": "greedy | skipdecode(2, 6, 32)",
    "exits": "greedy | early_exit(threshold=0.95, layers=(2, 4, 6))",
    "hops": "greedy | pondering(steps=3)",
}
Table = dict[str, Share]


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model (float32, evaluation mode) and tokenizer of a zoo folder."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    return model.eval(), tokenizer.load(folder)


def score_json(examples: list[Example], answers: list[str]) -> Table:
    """Shares of valid answers, right fields and right records, the last also per record type."""
    verdicts = [judge_json(e, a) for e, a in zip(examples, answers, strict=True)]
    n = len(examples)
    table = {
        "valid JSON": share(sum(v.valid for v in verdicts), n),
        "exact fields": share(sum(v.fields for v in verdicts), n),
        "exact records": share(sum(v.exact for v in verdicts), n),
    }
    for kind in sorted({e.kind for e in examples}):
        own = [v.exact for e, v in zip(examples, verdicts, strict=True) if e.kind == kind]
        table[f"exact records, {kind}"] = share(sum(own), len(own))
    return table


def score_sql(examples: list[Example], answers: list[str]) -> Table:
    """Shares of statements that run, that return the gold rows (also of telling gold only), that equal the gold."""
    verdicts = [judge_sql(e, a) for e, a in zip(examples, answers, strict=True)]
    n, telling = len(examples), [v.rows for v in verdicts if v.telling]
    return {
        "SQL runs": share(sum(v.runs for v in verdicts), n),
        "execution match": share(sum(v.rows for v in verdicts), n),
        "execution match, gold not empty": share(sum(telling), len(telling)),
        "exact statement": share(sum(v.exact for v in verdicts), n),
    }


def measure(folder: Path, n: int, base: Path | None = None) -> dict[str, object]:
    """All figures of the model in ``folder`` on ``n`` held-out examples a task; ``base`` adds a draft's acceptance."""
    model, words = load(folder)
    records, questions = json_examples("heldout", n, SEED), sql_examples("heldout", n, SEED)
    report: dict[str, object] = {"n": n, "seed": SEED, "intervals": "95 %, Wilson score, over examples"}
    if hasattr(model.config, DIFFUSION) and folder.name != "sums":
        return report | score_masked(model, words, records, questions)
    if folder.name == "sums":
        return report | score_sums(folder, n)
    strategy = STRATEGIES.get(folder.name)
    report["decoding"] = f"`{strategy}`" if strategy else "greedy"

    def answers_to(prompts: list[str]) -> list[str]:
        return _decoded(folder, strategy, prompts) if strategy else decoding.greedy(model, words, prompts)

    if folder.name == "hops":
        return report | {"hops": _plain(score_hops(answers_to, n))}
    report["json"] = _plain(score_json(records, answers_to([e.prompt for e in records])))
    report["sql"] = _plain(score_sql(questions, answers_to([e.prompt for e in questions])))
    if base is not None:
        target = load(base)[0]
        found = {"json": decoding.acceptance(target, model, words, records)}
        found["sql"] = decoding.acceptance(target, model, words, questions)
        report["acceptance"] = _plain({task: share(sum(values), len(values)) for task, values in found.items()})
    return report


def score_masked(
    model: PreTrainedModel, words: PreTrainedTokenizerFast, records: list[Example], questions: list[Example]
) -> dict[str, object]:
    """Figures of both tasks by threshold unmasking; statements that the canvas cannot hold are left out and counted."""
    fit = [q for q, e in zip(questions, batches.encode(questions, words), strict=True) if len(e.answer) <= CANVAS]
    full = Full.of(model)
    answers, rounds = decoding.unmask(full, words, [e.prompt for e in records])
    statements, more = decoding.unmask(full, words, [e.prompt for e in fit])
    said = f"threshold unmasking, 0.9, {CANVAS} cells, one block; {len(fit)} of {len(questions)} statements fit these"
    tables = {"json": _plain(score_json(records, answers)), "sql": _plain(score_sql(fit, statements))}
    return {"decoding": said, **tables, "rounds": round(rounds, 1), "rounds_sql": round(more, 1)}


def _decoded(folder: Path, strategy: str, prompts: list[str]) -> list[str]:
    """Answers by this library's own loop."""
    from decodekit.api import Decoder  # which knows the zoo

    decoder = Decoder(str(folder), strategy)
    parts = [
        decoder.generate(prompts[at : at + 16], max_tokens=1 if folder.name == "hops" else 96)
        for at in range(0, len(prompts), 16)
    ]
    return [one.text for part in parts for one in part]


def score_sums(folder: Path, n: int) -> dict[str, object]:
    """Shares of canvases and of records whose sums are right, by this library's own loop."""
    from decodekit.api import Decoder  # which knows the zoo

    table: Table = {}
    for name, strategy in (("one cell a round", "unmask(sample=True)"), ("threshold", "threshold(sample=True)")):
        found = Decoder(str(folder), strategy).generate(sums.PROMPT, n=n, seed=SEED)
        texts = [one.text for one in found.samples]
        table[f"canvases, {name}"] = share(sum(sums.right(text, sums.RECORDS) for text in texts), n)
        parts = [text[at : at + sums.WIDTH] for text in texts for at in range(0, sums.CELLS, sums.WIDTH)]
        table[f"records, {name}"] = share(sum(sums.right(part, 1) for part in parts) / sums.RECORDS, n)
    said = f"values drawn at temperature 1 into the template `{sums.PROMPT}`, one cell a round or by threshold 0.9"
    return {"decoding": said, "sums": _plain(table)}


def score_hops(answers_to: Callable[[list[str]], list[str]], n: int) -> Table:
    """Shares of right answers over held-out permutations, one query each, by number of hops."""
    drawn = hops.texts(hops.split("heldout"), 4 * n, torch.Generator().manual_seed(SEED), queries=1)
    names = hops.vocabulary()
    answers = answers_to([" ".join(names[token] for token in row) for row in drawn.tokens.tolist()])
    right = [a.split()[:1] == [names[g]] for a, g in zip(answers, drawn.answers[:, 0].tolist(), strict=True)]
    table = {}
    for k in range(1, hops.HOPS + 1):
        own = [hit for hit, asked in zip(right, drawn.hops[:, 0].tolist(), strict=True) if asked == k]
        table[f"{k} hops"] = share(sum(own), len(own))
    return table


def _plain(table: Table) -> dict[str, dict[str, float]]:
    return {name: asdict(value) for name, value in table.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure an embedded model of the zoo on held-out examples.")
    parser.add_argument("model", choices=zoo.names())
    parser.add_argument("--n", type=int, default=200, help="examples a task")
    parser.add_argument("--folder", type=Path, help="folder to measure (default: the package's own)")
    parser.add_argument("--base", type=Path, help="folder of the model that a draft is measured against")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.folder or FOLDER / options.model
    base = (options.base or FOLDER / "base") if options.model == "draft" else None
    report = measure(folder, options.n, base)
    (folder / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
    (folder / "README.md").write_text(card.text(options.model, folder))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
