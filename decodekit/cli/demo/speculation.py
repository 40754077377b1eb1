"""A block of the demo about who guesses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.text import Text

import decodekit as dk
from decodekit.zoo.data import JSON_SCHEMAS, json_examples, json_prompt

_STYLES: Final = {"forced": "green", "suffix": "cyan", "draft": "yellow", "ngram": "magenta"}


def proposers(console: Console, say: Callable[[Console, str, object], None], sentence: str) -> None:
    """Several guess, the cheapest first: forced text, what earlier answers said, then a small model"""
    earlier = tuple(one.answer for one in json_examples("train", 100, 5))
    corpus = dk.suffix(corpus=earlier, least=4, sure=0.5)
    draft = dk.speculative("zoo:draft", k=8, adapt=True)
    prompt, rule = json_prompt("order", sentence), dk.json_schema(JSON_SCHEMAS["order"], whitespace="compact")
    texts = []
    for name, parts in (
        ("nobody", []),
        ("forced", [dk.forced()]),
        ("draft", [draft]),
        ("all three", [dk.first_of([dk.forced(), corpus, draft])]),
    ):
        out = dk.generate("zoo:base", prompt, strategy=[*parts, dk.sample()], constraint=rule, seed=7, max_tokens=96)
        texts.append(out.text)
        drafts = out.cost.models["draft"].calls if "draft" in out.cost.models else 0
        passes = f"   ({out.cost.calls} passes for {len(out.tokens)} tokens, {drafts} of the draft)"
        console.print(Text.assemble((f"  {name:<17}", "dim"), _coloured(out), passes), soft_wrap=True)
    legend = [(f" {word}", _STYLES[word]) for word in ("forced", "suffix", "draft")]
    said = Text.assemble(("  colours         ", "dim"), *legend, " guessed it; the rest is the model's own")
    console.print(said, soft_wrap=True)
    say(console, "the same text", len(set(texts)) == 1)
    say(console, "see also", "ngram, tree, eagle, longest_of, lengths that adapt; docs/speculation.md")


def _coloured(out: dk.Result) -> Text:
    """The answer, each accepted guess in the colour of who guessed it."""
    assert out.trace is not None
    events, words, tokenizer = out.trace.events, out.trace.header["words"], dk.load("zoo:base").tokenizer
    kept = events["accepted"].astype(bool)
    said = sorted(zip(*(events[name][kept].tolist() for name in ("position", "token", "by")), strict=True))
    text = Text()
    for _, token, by in said:
        text.append(tokenizer.decode([token], skip_special_tokens=True), style=_STYLES.get(words[by], ""))
    return text
