"""Records that a real chat model writes under each style of white space, and without a constraint.

    python -m perf.real_quality MODEL        # a folder or a hub name; ten minutes for 135 million parameters on a core

Invented sentences (`perf/data/people.json`), each with a record of four fields; greedy. *valid*: texts that are whole
and satisfy the schema. *fields*, *records*: equal to those of the sentence. *logp*: mean log-probability of a whole
text, end of text left out, under the model alone. Without a constraint the first object of the answer is what counts,
and an answer that has none counts whole.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch

import decodekit as dk
from perf.bench import save

ITEMS = Path(__file__).parent / "data" / "people.json"
FIELDS = ("name", "age", "city", "job")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"type": "string"},
        "job": {"type": "string"},
    },
    "required": list(FIELDS),
    "additionalProperties": False,
}
ARMS: dict[str, Any] = {"no constraint": None, "compact": "compact", "flexible": "flexible", "single": "single"}
LENGTH, BATCH = 100, 16


def answers(model: Any, prompts: list[Any], style: Any) -> list[str]:
    """What the model writes; without a constraint the first object in it, or all where there is none."""
    rule = None if style is None else dk.json_schema(SCHEMA, whitespace=style)
    made = dk.Decoder(model, "greedy", rule, max_tokens=LENGTH, trace=False)
    texts = [str(out.text) for at in range(0, len(prompts), BATCH) for out in made.generate(prompts[at : at + BATCH])]
    return texts if style is not None else list(map(first_object, texts))


def first_object(text: str) -> str:
    """The first JSON object in a text."""
    at = text.find("{")
    try:
        return text[at : json.JSONDecoder().raw_decode(text, at)[1]] if at >= 0 else text
    except ValueError:
        return text


def logp(model: Any, prompt: list[dict[str, str]], text: str) -> float:
    """Log-probability of `text` after `prompt`, in the tokenizer's own tokens."""
    tokenizer = model.tokenizer
    before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=False)
    ids = torch.tensor([[*before, *tokenizer.encode(text, add_special_tokens=False)]])
    with torch.inference_mode():
        law = model.hf(ids).logits[0].double().log_softmax(-1)
    return float(law[len(before) - 1 : -1].gather(1, ids[0, len(before) :, None]).sum())


def row(model: Any, items: list[dict[str, Any]], arm: str, style: Any) -> dict[str, Any]:
    """The figures of one arm."""
    judge, valid, fields, records, logps = dk.json_schema(SCHEMA), 0, 0, 0, list[float]()
    texts = answers(model, [item["prompt"] for item in items], style)
    for item, text in zip(items, texts, strict=True):
        value = judge.value(text)
        right = 0 if value is None else sum(value[key] == item["gold"][key] for key in FIELDS)
        valid, fields, records = valid + (value is not None), fields + right, records + (right == 4)
        logps.append(logp(model, item["prompt"], text))
    return {"arm": arm, "n": len(items), "valid": valid, "fields": fields, "of": 4 * len(items), "records": records,
            "logp": round(sum(logps) / len(logps), 1)}  # fmt: skip


def main() -> None:
    """Every arm over all items."""
    model = dk.load(sys.argv[1])
    items = json.loads(ITEMS.read_text(encoding="utf-8"))
    made = []
    for text, ask in zip(items["sentences"], itertools.cycle(items["phrases"]), strict=False):
        made.append({"prompt": [{"role": "user", "content": f"{ask}\n\n{text['text']}"}], "gold": text["gold"]})
    rows = []
    for arm, style in ARMS.items():
        rows.append(row(model, made, arm, style))
        print(rows[-1], flush=True)
    config = model.hf.config
    named = {"layers": config.num_hidden_layers, "width": config.hidden_size, "vocab": config.vocab_size}
    save("real_quality", 0, rows, f"a {config.model_type} chat model, {named}; greedy; see perf/real_quality.py")


if __name__ == "__main__":
    main()
