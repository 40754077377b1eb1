"""Answers told token by token, profiles by position, and the report that shows them, clicked through in a browser."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import decodekit as dk
from decodekit.comparison import compare, example_traces, store
from decodekit.comparison.plan import plan_of
from decodekit.comparison.runner import Runner
from decodekit.errors import OptionError
from tests.browser import clicked

ARMS = {
    "greedy": "greedy",
    "particles": "awrs | smc(particles=3)",
    "drafts": "greedy | speculative(draft='zoo:draft', k=4)",
    "canvas": "unconstrained: threshold @ zoo:masked",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("told") / "out"
    return folder, compare("zoo:base", ["json(limit=4)"], ARMS, out=folder, batch=2, examples=3)


def closings(folder: Path) -> list[dict[str, Any]]:
    return store.read(folder)[1]


def test_a_story_is_the_answer(run: tuple[Path, Any]) -> None:
    texts = {(row["arm"], row["item"]): row["text"] for row in run[1].rows}
    told = {(row["arm"], item): story for row in closings(run[0]) for item, story in row["stories"].items()}
    assert len(told) == 3 * len(ARMS)  # of the first three items alone
    for key, story in told.items():
        assert "".join(token[0] for token in story["tokens"] if not token[7]) == texts[key]
        assert not story["cut"]
        for text, p, entropy, _, who, others, *_ in story["tokens"]:
            assert 0.0 <= p <= 1.0
            assert entropy >= 0.0
            assert who < len(story["words"])
            assert all(other != text and 0.0 < chance <= 1.0 for other, chance in others)
    drafts = [story for (arm, _), story in told.items() if arm == "drafts"]
    assert any(story["words"][token[4]] for story in drafts for token in story["tokens"])
    assert any(token[6] for story in drafts for token in story["tokens"])
    canvas = next(story for (arm, _), story in told.items() if arm == "canvas")
    assert canvas["rules"]
    assert all(token[4] in canvas["rules"] or not canvas["words"][token[4]] for token in canvas["tokens"])


def test_long_answers_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_traces, "TOKENS", 5)
    found = dk.generate("zoo:base", "Ada Park is", max_tokens=12, eos=())
    story = example_traces.story(found)
    assert story is not None
    assert (len(story["tokens"]), story["cut"]) == (5, 7)
    assert example_traces.story(dk.generate("zoo:base", "Ada", max_tokens=2, trace=False)) is None


def test_a_profile_counts_what_the_trace_has() -> None:
    found = dk.generate("zoo:base", ["Ada Park is", "x"], strategy=ARMS["drafts"], max_tokens=12, eos=())
    told = example_traces.profile(found)
    trace = found[0].trace.whole
    accepted = trace["accepted"]
    guess = trace["by"] != 0
    assert told["tokens"] == accepted.sum() == sum(told["count"])
    assert sum(told["accepted"]) == (accepted & guess).sum()
    assert sum(told["accepted"]) < sum(told["tried"]) <= guess.sum()
    assert sum(told["entropy"]) == pytest.approx(float(trace["entropy"][accepted].sum()), abs=0.2)
    assert told["bits"] == pytest.approx(-sum(one.logp for one in found) / math.log(2), abs=0.02)
    starts = {0: len(found[0].prompt.tokens), 1: len(found[1].prompt.tokens)}
    first = [trace["position"][accepted & (trace["group"] == g)].min() - starts[g] for g in (0, 1)]
    assert first == [0, 0]
    assert told["count"] == [2.0] * 12  # two answers of twelve tokens, by their own positions
    plain = example_traces.profile(dk.generate("zoo:base", ["Ada"], max_tokens=6, eos=()))
    assert (plain["rounds"], plain["tokens"], plain["tried"]) == (6, 6, [])


def test_lines_have_rounds_bits_and_acceptance(run: tuple[Path, Any]) -> None:
    lines = {line.arm: line for line in run[1].lines}
    assert lines["greedy"].rounds == 1.0
    assert lines["greedy"].accepted is None
    assert lines["drafts"].rounds < 1.0
    assert 0.0 < lines["drafts"].accepted < 1.0
    assert lines["drafts"].bits > lines["greedy"].bits
    assert lines["canvas"].rounds <= 1.0
    table = (run[0] / "report.md").read_text(encoding="utf-8")
    for column in ("rounds/token", "bits/round", "accepted", "ESS"):
        assert f"| {column} |" in table


def test_stories_are_the_same_whoever_runs_the_units(run: tuple[Path, Any], tmp_path: Path) -> None:
    runner = Runner(plan_of(["zoo:base"], ["json(limit=4)"], ARMS, batch=2, examples=3))
    for worker in (1, 0):
        assert list(runner.run(tmp_path, worker=worker, workers=2))
    runner.results(tmp_path)
    ours, theirs = ({row["closes"]: row for row in closings(folder)} for folder in (run[0], tmp_path))
    assert ours.keys() == theirs.keys()
    for key, row in ours.items():
        assert row["stories"].keys() == theirs[key]["stories"].keys()
        for item, story in row["stories"].items():
            for mine, other in zip(story["tokens"], theirs[key]["stories"][item]["tokens"], strict=True):
                assert (mine[0], mine[4], mine[6]) == (other[0], other[4], other[6])
                assert mine[1] == pytest.approx(other[1], abs=2e-3)
        assert np.allclose(row["profile"]["entropy"], theirs[key]["profile"]["entropy"], atol=0.05)


def test_examples_are_an_option(tmp_path: Path) -> None:
    done = compare("zoo:base", ["json(limit=1)"], ["greedy"], out=tmp_path / "o", examples=0)
    assert closings(done.folder)[0]["stories"] == {}
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    with pytest.raises(OptionError, match="examples=-1 is refused"):
        compare("zoo:base", ["json(limit=1)"], ["greedy"], examples=-1)


CLICKS = """<script>
const drafts = [...document.querySelectorAll(".answer")].find(a => a.querySelector("b").textContent === "drafts");
const token = drafts.querySelector(".tok.fought");
token.focus();
const told = { card: getComputedStyle(token.querySelector(".card")).display };
told.refused = token.querySelector(".lost").textContent;
const every = [...document.querySelectorAll(".tok")], heat = t => +t.style.getPropertyValue("--v");
told.confidence = every.every(t => Math.abs(heat(t) - (1 - t.dataset.p)) < 2e-3);
pick.value = "who"; pick.dispatchEvent(new Event("change"));
told.who = every.every(t => (heat(t) > 0) === (t.dataset.who !== ""));
told.legend = [...document.querySelectorAll(".mark")].map(m => m.textContent);
const items = [...document.querySelectorAll("details.item")];
told.closed = items[1].querySelectorAll(".tok").length;
items[1].open = true;
setTimeout(() => {
  told.opened = items[1].querySelectorAll(".tok").length > 0 && items[1].querySelectorAll("pre").length === 0;
  told.wide = document.documentElement.scrollWidth <= window.innerWidth;
  document.title = JSON.stringify(told);
}, 300);
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_clicking_through_the_report(run: tuple[Path, Any], tmp_path: Path, width: int) -> None:
    told = clicked((run[0] / "report.html").read_text(encoding="utf-8"), CLICKS, tmp_path, width)
    assert told.pop("refused").startswith("refused: ")
    assert "draft" in " ".join(told.pop("legend"))
    assert told == {
        "card": "block", "confidence": True, "who": True, "closed": 0, "opened": True, "wide": True
    }  # fmt: skip
