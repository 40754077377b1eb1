"""generate and Decoder: what comes back, that it depends on prompt and seed alone, and that nothing is lost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.core import loop
from decodekit.core.protocols import Round

PROMPTS = ["hello world", "the quick brown fox jumps over", "€", "STOP END dog", "hello"]


@pytest.fixture(scope="module")
def decoder(model: Any) -> dk.Decoder:
    return dk.Decoder(model, "sample", max_tokens=12)


def plain_logp(model: Any, prompt: list[int], tokens: list[int]) -> float:
    with torch.no_grad():
        law = model[0](torch.tensor([prompt + tokens])).logits[0].log_softmax(-1)
    return sum(float(law[len(prompt) + i - 1, t]) for i, t in enumerate(tokens))


def test_one_prompt_one_result(model: Any, decoder: dk.Decoder) -> None:
    out = decoder.generate("hello world")
    assert isinstance(out, dk.Result)
    ids = model[1].encode("hello world")
    assert out.prompt.tokens == ids
    assert out.logp == pytest.approx(plain_logp(model, ids, out.tokens), abs=1e-9)
    kept = out.tokens[:-1] if out.finish == "eos" else out.tokens
    assert out.text == model[1].decode(kept, skip_special_tokens=True)
    assert (out.value, out.evidence, out.logw, out.message, out.seed) == (None, None, 0.0, "", 0)
    assert out.spec == "sample"
    assert out.cost.calls == out.cost.rounds == len(out.tokens) == out.cost.tokens
    assert str(out) == out.text


def test_greedy_is_the_argmax_of_the_model(model: Any) -> None:
    ids = model[1].encode("hello world")
    for _ in range(10):
        with torch.no_grad():
            ids.append(int(model[0](torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == model[1].eos_token_id:
            break
    out = dk.generate(model, "hello world", max_tokens=10)
    assert out.prompt.tokens + out.tokens == ids
    assert out.spec == "greedy"


def test_a_list_gives_a_list_in_order(decoder: dk.Decoder) -> None:
    results = decoder.generate(PROMPTS)
    assert [r.prompt.given for r in results] == PROMPTS
    assert decoder.generate([]) == []
    assert isinstance(decoder.generate([PROMPTS[0]]), list)


@pytest.fixture(scope="module", params=[1, 3])
def alone(request: pytest.FixtureRequest, decoder: dk.Decoder) -> list[dk.Result]:
    return [decoder.generate(p, n=request.param, seed=5) for p in PROMPTS]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_a_result_does_not_depend_on_its_batch(decoder: dk.Decoder, alone: list[dk.Result], batch_size: int) -> None:
    n = len(alone[0].samples)
    together = decoder.generate(PROMPTS, n=n, seed=5, batch_size=batch_size)
    for one, other in zip(alone, together, strict=True):
        assert [s.tokens for s in one.samples] == [s.tokens for s in other.samples]
        assert [s.text for s in one.samples] == [s.text for s in other.samples]
        assert other.logp == pytest.approx(one.logp, abs=1e-9)
        if n == 1 and one.trace is not None and other.trace is not None:
            for column in ("token", "position"):
                assert other.trace[column].tolist() == one.trace[column].tolist()


def test_samples_differ_and_the_first_is_the_single_one(decoder: dk.Decoder) -> None:
    out = decoder.generate("hello", n=6)
    assert len({tuple(s.tokens) for s in out.samples}) == 6
    assert out.tokens == out.samples[0].tokens == decoder.generate("hello").tokens
    assert [s.population for s in out.samples] == list(range(6))
    assert [s.weight for s in out.samples] == pytest.approx([1 / 6] * 6)
    assert sum(out.posterior().values()) == pytest.approx(1.0)


def test_the_seed_reproduces(decoder: dk.Decoder) -> None:
    texts = {seed: decoder.generate("hello", seed=seed).tokens for seed in range(4)}
    assert len({tuple(t) for t in texts.values()}) == 4
    assert all(decoder.generate("hello", seed=seed).tokens == t for seed, t in texts.items())


def test_ids_and_chats_are_prompts(model: Any, decoder: dk.Decoder) -> None:
    ids = model[1].encode("hello world")
    plain = decoder.generate("hello world")
    assert decoder.generate(ids).tokens == plain.tokens
    assert decoder.generate(torch.tensor(ids)).tokens == plain.tokens
    assert decoder.generate(tuple(ids)).tokens == plain.tokens
    assert [r.tokens for r in decoder.generate([ids, "hello world"])] == [plain.tokens] * 2
    chat = [{"role": "user", "content": "hello"}]
    out = decoder.generate(chat)
    assert out.prompt.kind == "chat"
    assert model[1].decode(out.prompt.tokens) == "<s>user: hello</s><s>assistant: "
    assert [r.tokens for r in decoder.generate([chat, chat])] == [out.tokens] * 2
    begun = decoder.generate([*chat, {"role": "assistant", "content": "the"}])
    assert model[1].decode(begun.prompt.tokens).endswith("<s>assistant: the")


def test_an_empty_prompt_starts_from_the_begin_token(model: Any, decoder: dk.Decoder) -> None:
    assert decoder.generate("").prompt.tokens == [model[1].bos_token_id]
    assert decoder.generate([[]])[0].prompt.tokens == [model[1].bos_token_id]


def test_without_max_tokens_the_context_is_the_limit(model: Any) -> None:
    out = dk.generate(model, "hello", strategy="sample", eos=())
    assert len(out.prompt.tokens) + len(out.tokens) == 96
    assert out.finish == "length"


@pytest.mark.parametrize("strategy", ["sample", "speculative"])
@pytest.mark.parametrize("seed", range(4))
def test_stop_strings_cut_text_and_tokens(model: Any, draft: Any, strategy: str, seed: int) -> None:
    spec = dk.speculative(draft=draft, k=3) | dk.Strategy.of("sample") if strategy == "speculative" else strategy
    made = dk.Decoder(model, spec, seed=seed, max_tokens=24, eos=())
    free = made.generate("hello")
    for width in (1, 2, 5):
        stop = free.text[7 : 7 + width]
        out = made.generate("hello", stop=[stop, "never to be seen"])
        assert out.finish == "stop"
        assert out.text == free.text[: free.text.find(stop)]
        assert out.tokens == free.tokens[: len(out.tokens)]
        codec = made.setup.codec()
        short = codec.start(out.prompt.tokens)
        assert stop not in "".join(map(short.push, out.tokens[:-1]))
        assert stop in "".join(map(codec.start(out.prompt.tokens).push, out.tokens))


def test_the_end_token_ends_and_has_no_text(model: Any, decoder: dk.Decoder) -> None:
    free = decoder.generate("hello", eos=())
    out = decoder.generate("hello", eos=[free.tokens[4], 2])
    first = free.tokens.index(free.tokens[4])
    assert out.finish == "eos"
    assert out.tokens == free.tokens[: first + 1]
    assert out.text == decoder.setup.codec().text(free.tokens[:first], out.prompt.tokens)


def test_time_and_budget_end_what_is_unfinished(decoder: dk.Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    full = decoder.generate(PROMPTS, eos=())
    out = decoder.generate(PROMPTS, max_seconds=1e-9, eos=())
    assert [r.finish for r in out] == ["time"] * 5
    assert all(len(r.tokens) <= 1 for r in out)
    out = decoder.generate(PROMPTS, max_fed=1, batch_size=2, eos=())
    assert [r.finish for r in out] == ["budget"] * 5
    assert [r.tokens for r in out] == [r.tokens[: len(o.tokens)] for r, o in zip(full, out, strict=True)]
    assert [len(r.tokens) for r in out] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("rounds", [0, 3, 14])
def test_an_interrupt_keeps_what_there_is(decoder: dk.Decoder, monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    full = decoder.generate(PROMPTS, eos=(), max_tokens=8)
    real, left = loop.decode, [rounds]

    def interrupted(*args: Any) -> Iterator[Round]:
        for what in real(*args):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield what

    monkeypatch.setattr("decodekit.run.session.decode", interrupted)
    out = decoder.generate(PROMPTS, eos=(), max_tokens=8, batch_size=2)
    for done, whole in zip(out, full, strict=True):
        assert done.tokens == whole.tokens[: len(done.tokens)]
        assert done.finish == ("length" if len(done.tokens) == 8 else "interrupted")
    assert sum(r.finish == "length" for r in out) == {0: 0, 3: 0, 14: 2}[rounds]
    if rounds == 14:
        assert out[0].text == full[0].text


def test_results_are_plain_data(decoder: dk.Decoder) -> None:
    out = decoder.generate("hello", n=2)
    data = json.loads(json.dumps(out.as_dict(), allow_nan=False))
    assert data["text"] == out.text
    assert len(data["samples"]) == 2
    assert data["cost"]["rounds"] == out.cost.rounds
    assert len(repr(out)) < 300


def test_a_dead_end_is_a_result(model: Any) -> None:
    class Never:
        """Allows two tokens and then nothing."""

        def bind(self, run: Any) -> Any:
            return self

        def mask(self, rows: Any, at: torch.Tensor) -> Any:
            may = at < rows.start[:, None] + 2
            return may[..., None].repeat(1, 1, 305)

        def admits(self, rows: Any, at: torch.Tensor, tokens: torch.Tensor) -> Any:
            return (at < rows.start + 2)[:, None] & (tokens >= 0)

        def complete(self, rows: Any) -> torch.Tensor:
            return torch.zeros_like(rows.done)

        def forced(self, rows: Any) -> list[list[int]]:
            return [[] for _ in range(len(rows))]

    whole = dk.Decoder(model, "sample", eos=(), max_tokens=9).generate("hello").tokens
    from decodekit.registry.declaration import plugin

    never = plugin(role="constraint", provides=("mask", "admits"))(Never)()
    out = dk.Decoder(model, "sample", never, eos=(), max_tokens=9).generate("hello", n=2)
    assert out.finish == "dead end"
    assert out.tokens == whole[:2]
    assert out.logw == -math.inf
    assert "no token is allowed after" in out.message
    assert "(token 2 of the answer)" in out.message
    assert out.posterior() == {}
    json.dumps(out.as_dict(), allow_nan=False)
