"""Speculation against plain decoding, transformers' assisted generation and prompt look-up.

    python -m perf.speculative            # about twenty minutes on one core
    python -m perf.speculative --quick    # a look
    python -m perf.speculative --pair embedded   # only that pair; the other's rows stay as they are

Two pairs. The embedded one: `zoo:base` and `zoo:draft`, whose passes cost about the same. And one with a dial: a random
target of 12 layers and width 512 with a random draft of 2 layers and width 128, whose forward pass is really run and
whose next token is then made the target's own with a set chance (a coin for each position, the same for everybody).
Greedy, one thread, the same number of tokens for all; ratios of paired repeats with their quartiles, below 1 is faster.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

import decodekit as dk
from decodekit import zoo
from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.models.load import load
from decodekit.zoo.data import json_examples
from perf.bench import RESULTS, paired, ratio, save
from perf.loop import endless, prompts

SEED, NEW, GUESSES = 11, 64, 5
RATES, BATCHES = (0.6, 0.8, 0.95), (1, 4, 16)
EMBEDDED, DIALED = "zoo:base, zoo:draft", "12 x 512, 2 x 128"
COINS = torch.rand(4096, generator=torch.Generator().manual_seed(SEED))


def random_llama(layers: int, width: int, vocab: int) -> Any:
    """A random model with the tokenizer's number of tokens; its texts never end."""
    torch.manual_seed(SEED + layers)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=width * 43 // 16,
        num_hidden_layers=layers,
        num_attention_heads=max(2, width // 64),
        max_position_embeddings=2048,
        initializer_range=0.05,
    )
    return endless(LlamaForCausalLM(config).eval())


class Dial:
    """What the target will say, and where a draft gets it right."""

    def __init__(self, texts: list[list[int]], rate: float) -> None:
        self.texts, self.right = texts, rate > COINS

    def token(self, text: int, place: int) -> int:
        """The guess of the token at `place` of a text."""
        known = self.texts[text]
        said = known[place] if place < len(known) else 0
        return said if bool(self.right[place]) else (said + 1) % 1000

    def turned(self, logits: Tensor, text: int, place: int) -> None:
        """Make that guess the best of `logits` [V]."""
        logits[self.token(text, place)] = logits.max() + 10.0


class Dialed:
    """A decodekit model whose readers are turned; everything else is the model's own."""

    def __init__(self, model: Any, dial: Dial) -> None:
        self._model, self._dial = model, dial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def reader(self, cost: Cost, label: str) -> Any:
        """A reader of the model, turned."""
        return _Turned(self._model.reader(cost, label), self._dial)


class _Turned:
    def __init__(self, reader: Any, dial: Dial) -> None:
        self._reader, self._dial = reader, dial

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] with the dial's guesses on top."""
        logits: Tensor = self._reader.read(rows, at, only)
        for r, k in (at != NONE).nonzero().tolist():
            self._dial.turned(logits[r, k], int(rows.group[r]), int(at[r, k]))
        return logits


def assistant(small: Any, dial: Dial) -> Any:
    """The same for transformers, which drafts for one text at a time."""
    forward = small.forward

    @functools.wraps(forward)  # transformers reads the signature to decide what it passes
    def turned(*args: Any, **more: Any) -> Any:
        out = forward(*args, **more)
        begin = out.past_key_values.get_seq_length() - out.logits.shape[1]
        for j in range(out.logits.shape[1]):
            dial.turned(out.logits[0, j], 0, begin + j + 1)
        return out

    small.forward = turned
    return small


def ours(model: Any, strategy: Any, ids: list[list[int]]) -> Callable[[], Any]:
    """A call that writes NEW tokens after each prompt; no trace, as nobody else keeps one."""
    made = dk.Decoder(model, strategy, trace=False)
    return lambda: made.generate([list(one) for one in ids], max_tokens=NEW)


def theirs(model: Any, ids: list[list[int]], **more: Any) -> Callable[[], Any]:
    """What transformers itself writes: greedy, NEW tokens."""
    given = torch.tensor(ids)
    plan = GenerationConfig(do_sample=False, max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0)
    own = {name: more.pop(name) for name in list(more) if name != "assistant_model"}
    for name, value in own.items():
        setattr(plan, name, value)
    return lambda: model.generate(given, attention_mask=torch.ones_like(given), generation_config=plan, **more)


