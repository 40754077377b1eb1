"""What every proposer is worth on the records task: tokens a target pass, guesses, waste. Counts only, no clock.

python -m perf.proposers       # a few minutes on one core
"""

from __future__ import annotations

from typing import Any

import torch

import decodekit as dk
from decodekit.zoo.data import JSON_SCHEMAS, json_examples
from perf.bench import save

SEED, MANY, CORPUS = 5, 48, 400
DRAFT = "speculative('zoo:draft', k=4)"
PACED = "speculative('zoo:draft', k=8, adapt=True, cost={})"


def arms() -> dict[str, list[Any]]:
    """Proposers by what they are called in the table; the corpus is answers to other sentences of the same kinds."""
    answers = tuple(one.answer for one in json_examples("train", CORPUS, SEED))
    known = dk.suffix(corpus=answers)
    small = dk.Strategy.of(DRAFT).parts[0]
    written = {
        "speculative, k = 2": "speculative('zoo:draft', k=2)",
        "speculative, k = 4": DRAFT,
        "speculative, k = 8": "speculative('zoo:draft', k=8)",
        "speculative, adapting": PACED.format(None),
        "speculative, adapting, c = 0.5": PACED.format(0.5),
        "ngram": "ngram()",
        "ngram, least = 1": "ngram(least=1)",
        "ngram, adapting": "ngram(adapt=True)",
        "suffix, own text": "suffix()",
    }
    return {
        **{name: [*dk.Strategy.of(spec).parts] for name, spec in written.items()},
        "suffix, corpus": [known],
        "suffix, corpus, sure = 0.5": [dk.suffix(corpus=answers, sure=0.5)],
        "first_of suffix, draft": [dk.first_of([known, small])],
        "first_of suffix(least = 6, sure = 0.5), draft": [
            dk.first_of([dk.suffix(corpus=answers, least=6, sure=0.5), small])
        ],
        "longest_of suffix, draft": [dk.longest_of([known, small])],
    }


def measured(name: str, parts: list[Any], selector: str, held: bool) -> dict[str, object]:
    """One row: all held-out sentences of each kind in a batch, under the kind's schema if `held`."""
    length = tokens = passes = guesses = accepted = steps = same = 0
    examples = json_examples("heldout", MANY, 78)
    for kind in JSON_SCHEMAS:
        prompts = [one.prompt for one in examples if one.kind == kind]
        more: dict[str, Any] = {"constraint": dk.json_schema(JSON_SCHEMAS[kind], whitespace="compact")} if held else {}
        more |= {"seed": SEED, "max_tokens": 100}
        plain = dk.generate("zoo:base", prompts, strategy="sample", trace=False, **more)
        out = dk.generate("zoo:base", prompts, strategy=[*parts, *dk.Strategy.of(selector).parts], **more)
        found = dk.diagnostics.acceptance(out)
        length, tokens = length + found.rows, tokens + found.tokens
        passes += found.passes
        guesses += found.guesses
        accepted += sum(one.accepted for one in found.by_word.values())
        draft = out[0].cost.models.get("draft")
        steps += draft.calls if draft else 0
        same += sum(a.tokens == b.tokens for a, b in zip(out, plain, strict=True))
    return {
        "proposer": name,
        "selector": selector,
        "schema": held,
        "tokens/target pass": round(tokens / length, 3),
        "guesses/target pass": round(guesses / length, 3),
        "accepted": round(accepted / guesses, 3) if guesses else None,
        "draft passes/target pass": round(steps / passes, 3),
        "same text": same if selector == "sample" else None,
        "prompts": MANY,
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for held in (False, True):
        known = arms()
        if held:
            forced = [*dk.Strategy.of("forced").parts]
            known["forced"] = forced
            known["first_of forced, draft"] = [dk.first_of([*forced, *dk.Strategy.of(DRAFT).parts])]
            known["first_of forced, suffix, draft"] = [
                dk.first_of([*forced, *known["suffix, corpus"], *dk.Strategy.of(DRAFT).parts])
            ]
        for name, parts in known.items():
            rows.append(measured(name, parts, "sample", held))
            print(rows[-1], flush=True)
            if "speculative, k = 4" in name or name == "suffix, corpus":
                rows.append(measured(name, parts, "rejection", held))
                print(rows[-1], flush=True)
    print(save("proposers", SEED, rows, f"zoo:base, {MANY} held-out records; corpus: {CORPUS} training answers"))


if __name__ == "__main__":
    main()
