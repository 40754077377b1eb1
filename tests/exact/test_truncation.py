"""Truncation under a constraint: among what is allowed, by a reference that never sees a forbidden token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.core import noise
from decodekit.core.loop import decode
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE
from decodekit.core.warping import Settled
from decodekit.models.load import load
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.lantern import Lantern
from decodekit.plugins.ngram import Ngram
from decodekit.plugins.speculative import Speculative
from decodekit.plugins.tree import Tree
from decodekit.run.must_end import MustEnd
from decodekit.testing.harness import kit_for, rows_for, run
from decodekit.testing.oracle import FALSE_ALARM, Z_ALARM, Language, Laws, chi_square, enumerate_law, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

V, MOST = 6, 4
TARGET = TableModel(vocab=V, seed=31, scale=1.5)
DRAFT = TableModel(vocab=V, seed=31, scale=1.5, blur=0.6)
NEAR = TableModel(vocab=V, seed=31, scale=1.5, blur=0.8)
OTHER = TableModel(vocab=V, seed=32, scale=1.0)
TOY = ToyConstraint(seed=9, vocab=V, refuse=0.4)
TRAPS = ToyConstraint(seed=9, vocab=V, refuse=0.4, dead_ends=True)

Law = dict[int, float]  # logits of the tokens that there are


def probabilities(law: Law) -> Law:
    most = max(law.values())
    total = sum(math.exp(x - most) for x in law.values())
    return {v: math.exp(x - most) / total for v, x in law.items()}


def top_k(law: Law, k: int) -> Law:
    least = sorted(law.values(), reverse=True)[: min(k, len(law))][-1]
    return {v: x for v, x in law.items() if x >= least}


def top_p(law: Law, p: float) -> Law:
    kept, mass = {}, 0.0
    for v, q in sorted(probabilities(law).items(), key=lambda one: -one[1]):
        if mass < p:
            kept[v] = law[v]
        mass += q
    return kept


def min_p(law: Law, p: float) -> Law:
    q = probabilities(law)
    return {v: x for v, x in law.items() if q[v] >= p * max(q.values())}


def top_h(law: Law, alpha: float) -> Law:
    q = probabilities(law)
    whole = -sum(x * math.log(x) for x in q.values())
    order = sorted(q, key=lambda v: -q[v])
    for size in range(len(order), 1, -1):
        part = probabilities({v: law[v] for v in order[:size]})
        if -sum(x * math.log(x) for x in part.values()) <= alpha * whole:
            break
    else:
        size = 1
    return {v: law[v] for v in order[:size]}


def temperature(law: Law, value: float) -> Law:
    return {v: x / value for v, x in law.items()}


Step = tuple[Callable[[Law, Any], Law], Any]
CHAINS: dict[str, list[Step]] = {
    "top_k(2)": [(top_k, 2)],
    "top_p(0.6)": [(top_p, 0.6)],
    "min_p(0.5)": [(min_p, 0.5)],
    "top_h(0.6)": [(top_h, 0.6)],
    "temperature(0.7) | top_p(0.7)": [(temperature, 0.7), (top_p, 0.7)],
    "top_p(0.7) | temperature(2.0) | min_p(0.8)": [(top_p, 0.7), (temperature, 2.0), (min_p, 0.8)],
    "temperature(2.0) | top_h(0.7) | temperature(0.5) | top_k(3)": [
        (temperature, 2.0),
        (top_h, 0.7),
        (temperature, 0.5),
        (top_k, 3),
    ],
}


def defined(chain: str, prompt: list[int], text: list[int], toy: Language) -> tuple[torch.Tensor, float]:
    """([V] logits of the step, log Z), by the definition; all -inf in a dead end."""
    law = dict(enumerate(TARGET.logits([*prompt, *text]).tolist()))
    steps, out = list(CHAINS[chain]), torch.full((V,), -torch.inf, dtype=torch.float64)
    while steps and steps[0][0] is temperature:
        law = temperature(law, steps.pop(0)[1])
    p = probabilities(law)
    law = {v: x for v, x in law.items() if v in set(toy.allowed(text))}
    if not law:
        return out, -math.inf
    z = math.log(sum(p[v] for v in law))
    for act, value in steps:
        law = act(law, value)
    out[list(law)] = torch.tensor(list(law.values()), dtype=torch.float64)
    return out, z


def plain(chain: str, prompt: list[int], toy: Language, stream: torch.Tensor) -> tuple[list[int], float]:
    """The text that a noise stream [1] gives, and its log weight."""
    text: list[int] = []
    logw = 0.0
    while len(text) < MOST and text[-1:] != [0]:
        law, z = defined(chain, prompt, text, toy)
        at = torch.tensor([[len(prompt) + len(text)]])
        token = int(noise.argmax(law[None, None], stream, at))
        if token == NONE:
            return text, -math.inf
        text, logw = [*text, token], logw + z
    return text, logw


STRATEGIES: dict[str, list[Any]] = {
    "sample": ["sample"],
    "mask": ["mask"],
    **{f"awrs {w}": [f"awrs(weight={w!r})"] for w in ("replay", "recursive", "two_loops", "exact", "none")},
    "awrs impatient": ["awrs(max_rejects=1)"],
    "sample, draft": ["sample", Speculative(DRAFT, k=3)],
    "mask, draft": ["mask", Speculative(OTHER, k=2)],
    "awrs, draft": ["awrs", Speculative(DRAFT, k=3)],
    "sample, sure draft": ["sample", Speculative(DRAFT, k=3, adapt=True, cost=0.1)],
    "sample, n-gram": ["sample", Ngram(n=2, least=1, k=3)],
    "sample, tree": ["sample", Tree(DRAFT, branch=(2, 2))],
    "mask, tree": ["mask", Tree(DRAFT, width=2, depth=2, nodes=4)],
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("chain", CHAINS)
def test_token_for_token_by_the_definition(name: str, chain: str) -> None:
    prompts, samples = [[1, 2], [3]], 12
    for toy in (TOY, TRAPS):
        out = run([*STRATEGIES[name], chain], TARGET, prompts, constraint=toy, max_tokens=MOST, samples=samples, seed=3)
        stream = rows_for(prompts, max_tokens=MOST, seed=3, samples=samples).stream
        for number, row in enumerate(out.rows):
            text, logw = plain(chain, prompts[number // samples], toy, stream[number : number + 1])
            assert row.tokens[row.start :] == text
            assert (row.reason == "dead end") == (logw == -math.inf)
            if "mask" in name or ("awrs" in name and "none" not in name):
                assert row.logw == pytest.approx(logw, abs=1e-9)


def test_the_settings_of_that_test_truncate_and_guess() -> None:
    """Else it would say nothing."""
    for chain in CHAINS:
        law, _ = defined(chain, [1, 2], [], TOY)
        assert len(TOY.allowed([])) > int((law > -torch.inf).sum())
    out = run(["sample", Speculative(DRAFT, k=3), "top_k(2)"], TARGET, [[1, 2], [3]], constraint=TOY, samples=12)
    assert max(take for one in out.takes for take in one) > 2


def laws(strategy: list[Any], prompt: list[int], toy: ToyConstraint) -> Laws:
    kit, _ = kit_for(strategy, TARGET, constraint=toy)
    return enumerate_law(TARGET.logits, prompt, MOST, TARGET.eos, toy, kit.warpers)


@pytest.mark.parametrize("chain", CHAINS)
def test_the_oracle_enumerates_the_definition(chain: str) -> None:
    found = laws(["sample", chain], [1, 2], TRAPS)
    for text, p in found.masked.items():
        local = joint = 1.0
        for i, token in enumerate(text):
            law, z = defined(chain, [1, 2], list(text[:i]), TRAPS)
            if token != NONE:
                local *= float(law.softmax(0)[token])
                joint *= float(law.softmax(0)[token]) * math.exp(z)
        assert p == pytest.approx(local, rel=1e-9)
        if text[-1] != NONE:
            assert found.posterior[text] * found.evidence == pytest.approx(joint, rel=1e-9)


DRAWN: dict[str, list[Any]] = {
    "rejection, draft": ["rejection", Speculative(DRAFT, k=3)],
    "rejection, tree": ["rejection", Tree(DRAFT, branch=(2, 2))],
    "lantern, draft": [
        Lantern(2, 0.0, codebook=torch.randn(V, 2, generator=torch.Generator().manual_seed(1))),
        Speculative(DRAFT, k=3),
    ],
    "awrs head": ["awrs(weight='head', head=2)"],
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("chain", ["top_k(2)", "temperature(0.7) | top_p(0.7)", "top_h(0.6)"])
def test_other_noise_has_the_same_distribution(name: str, chain: str) -> None:
    strategy = [*DRAWN[name], chain]
    out = run(strategy, TARGET, [[1, 2]], constraint=TRAPS, max_tokens=MOST, samples=1500, seed=4)
    texts = [(*row.tokens[row.start :], *((NONE,) if row.reason == "dead end" else ())) for row in out.rows]
    assert chi_square(laws(strategy, [1, 2], TRAPS).masked, texts) > FALSE_ALARM
    if name == "awrs head":
        for row in out.rows[:60]:
            text = row.tokens[row.start :]
            due = sum(defined(chain, [1, 2], text[:i], TRAPS)[1] for i in range(len(text)))
            assert row.logw == pytest.approx(-math.inf if row.reason == "dead end" else due, abs=1e-9)


WEIGHED: dict[str, list[Any]] = {
    "mask smc": ["mask | smc(particles=4, ess=1.0)"],
    "awrs smc": ["awrs | smc(particles=4, ess=0.8)"],
    "proposal": [AWRS(proposal=NEAR)],
    "proposal exact": [AWRS(proposal=NEAR, weight="exact")],
    "proposal head": [AWRS(proposal=NEAR, weight="head", head=2)],
    "proposal smc, draft": [AWRS(proposal=NEAR), "smc(particles=3)", Speculative(DRAFT, k=2)],
}


@pytest.mark.parametrize("name", WEIGHED)
@pytest.mark.parametrize("chain", ["temperature(0.7) | top_k(2)", "top_p(0.6)", "top_k(2, within='model')"])
def test_weights_are_unbiased_towards_the_documented_target(name: str, chain: str) -> None:
    strategy, groups = [*WEIGHED[name], chain], 800
    truth = laws(strategy, [1, 2], TOY)
    out = run(strategy, TARGET, [[1, 2]], constraint=TOY, max_tokens=MOST, samples=groups, seed=5)
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp().view(groups, -1)
    assert abs(z_score(weight.mean(1), truth.evidence)) < Z_ALARM
    often = sorted(truth.posterior, key=lambda text: -truth.posterior[text])[:4]
    for text in often:
        here = torch.tensor([one == text for one in out.texts], dtype=torch.float64).view(weight.shape)
        assert abs(z_score((weight * here).mean(1), truth.posterior[text] * truth.evidence)) < Z_ALARM
    for text, w in zip(out.texts, weight.flatten().tolist(), strict=True):
        assert w == 0 or text in truth.posterior


def test_the_target_is_neither_the_plain_nor_the_raw_truncated_one() -> None:
    """Else the test above could not tell them apart."""
    ours, raw, none = (laws(["mask", *more], [1, 2], TOY) for more in (["top_k(2)"], ["top_k(2, within='model')"], []))
    assert abs(ours.evidence - raw.evidence) > 0.02
    for other in (raw, none):
        keys = set(ours.posterior) | set(other.posterior)
        assert sum(abs(ours.posterior.get(t, 0.0) - other.posterior.get(t, 0.0)) for t in keys) > 0.1


# --- no dead end ------------------------------------------------------------------------------------------------------

CUTS = ["top_k(1)", "top_k(3)", "top_p(0.3)", "min_p(0.9)", "top_h(0.1)", "top_h(0.2, mode='hf')", "contrast"]
CONSTRAINTS: dict[str, Callable[[], Any]] = {
    "regex": lambda: dk.regex(r"[0-9]{3}(x|yy)*z"),
    "choice": lambda: dk.choice(["left", "right", "rightmost"]),
    "json_schema": lambda: dk.json_schema(
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a", "b"]}
    ),
    "predicate": lambda: dk.predicate(lambda text: "e" not in text, closed=True),
    "cfg": lambda: dk.cfg('start: "a" start "b" | "c"'),
    "not_at_end": lambda: dk.not_at_end(dk.regex("[ab]+")),
    "sql": lambda: dk.sql(schema="CREATE TABLE person (name TEXT, age INTEGER)"),
}
SELECTORS: dict[str, Callable[[TableModel], list[Any]]] = {
    "greedy": lambda draft: ["greedy"],
    "sample": lambda draft: ["sample"],
    "mask": lambda draft: ["mask"],
    "awrs": lambda draft: ["awrs"],
    "awrs smc": lambda draft: ["awrs | smc(particles=2)"],
    "awrs proposal": lambda draft: [AWRS(proposal=draft)],
    "rejection": lambda draft: ["rejection", Speculative(draft, k=2)],
    "speculative": lambda draft: ["sample", Speculative(draft, k=2)],
    "tree": lambda draft: ["sample", Tree(draft, branch=(2, 1))],
    "adadec": lambda draft: ["adadec(threshold=0.1, steps=2)"],
}


@pytest.fixture(scope="module")
def peaked() -> tuple[TableModel, TableModel]:
    """Models over a real vocabulary that want one token each time, at odds of a billion to one."""
    tokenizer = load("zoo:base").tokenizer
    made = [
        TableModel(vocab=len(tokenizer), eos=(tokenizer.eos_token_id,), seed=seed, states=9, tokenizer=tokenizer)
        for seed in (0, 1)
    ]
    for model in made:
        best = torch.randint(model.vocab, (9, 1), generator=torch.Generator().manual_seed(model.seed))
        model.table.scatter_(1, best, 30.0)
    return made[0], made[1]


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_no_warper_causes_a_dead_end(kind: str, selector: str, peaked: tuple[TableModel, TableModel]) -> None:
    model, draft = peaked
    for number, cut in enumerate(CUTS):
        warper: Any = dk.contrast(draft, keep=0.5) if cut == "contrast" else cut
        more = [["temperature(0.7)"], [], ["repetition_penalty(1.3)"]][number % 3]
        if selector == "greedy":  # alone, truncation changes nothing there, and is refused
            more = ["repetition_penalty(1.3)"]
        strategy = [*SELECTORS[selector](draft), *more, warper]
        out = run(strategy, model, [[5, 6], [7]], constraint=CONSTRAINTS[kind](), max_tokens=5, seed=number)
        assert "dead end" not in {row.reason for row in out.rows}, cut
        assert all(row.logw > -math.inf for row in out.rows), cut


def test_truncating_the_model_is_an_option_and_says_so(peaked: tuple[TableModel, TableModel]) -> None:
    model, _ = peaked
    for cut in ("top_k(1", "top_p(0.3", "min_p(0.9", "top_h(0.1"):
        strategy = f"temperature(0.7) | {cut}, within='model') | sample"
        out = dk.generate(model, "ab", strategy=strategy, constraint=dk.regex("[0-9]{3}"), max_tokens=5)
        assert out.finish == "dead end"
        assert "a warper with within='model' cut that away: leave within out" in out.message


def processed(chain: str, prompt: list[int], text: list[int]) -> torch.Tensor:
    """[V] what exits and look-ahead are judged by."""
    kit, _ = kit_for(["sample", chain], TARGET, constraint=TOY)
    rows = rows_for([[*prompt, *text]], max_tokens=3)
    rows.start[:] = len(prompt)
    ask = Proposal(rows.n[:, None], torch.full((1, 1), NONE))
    return kit.processed(rows, ask, TARGET.logits([*prompt, *text])[None, None])[0, 0]


@pytest.mark.parametrize("text", [[], [5], [1, 5], [4, 4]])
def test_the_processed_target_is_the_definition(text: list[int]) -> None:
    for chain in CHAINS:
        due, _ = defined(chain, [1, 2], text, TOY)
        assert torch.equal(processed(chain, [1, 2], text), due)
    kept = top_k(dict(enumerate(TARGET.logits([1, 2, *text]).tolist())), 2)
    raw = processed("top_k(2, within='model')", [1, 2], text)
    assert set((raw > -torch.inf).nonzero()[:, 0].tolist()) == {v for v in kept if v in TOY.allowed(text)}


def test_a_settled_constraint_answers_what_is_left_and_asks_for_the_rest() -> None:
    kit, _ = kit_for(["sample"], TARGET, constraint=TOY)
    rows = rows_for([[1, 2], [3]], max_tokens=6)
    assert kit.constraint is not None
    at = rows.n[:, None] + torch.arange(2)
    rows.write(at, torch.full_like(at, V - 1), torch.ones_like(at, dtype=torch.bool))
    inner = kit.constraint.mask(rows, at)  # [R, 2, V]
    left = inner & (torch.arange(V) % 2 == 1)
    settled = Settled(kit.constraint, at, torch.zeros(2, 2, V).masked_fill(~left, -torch.inf))
    everything = torch.arange(V).expand(2, V)
    assert not torch.equal(left, inner)
    assert torch.equal(settled.mask(rows, at), left)
    for k in range(2):
        assert torch.equal(settled.mask(rows, at[:, k : k + 1].clone())[:, 0], left[:, k])
        assert torch.equal(settled.admits(rows, at[:, k], everything), left[:, k])
    after = at[:, -1:] + 1
    assert torch.equal(settled.mask(rows, after), kit.constraint.mask(rows, after))
    assert torch.equal(settled.admits(rows, after[:, 0], everything), kit.constraint.mask(rows, after)[:, 0])
    assert not hasattr(settled, "narrow")
    assert settled.patience == 0


class Ending:
    """The toy, and nothing but an end at the last place."""

    def allowed(self, generated: Sequence[int]) -> list[int]:
        return [v for v in TOY.allowed(generated) if v == 0 or len(generated) < MOST - 1]


@pytest.mark.parametrize("selector", ["mask", "awrs", "sample", "mask, draft"])
@pytest.mark.parametrize("chain", list(CHAINS)[:5])
def test_a_forced_end_survives_and_is_weighed(selector: str, chain: str) -> None:
    first = selector.split(",", maxsplit=1)[0]
    strategy = [first, chain, *([Speculative(DRAFT, k=2)] if "draft" in selector else [])]
    kit, bound = kit_for(strategy, TARGET, constraint=TOY)
    kit = bound.kit = replace(kit, constraint=MustEnd(kit.constraint, bound))
    rows = rows_for([[1, 2]], max_tokens=MOST, seed=3, samples=40)
    streams = rows.stream
    list(decode(kit, rows))
    out = sorted(rows.retired, key=lambda row: row.group)
    for number, row in enumerate(out):
        text, logw = plain(chain, [1, 2], Ending(), streams[number : number + 1])
        assert row.tokens[row.start :] == text
        assert row.reason == ("dead end" if logw == -math.inf else "eos")
        if first != "sample":
            assert row.logw == pytest.approx(logw, abs=1e-9)
    assert any(row.reason == "eos" and len(row.tokens) == 2 + MOST for row in out) or chain == "top_p(0.6)"


def test_a_dead_end_that_the_constraint_has_is_one_still() -> None:
    out = run(["sample", "top_p(0.5)"], TARGET, [[1, 2]], constraint=TRAPS, max_tokens=MOST, samples=60, seed=1)
    assert "dead end" in {row.reason for row in out.rows}


def test_checks_are_kept_where_nothing_truncates() -> None:
    """Without truncation nothing is restricted beforehand: AWRS walks, and makes no mask."""
    walked = run(["awrs", "temperature(0.7)"], TARGET, [[1, 2]], constraint=TOY, max_tokens=MOST)
    masked = run(["awrs", "top_k(2)"], TARGET, [[1, 2]], constraint=TOY, max_tokens=MOST)
    assert walked.cost.checks > 0 == walked.cost.masks
    assert masked.cost.masks > 0 == masked.cost.checks
