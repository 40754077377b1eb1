"""Model cards of the zoo, made from ``training.json`` and ``evaluation.json`` so that no figure is typed by hand."""

import json
from pathlib import Path
from typing import Any

from .data import json_examples, sql_examples

_WHAT = {
    "base": "A causal language model (Llama architecture) that writes small JSON records and SQL statements.",
    "draft": "A small causal language model (Llama architecture) that drafts for `base` in speculative decoding.",
    "masked": "A bidirectional masked diffusion language model (ModernBERT architecture, all layers global) that fills "
    "a canvas of 48 cells after the prompt: the answer, then `<|end|>` up to the last cell. It is meant for the JSON "
    "task; short SQL statements took part in training as the easier lesson in copying and are not measured.",
}
_LIMITS = """## Limits

Trained on nothing but the sentences and questions of `decodekit.models.zoo.data`: it knows no other wording, no
other database and no facts. It exists to demonstrate, test and compare decoding strategies on a CPU within seconds.
All names and addresses are invented; the mail domains are reserved for documentation and testing.
"""


def _table(figures: dict[str, dict[str, float]]) -> list[str]:
    lines = ["| measure | % | 95 % interval | n |", "| --- | --- | --- | --- |"]
    for name, v in figures.items():
        lines.append(f"| {name} | {v['percent']} | {v['low']} to {v['high']} | {v['n']} |")
    return [*lines, ""]


def _examples(name: str) -> list[str]:
    shown = json_examples("heldout", 2, 7) + ([] if name == "masked" else sql_examples("heldout", 2, 7))
    lines = ["## Prompts", "", "A prompt ends with a newline; the answer ends with `<|end|>`. Held-out examples:", ""]
    for example in shown:
        lines += ["```text", example.prompt + example.answer, "```", ""]
    return lines


def text(name: str, folder: Path) -> str:
    """The card of model ``name`` whose files are in ``folder``."""
    training: dict[str, Any] = json.loads((folder / "training.json").read_text())
    evaluation: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    settings = training["settings"]
    lines = [f"# zoo:{name}", "", _WHAT[name], ""]
    lines += [
        f"{training['parameters']:,} parameters, {settings['layers']} layers of width {settings['hidden']}, weights in "
        f"bfloat16. Trained for {training['steps_done']:,} steps of {settings['batch']} examples (seed "
        f"{settings['seed']}, {training['cpu_seconds'] // 60} minutes of one CPU core, "
        f"last loss {training['losses'][-1]}).",
        "",
        *_examples(name),
        "## Figures",
        "",
        f"Held-out examples (no name, title or SQL statement of theirs occurs in training), {evaluation['decoding']}.",
        "",
    ]
    for task in ("json", "sql"):
        if task in evaluation:
            lines += [f"### {task.upper()} task", "", *_table(evaluation[task])]
    if "rounds" in evaluation:
        lines += [f"A canvas took {evaluation['rounds']} rounds on average.", ""]
    if "acceptance" in evaluation:
        lines += [
            "### Acceptance against `base`",
            "",
            "Mean of sum(min(p, q)) over gold answer tokens, temperature 1.",
            "",
        ]
        lines += _table(evaluation["acceptance"])
    return "\n".join(lines) + "\n" + _LIMITS
