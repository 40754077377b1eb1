"""Walks where allowed tokens are improbable: a bounded number of fetches, checks and masks, and proper weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

import decodekit as dk
from decodekit.candidates import token_search
from decodekit.candidates.stopped_draws import mean
from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Selection
from decodekit.core.rows import NONE
from decodekit.plugins.awrs import AWRS, Weight
from decodekit.registry.metadata import form
from decodekit.testing.oracle import rows_of
from decodekit.testing.single import Fixed
from decodekit.testing.tables import TableModel

V = 100_003
RARE = [1e-4, 1e-6, 1e-9]
WEIGHTS: list[Weight] = ["auto", "recursive", "two_loops", "none", "head", "exact"]


class Measured(Fixed):
    """A constraint that has measured what its mask costs."""

    checks_per_mask = 22.0


class Python(Fixed):
    """A constraint whose mask is a check for each token."""

    dear = True

    def mask(self, rows: Any, at: Tensor) -> Tensor:
        raise AssertionError("a mask costs as much as all checks together")


def decide(selector: AWRS, logits: Tensor, rule: Fixed) -> Selection:
    """One step of R rows with `logits` [R, V], each with its own stream."""
    rows, model = rows_of([[0]] * len(logits)), TableModel(vocab=5, eos=(), seed=0)
    model.vocab = logits.shape[1]
    ask = Proposal(rows.n[:, None], torch.full((len(logits), 1), NONE))
    return selector.bind(BindContext(model=model, open=lambda thing: model)).select(rows, ask, logits[:, None], rule)


def rare(z: float, rows: int = 1) -> tuple[Tensor, list[bool]]:
    """(log-probabilities [rows, V] float64, verdicts): every thousandth token is allowed, all of them have mass `z`."""
    logits = torch.randn(rows, V, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    ok = torch.arange(V) % 1000 == 7
    logits[:, ok] += math.log(z) - logits[:, ok].logsumexp(1, keepdim=True)
    logits[:, ~ok] += math.log1p(-z) - logits[:, ~ok].logsumexp(1, keepdim=True)
    return logits, ok.tolist()


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens of an order each fetch was asked for."""
    sizes, real = list[int](), noise.order

    def counted(logits: Tensor, stream: Tensor, at: Tensor, count: int, salt: int = 0) -> tuple[Tensor, Tensor]:
        sizes.append(count)
        return real(logits, stream, at, count, salt)

    monkeypatch.setattr(noise, "order", counted)
    return sizes


# --- how much is asked --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("z", "rows"), [(1e-4, 1), (1e-6, 3), (1e-9, 1)])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("kind", [Measured, Fixed, Python])
def test_a_rare_token_is_found_at_a_bounded_cost(
    kind: type[Fixed], weight: Weight, z: float, rows: int, fetched: list[int]
) -> None:
    if kind is Python and weight == "exact":
        pytest.skip("the exact weight is a mask by definition")
    logits, ok = rare(z, rows)
    rule, plain = kind(ok), Fixed(ok)
    choice = decide(AWRS(weight=weight), logits, rule)
    orders = 2 if weight == "two_loops" else 1
    assert len(fetched) <= 8 * orders + rows  # not one for each token: 16 x 4^6 > V
    assert sum(fetched) <= 2.2 * V * orders * max(1, rows if kind is Python else 1)
    assert rule.calls <= 20 * orders
    if kind is Python:
        assert rule.checks <= rows * V
    else:
        bound = 22 if kind is Measured else token_search.UNKNOWN
        assert rule.checks <= rows * (33 if weight == "head" else bound)
        assert rule.masks <= rows
    if weight != "head":
        allowed = logits.masked_fill(~plain.ok, -torch.inf)
        at = torch.ones(rows, 1, dtype=torch.int64)
        assert torch.equal(choice.tokens, noise.argmax(allowed[:, None], rows_of([[0]] * rows).stream, at))
        assert choice.dead is not None
        assert not choice.dead.any()


