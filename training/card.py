"""Model cards of the zoo, made from ``training.json`` and ``evaluation.json`` so that no figure is typed by hand."""

import json
from pathlib import Path
from typing import Any

import torch

from decodekit.zoo import hops, sums
from decodekit.zoo.data import json_examples, sql_examples
from training import visual_card

_WHAT = {
    "base": "A causal language model (Llama architecture) that writes small JSON records and SQL statements.",
    "draft": "A small causal language model (Llama architecture) that drafts for `base` in speculative decoding.",
    "deep": "A deep and narrow causal language model (Llama architecture): what `skip` and `exits` were tuned from, "
    "and what they are compared with.",
    "skip": "`deep`, tuned under SkipDecode's schedule: `skipdecode(k_min=2, k_max=6, length=32)` decodes it at half "
    "the mean depth. At full depth it is another model, which it was not trained to be.",
    "exits": "`deep`, tuned to speak after 2, 4, 6 and 8 layers: for `early_exit` and `self_speculative`.",
    "hops": "A one-layer GPT-2 that answers what f(f(c)) is, for a permutation f that the prompt lists pair by pair. "
    "It was trained to ponder three steps: decode it with `pondering(steps=3)` and `max_tokens=1`.",
    "sums": "A masked diffusion language model in the layout of LLaDA (a Llama whose cells see each other) that fills "
    "a canvas of 64 cells with four records `a=7,b=5,sum=12;`, a letter a cell. Eight digits are free (26.6 bits), "
    "eight follow from them: what filling in parallel breaks is found by adding up.",
    "masked": "A masked diffusion language model: `base`, taught to see both ways and to fill cells in any order (a "
    "Llama whose cells see each other, each predicted one place early, as in Dream). It fills a canvas of 48 cells "
    "after the prompt: the answer, then `<|end|>` up to the last cell.",
}
_LIMITS = """## Limits

Trained on nothing but the sentences and questions of `decodekit.zoo.data`: it knows no other wording, no
other database and no facts. It exists to demonstrate, test and compare decoding strategies on a CPU within seconds.
All names and addresses are invented; the mail domains are reserved for documentation and testing.
"""
_LIMITS_OF_SUMS = """## Limits

It knows this one line and canvases of one to four of them. It has learnt where a cell is from what stands around it: on
a canvas of mask tokens alone it does not know where a record begins, so give it the first two cells.
"""
_LIMITS_OF_HOPS = """## Limits

It knows this one task with six symbols. With fewer or more steps of pondering it is worse, and four hops are more than
it has learnt. What pondering gains here, and where it loses, is in `docs/depth.md`.
"""


def _table(figures: dict[str, dict[str, float]]) -> list[str]:
    lines = ["| measure | % | 95 % interval | n |", "| --- | --- | --- | --- |"]
    for name, v in figures.items():
        lines.append(f"| {name} | {v['percent']} | {v['low']} to {v['high']} | {v['n']} |")
    return [*lines, ""]


def _examples(name: str) -> list[str]:
    if name == "sums":
        said = "A template with `{mask}` where cells are to be filled; a mask stands for one sign. For example:"
        return ["## Prompts", "", said, "", "```text", sums.PROMPT, "a=3,b={mask},sum=11;", "```", ""]
    if name == "hops":
        drawn = hops.texts(hops.split("heldout"), 2, torch.Generator().manual_seed(7), queries=1)
        words = hops.vocabulary()
        rows = zip(drawn.tokens.tolist(), drawn.answers[:, 0].tolist(), strict=True)
        texts = [" ".join(words[token] for token in (*row, answer)) for row, answer in rows]
        said = "Six pairs `x>f(x)` and a query, such as `c2?` for f(f(c)); the answer is one symbol. Held out:"
        return ["## Prompts", "", said, "", *(line for text in texts for line in ("```text", text, "```", ""))]
    shown = json_examples("heldout", 2, 7) + sql_examples("heldout", 2, 7)
    lines = ["## Prompts", "", "A prompt ends with a newline; the answer ends with `<|end|>`. Held-out examples:", ""]
    for example in shown:
        lines += ["```text", example.prompt + example.answer, "```", ""]
    return lines


def _trained(name: str, training: dict[str, Any]) -> str:
    """What it is made of, and how."""
    if name == "hops":
        return (
            f"{training['parameters']:,} parameters, {training['layers']} layer of width 64, weights in float32. "
            f"Trained for {training['steps']:,} steps of 64 texts with 16 queries each (seed {training['seed']}, "
            f"{training['cpu_seconds']} seconds of one CPU core)."
        )
    if name == "sums":
        return (
            f"{training['parameters']:,} parameters, {training['layers']} layers of width {training['width']}, weights "
            f"in float32. Trained for {training['steps']:,} steps of {training['batch']} canvases (seed "
            f"{training['seed']}, {training['cpu_seconds'] // 60} minutes of one CPU core)."
        )
    settings = training["settings"]
    after = f" (arm `{training['arm']}` of `depth_recipe`), after `deep`" if "arm" in training else ""
    after = f", after `{settings['start']}`" if settings.get("start") else after
    return (
        f"{training['parameters']:,} parameters, {settings['layers']} layers of width {settings['hidden']}, weights in "
        f"bfloat16. Trained for {training['steps_done']:,} steps of {settings['batch']} examples{after} (seed "
        f"{settings['seed']}, {training['cpu_seconds'] // 60} minutes of one CPU core, "
        f"last loss {training['losses'][-1]})."
    )


def text(name: str, folder: Path) -> str:
    """The card of model ``name`` whose files are in ``folder``."""
    if name.startswith("visual"):
        return visual_card.text(name, folder)
    training: dict[str, Any] = json.loads((folder / "training.json").read_text())
    evaluation: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    lines = [f"# zoo:{name}", "", _WHAT[name], "", _trained(name, training), "", *_examples(name)]
    unseen = "permutation" if name == "hops" else "name, title or SQL statement"
    seen = "" if name == "sums" else f"Held-out examples (no {unseen} of theirs occurs in training), "
    lines += [
        "## Figures",
        "",
        f"{seen}{evaluation['decoding']}.",
        "",
    ]
    for task in ("json", "sql", "hops", "sums"):
        if task in evaluation:
            lines += [f"### {task.upper()} task", "", *_table(evaluation[task])]
    if "rounds" in evaluation:
        more = f", one of a statement {evaluation['rounds_sql']}" if "rounds_sql" in evaluation else ""
        lines += [f"A canvas of a record took {evaluation['rounds']} rounds on average{more}.", ""]
    if "acceptance" in evaluation:
        lines += [
            "### Acceptance against `base`",
            "",
            "Mean of sum(min(p, q)) over gold answer tokens, temperature 1.",
            "",
        ]
        lines += _table(evaluation["acceptance"])
    limits = {"hops": _LIMITS_OF_HOPS, "sums": _LIMITS_OF_SUMS}.get(name, _LIMITS)
    return "\n".join(lines) + "\n" + limits
