"""The trace says what happened, in agreement with plain forward passes, and survives its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import decodekit as dk
from decodekit.core.uncertainty import SIGNALS, Reading
from decodekit.errors import DecodekitError
from decodekit.trace.trace import EVENT_COLUMNS


def law(model: Any, prompt: list[int], tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model[0](torch.tensor([prompt + tokens])).logits[0].log_softmax(-1)
    return out[len(prompt) - 1 : -1]


def test_events_of_plain_sampling(model: Any) -> None:
    out = dk.generate(model, "hello", strategy="sample | temperature(0.7)", max_tokens=9, top_k=3, eos=())
    trace = out.trace
    plain = law(model, out.prompt.tokens, out.tokens)
    ids = torch.tensor(out.tokens)
    assert trace["token"].tolist() == out.tokens
    assert trace["position"].tolist() == [len(out.prompt.tokens) + i for i in range(9)]
    assert trace["round"].tolist() == list(range(9))
    assert trace["accepted"].all()
    assert not trace["by"].any()
    assert trace["logp"] == pytest.approx(plain.gather(1, ids[:, None])[:, 0].numpy(), abs=1e-5)
    warm = (plain / 0.7).log_softmax(-1)
    assert trace["logt"] == pytest.approx(warm.gather(1, ids[:, None])[:, 0].numpy(), abs=1e-5)
    assert np.isnan(trace["logq"]).all()
    assert trace["entropy"] == pytest.approx(-(plain.exp() * plain).sum(1).numpy(), abs=1e-5)
    top = plain.topk(3)
    assert trace["top_ids"].tolist() == top.indices.tolist()
    assert trace["top_logps"] == pytest.approx(top.values.numpy(), abs=1e-5)
    assert {name: trace[name].dtype for name in EVENT_COLUMNS} == {n: np.dtype(k) for n, k in EVENT_COLUMNS.items()}
    assert trace.rounds["rows"].tolist() == [1] * 9
    assert trace.rounds["calls"].tolist() == [[1]] * 9
    assert trace.header["labels"] == ["target"]
    assert float(trace.rounds["seconds"].min()) > 0


def test_rejected_guesses_are_events(model: Any, draft: Any) -> None:
    spec = dk.speculative(draft=draft, k=3) | dk.Strategy.of("rejection")
    out = dk.generate(model, "hello", strategy=spec, max_tokens=12, eos=(), seed=2)
    trace = out.trace
    took = trace["accepted"]
    assert trace["token"][took].tolist() == out.tokens
    lost = ~took
    assert lost.any()
    drafted = trace["by"] != 0
    assert drafted[lost].all()
    assert {trace.header["words"][i] for i in trace["by"][drafted]} != {""}
    assert np.isfinite(trace["logq"][drafted]).all()
    assert np.isnan(trace["logq"][~drafted]).all()
    ids = out.prompt.tokens + out.tokens
    for i in np.flatnonzero(lost)[:5]:  # what the models said of a guess that came to nothing
        first = int(trace["position"][trace["round"] == trace["round"][i]].min())
        cells = {
            int(p): int(t)
            for p, t, r, b in zip(trace["position"], trace["token"], trace["round"], trace["by"], strict=True)
            if r == trace["round"][i] and b
        }
        place = int(trace["position"][i])
        before = ids[:first] + [cells[p] for p in range(first, place)]
        for said, one in (("logp", model), ("logq", draft)):
            assert trace[said][i] == pytest.approx(
                float(law(one, before, [int(trace["token"][i])])[0, int(trace["token"][i])]), abs=1e-4
            )
    assert trace.rounds["calls"].sum(0).tolist() == [out.cost.models[label].calls for label in trace.header["labels"]]
    assert trace.rounds["fed"].sum(0).tolist() == [out.cost.models[label].fed for label in trace.header["labels"]]


def test_one_call_has_one_trace_and_each_result_its_part(model: Any) -> None:
    made = dk.Decoder(model, "sample", max_tokens=70, eos=())
    prompts = ["hello", "the quick", "dog"]
    alone = [made.generate(p, n=2) for p in prompts]
    results = made.generate(prompts, n=2, batch_size=2)
    whole = results[0].trace.whole
    assert len(whole) == 3 * 2 * 70
    assert whole.rounds["rows"].tolist() == [2] * 210
    assert whole.rounds["calls"].sum() == results[0].cost.calls
    assert sorted(set(whole["round"].tolist())) == list(range(210))
    for which, (one, other) in enumerate(zip(alone, results, strict=True)):
        assert set(other.trace["group"].tolist()) == {2 * which, 2 * which + 1}
        for number, sample in enumerate(other.samples):
            mine = other.trace["group"] == 2 * which + number
            assert other.trace["token"][mine].tolist() == sample.tokens == one.samples[number].tokens
            assert float(other.trace["logp"][mine].astype(np.float64).sum()) == pytest.approx(sample.logp, abs=1e-3)


def test_particles_can_be_followed_through_the_moves(model: Any) -> None:
    from decodekit.registry.declaration import plugin

    class Half:
        """Allows even tokens only, so that weights differ."""

        def bind(self, run: Any) -> Any:
            return self

        def mask(self, rows: Any, at: torch.Tensor) -> Any:
            return (torch.arange(305) % 2 == 0).expand(*at.shape, 305).clone()

        def admits(self, rows: Any, at: torch.Tensor, tokens: torch.Tensor) -> Any:
            return tokens % 2 == 0

        def complete(self, rows: Any) -> torch.Tensor:
            return torch.ones_like(rows.done)

        def forced(self, rows: Any) -> list[list[int]]:
            return [[] for _ in range(len(rows))]

    half = plugin(role="constraint", provides=("mask", "admits"))(Half)()
    out = dk.generate(
        model, "hello", strategy="mask | smc(particles=6, ess=0.9)", constraint=half, max_tokens=8, eos=()
    )
    trace = out.trace
    assert len(out.samples) == 6
    assert (trace.moves["kind"] == 0).any()
    line = np.arange(6)  # the row in which each final particle was, walking back from the end
    found: dict[tuple[int, int], int] = {}
    moves = [
        (int(r), trace.moves["index"][a:b])
        for r, k, a, b in zip(
            trace.moves["round"], trace.moves["kind"], trace.moves["offset"], trace.moves["offset"][1:], strict=False
        )
        if k == 0
    ]
    for number in range(7, -1, -1):
        for _, index in [m for m in moves if m[0] == number]:
            line = index[line]
        for slot in range(6):
            here = (trace["round"] == number) & (trace["row"] == line[slot])
            found[slot, number] = int(trace["token"][here][0])
    assert [[found[slot, i] for i in range(8)] for slot in range(6)] == [s.tokens for s in out.samples]
    lines = trace.lines()
    assert [trace["token"][line.index].tolist() for line in lines] == [s.tokens for s in out.samples]
    assert [line.weight for line in lines] == pytest.approx([s.weight for s in out.samples])


def test_a_file_keeps_everything(model: Any, tmp_path: Path) -> None:
    results = dk.generate(model, ["hello", "dog"], strategy="sample", max_tokens=5, top_k=2)
    path = tmp_path / "a.trace"
    results[1].trace.whole.save(path)
    back = dk.Trace.load(path)
    whole = results[1].trace.whole
    assert back.header == {**whole.header, "version": 2}
    for part in ("events", "rounds", "moves", "facts", "ends"):
        one, other = getattr(back, part), getattr(whole, part)
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    results[1].trace.save(path)
    half = dk.Trace.load(path)
    assert half["token"].tolist() == results[1].tokens
    assert half.text(results[1].tokens) == results[1].text
    assert {int(i): half.bytes_of(i) for i in half["top_ids"].ravel()} == {
        int(i): whole.bytes_of(i) for i in half["top_ids"].ravel()
    }
    (one,) = half.lines()
    assert half["token"][one.index].tolist() == results[1].tokens
    assert (one.group, one.finish) == (1, results[1].finish)


def test_the_power_sums_of_a_law(model: Any) -> None:
    out = dk.generate(model, "hello", strategy="sample", max_tokens=6, eos=(), hidden=True)
    p = law(model, out.prompt.tokens, out.tokens).exp()
    for power in (2, 3, 4):
        assert out.trace[f"s{power}"] == pytest.approx((p**power).sum(1).numpy(), rel=1e-5)
    assert set(out.trace["layers"].tolist()) == {2}
    assert out.trace["top_ids"].shape == (6, 20)
    with torch.no_grad():
        ids = torch.tensor([out.prompt.tokens + out.tokens])
        states = model[0](ids, output_hidden_states=True).hidden_states[-1][0]
    assert out.trace["hidden"] == pytest.approx(states[len(out.prompt.tokens) - 1 : -1].numpy(), abs=1e-5)
    assert out.trace.header["models"] == {"target": out.trace.header["model"]}


def test_scorers_without_hidden_states_are_refused(model: Any) -> None:
    with pytest.raises(DecodekitError, match=r"hidden=True asks for hidden states, and the scorer of .* drop either"):
        dk.Decoder(model, "greedy | pondering(steps=1)", hidden=True)


def test_every_sample_has_its_line(model: Any) -> None:
    made = dk.Decoder(model, "sample", max_tokens=40)
    results = made.generate(["hello", "the quick", "dog"], n=3, batch_size=4)
    for out in results:
        lines = out.trace.lines()
        assert [out.trace["token"][line.index].tolist() for line in lines] == [s.tokens for s in out.samples]
        assert [line.finish for line in lines] == [s.finish for s in out.samples]
        assert out.trace.ends["logp"] == pytest.approx([s.logp for s in out.samples])
    saved = results[0].trace.whole.lines()
    assert [len(line.index) for line in saved] == [len(s.tokens) for out in results for s in out.samples]


def test_lines_of_a_text_that_began_again(model: Any, draft: Any) -> None:
    chosen = dk.Strategy.of("sample") | dk.cascade(slow=draft, threshold=float("inf"))
    out = dk.generate(model, ["hello", "dog"], strategy=chosen, max_tokens=7, eos=())
    for one in out:
        assert one.trace["accepted"].sum() == 14
        assert one.trace["token"][one.trace.lines()[0].index].tolist() == one.tokens
        assert set(one.trace.header["models"]) == {"target", "slow"}


def test_no_trace_when_switched_off(model: Any) -> None:
    out = dk.generate(model, "hello", max_tokens=3, trace=False)
    assert out.trace is None
    assert out.logp < 0


def test_files_that_are_no_traces(tmp_path: Path) -> None:
    with pytest.raises(DecodekitError, match=r"there is no trace file .*missing.npz'; check the path"):
        dk.Trace.load(tmp_path / "missing.npz")
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", header=np.array([{"a": 1}], dtype=object))
    for name in ("text", "other.npz", "pickle.npz"):
        with pytest.raises(DecodekitError, match=r"is not a decodekit trace; give a file that Trace.save wrote"):
            dk.Trace.load(tmp_path / name)
    np.savez(tmp_path / "new.npz", header=np.frombuffer(b'{"version": 99}', dtype=np.uint8))
    with pytest.raises(DecodekitError, match="is a trace of version 99, and this decodekit reads version 2"):
        dk.Trace.load(tmp_path / "new.npz")


def test_signals_are_those_of_the_law(model: Any) -> None:
    out = dk.generate(model, "hello", strategy="sample", max_tokens=6, top_k=3, eos=())
    reading = Reading(law(model, out.prompt.tokens, out.tokens))
    for name in SIGNALS:
        assert out.trace.signal(name) == pytest.approx(reading.signal(name).numpy(), abs=1e-4), name
    p = reading.p
    assert reading.varentropy == pytest.approx(((p * reading.logp**2).sum(-1) - reading.entropy**2).numpy())
    bare = dk.generate(model, "hello", strategy="sample", max_tokens=3, eos=(), top_k=0).trace
    with pytest.raises(DecodekitError, match=r"give top_k=2 or more"):
        bare.signal("gap")
    with pytest.raises(DecodekitError, match="knows entropy, varentropy, top1 and gap"):
        bare.signal("mood")


@pytest.mark.parametrize(
    ("plugin", "layers"),
    [
        ("pondering(steps=2)", {24}),
        ("skipdecode(2, 6, 8)", {8, 6, 4, 5, 3, 2}),
        ("early_exit(rule='never')", {8}),
        ("early_exit(rule='entropy', threshold=0.2)", {2, 4, 6, 8}),
        ("self_speculative(exit=4, k=3)", {8}),
    ],
)
def test_the_trace_knows_the_depth_of_a_token(plugin: str, layers: set[int]) -> None:
    out = dk.generate("zoo:exits", "Ada Park is", strategy=f"greedy | {plugin}", max_tokens=16, eos=())
    took = out.trace["accepted"]
    assert set(out.trace["layers"][took].tolist()) <= layers
    assert out.trace["layers"][took].tolist()[0] == max(layers) or "early" in plugin
    if plugin.startswith("early_exit(rule='entropy'"):
        assert len(set(out.trace["layers"][took].tolist())) > 1