@pytest.mark.parametrize("z", [1e-4, 1e-9])
@pytest.mark.parametrize("weight", ["auto", "recursive", "two_loops", "none"])
@pytest.mark.parametrize("kind", [Measured, Python])
def test_neither_the_chunk_nor_the_price_of_a_mask_changes_a_result(
    kind: type[Fixed], weight: Weight, z: float
) -> None:
    logits, ok = rare(z, 2)
    found = list[Selection]()
    for chunk in (1, 16, 300):
        rule = kind(ok)
        found.append(decide(AWRS(weight=weight, chunk=chunk), logits, rule))
        assert rule.masks <= 2
    if kind is Measured:
        found.append(decide(AWRS(weight=weight), logits, Fixed(ok)))
    for other in found[1:]:
        assert torch.equal(other.tokens, found[0].tokens)
        if weight != "none":
            assert other.logw is not None
            assert found[0].logw is not None
            torch.testing.assert_close(other.logw, found[0].logw, rtol=1e-9, atol=1e-9)


def test_a_capped_walk_keeps_its_cap_and_takes_verdicts_from_a_mask() -> None:
    """The weight of a capped walk is that of its cap, so a mask may give it verdicts and nothing else."""
    logits, ok = rare(1e-4, 3)
    for weight in ("auto", "recursive", "none"):
        some, other = Measured(ok), Python(ok)
        choice = decide(AWRS(weight=weight, max_rejects=9000), logits, some)
        by_checks = decide(AWRS(weight=weight, max_rejects=9000), logits, other)
        assert torch.equal(choice.tokens, by_checks.tokens)
        assert choice.dead is not None
        assert by_checks.dead is not None
        assert torch.equal(choice.dead, by_checks.dead)
        assert some.checks <= 3 * 22
        if choice.logw is not None and by_checks.logw is not None:
            torch.testing.assert_close(choice.logw, by_checks.logw, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weight", ["auto", "recursive", "two_loops", "none"])
@pytest.mark.parametrize("kind", [Measured, Fixed, Python])
def test_nothing_is_allowed(kind: type[Fixed], weight: Weight, fetched: list[int]) -> None:
    logits, _ = rare(1e-4, 2)
    choice = decide(AWRS(weight=weight), logits, kind([False] * V))
    assert choice.dead is not None
    assert choice.dead.all()
    assert len(fetched) <= 10


def test_an_end_of_long_walks_has_the_mass_exactly() -> None:
    """Where many are refused and Z is tiny, the weight of the default is Z up to a little, that of "recursive" is Z."""
    logits, ok = rare(1e-9, 4)
    for selector, off in ((AWRS(weight="recursive"), 1e-9), (AWRS(), 1e-3)):
        choice = decide(selector, logits, Measured(ok))
        assert choice.logw is not None
        assert float((choice.logw - math.log(1e-9)).abs().max()) < off


# --- properness, by enumeration --------------------------------------------------------------------------------------


def orders(p: Sequence[Fraction]) -> list[tuple[tuple[int, ...], Fraction]]:
    """Every order of draws without replacement from `p`, with its exact probability."""
    found = []
    for order in itertools.permutations([i for i, mass in enumerate(p) if mass]):
        left, chance = Fraction(1), Fraction(1)
        for i in order:
            chance, left = chance * p[i] / left, left - p[i]
        found.append((order, chance))
    return found


def enumerated(
    p: Sequence[Fraction], ok: Sequence[bool], selector: AWRS, most: int, patch: pytest.MonkeyPatch, kind: Any = Fixed
) -> list[float]:
    """E[w 1{x}] for each x, over all orders (pairs of them for two loops), the mass being asked for after `most`."""
    single = [((order, ()), chance) for order, chance in orders(p)]
    pairs = [((one, other), a * b) for (one, a), (other, b) in itertools.product(orders(p), orders(p))]
    every = pairs if selector.weight == "two_loops" else single
    size = len(p)

    def listed(stream: int, salt: int) -> tuple[int, ...]:
        return every[stream][0][int(salt == noise.Salt.ORDER)]

    def order(logits: Tensor, stream: Tensor, at: Tensor, count: int, salt: int = 0) -> tuple[Tensor, Tensor]:
        out = torch.full((len(stream), count), NONE)
        for i, one in enumerate(stream.tolist()):
            line = [token for token in listed(one, salt) if logits[i, token] > -torch.inf][:count]
            out[i, : len(line)] = torch.tensor(line, dtype=torch.int64)
        return out, torch.zeros(out.shape)

    def keys(rows: Any, at: Tensor, law: Tensor, index: int, salt: int) -> Tensor:
        out = torch.full((size,), -torch.inf, dtype=torch.float64)
        for place, token in enumerate(listed(int(rows.stream[index]), salt)):
            out[token] = -place
        return out

    patch.setattr(noise, "order", order)
    patch.setattr(token_search, "_keys", keys)
    patch.setattr(token_search, "exact_after", lambda vocab: most)
    law = torch.tensor([float(mass) for mass in p], dtype=torch.float64).log()
    choice = decide(selector, law.expand(len(every), -1), kind(ok))
    assert choice.logw is not None
    out = [0.0] * size
    for i, (_, chance) in enumerate(every):
        if choice.take[i, 0]:
            out[int(choice.tokens[i, 0])] += float(chance) * math.exp(float(choice.logw[i, 0]))
    return out


class Early(Fixed):
    """A mask costs less than any check."""

    checks_per_mask = 0.5


TINY = [
    ([5, 2, 2, 1], [False, False, True, True]),
    ([1, 1, 1, 1], [False, False, False, True]),
    ([9, 4, 2, 1], [False, True, False, True]),
    ([3, 3, 0, 1, 2], [False, False, True, False, True]),
    ([6, 1, 1], [True, False, False]),
]


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize(("mass", "ok"), TINY)
@pytest.mark.parametrize(
    ("selector", "kind"),
    [
        (AWRS(weight="recursive"), Fixed),
        (AWRS(weight="recursive", chunk=1), Early),
        (AWRS(weight="recursive", ahead=2, chunk=2), Fixed),
        (AWRS(weight="two_loops"), Fixed),
        (AWRS(weight="two_loops", chunk=1), Early),
    ],
    ids=lambda one: form(one) if isinstance(one, AWRS) else one.__name__,
)
def test_the_exact_mass_keeps_weights_proper(
    selector: AWRS, kind: Any, mass: list[int], ok: list[bool], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = [Fraction(one, sum(mass)) for one in mass]
    out = enumerated(p, ok, selector, most, monkeypatch, kind)
    for x, mass_x in enumerate(p):
        assert math.isclose(out[x], float(mass_x) if ok[x] else 0.0, rel_tol=1e-12, abs_tol=1e-14)


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize(("mass", "ok"), TINY)
@pytest.mark.parametrize("accepts", [2, 3])
def test_replays_stay_proper(
    accepts: int, mass: list[int], ok: list[bool], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All orders with their exact probabilities, and so many replays of each that their mean is known."""
    p = [Fraction(one, sum(mass)) for one in mass]
    out = enumerated(p, ok, AWRS(accepts=accepts, replays=2500), most, monkeypatch)
    for x, mass_x in enumerate(p):
        assert out[x] == pytest.approx(float(mass_x) if ok[x] else 0.0, abs=6e-3)


def test_plain_mass_would_bias_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: Z in place of the conditional mean of the replays is noticed by the enumeration."""
    monkeypatch.setattr("decodekit.candidates.estimators.mean", lambda n, accepts, missing, logz: logz)
    p = [Fraction(one, 10) for one in (5, 2, 2, 1)]
    out = enumerated(p, [False, False, True, True], AWRS(accepts=3, replays=2500), 3, monkeypatch)
    assert abs(out[2] - 0.2) > 0.02


def stopped(p: Sequence[float], ok: Sequence[bool], accepts: int, most: int, last: Callable[..., float]) -> list[float]:
    """E[w 1{x}] of one replay, summed over all sequences of draws with replacement (to 1e-13 of their mass)."""
    z = sum(q for q, fine in zip(p, ok, strict=True) if fine)
    out = [0.0] * len(p)
    live: dict[tuple[frozenset[int], int, int], float] = {(frozenset(), 0, NONE): 1.0}
    for drawn in range(1, 3000):
        after: dict[tuple[frozenset[int], int, int], float] = {}
        for (seen, a, x), chance in live.items():
            for token, q in enumerate(p):
                if not q:
                    continue
                now, taken = (a + 1, token if x == NONE else x) if ok[token] else (a, x)
                weight = chance * q
                if now == accepts:
                    out[taken] += weight * (accepts - 1) / (drawn - 1)
                elif token not in seen and len(seen) + 1 == most:
                    value = weight * math.exp(last(drawn - now, accepts, accepts - now, math.log(z)))
                    for one, fine in enumerate(ok):
                        if fine:
                            out[one] += value * (float(one == taken) if taken != NONE else p[one] / z)
                else:
                    state = (seen | {token}, now, taken)
                    after[state] = after.get(state, 0.0) + weight
        live = after
        if sum(live.values()) < 1e-13:
            return out
    raise AssertionError("the draws do not come to an end")


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("accepts", [2, 3, 4])
@pytest.mark.parametrize(("mass", "ok"), TINY)
def test_the_mean_of_a_stopped_replay_is_proper(mass: list[int], ok: list[bool], accepts: int, most: int) -> None:
    p = [one / sum(mass) for one in mass]
    out = stopped(p, ok, accepts, most, mean)
    for x, q in enumerate(p):
        assert out[x] == pytest.approx(q if ok[x] else 0.0, abs=1e-11)
    if most > 1 and accepts < 4 and sum(ok) > 1:  # the control: plain Z is noticed
        wrong = stopped(p, ok, accepts, most, lambda n, m, missing, logz: logz)
        assert max(abs(a - b) for a, b in zip(out, wrong, strict=True)) > 1e-3


@pytest.mark.parametrize("z", [Fraction(9, 10), Fraction(1, 2), Fraction(1, 7)])
@pytest.mark.parametrize("accepts", [2, 3, 5])
def test_the_integral_against_its_series(z: Fraction, accepts: int) -> None:
    for missing, n in itertools.product(range(1, accepts + 1), (0, 1, 3, 50)):
        total, chance = Fraction(0), z**missing
        for further in range(700 if z < Fraction(1, 4) else 150):
            total += chance * Fraction(accepts - 1, accepts - 1 + n + further)
            chance *= (1 - z) * Fraction(missing + further, further + 1)
        assert math.exp(mean(n, accepts, missing, math.log(z))) == pytest.approx(float(total), rel=1e-12)


def test_the_integral_at_its_ends() -> None:
    assert mean(0, 3, 3, -2000.0) == pytest.approx(-2000.0, abs=1e-9)  # nothing was refused: Z itself
    assert mean(5, 3, 3, 0.0) == pytest.approx(math.log(2 / 7))  # nothing more will be refused
    assert mean(math.inf, 3, 3, -5.0) == -math.inf
    assert mean(1e12, 3, 1, math.log(0.5)) == pytest.approx(math.log(2e-12), rel=1e-9)


def test_long_runs_of_refusals_count_what_short_ones_count() -> None:
    """Runs drawn as arrays have the distribution of runs drawn one by one: the means of both agree."""
    p = torch.arange(1, 301, dtype=torch.float64).pow(-0.8)
    logits, ok = (p / p.sum()).log().expand(1000, -1), [i % 100 == 99 for i in range(300)]
    z = float(logits[0, torch.tensor(ok)].exp().sum())
    found = list[Tensor]()
    for run in (4, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("decodekit.candidates.estimators._RUN", run)
            choice = decide(AWRS(replays=4), logits, Python(ok))
        assert choice.logw is not None
        found.append(choice.logw[:, 0].exp())
    one, other = found
    assert not torch.equal(one, other)
    error = float((one - other).std()) / math.sqrt(len(one))
    assert abs(float(one.mean() - other.mean())) < 4 * error
    assert float(one.mean()) == pytest.approx(z, rel=0.15)


# --- a real vocabulary -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", RARE)
def test_json_under_a_vocabulary_of_100k(data: Path, z: float, fetched: list[int]) -> None:
    """Where "{" is improbable: few checks and at most one mask for each row, and the token of `mask`."""
    if not (data / "tok-cl100k").is_dir():
        pytest.skip("tok-cl100k is not among the real data")
    tokenizer = AutoTokenizer.from_pretrained(data / "tok-cl100k")
    model = SimpleNamespace(name="large", vocab=len(tokenizer), tokenizer=tokenizer, eos=(), device=torch.device("cpu"))
    run: Any = BindContext(model=model, open=lambda what: model, eos=())
    kinds = ({"type": "string"}, {"type": "integer"}, {"type": "boolean"})
    schema = {"type": "object", "properties": dict(zip("abc", kinds, strict=True)), "required": ["a", "b", "c"]}
    rows = rows_of([[0], [0], [0]])
    rows.start = rows.n.clone()
    ask = Proposal(rows.n[:, None], torch.full((3, 1), NONE))
    allowed = dk.json_schema(schema).bind(run).mask(rows, ask.at)[:, 0]
    logits = torch.randn(3, model.vocab, generator=torch.Generator().manual_seed(2)) * 3
    for part, mass in ((allowed[0], math.log(z)), (~allowed[0], math.log1p(-z))):
        logits[:, part] += mass - logits[:, part].logsumexp(1, keepdim=True)
    best = noise.argmax(logits.masked_fill(~allowed, -torch.inf)[:, None], rows.stream, ask.at)
    for weight in ("auto", "recursive", "two_loops", "none"):
        rule: Any = dk.json_schema(schema).bind(run)
        asked, checks = list[int](), run.cost.checks
        real = rule.masked

        def counted(rows: Any, at: Tensor, law: Tensor, real: Any = real, asked: list[int] = asked) -> Any:
            asked.append(int((at != NONE).sum()))
            return real(rows, at, law)

        rule.masked = counted
        del fetched[:]
        for turn in range(2):  # the second knows what masks and checks cost
            choice = AWRS(weight=weight).bind(run).select(rows, ask, logits[:, None], rule)
            assert torch.equal(choice.tokens, best)
            assert sum(asked) <= 3 * (turn + 1)
            assert run.cost.checks - checks <= 3 * token_search.UNKNOWN * (turn + 1)
            assert len(fetched) <= (turn + 1) * (16 if weight == "two_loops" else 8) + 6
        if choice.logw is not None and weight == "recursive" and z < 1e-6:
            torch.testing.assert_close(choice.logw[:, 0], torch.full((3,), math.log(z)).double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("weight", "factor"), [("auto", 1.0), ("recursive", 1.0), ("two_loops", 0.5), ("exact", 1.0)])
@pytest.mark.parametrize("below", [-700.0, -1_000.0, -100_000.0])
@pytest.mark.parametrize("refused", [1, 80])
def test_mass_below_the_smallest_float(weight: Weight, factor: float, below: float, refused: int) -> None:
    """A low temperature leaves what is allowed with a mass that no float holds: no dead end, and the weight is right.

    The refused tokens are as good as certain to come first, so every estimator is at its mean given that.
    """
    logits = torch.full((1, 200), below, dtype=torch.float64)
    logits[0, :refused] = 0.0
    logits[0, refused:] += torch.linspace(0, 3, 200 - refused, dtype=torch.float64)
    rule = Fixed([index >= refused for index in range(200)])
    choice, full = (decide(AWRS(weight=one), logits, rule) for one in (weight, "exact"))
    assert choice.tokens.tolist() == full.tokens.tolist() != [[NONE]]
    assert choice.logw is not None
    mass = float(logits[0, refused:].logsumexp(0) - logits[0].logsumexp(0))
    expected = mass + math.log(factor if refused == 1 or factor == 1.0 else 1 / (refused + 1))
    assert float(choice.logw.reshape(-1)[0]) == pytest.approx(expected, abs=1e-6)
