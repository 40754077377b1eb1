"""The acceptance report: counts against a recount event by event, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

import decodekit as dk
from decodekit.analysis.acceptance import Share, acceptance
from decodekit.cli.main import app
from decodekit.errors import DecodekitError
from decodekit.trace.trace import Trace

PROMPTS = [
    "Ada Park is 36 and lives in Paris.\nperson as JSON:\n",
    "For 12 euros Bo Li gets a lamp; see order 17.\norder as JSON:\n",
    "Our contact in Porto is Brouxel Korwono, aged 83.\nperson as JSON:\n",
]


def _run(strategy: str, prompts: list[str] = PROMPTS) -> list[dk.Result]:
    out: list[dk.Result] = dk.generate("zoo:base", prompts, strategy=strategy, max_tokens=40, seed=3)
    return out


def _recount(trace: Trace) -> dict[str, object]:
    """The same figures, one row and round at a time."""
    e = trace.whole.events
    rows: dict[tuple[int, int, int], list[int]] = {}
    for i in range(len(e["token"])):
        rows.setdefault((int(e["round"][i]), int(e["group"][i]), int(e["slot"][i])), []).append(i)
    depths: dict[int, list[int]] = {}
    tokens = accepted = total = tried = 0
    for mine in rows.values():
        first = min(int(e["position"][i]) for i in mine)
        took = [i for i in mine if e["accepted"][i]]
        tokens += len(took)
        run = sum(bool(e["by"][i]) for i in took)
        places: dict[int, list[int]] = {}
        for i in mine:
            if e["by"][i]:
                places.setdefault(int(e["position"][i]) - first, []).append(i)
                total += 1
                accepted += bool(e["accepted"][i])
                tried += int(e["position"][i]) - first <= run
        for place, here in places.items():
            one = depths.setdefault(place, [0, 0, 0])
            one[0] += len(here)
            one[1] += place <= run
            one[2] += any(e["accepted"][i] for i in here)
    return {"rows": len(rows), "tokens": tokens, "guesses": total, "accepted": accepted, "tried": tried, "at": depths}


@pytest.mark.parametrize(
    "strategy",
    [
        "speculative(draft='zoo:draft', k=4) | sample",
        "speculative(draft='zoo:draft', k=3) | rejection",
        "tree(draft='zoo:draft') | sample",
    ],
)
def test_counts_are_those_of_the_trace(strategy: str) -> None:
    out = _run(strategy)
    found, trace = acceptance(out), out[0].trace
    assert trace is not None
    want = _recount(trace)
    assert (found.rows, found.tokens, found.guesses) == (want["rows"], want["tokens"], want["guesses"])
    one = found.by_word["draft"]
    assert (one.tried, one.accepted) == (want["tried"], want["accepted"])
    assert {d: [s.guesses, s.tried, s.accepted] for d, s in enumerate(found.by_depth)} == want["at"]
    assert found.tokens == sum(len(result.tokens) for result in out)
    assert found.length == pytest.approx(found.tokens / found.rows)
    assert found.wasted == pytest.approx(1 - one.accepted / one.guesses)
    assert found.passes == out[0].cost.models["target"].calls


def test_plain_chains_accept_up_to_the_first_refusal() -> None:
    found = acceptance(_run("speculative(draft='zoo:base', k=4) | greedy"))  # the target itself guesses
    assert all(one.accepted == one.tried for one in found.by_depth)
    assert found.wasted == 0.0
    assert found.length > 4


def test_the_gain_is_tokens_over_cost() -> None:
    out = _run("speculative(draft='zoo:draft', k=4) | sample")
    plain = _run("sample")
    own, given = acceptance(out, plain), acceptance(out, ratio=0.5)
    flops = {name: model.flops / model.fed for name, model in out[0].cost.models.items()}
    assert own.ratio == pytest.approx(flops["draft"] / flops["target"])
    assert given.predicted == pytest.approx(given.length / (1 + 0.5 * given.drafts))
    assert own.measured is not None
    assert own.measured == pytest.approx(plain[0].cost.seconds / out[0].cost.seconds, rel=0.05)
    assert given.measured is None
    assert "by clock" in own.line()
    assert "by clock" not in given.line()


def test_one_result_is_read_alone_and_a_saved_trace_as_well(tmp_path: Path) -> None:
    out = _run("speculative(draft='zoo:draft', k=4) | sample")
    each = [acceptance(one) for one in out]
    assert sum(one.rows for one in each) == acceptance(out).rows
    trace = out[0].trace
    assert trace is not None
    trace.whole.save(tmp_path / "t.npz")
    assert acceptance(Trace.load(tmp_path / "t.npz")).by_depth == acceptance(out).by_depth
    said = CliRunner().invoke(app, ["show", "--acceptance", str(tmp_path / "t.npz")])
    assert said.exit_code == 0
    assert "at place 1" in said.output


def test_runs_without_guesses_are_refused() -> None:
    with pytest.raises(DecodekitError, match="nothing was guessed"):
        acceptance(_run("sample", PROMPTS[:1]))
    with pytest.raises(DecodekitError, match="trace=True"):
        acceptance(dk.generate("zoo:base", PROMPTS[0], strategy="sample", max_tokens=3, trace=False))
    with pytest.raises(DecodekitError, match="nothing was guessed"):
        acceptance(dk.generate("zoo:sums", "a=", strategy="ete", max_tokens=16))


def test_a_place_that_was_never_tried_has_no_rate() -> None:
    assert math.isnan(Share(3, 0, 0).rate)
