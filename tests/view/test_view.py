"""Traces to look at: the page is whole, needs no network, and says of every token what the trace knows."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import decodekit as dk
from decodekit.cli.main import app
from decodekit.models.load import load
from decodekit.scores.evaluate import fold_values, samples_of
from decodekit.scores.methods.entropy import fit_wepr
from decodekit.scores.plan import scores_of
from decodekit.text.canonical import canonicality_of
from decodekit.view import page, story
from decodekit.view.colours import COLOURS, token_scores
from decodekit.view.story import refused, scaled
from tests.browser import clicked

VOID = {"meta", "input", "line", "rect", "circle", "polyline", "br"}


class Reader(HTMLParser):
    """Tags must balance; tokens are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tokens: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        known = dict(attrs)
        self.tags.add(tag)
        self.links += [known[name] for name in ("src", "href") if name in known]
        if tag not in VOID:
            self.open.append(tag)
        if "tok" in str(known.get("class", "")).split():
            self.tokens.append(known)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def traces(tmp_path_factory: Any) -> list[Path]:
    folder = tmp_path_factory.mktemp("traces")
    made = {
        "draft": dk.generate(
            "zoo:base", "Ada <b>&", strategy="speculative('zoo:draft', k=4) | sample", max_tokens=20, seed=3, eos=()
        ),
        "canvas": dk.generate("zoo:masked", "Ada Park is", strategy="threshold(tau=0.9)", max_tokens=16),
        "smc": dk.generate(
            "zoo:base", "Ada", strategy="mask | smc(particles=6, ess=1.0)", constraint=dk.regex("[a-e ]{8}"), seed=1
        ),
    }
    for name, out in made.items():
        out.trace.save(folder / f"{name}.npz")
    return [folder / f"{name}.npz" for name in made]


def test_a_page_of_several_traces(traces: list[Path]) -> None:
    stories = [story(dk.Trace.load(path), path.stem) for path in traces]
    text = page(stories)
    read = Reader()
    read.feed(text)
    assert not read.open
    assert len(read.tokens) == sum(len(sample.tokens) for one in stories for sample in one.samples)
    assert not read.links
    assert "http" not in text
    assert "@import" not in text
    known = re.findall(r'<option value="([^"]*)"', text)
    assert {"surprise", "entropy", "round", "kurtosis", "epr", "quantile"} <= set(known)
    for token in read.tokens:
        shares = str(token["data-v"]).split(" ")
        assert len(shares) == len(known)
        assert all(share == "-" or 0.0 <= float(share) <= 1.0 for share in shares)
    draft, canvas, smc = stories
    assert sum(len(t.lost) for t in draft.samples[0].tokens) > 0
    assert any(t.by for t in draft.samples[0].tokens)
    assert "Ada <b>&" in draft.prompt
    assert "Ada &lt;b&gt;&amp;" in text
    assert canvas.canvas
    assert {place for _, place, _ in canvas.canvas} >= {0, 1, 2}
    assert smc.tree is not None
    assert len(smc.tree[0]) == 6
    assert "<polyline" in text
    assert "<canvas" in text


def test_what_a_token_knows(traces: list[Path]) -> None:
    trace = dk.Trace.load(traces[0])
    (sample,) = story(trace).samples
    (line,) = trace.lines()
    text = "".join(t.text for t in sample.tokens if not t.special)
    assert text == trace.text(trace["token"][line.index])
    for token, i in zip(sample.tokens, line.index, strict=True):
        assert token.values["surprise"] == pytest.approx(-float(trace["logp"][i]))
        assert token.values["entropy"] == pytest.approx(float(trace["entropy"][i]))
        assert token.others[0][1] == pytest.approx(2.718281828 ** float(trace["top_logps"][i][0]), rel=1e-4)


def test_the_commands(traces: list[Path], tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["show", *map(str, traces), "--html", str(tmp_path / "p.html"), "--colour", "entropy"])
    assert done.exit_code == 0
    assert '<option value="entropy" selected>' in (tmp_path / "p.html").read_text()
    done = runner.invoke(app, ["show", str(traces[0]), "--color", "epr(k=7)"])
    assert done.exit_code == 0
    assert "colour: epr(k=7) (score of each token alone" in " ".join(done.output.split())
    done = runner.invoke(app, ["show", str(traces[0])])
    assert done.exit_code == 0
    assert "guesses refused" in done.output
    for arguments, said in (
        ([str(tmp_path / "no.npz")], "there is no trace file"),
        ([str(traces[0]), "--colour", "mood"], "no colour is called 'mood'; choose one of surprise, entropy"),
        ([str(traces[0]), "--colour", "epr(q=2)"], "no colour is 'epr(q=2)': "),
        ([str(traces[0]), "--colour", "eigv"], "eigv is of whole texts, and no token has it; choose one of"),
        ([str(traces[0]), "--colour", "epr(k=99)"], "looks at the 99 likeliest tokens, and the trace has 20"),
        ([str(traces[0]), "--html", str(tmp_path / "a" / "b.html")], "the page cannot be written"),
    ):
        done = runner.invoke(app, ["show", *arguments])
        assert done.exit_code == 2
        assert said in " ".join(done.stderr.split())
    done = runner.invoke(app, ["scores"])
    assert done.exit_code == 0
    for name in ("gnll", "semantic_entropy", "inv_entropy"):
        assert name in done.output
    done = runner.invoke(app, ["tasks"])
    assert done.exit_code == 0
    for name in ("json", "text_to_sql", "humaneval", "limit: "):
        assert name in done.output


