"""Every bad input is refused before a model runs, in one sentence that says what, where and the way out."""

from __future__ import annotations

import re
from typing import Any

import pytest

import decodekit as dk
from decodekit.errors import CompositionError, DecodekitError, OptionError, PromptError, SpecError, UnknownPlugin

LONG = [5] * 96


@pytest.fixture(scope="module")
def decoder(model: Any) -> dk.Decoder:
    return dk.Decoder(model, "sample")


PROMPTS: list[tuple[Any, dict[str, Any], str]] = [
    (3.5, {}, "the prompt is of type float; give a string, chat messages"),
    (None, {}, "the prompt is of type NoneType; give a string"),
    (b"abc", {}, "the prompt is of type bytes; give a string"),
    ({"role": "user", "content": "x"}, {}, "the prompt is dict; give a string, chat messages"),
    (["a", 3], {}, "prompt 1 is int; give a string"),
    (["a", [1, "b"]], {}, "prompt 1 is a list that holds int; give a string"),
    ([1, 305], {}, "token 1 of the prompt is 305, and the ids of model .* go from 0 to 304; tokenize the prompt with"),
    (["a", [-1]], {}, "token 0 of prompt 1 is -1"),
    ([{"role": "user"}], {}, "message 0 of the prompt has no content; give a string"),
    ("a\ud800", {}, "the prompt holds a lone surrogate at character 1; repair its encoding"),
    (LONG, {}, "the prompt has 96 tokens, and the context of model .* is 96, prompt and answer together; shorten"),
    ([[5], LONG], {}, "prompt 1 has 96 tokens"),
    (LONG[:90], {"max_tokens": 7}, "90 tokens and max_tokens=7 more do not fit .* 96; ask for at most 6 or shorten"),
]


@pytest.mark.parametrize(("prompt", "options", "sentence"), PROMPTS)
def test_prompts(decoder: dk.Decoder, prompt: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence) as caught:
        decoder.generate(prompt, **options)
    one_sentence(caught.value)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": 0}, "max_tokens=0 is refused; give a whole number of at least 1, or None for the default"),
    ({"max_tokens": -3}, "max_tokens=-3 is refused"),
    ({"max_tokens": 2.0}, "max_tokens=2.0 is refused"),
    ({"max_tokens": True}, "max_tokens=True is refused"),
    ({"n": 0}, "n=0 is refused; give a whole number of at least 1$"),
    ({"seed": "x"}, "seed='x' is refused; give a whole number$"),
    ({"batch_size": 0}, "batch_size=0 is refused"),
    ({"max_fed": 0}, "max_fed=0 is refused"),
    ({"top_k": -1}, "top_k=-1 is refused; give a whole number of at least 0"),
    ({"max_seconds": 0}, "max_seconds=0 is not a time; give a number of seconds above 0, or None"),
    ({"max_seconds": float("nan")}, "max_seconds=nan is not a time"),
    ({"stop": ""}, "stop='' is not a stop string; give a non-empty string, or a list of these"),
    ({"stop": ["a", 3]}, "stop=3 is not a stop string"),
    ({"stop": 3}, "stop=3 is of type int; give a string or a list of strings"),
    ({"eos": "x"}, "eos='x' is of type str; give a token id or a list of these"),
    ({"eos": [-1]}, "eos=-1 is refused"),
    ({"max_token": 3}, "generation has no option 'max_token'; did you mean 'max_tokens'\\?"),
    ({"temperature": 3}, "generation has no option 'temperature'; it is a part of the strategy: strategy='temp"),
    ({"heat": 3}, "generation has no option 'heat'; there are max_tokens, stop, seed"),
]


@pytest.mark.parametrize(("options", "sentence"), OPTIONS)
def test_options(decoder: dk.Decoder, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence) as caught:
        decoder.generate("hello", **options)
    one_sentence(caught.value)


def test_a_population_that_does_not_fit(model: Any) -> None:
    made = dk.Decoder(model, "mask | smc(particles=8)", constraint=dk.regex("[a-z]*"))
    with pytest.raises(OptionError, match=r"batch_size=4 cannot hold one population .* 8 rows; raise batch_size"):
        made.generate("hello", batch_size=4)


WHOLE: list[tuple[type[Exception], dict[str, Any], str]] = [
    (UnknownPlugin, {"strategy": "sampel"}, "no plugin is called 'sampel'; did you mean 'sample'"),
    (SpecError, {"strategy": 3}, "a strategy is a string"),
    (CompositionError, {"strategy": "greedy | sample"}, "greedy and sample are both a selector"),
    (
        OptionError,
        {"constraint": "TEMPERATURE"},
        "constraint=temperature is no constraint but a warper; join it to the",
    ),
]


@pytest.mark.parametrize(("kind", "given", "sentence"), WHOLE)
def test_strategies_and_constraints(model: Any, kind: type[Exception], given: dict[str, Any], sentence: str) -> None:
    if given.get("constraint") == "TEMPERATURE":
        given = {"constraint": dk.temperature(0.5)}
    with pytest.raises(kind, match=sentence) as caught:
        dk.generate(model, "hello", **given)
    one_sentence(caught.value)


def test_a_chat_needs_a_template(model: Any, byte_level: Any) -> None:
    import copy

    bare = copy.deepcopy(byte_level)
    bare.chat_template = None
    chat = [{"role": "user", "content": "x"}]
    with pytest.raises(PromptError, match="has no chat template; give a string, or use an instruction-tuned model"):
        dk.generate((model[0], bare), chat)
    bare.chat_template = "{{ raise_exception('only two roles') }}"
    with pytest.raises(PromptError, match=r"the chat template of model .* refuses the prompt: only two roles"):
        dk.generate((model[0], bare), chat)


def test_an_empty_prompt_needs_a_begin_token(model: Any, byte_level: Any) -> None:
    import copy

    bare = copy.deepcopy(byte_level)
    bare.bos_token = None
    with pytest.raises(PromptError, match=r"the prompt is empty, and model .* has no begin token.*give at least one"):
        dk.generate((model[0], bare), "")


def test_no_model_runs_for_a_bad_call(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dk.Decoder(model, "sample")

    def never(*args: Any, **more: Any) -> Any:
        raise RuntimeError("a model ran")

    monkeypatch.setattr(model[0], "forward", never)
    for prompt, options, _ in PROMPTS:
        with pytest.raises(PromptError):
            made.generate(prompt, **options)
    with pytest.raises(RuntimeError, match="a model ran"):
        made.generate("hello", max_tokens=2)


def one_sentence(error: Exception) -> None:
    text = str(error)
    assert isinstance(error, DecodekitError)
    assert "\n" not in text
    assert not re.search(r"\. [A-Z]", text)
    assert len(text) < 400
