"""Drafts with other tokens: the same text whatever they say, and far fewer passes where they are right."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import decodekit as dk
from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError
from decodekit.models.load import load
from decodekit.plugins.translated import Translated
from decodekit.zoo.data import JSON_SCHEMAS, json_examples

EXAMPLES = json_examples("heldout", 4, 5)
PROMPTS = [one.prompt for one in EXAMPLES]


def bytewise() -> PreTrainedTokenizerFast:
    """A token for each byte, and one that ends the text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core)
    made.add_special_tokens({"eos_token": "<end>"})
    return made


WORDS = bytewise()


class Knowing:
    """A model of bytes that knows some texts by heart; of all others it says `x`."""

    name, context, mask, provides = "knowing", None, None, frozenset({"causal_lm"})
    device, dtype, tokenizer = torch.device("cpu"), torch.float32, WORDS

    def __init__(self, texts: list[str]) -> None:
        self.vocab, self.eos = len(WORDS), (WORDS.eos_token_id,)
        self.texts = [WORDS(text)["input_ids"] for text in texts]

    def reader(self, cost: Cost, label: str) -> Any:
        """Reads the rows themselves, so it follows them whatever becomes of them."""
        return _Reader(self, cost, label)


class _Reader:
    def __init__(self, model: Knowing, cost: Cost, label: str) -> None:
        self._model, self._cost, self._label = model, cost, label

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, 1, V], one-hot."""
        self._cost.model(self._label).calls += 1
        out = torch.zeros(len(rows), 1, self._model.vocab)
        for r in range(len(rows)):
            place = int(at[r, 0])
            if place == NONE:
                continue
            said = rows.tokens[r, :place].tolist()
            known = next((text for text in self._model.texts if text[:place] == said), None)
            token = WORDS("x")["input_ids"][0]
            if known is not None:
                token = known[place] if place < len(known) else self._model.eos[0]
            out[r, 0, token] = 1.0
        return out


@pytest.fixture(scope="module")
def plain() -> list[dk.Result]:
    out: list[dk.Result] = dk.generate("zoo:base", PROMPTS, strategy="greedy", max_tokens=80)
    return out


@pytest.mark.parametrize("rule", ["greedy", "sample", "rejection"])
@pytest.mark.parametrize("k", [3, 12])
def test_a_draft_that_is_right_saves_passes(plain: list[dk.Result], rule: str, k: int) -> None:
    draft = Knowing([prompt + one.text for prompt, one in zip(PROMPTS, plain, strict=True)])
    out = dk.generate("zoo:base", PROMPTS, strategy=[Translated(draft, k=k), rule], max_tokens=80, seed=2)
    assert dk.diagnostics.acceptance(out).length > (1.3 if k == 3 else 2.0)
    if rule == "rejection":  # another text of the same law; that certain guesses keep it is shown in tests/exact
        return
    alone = dk.generate("zoo:base", PROMPTS, strategy=rule, max_tokens=80, seed=2)
    assert [one.tokens for one in out] == [one.tokens for one in alone]
    assert out[0].cost.calls < 0.8 * alone[0].cost.calls


def test_a_draft_that_is_wrong_changes_nothing(plain: list[dk.Result]) -> None:
    for draft in (Knowing([]), Knowing([f"{prompt}é{one.text}" for prompt, one in zip(PROMPTS, plain, strict=True)])):
        out = dk.generate("zoo:base", PROMPTS, strategy=[Translated(draft), "greedy"], max_tokens=80)
        assert [one.tokens for one in out] == [one.tokens for one in plain]


def test_a_real_model_with_its_own_tokenizer_constraints_and_forks(plain: list[dk.Result]) -> None:
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=400, eos_token_id=256)
    draft = load((GPT2LMHeadModel(config).eval(), WORDS))
    rule = dk.json_schema(JSON_SCHEMAS["person"])
    for strategy in ("sample", "mask", "awrs"):
        parts = [Translated(draft, k=4, adapt=True), strategy]
        out = dk.generate("zoo:base", PROMPTS, strategy=parts, constraint=rule, max_tokens=40, seed=3)
        alone = dk.generate("zoo:base", PROMPTS, strategy=strategy, constraint=rule, max_tokens=40, seed=3)
        assert [one.tokens for one in out] == [one.tokens for one in alone]
        assert out[0].cost.models["draft"].fed < 60 * out[0].cost.models["draft"].calls  # it reads what changed
    smc = [Translated(draft, k=4), "awrs | smc(particles=3, ess=1.0)"]
    out = dk.generate("zoo:base", PROMPTS[:2], strategy=smc, constraint=rule, max_tokens=30, seed=3)
    assert all(rule.judge(one.text) or one.finish in ("length", "dead end") for result in out for one in result.samples)


@pytest.mark.parametrize(
    "text", ["naïve café ", "日本語の", "emoji 🙂🙃 and ", "tabs\t\tand\nlines\n\n", "  two spaces  "]
)
def test_any_text_goes_through(text: str) -> None:
    alone = dk.generate("zoo:base", text, strategy="sample", max_tokens=12, seed=4)
    draft = Knowing([text + alone.text])
    out = dk.generate("zoo:base", text, strategy=[Translated(draft, k=9), "sample"], max_tokens=12, seed=4)
    assert out.tokens == alone.tokens


def test_what_cannot_draft_is_refused() -> None:
    with pytest.raises(CompositionError, match="not a causal language model"):
        dk.generate("zoo:base", "x", strategy="translated('zoo:masked') | greedy", max_tokens=3)
    with pytest.raises(CompositionError, match="translated"):
        dk.generate("zoo:base", "x", strategy=[dk.speculative(draft=Knowing([])), "greedy"], max_tokens=3)


@pytest.mark.skipif("DECODEKIT_DATA" not in os.environ, reason="DECODEKIT_DATA is not set")
def test_real_models_with_different_tokenizers() -> None:
    data = os.environ["DECODEKIT_DATA"]
    prompts = ["Once upon a time there was a little dog", "Lily and Tom went to the park"]
    target = load(f"{data}/lm-stories260k")
    for strategy in ("greedy", "sample"):
        parts = [Translated(f"{data}/lm-babyllama-361", k=8), strategy]
        out = dk.generate(target, prompts, strategy=parts, max_tokens=40, seed=1)
        alone = dk.generate(target, prompts, strategy=strategy, max_tokens=40, seed=1)
        assert [one.tokens for one in out] == [one.tokens for one in alone]
    assert dk.diagnostics.acceptance(out).length > 1.05
