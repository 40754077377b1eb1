"""What a constraint costs: time per token against no constraint and against others; checks, masks, forks, compilation.

On a vocabulary of 100k tokens. The model has random weights (it fits no schema: every step refuses its favourite, the
worst case for checks) and a forward pass small enough for a processor: what is hidden behind it is hidden behind any
larger one. Times per token are seconds of the decoding thread on the processor, which a busy machine does not change:
work on other threads (masks computed ahead) is what "all threads" counts as well.
Needs DECODEKIT_DATA; xgrammar is measured where it is installed.
`python -m perf.constraints` writes results/constraints.json.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LogitsProcessor

import decodekit as dk
from decodekit.comparison.task import LARGE_SQL
from decodekit.constraints.backends.llguidance import HEAD, tokenizer_of
from decodekit.constraints.core.cursor import tokens_of
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from perf.bench import save

TOKENS, REPEATS, BATCHES = 16, 4, (1, 16)
SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer"},
            "kind": {"enum": ["cat", "dog", "horse"]},
        },
        "required": ["name", "age", "kind"],
        "additionalProperties": False,
    },
    "minItems": 9,
}
WIDE = {
    "type": "object",
    "properties": {f"property_{i}": {"type": ["string", "integer", "null"]} for i in range(100)},
    "required": [f"property_{i}" for i in range(0, 100, 2)],
    "additionalProperties": False,
}
OPEN = {
    "type": "object",
    "properties": {
        "a": {"type": "string"},
        "n": {"type": "number", "minimum": 0},
        "p": {"type": "string", "pattern": "^[a-z]+[0-9]*$"},
        "q": {"type": "string", "pattern": "[0-9]{3}"},
    },
    "required": ["a"],
    "not": {"required": ["b"]},
}
LOOSE = {"a": "hello world this", "n": 12.5, "p": "abc12", "q": "tel 123 here", "extra": {"x": [1, 2, "three"]}}
RECORDS = [{"name": "Ada Park", "age": 36, "kind": "cat"}] * 9
TEXTS: dict[str, tuple[Any, str]] = {
    "json_schema": (dk.json_schema(SCHEMA, whitespace="compact"), json.dumps(RECORDS, separators=(",", ":"))),
    "json_schema machine": (
        dk.json_schema(SCHEMA, whitespace="compact", engine="machine"),
        json.dumps(RECORDS, separators=(",", ":")),
    ),
    "json_schema machine, open": (
        dk.json_schema(OPEN, whitespace="compact", engine="machine", lenient=True),
        json.dumps(LOOSE, separators=(",", ":")),
    ),
    "regex": (
        dk.regex(r"[a-z.]{1,20}@[a-z]{2,12}\.(com|org) on [0-9]{4}-[0-9]{2}-[0-9]{2}"),
        "ada.park@example.org on 2024-05-17",
    ),
    "regex outlines_core": (dk.regex(r"[a-z]{2,12}\.(com|org) [0-9]{4}", engine="outlines_core"), "example.org 2024"),
    "regex automaton": (dk.regex(r"[a-z]{2,12}\.(com|org) [0-9]{4}", engine="automaton"), "example.org 2024"),
    "choice of 5000": (dk.choice(tuple(f"item number {i}" for i in range(5000))), "item number 4321"),
    "template": (
        dk.template("Name: {n}, {a}", {"n": dk.regex("[A-Z][a-z]+"), "a": dk.json_schema(int)}),
        "Name: Ada, 36",
    ),
    "canonical": (dk.canonical(), "the quick brown fox jumps"),
    "all_of": (dk.all_of((dk.regex("[a-z ]{3,60}"), dk.regex(".*fox.*"))), "the quick brown fox"),
    "sql": (
        dk.sql("CREATE TABLE singer (name TEXT, age INTEGER);", **LARGE_SQL),
        "SELECT name FROM singer WHERE age > 36",
    ),
}


class OfLlguidance(LogitsProcessor):  # type: ignore[misc]
    """llguidance in transformers the way its numpy helpers offer: masks of all rows at once, unpacked, applied."""

    def __init__(self, vocabulary: Vocabulary, eos: int) -> None:
        from llguidance import LLExecutor, LLMatcher

        grammar = HEAD + "start: %json " + json.dumps({**SCHEMA, "x-guidance": {"whitespace_flexible": False}})
        self._make: Any = partial(LLMatcher, tokenizer_of(vocabulary), grammar, log_level=0)
        self._matchers: list[Any] = []
        self._pool, self._eos, self._at = LLExecutor(1), eos, 0

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [B, V] with -inf where a token may not follow."""
        from llguidance.numpy import fill_next_token_bitmask_par

        if not self._matchers:
            self._matchers = [self._make() for _ in range(len(ids))]
        elif ids.shape[1] > self._at:
            for matcher, token in zip(self._matchers, ids[:, -1].tolist(), strict=True):
                matcher.consume_token(token)
        self._at = ids.shape[1]
        bits = np.zeros((len(ids), (scores.shape[1] + 32) // 32), dtype=np.int32)
        fill_next_token_bitmask_par(self._pool, [(m, i) for i, m in enumerate(self._matchers)], bits)
        flags = np.unpackbits(bits.view(np.uint8), axis=1, count=scores.shape[1], bitorder="little")
        return scores.masked_fill(torch.from_numpy(flags == 0), -torch.inf)


def processors(tokenizer: Any, vocabulary: Vocabulary, eos: int) -> dict[str, Callable[[], LogitsProcessor]]:
    """Who else there is: a new processor for each call of generate."""
    out: dict[str, Callable[[], LogitsProcessor]] = {"llguidance": lambda: OfLlguidance(vocabulary, eos)}
    try:
        import xgrammar
        from xgrammar.contrib.hf import LogitsProcessor as Theirs
    except ImportError:
        return out
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(vocabulary), stop_token_ids=[eos])
    schema = json.dumps(SCHEMA)
    made = xgrammar.GrammarCompiler(info).compile_json_schema(schema, any_whitespace=False)
    return {**out, "xgrammar": lambda: Theirs(made)}


def measured(
    contenders: dict[str, Callable[[], object]], repeats: int = REPEATS
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds on the processor, of this thread and of all, of interleaved repeats."""
    out: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            begun, every = time.thread_time(), time.process_time()
            run()
            if turn:  # the first is for what is prepared once
                out[name][0].append(time.thread_time() - begun)
                out[name][1].append(time.process_time() - every)
    return out


def per_token(tokenizer: Any, vocabulary: Vocabulary) -> list[dict[str, object]]:
    """Constrained over unconstrained time, ours and others', each against its own loop."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 4}
    eos = int(tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(vocabulary), eos_token_id=eos, bos_token_id=eos, **sizes)
    ).eval()
    rule, out = dk.json_schema(SCHEMA, whitespace="compact"), []
    strategies = {"sample": "sample", "mask": "mask", "greedy": "greedy"}
    for batch in BATCHES:
        prompts = [[11 + i, 5, 8] for i in range(batch)]
        contenders: dict[str, Callable[[], object]] = {}
        free = dk.Decoder((model, tokenizer), "sample", max_tokens=TOKENS, eos=(), trace=False, batch_size=batch)
        contenders["free"] = partial(free.generate, prompts)
        for name, strategy in strategies.items():
            made = dk.Decoder((model, tokenizer), strategy, rule, max_tokens=TOKENS, trace=False, batch_size=batch)
            contenders[name] = partial(made.generate, prompts)
        ids = torch.tensor(prompts)
        theirs = processors(tokenizer, vocabulary, eos)

        def plain(make: Any = None, ids: torch.Tensor = ids) -> object:
            more = {} if make is None else {"logits_processor": [make()]}
            return model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=TOKENS,
                min_new_tokens=None if more else TOKENS,
                do_sample=True,
                pad_token_id=eos,
                **more,
            )

        contenders["transformers free"] = plain
        for name, make in theirs.items():
            contenders[f"transformers {name}"] = partial(plain, make)
        times = measured(contenders)
        for name, one in times.items():
            base = times["transformers free" if name.startswith("transformers") else "free"]
            found = {"what": "per token", "batch": batch, "contender": name}
            found["ms"] = round(1000 * statistics.median(one[0]) / TOKENS, 3)
            ratios = [
                sorted(a / b for a, b in zip(mine, its, strict=True)) for mine, its in zip(one, base, strict=True)
            ]
            found["over free"] = {
                "median": round(statistics.median(ratios[0]), 3),
                "from": ratios[0][0],
                "to": ratios[0][-1],
            }
            found["over free, all threads"] = round(statistics.median(ratios[1]), 3)
            out.append(found)
            print(out[-1], flush=True)
    return out