def contenders(target: Any, small: Any, tokenizer: Any, ids: list[list[int]], rate: float | None) -> dict[str, Any]:
    """Everybody; `rate` turns the dial of the draft, None leaves it as it is."""
    model, draft = load((target, tokenizer)), load((small, tokenizer))
    model.eos = draft.eos = ()
    plain = dk.Decoder(model, "greedy", trace=False).generate([list(one) for one in ids], max_tokens=NEW)
    dial = None if rate is None else Dial([one.prompt.tokens + one.tokens for one in plain], rate)
    guesser = draft if dial is None else Dialed(draft, dial)
    cost = 0.05 if dial is not None else None  # of the dialed pair, by parameters: said because a wrapper hides them
    calls = {
        "plain": ours(model, "greedy", ids),
        "two guesses": ours(model, [dk.speculative(draft=guesser, k=2), dk.greedy()], ids),
        "speculative": ours(model, [dk.speculative(draft=guesser, k=GUESSES), dk.greedy()], ids),
        "adapting": ours(
            model, [dk.speculative(draft=guesser, k=2 * GUESSES, adapt=True, cost=cost), dk.greedy()], ids
        ),
        "ngram": ours(model, "ngram(k=8, adapt=True) | greedy", ids),
        "transformers": theirs(target, ids),
    }
    if len(ids) == 1:
        helper = small if dial is None else assistant(copied(small), dial)
        plan = {"num_assistant_tokens": GUESSES, "num_assistant_tokens_schedule": "constant"}
        helper.generation_config.update(**plan, assistant_confidence_threshold=0.0)
        calls["assisted"] = theirs(target, ids, assistant_model=helper)
        calls["prompt look-up"] = theirs(target, ids, prompt_lookup_num_tokens=8)
    return calls


def copied(small: Any) -> Any:
    """The same weights in an object of its own."""
    other = endless(LlamaForCausalLM(small.config).eval())
    other.load_state_dict(small.state_dict())
    return other


def measured(name: str, target: Any, small: Any, tokenizer: Any, batch: int, rate: float | None, repeats: int) -> Any:
    """One row of the table."""
    length = 24
    ids = prompts(tokenizer, batch, length)
    if rate is None:
        ids = [tokenizer(e.prompt)["input_ids"][:length] for e in json_examples("heldout", 200, SEED)]
        ids = [one for one in ids if len(one) == length][:batch]
    calls = contenders(target, small, tokenizer, ids, rate)
    want = [one.tokens for one in calls["plain"]()]
    timed = paired(calls, repeats)
    row: dict[str, Any] = {"pair": name, "acceptance": rate, "batch": batch, "new": NEW}
    row["plain ms/token"] = round(timed["plain"].median / NEW * 1e3, 2)
    for who in [who for who in calls if who not in ("plain",)]:
        row[f"{who} / plain"] = ratio(timed[who], timed["plain"])
    for who in ("speculative", "adapting", "ngram"):
        found = calls[who]()
        row[f"same text, {who}"] = [one.tokens for one in found] == want
        row[f"target passes, {who}"] = found[0].cost.models["target"].calls
    for rival, mine in (("assisted", "speculative"), ("prompt look-up", "ngram"), ("transformers", "speculative")):
        if rival in timed:
            row[f"{mine} / {rival}"] = ratio(timed[mine], timed[rival])
    print({key: value["median"] if isinstance(value, dict) else value for key, value in row.items()}, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pair", choices=["embedded", "dialed"])
    given = parser.parse_args()
    quick = given.quick
    torch.set_num_threads(1)
    repeats = 3 if quick else 7
    rows: list[dict[str, Any]] = []
    tokenizer = AutoTokenizer.from_pretrained(zoo.path("base"))
    old = [] if quick or given.pair is None else json.loads((RESULTS / "speculative.json").read_text())["rows"]
    if given.pair != "dialed":
        base, draft = (
            endless(AutoModelForCausalLM.from_pretrained(zoo.path(name), dtype=torch.float32).eval())
            for name in ("base", "draft")
        )
        rows += [measured(EMBEDDED, base, draft, tokenizer, batch, None, repeats) for batch in BATCHES]
    else:
        rows += [row for row in old if row["pair"] == EMBEDDED]
    if given.pair != "embedded":
        pair = (random_llama(12, 512, len(tokenizer)), random_llama(2, 128, len(tokenizer)), tokenizer)
        rates = (0.8,) if quick else RATES
        rows += [measured(DIALED, *pair, batch, rate, repeats) for batch in BATCHES for rate in rates]
    else:
        rows += [row for row in old if row["pair"] == DIALED]
    if not quick:
        note = (
            f"greedy, {NEW} tokens after 24, {GUESSES} guesses, one thread; ratios of paired repeats, below 1 is faster"
        )
        save("speculative", SEED, rows, note)


if __name__ == "__main__":
    main()