@pytest.mark.parametrize("name", token_scores())
def test_every_registered_score_of_tokens_is_a_colour(name: str, traces: list[Path], tmp_path: Path) -> None:
    spec = name
    if name == "wepr":
        rng = np.random.default_rng(0)
        tops = [np.log(rng.dirichlet(np.ones(20), 5)) for _ in range(6)]
        fit_wepr(tops, [True, False] * 3, k=3).save(tmp_path / "w.json")
        spec = f"wepr(fitted={str(tmp_path / 'w.json')!r})"
    trace = dk.Trace.load(traces[1])
    one = story(trace, "t", [spec])
    ((full, score),) = scores_of(spec).items()
    colour = full if full in one.colours else name
    (line,) = trace.lines()
    values = [token.values[colour] for token in one.samples[0].tokens]
    assert one.colours[colour].startswith("score of each token alone")
    assert any(value is not None for value in values)
    if hasattr(score, "add"):  # the same as of a text of this token alone
        chosen, group = samples_of(trace)
        text = group.texts[chosen]
        for i, value in enumerate(values):
            alone = replace(text, columns={key: column[i : i + 1] for key, column in text.columns.items()})
            said = float(fold_values(score, [alone], name)[0])
            assert (value is None and said != said) or value == pytest.approx(said, abs=1e-9)
    else:
        assert len(values) == len(line.index)
    hot = [share for share in scaled(one, one.samples[0], colour) if share is not None]
    assert min(hot) >= 0.0
    assert max(hot) <= 1.0
    known = [value for value in values if value is not None]
    at = known.index((max if score.rising else min)(known))
    assert hot[at] == max(hot)  # what is unsure is hot, whichever way the score runs


def test_spelling_is_shown_token_by_token() -> None:
    found = dk.generate(
        "zoo:base", "Ada", strategy="sample | canonicality | temperature(3.0)", max_tokens=30, n=4, seed=1
    )
    verdicts = canonicality_of(load("zoo:base").tokenizer)
    one, seen = story(found.trace), 0
    assert "canonical" in one.telling
    for sample in one.samples:
        ids = found.samples[sample.group].tokens
        body = ids[:-1] if sample.finish == "eos" else ids
        marked = [token.values["canonical"] == 1.0 for token in sample.tokens[: len(body)]]
        assert marked == [not same for same in verdicts.written(body)]
        seen += sum(marked)
    assert seen > 0
    assert " odd" in page([one], "canonical")
    plain = dk.generate("zoo:base", "Ada", max_tokens=5)
    assert {token.values["canonical"] for token in story(plain.trace).samples[0].tokens} == {None}


def test_refused_guesses_follow_the_particles_through_resampling() -> None:
    found = dk.generate(
        "zoo:base", "Ada", strategy="mask | smc(particles=6, ess=1.0) | speculative('zoo:draft', k=3)",
        constraint=dk.regex("[a-e ]{10}"), seed=2,
    )  # fmt: skip
    trace = found.trace
    events, moves = trace.events, trace.moves
    assert (moves["kind"] == 0).any()
    seen = 0
    for line in trace.lines():
        row, expected = line.slot, set()
        for turn in range(len(trace.rounds["rows"]) - 1, -1, -1):  # backwards from the end to the ancestor's row
            for m in reversed(np.flatnonzero(moves["round"] == turn).tolist()):
                if moves["kind"][m] == 0:
                    row = int(moves["index"][moves["offset"][m] : moves["offset"][m + 1]][row])
            mine = (events["round"] == turn) & (events["row"] == row) & ~events["accepted"]
            expected |= set(np.flatnonzero(mine).tolist())
        told = {i for index in refused(trace, line).values() for i in index}
        assert told == expected
        seen += len(told)
    assert seen > 0


CLICKS = """<script>
const select = document.getElementById("colour"), token = document.querySelector(".fought");
select.value = "entropy"; select.dispatchEvent(new Event("change"));
token.focus();
const slider = document.querySelector(".player input"); slider.value = 1; slider.dispatchEvent(new Event("input"));
document.title = JSON.stringify({
  card: getComputedStyle(token.querySelector(".card")).display,
  painted: [...document.querySelectorAll(".tok")].every(
    t => +t.style.getPropertyValue("--v") === (+t.dataset.v.split(" ")[known.indexOf("entropy")] || 0)),
  says: document.getElementById("says").textContent,
  output: document.querySelector(".player output").textContent,
  wide: document.documentElement.scrollWidth <= window.innerWidth,
});</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 1280])
def test_clicking_through(traces: list[Path], tmp_path: Path, width: int) -> None:
    told = clicked(page([story(dk.Trace.load(path), path.stem) for path in traces]), CLICKS, tmp_path, width)
    assert told.pop("output").startswith("round 1 of")
    assert told == {"card": "block", "painted": True, "says": COLOURS["entropy"], "wide": True}
