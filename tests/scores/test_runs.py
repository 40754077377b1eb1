"""Scores of real runs: the same during a run and after it, with weights exact in expectation, refused beforehand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import decodekit as dk
from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.loop import decode
from decodekit.core.protocols import Proposal, Round, Selection
from decodekit.core.rows import NONE, Rows
from decodekit.core.stopping import Length
from decodekit.errors import CompositionError, OptionError
from decodekit.registry.compose import bind, compose
from decodekit.registry.declaration import plugin
from decodekit.registry.discovery import SCORES, load, names
from decodekit.scores import ScoreError, ToolError, Tools
from decodekit.scores.base import Samples, Text
from decodekit.scores.evaluate import fold_values
from decodekit.scores.folds import Fold
from decodekit.scores.methods.entropy import Coefficients, fit_wepr
from decodekit.scores.plan import scores_of
from decodekit.scores.running import Live, live
from decodekit.testing import TableModel, ToyConstraint
from decodekit.trace.recorder import Recorder
from decodekit.trace.trace import Trace

FOLDS = [
    "nll",
    "perplexity",
    "geometric_mean",
    "arithmetic_mean",
    "quantile(q=0.3)",
    "mean_entropy",
    "max_entropy",
    "kurtosis",
    "epr(k=3)",
]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: Any) -> str:
    path = tmp_path_factory.mktemp("wepr") / "w.json"
    Coefficients(3, "", 1.0, -0.5, (0.4, -1.0, 2.0), (0.3, 0.1, -0.2)).save(path)
    return str(path)


class Log:
    """Observer: every running score after every round, by row and length."""

    def __init__(self, running: list[Live]) -> None:
        self.running, self.seen = running, dict[tuple[int, int, int, str], float]()

    def round(self, what: Round) -> None:
        rows = what.rows
        for one in self.running:
            values = one.value(rows)
            assert bool((one.count(rows) >= rows.n - rows.start).all())  # a canvas has cells past its text
            for r, n in enumerate((rows.n - rows.start).tolist()):
                key = int(rows.group[r]), int(rows.sample[r]), n, one.name
                if not math.isnan(float(values[r])):
                    self.seen[key] = float(values[r])

    def moved(self, rows: Rows, index: torch.Tensor) -> None: ...


@pytest.mark.parametrize(
    "strategy",
    ["sample", "speculative(draft=DRAFT, k=3) | rejection", "smc", "threshold", "cascade"],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_while_it_grows_and_afterwards(strategy: str, seed: int, fitted: str) -> None:
    model = TableModel(vocab=5, seed=seed, scale=1.0, masked=strategy == "threshold", eos=())
    other = TableModel(vocab=5, seed=seed + 9, scale=1.0, eos=())
    toy = ToyConstraint(seed=4, vocab=5, eos=()) if strategy == "smc" else None
    parts = {
        "sample": "sample",
        "smc": "mask | smc(particles=4, ess=1.0)",
        "threshold": "threshold(tau=0.5, block=3, sample=True)",
        "cascade": dk.Strategy.of("sample") | dk.cascade(slow=other, threshold=math.inf),
    }.get(strategy, dk.speculative(draft=other, k=3) | dk.Strategy.of("rejection"))
    wanted = scores_of([*FOLDS, load("wepr", SCORES)(fitted=fitted)])
    run = BindContext(model, lambda named: named, (), seed, Cost())  # type: ignore[arg-type, return-value]
    composition = compose(parts, model.provides, [toy] if toy else [])
    width = 4 if strategy == "smc" else 1
    count = 3 * width
    start = torch.tensor([2, 1, 3]).repeat_interleave(width)
    rows = Rows(
        [[1] * n for n in start.tolist()],
        start + 8,
        torch.arange(count) + 100 * seed,
        torch.arange(3).repeat_interleave(width),
        torch.arange(width).repeat(3),
    )
    recorder = Recorder(rows, run.cost, top_k=3)
    bind(composition, run, stops=[Length()])
    running = [live(run, one, "test") for one in wanted.values()]
    log = Log(running)
    kit = run.kit = replace(run.kit, observers=(*run.kit.observers, *running, log, recorder))
    with torch.inference_mode():
        for _ in decode(kit, rows):
            if not len(rows):
                break
    trace = recorder.trace(spec="", seed=seed, model="table")
    assert trace is not None
    assert len(trace.lines()) == count
    compared = 0
    for line in trace.lines():
        columns = {name: column[line.index] for name, column in trace.events.items()}
        whole = Text("", columns, [b""] * len(line.index), 1.0, trace=trace)
        for name, one in wanted.items():
            (value,) = fold_values(one, [whole])
            told = log.seen.get((line.group, line.slot, len(line.index), name))
            if told is not None:
                assert told == pytest.approx(value, rel=1e-5, abs=1e-5), name
                compared += 1
    assert compared >= count * len(wanted) * 0.5


def test_reopened_cells_leave_a_score_unknown() -> None:
    rows = Rows([[1]], torch.tensor([9]), torch.tensor([1]), torch.tensor([0]), torch.tensor([0]))
    running = Live(load("nll", SCORES)(), "nll")

    def step(at: int, token: int) -> float:
        where, chosen = torch.tensor([[at]]), torch.tensor([[token]])
        rows.commit(where, chosen, torch.tensor([[True]]))
        take = torch.tensor([[True]])
        running.watch(rows, Proposal(where, chosen), torch.zeros(1, 1, 5), Selection(chosen, take), take)
        return float(running.value(rows)[0])

    assert step(1, 3) == pytest.approx(math.log(5))
    assert step(3, 2) == pytest.approx(2 * math.log(5))
    assert math.isnan(step(3, NONE))
    assert math.isnan(step(2, 1))


def test_abstain_ends_at_the_token_that_crosses() -> None:
    made: Any = {"max_tokens": 40, "eos": (), "seed": 3}
    plain = dk.generate("zoo:base", "Ada Park is", strategy="sample | temperature(1.5)", **made)
    sums = -np.cumsum(plain.trace["logp"].astype(np.float64))
    jump = 5 + int(np.argmin(plain.trace["logp"][5:35]))
    limit, expected = float(sums[jump - 1] + sums[jump]) / 2, jump + 1
    spec = f"sample | temperature(1.5) | abstain('nll', above={limit})"
    out = dk.generate("zoo:base", "Ada Park is", strategy=spec, **made)
    assert (out.finish, len(out.tokens)) == ("abstain", expected)
    assert out.tokens == plain.tokens[:expected]
    drafted = dk.generate("zoo:base", "Ada Park is", strategy=f"speculative('zoo:draft', k=4) | {spec}", **made)
    assert plain.tokens[: len(drafted.tokens)] == drafted.tokens
    assert 0 <= len(drafted.tokens) - expected < 5  # the round in which it crosses is judged as a whole
    late = dk.generate(
        "zoo:base", "Ada Park is", strategy="sample | abstain('geometric_mean', below=1.0, after=7)", **made
    )
    assert (late.finish, len(late.tokens)) == ("abstain", 7)


def test_running_scores_route_and_stop() -> None:
    fast, slow = "zoo:draft", "zoo:base"
    for limit, alone in ((math.inf, fast), (-1.0, slow)):
        spec = f"greedy | fast_slow('{slow}', route='score', score='mean_entropy', threshold={limit})".replace(
            "inf", "1e9"
        )
        out = dk.generate(fast, "Ada Park is", strategy=spec, max_tokens=12)
        want = dk.generate(alone, "Ada Park is", strategy="greedy", max_tokens=12)
        # nothing is known before the first token, so the fast model writes it
        if alone == fast or want.tokens[0] == dk.generate(fast, "Ada Park is", max_tokens=1).tokens[0]:
            assert out.tokens == want.tokens
    some = dk.generate(
        fast,
        "Ada Park is",
        strategy=f"greedy | fast_slow('{slow}', route='score', score='perplexity', threshold=0.5)",
        max_tokens=30,
    )
    told = some.trace.told("position asked", 0)["value"].astype(int).tolist()
    logp = some.trace["logp"][some.trace["accepted"]]
    means = -np.cumsum(logp) / np.arange(1, len(logp) + 1)
    assert told == [t for t in range(1, len(logp)) if means[t - 1] > 0.5]
    deep = dk.generate(
        "zoo:exits",
        "Ada Park is",
        strategy="greedy | early_exit(rule='score', score='perplexity', threshold=0.2)",
        max_tokens=20,
    )
    layers, logp = deep.trace["layers"], deep.trace["logp"]
    means = -np.cumsum(logp) / np.arange(1, len(logp) + 1)
    assert layers[0] == 8
    assert [n < 8 for n in layers[1:].tolist()] == (means[:-1] <= 0.2).tolist()
    paused = dk.generate(
        "zoo:base",
        "Ada Park is",
        strategy="adadec(signal='score', score='max_entropy', threshold=0.0)",
        max_tokens=8,
    )
    assert paused.trace.told("paused at", 0)["value"].size
    large = dk.generate(
        fast,
        "Ada Park is",
        strategy=f"sample | cascade('{slow}', rule='score', score='max_entropy', threshold=-1.0)",
        max_tokens=8,
    )
    assert large.tokens == dk.generate(slow, "Ada Park is", strategy="sample", max_tokens=8).tokens


def test_what_cannot_steer_is_refused() -> None:
    for strategy, said in (
        ("sample | abstain('deg', above=1.0)", r"deg is known of whole texts only"),
        (
            "speculative('zoo:draft', scorer=early_exit(rule='score', score='nll', threshold=1.0)) | sample",
            "a draft has no running score",
        ),
        ("greedy | fast_slow('zoo:base', route='score', threshold=1.0)", "go together"),
        ("greedy | fast_slow('zoo:base', route='score', score='nll')", "no usual threshold; give threshold="),
    ):
        with pytest.raises(CompositionError, match=said):
            dk.Decoder("zoo:exits" if "early" in strategy else "zoo:draft", strategy)
    with pytest.raises(OptionError, match="give above=, or below="):
        dk.abstain("nll")


@pytest.mark.parametrize("name", ["nll", "mean_entropy", "perplexity"])
def test_weighted_means_of_scores_are_exact_in_expectation(name: str) -> None:
    """Importance-weighted particles: E[mean of w x score] = Z x E_constrained[score], by enumeration."""
    model = TableModel(vocab=4, seed=5, scale=1.0, eos=())
    toy = ToyConstraint(seed=4, vocab=4, eos=(), states=4)
    score = load(name, SCORES)()
    prompt, most = [1], 3
    exact = total = 0.0
    for tail in itertools.product(range(4), repeat=most):
        if not all(tail[i] in toy.allowed(tail[:i]) for i in range(most)):
            continue
        laws = torch.stack([_law(model, prompt, tail[:i]) for i in range(most)])
        logp = laws.gather(1, torch.tensor(tail)[:, None])[:, 0]
        columns = {
            "logp": logp.numpy(),
            "token": np.array(tail),
            "entropy": torch.special.entr(laws.exp()).sum(1).numpy(),
        }
        mass = float(logp.sum().exp())
        (value,) = fold_values(score, [Text("", columns, [b""] * most, 1.0)])
        exact, total = exact + mass * value, total + mass
    out = dk.generate(
        model,
        [prompt],
        strategy="mask | smc(particles=4000, ess=0.0)",
        constraint=toy,
        max_tokens=most,
        batch_size=4000,
    )
    result = out[0] if isinstance(out, list) else out
    values = np.array([fold_values(score, [one])[0] for one in _texts(result)])
    weights = np.exp([s.logw for s in result.samples])
    spread = float((weights * values).std() / math.sqrt(len(weights)))
    assert abs(float((weights * values).mean()) - exact) < 4.5 * spread
    assert abs(float(weights.mean()) - total) < 4.5 * float(weights.std()) / math.sqrt(len(weights)) + 1e-9


def _law(model: TableModel, prompt: list[int], tail: tuple[int, ...]) -> torch.Tensor:
    text = [*prompt, *tail]
    one = torch.zeros(1, dtype=torch.int64)
    rows = Rows([text], one + len(text) + 1, one, one, one)
    return model.reader(Cost(), "x").read(rows, torch.tensor([[len(text)]]))[0, 0].double().log_softmax(-1)


def _texts(result: Any) -> list[Text]:
    trace = result.trace
    return [
        Text("", {name: trace[name][line.index] for name in ("logp", "token", "entropy")}, [], line.weight)
        for line in trace.lines()
    ]


def test_set_scores_under_exact_weights_are_those_of_the_law() -> None:
    """All texts of a small law with their probabilities as weights: the entropy of meanings is exact."""
    chance = {"yes": 0.5, "Yes.": 0.2, "no": 0.2, "maybe": 0.1}
    texts = [
        Text(said, {"logp": np.array([math.log(p)]), "token": np.array([i])}, [said.encode()], p)
        for i, (said, p) in enumerate(chance.items())
    ]
    law = np.array([0.7, 0.2, 0.1])
    exact = float(-(law * np.log(law)).sum())
    assert load("semantic_entropy", SCORES)().of_samples(Samples(texts), Tools()) == pytest.approx(exact)
    by_probability = load("semantic_entropy", SCORES)(mass="probability")
    assert by_probability.of_samples(Samples(texts), Tools()) == pytest.approx(exact)
    same = Tools(similarity=lambda a, b: float(a[:1].lower() == b[:1].lower()))
    meet = float(law @ law)
    assert load("deg", SCORES)().of_samples(Samples(texts), same) == pytest.approx(1 - meet)


def test_every_score_of_real_runs(fitted: str) -> None:
    outs = dk.generate("zoo:base", ["Ada Park is 36.", "Ada is 36."], strategy="sample", n=3, max_tokens=12, seed=1)
    chosen = [name for name in names(SCORES) if name != "wepr"] + [load("wepr", SCORES)(fitted=fitted)]
    for out, found in zip(outs, dk.score(outs, chosen), strict=True):
        missing = set(scores_of(chosen)) - set(found)
        assert missing == set(found.problems) <= {"gnll"}
        assert all(math.isfinite(value) for value in found.values())
        assert len(found.each["nll"]) == 3
        assert found["nll"] == pytest.approx(-out.logp, abs=1e-4)
    greedy = dk.generate("zoo:base", "Ada Park is 36.", max_tokens=12, scores=["gnll", "ccp"])
    assert greedy.scores["gnll"] == pytest.approx(-greedy.logp, abs=1e-4)
    assert greedy.confidence == pytest.approx(math.exp(-greedy.scores["gnll"]), rel=1e-4)
    assert greedy.as_dict()["scores"].keys() == {"gnll", "ccp"}


def test_a_trace_from_a_file_gives_the_same_scores(tmp_path: Path) -> None:
    out = dk.generate("zoo:base", "Ada Park is 36.", strategy="sample", n=4, max_tokens=12)
    out.trace.save(tmp_path / "t.npz")
    chosen = ["mean_entropy", "epr", "deg", "semantic_entropy", "sar", "semantic_volume", "ccp"]
    one, other = dk.score(out, chosen), dk.score(Trace.load(tmp_path / "t.npz"), chosen)
    assert one.problems == other.problems == {}
    for name in one:
        assert one[name] == pytest.approx(other[name]), name


def test_what_a_run_cannot_give_is_said_before_it(capsys: Any) -> None:
    made = dk.Decoder("zoo:base", "sample", max_tokens=4)
    for options, said in (
        ({"scores": "sar"}, r"sar compares 2 samples or more, and this run gives 1; give n=2"),
        ({"scores": "nll", "trace": False}, r"nll reads the trace, which trace=False switches off"),
        ({"scores": "epr(k=100000)"}, r"looks at the 100000 likeliest tokens, and the model has"),
        ({"scores": "inv_entropy", "n": 3}, r"compares the answers to several prompts; call dk.score"),
    ):
        with pytest.raises(ScoreError, match=said):
            made.generate("Ada", **options)
    with pytest.raises(dk.DecodekitError, match="no score is called 'entropi'"):
        made.generate("Ada", scores="entropi")
    out = made.generate("Ada", scores=["epr(k=30)"])
    assert out.trace["top_ids"].shape[1] == 30
    out = made.generate("Ada", top_k=3)
    with pytest.raises(
        ScoreError, match=r"looks at the 15 likeliest tokens, and the trace has 3; generate with top_k=15"
    ):
        dk.score(out, "epr")
    with pytest.raises(ScoreError, match="compares 2 samples or more, and there are 1"):
        dk.score(out, "deg")
    with pytest.raises(OptionError, match="score has no option 'simil'"):
        dk.score(out, "nll", simil=len)
    with pytest.raises(ScoreError, match="there is none; generate with trace=True"):
        dk.score(made.generate("Ada", trace=False), "nll")


def test_a_broken_callable_is_named_and_the_rest_computed() -> None:
    out = dk.generate("zoo:base", "Ada Park is 36.", strategy="sample", n=3, max_tokens=8, seed=5)

    def broken(a: str, b: str) -> float:
        raise RuntimeError("the model is\n away")

    found = dk.score(out, ["deg", "nll", "semantic_entropy"], similarity=broken)
    assert set(found) == {"nll", "semantic_entropy"}
    assert found.problems["deg"].endswith("broken failed: RuntimeError: the model is away")
    with pytest.raises(ToolError, match=r"the similarity callable .*broken failed"):
        dk.score(out, "deg", similarity=broken)
    for tool, value, said in (
        ("similarity", lambda a, b: 1.5, "must give numbers from 0 to 1"),
        ("similarity", lambda a, b: math.nan, "which are not numbers"),
        ("nli", lambda a, b: (1.0, 1.0, 0.0), "three probabilities"),
        ("nli", lambda a, b: 0.5, "the nli callable"),
        ("embed", lambda texts: np.ones(3), r"must give \[texts, dimensions\]"),
        ("claims", lambda text: [(5, 2)], r"must give \(begin, end\)"),
    ):
        name = {"similarity": "deg", "nli": "semantic_entropy", "embed": "semantic_volume", "claims": "ccp"}[tool]
        with pytest.raises(ToolError, match=said):
            dk.score(out, name, **{tool: value})


def test_wepr_is_fitted_and_carries_what_it_holds_for(tmp_path: Path) -> None:
    made = np.random.default_rng(0)
    logps, wrong = [], []
    for i in range(80):
        flat = made.dirichlet(np.full(6, 5.0 if i % 2 else 0.2), size=9)
        logps.append(np.log(-np.sort(-flat, axis=1) + 1e-12))
        wrong.append(bool(i % 2))
    told = fit_wepr(logps, wrong, k=4, model="a", temperature=0.7)
    told.save(tmp_path / "w.json")
    score = load("wepr", SCORES)(fitted=str(tmp_path / "w.json"))
    texts = [
        Text("", {"logp": t[:, 0], "token": np.zeros(9), "top_logps": t, "top_ids": np.zeros_like(t)}, [], 1.0)
        for t in logps
    ]
    values = fold_values(score, texts)
    assert values[np.array(wrong)].min() > values[~np.array(wrong)].max()
    assert (score.told.k, score.told.model, score.told.temperature) == (4, "a", 0.7)
    out = dk.generate("zoo:base", "Ada", max_tokens=4)
    with pytest.raises(ScoreError, match="was fitted for a, and this text is of zoo:base"):
        dk.score(out, score)
    (tmp_path / "x.json").write_text('{"version": 9}')
    for name, said in (("x.json", "no fitted file of version 1"), ("gone.json", "cannot be read")):
        with pytest.raises(OptionError, match=said):
            load("wepr", SCORES)(fitted=str(tmp_path / name))


def test_a_score_of_a_third_party() -> None:
    @plugin(role="score")
    class Length:
        """How long the text is."""

        rising = True

        def needs(self) -> Any:
            from decodekit.scores import Needs

            return Needs(text=True)

        def of_text(self, text: Text, tools: Tools) -> float:
            return len(text)

    out = dk.generate("zoo:base", "Ada", max_tokens=5, eos=())
    assert dk.score(out, Length()) == 5
    assert isinstance(load("nll", SCORES)(), Fold)
