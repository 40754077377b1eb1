"""Measure a zoo model on held-out examples: ``python -m decodekit.models.zoo.evaluate base|draft|masked [--n 200]``.

Writes ``evaluation.json`` beside the weights; the model card is made from it. Weights are read as shipped (bfloat16)
and computed with in float32.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast

from . import card, decoding, tokenizer
from .data import Example, json_examples, sql_examples
from .scoring import Share, judge_json, judge_sql, share
from .settings import SETTINGS

FOLDER = Path(__file__).parent
#: Seed of the held-out examples that the reported figures are measured on.
SEED = 2024
Table = dict[str, Share]


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model (float32, evaluation mode) and tokenizer of a zoo folder."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    auto = AutoModelForMaskedLM if kind == "modernbert" else AutoModelForCausalLM
    model: PreTrainedModel = auto.from_pretrained(str(folder), dtype=torch.float32)
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
    if model.config.model_type == "modernbert":
        answers, rounds = decoding.unmask(model, words, [e.prompt for e in records])
        report["decoding"] = "threshold unmasking, 0.9, 48 cells, one block"
        report["json"] = _plain(score_json(records, answers))
        report["rounds"] = round(rounds, 1)
        return report
    report["decoding"] = "greedy"
    report["json"] = _plain(score_json(records, decoding.greedy(model, words, [e.prompt for e in records])))
    report["sql"] = _plain(score_sql(questions, decoding.greedy(model, words, [e.prompt for e in questions])))
    if base is not None:
        target = load(base)[0]
        found = {"json": decoding.acceptance(target, model, words, records)}
        found["sql"] = decoding.acceptance(target, model, words, questions)
        report["acceptance"] = _plain({task: share(sum(values), len(values)) for task, values in found.items()})
    return report


def _plain(table: Table) -> dict[str, dict[str, float]]:
    return {name: asdict(value) for name, value in table.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure an embedded model of the zoo on held-out examples.")
    parser.add_argument("model", choices=list(SETTINGS))
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