def half_billion(tokenizer: Any, vocabulary: Vocabulary, tokens: int = 8) -> list[dict[str, object]]:
    """The same against our own loop without a constraint, with a random model of the size of the smallest in use."""
    torch.manual_seed(0)
    eos = int(tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    sizes = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
    config = LlamaConfig(vocab_size=len(vocabulary), eos_token_id=eos, num_key_value_heads=2, **sizes)
    config.tie_word_embeddings = True
    model = LlamaForCausalLM(config).eval()
    rule, out = dk.json_schema(SCHEMA, whitespace="compact"), []
    for batch in BATCHES:
        prompts = [[11 + i, 5, 8] for i in range(batch)]
        kinds: dict[str, tuple[str, Any]] = {
            "free": ("sample", None),
            "sample": ("sample", rule),
            "mask": ("mask", rule),
        }
        contenders: dict[str, Callable[[], object]] = {}
        for name, (strategy, limit) in kinds.items():
            more: dict[str, Any] = {} if limit else {"eos": ()}
            made = dk.Decoder(
                (model, tokenizer), strategy, limit, max_tokens=tokens, trace=False, batch_size=batch, **more
            )
            contenders[name] = partial(made.generate, prompts)
        times = measured(contenders, 3)
        for name, one in times.items():
            ratios = sorted(a / b for a, b in zip(one[0], times["free"][0], strict=True))
            found: dict[str, object] = {"what": "per token, 0.5B", "batch": batch, "contender": name}
            found["ms"] = round(1000 * statistics.median(one[0]) / tokens, 2)
            found["over free"] = {"median": round(statistics.median(ratios), 3), "from": ratios[0], "to": ratios[-1]}
            out.append(found)
            print(out[-1], flush=True)
    return out


def asked(name: str, vocabulary: Vocabulary) -> dict[str, object]:
    """Microseconds of a check along a text (its own token, and others), of a mask, and of compiling."""
    kind, text = TEXTS[name]
    begun = time.perf_counter()
    compiled = kind.compile(vocabulary)
    cursor = compiled.start()
    cursor.allows(0)
    made = time.perf_counter() - begun
    tokens = vocabulary.spell(text.encode())
    assert tokens is not None
    others = list(range(1000, 90_000, 3001))
    own, other, masks = list[float](), list[float](), list[float]()
    for at, token in enumerate(tokens):
        begun = time.perf_counter()
        good = cursor.allows(token)
        own.append(time.perf_counter() - begun)
        assert good, (name, text, at)
        begun = time.perf_counter()
        cursor.allows_many(others)
        other.append((time.perf_counter() - begun) / len(others))
        if name != "canonical" and at % 4 == 0 and at < 24:
            begun = time.perf_counter()
            cursor.mask()
            masks.append(time.perf_counter() - begun)
        cursor.advance(token)
    again = list[float]()
    second = compiled.start()
    for at, token in enumerate(tokens):
        if name != "canonical" and at % 4 == 0 and at < 24:
            begun = time.perf_counter()
            second.mask()
            again.append(time.perf_counter() - begun)
        second.advance(token)
    nothing = [float("nan")]
    micro = {"check own": own, "check other": other, "mask": masks or nothing, "mask again": again or nothing}
    found = {key: round(1e6 * statistics.median(value), 2) for key, value in micro.items()}
    return {
        "what": "engine",
        "kind": name,
        "compile ms": round(1000 * made, 2),
        **{f"{k} us": v for k, v in found.items()},
    }


def forks(vocabulary: Vocabulary) -> dict[str, object]:
    """Milliseconds of 1,000 forks after 1,000 tokens."""
    cursor = (
        dk.json_schema({"type": "array", "items": {"type": "integer"}}, whitespace="compact")
        .compile(vocabulary)
        .start()
    )
    for token in [*(vocabulary.by_bytes[b"["]), *[vocabulary.by_bytes[b"1"][0], vocabulary.by_bytes[b","][0]] * 500][
        :1001
    ]:
        cursor.advance(token)
    took = list[float]()
    for _ in range(9):
        begun = time.perf_counter()
        kept = [cursor.fork() for _ in range(1000)]
        took.append(time.perf_counter() - begun)
        del kept
    return {"what": "1000 forks after 1000 tokens", "ms": round(1000 * statistics.median(took), 3)}


def fitting() -> dict[str, object]:
    """Checks and masks per token of the embedded model on held-out records, which fit their schemas."""
    from decodekit.comparison.tasks.embedded import Json

    tokens = checks = masks = 0
    for item in Json(limit=20).items():
        out = dk.generate("zoo:base", item.prompt, constraint=item.constraint, strategy="sample", max_tokens=120)
        tokens, checks, masks = tokens + len(out.tokens), checks + out.cost.checks, masks + out.cost.masks
    return {
        "what": "zoo:base on its records",
        "checks per token": round(checks / tokens, 3),
        "masks per token": round(masks / tokens, 4),
    }


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(f"{os.environ['DECODEKIT_DATA']}/tok-cl100k")
    vocabulary = vocabulary_of(tokenizer, None, (int(tokenizer.convert_tokens_to_ids("<|endoftext|>")),))
    rows: list[dict[str, object]] = []
    tokens_of(dk.choice(["a"]).compile(vocabulary).start().mask(), len(vocabulary))  # the vocabulary is prepared
    for name in TEXTS:
        asked(name, vocabulary)  # what an engine prepares once per vocabulary is not counted
        rows.append(asked(name, vocabulary))
        print(rows[-1], flush=True)
    begun = time.perf_counter()
    dk.json_schema(WIDE, whitespace="compact").compile(vocabulary).start()
    rows.append({"what": "compile 100 properties", "ms": round(1000 * (time.perf_counter() - begun), 2)})
    rows += [forks(vocabulary), fitting()]
    print(rows[-3:], flush=True)
    rows += per_token(tokenizer, vocabulary)
    rows += half_billion(tokenizer, vocabulary)
    note = (
        "medians; 'over free': paired runs, constrained over unconstrained time of the same loop; batch of `batch` rows"
    )
    save("constraints", 0, rows, f"{note}; {len(vocabulary)} tokens; a random model of 6 layers, width 256")


if __name__ == "__main__":
    main()
