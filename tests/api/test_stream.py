"""stream gives what generate gives, token for token and character for character."""

from __future__ import annotations

from typing import Any

import pytest

import decodekit as dk
from decodekit.errors import CompositionError, OptionError


@pytest.mark.parametrize("strategy", ["greedy", "sample | temperature(1.5)", "speculative"])
@pytest.mark.parametrize("seed", range(3))
def test_stream_is_generate(model: Any, draft: Any, strategy: str, seed: int) -> None:
    spec = dk.speculative(draft=draft, k=4) | dk.Strategy.of("sample") if strategy == "speculative" else strategy
    made = dk.Decoder(model, spec, seed=seed, max_tokens=16)
    free = made.generate("hello")
    stops: list[list[str]] = [[], [free.text[3:5]], [free.text[6:7], free.text[5:8] + "x"], [free.text[-1:]]]
    for stop in stops:
        stop = [one for one in stop if one]
        out = made.generate("hello", stop=stop)
        pieces = list(made.stream("hello", stop=stop))
        assert "".join(p.text for p in pieces) == out.text
        assert [t for p in pieces for t in p.tokens] == out.tokens
        assert all(p.result is None for p in pieces[:-1])
        last = pieces[-1].result
        assert last is not None
        assert (last.text, last.tokens, last.finish) == (out.text, out.tokens, out.finish)
        assert last.logp == pytest.approx(out.logp, abs=1e-9)


def test_text_comes_while_it_grows(model: Any) -> None:
    made = dk.Decoder(model, "sample", max_tokens=20, eos=())
    pieces = made.stream("hello")
    first = next(pieces)
    assert first.result is None
    assert len(first.tokens) == 1
    pieces.close()  # type: ignore[attr-defined]
    assert len(list(made.stream("hello"))) == 20


def test_what_cannot_be_streamed_is_refused_at_the_call(model: Any) -> None:
    made = dk.Decoder(model, "sample")
    with pytest.raises(OptionError, match="stream gives one sample, and n=2 were asked for; use generate, or n=1"):
        made.stream("hello", n=2)
    with pytest.raises(OptionError, match="stream takes one prompt and was given 2; use generate"):
        made.stream(["hello", "hello"])
    with pytest.raises(OptionError, match="max_tokens=0 is refused"):
        dk.stream(model, "hello", max_tokens=0)


def test_particles_are_not_streamed(model: Any) -> None:
    made = dk.Decoder(model, "mask | smc(particles=4)", constraint=dk.regex("[a-z]*"))
    with pytest.raises(CompositionError, match=r"keeps 4 particles and chooses among them at the end.*use generate"):
        made.stream("hello")
