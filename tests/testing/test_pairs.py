"""Every pair of registered plugins, with and without a constraint, over both kinds of model: it works, or is refused.

A cell is green if it decodes, a batch is its single runs, and the law is of the declared class; or composition refuses
it with a sentence. Anything else (another exception, a hang, a wrong law) fails.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.core.rows import NONE, Retired
from decodekit.errors import CompositionError, ConstraintError
from decodekit.registry.compose import compose
from decodekit.registry.discovery import load, names
from decodekit.testing.harness import kit_for, run
from decodekit.testing.oracle import FALSE_ALARM, Z_ALARM, chi_square, enumerate_law, rows_of, z_score
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint

LETTERS = 'abtrue{}":1 SELCTFROM*,;()'
SPELLING = Vocabulary((b"", *(letter.encode() for letter in dict.fromkeys(LETTERS))))
"""Ids are letters, so that real constraints have something to say; 0 ends the text."""
V = len(SPELLING)
TABLE = TableModel(vocab=V, seed=2, scale=1.2, tokenizer=SPELLING)
MASKED = TableModel(vocab=V + 1, seed=2, masked=True, tokenizer=Vocabulary((*SPELLING.tokens, b"")))
DRAFT = TableModel(vocab=V, seed=2, scale=1.2, blur=0.8, tokenizer=SPELLING)
TOY = ToyConstraint(seed=3, vocab=V, refuse=0.8, dead_ends=True)
WIDE_TOY = ToyConstraint(seed=3, vocab=V + 1, refuse=0.5)


class Fewer:
    """A logits processor: no token twice in a row."""

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.scatter(1, ids[:, -1:], -torch.inf)


EXAMPLES: dict[str, dict[str, Any]] = {
    "temperature": {"value": 0.8},
    "top_k": {"k": 6},
    "top_p": {"p": 0.9},
    "min_p": {"p": 0.05},
    "repetition_penalty": {"penalty": 1.3},
    "smc": {"particles": 3, "ess": 0.9},
    "abstain": {"score": "nll", "above": 1e9},
    "contrast": {"against": DRAFT, "keep": 0.0},
    "all_of": {"parts": (re.compile("[abt]{1,3}"), re.compile("[abr]{1,2}"))},
    "any_of": {"parts": (re.compile("[ab]{1,3}"), ["tr", "true"])},
    "processor": {"make": Fewer},
    "template": {"text": "a{x}", "holes": {"x": re.compile("[bt]{1,2}")}},
    "not_at_end": {"part": re.compile("[ab]")},
    "retained": {"text": (1,)},
    "predicate": {"fn": lambda text: set(text) <= set("abtru")},
    "speculative": {"draft": DRAFT, "k": 2},
    "tree": {"draft": DRAFT, "branch": (2, 1)},
    "translated": {"draft": DRAFT, "k": 2},
    "ngram": {"n": 2, "least": 1, "k": 2},
    "suffix": {"corpus": [[1, 2, 3, 1, 2]], "k": 2, "least": 1},
    "first_of": {"proposers": (load("ngram")(least=1, k=2), load("speculative")(DRAFT, k=1))},
    "longest_of": {"proposers": (load("ngram")(least=1, k=2), load("suffix")(least=1, k=1))},
    "canvas_draft": {"draft": TableModel(vocab=V, seed=2, masked=True, tokenizer=SPELLING), "k": 2},
    "ete": {"threshold": 0.6, "explore": 2, "block": 3, "window": 2},
    "wino": {"tau": 0.4, "block": 3},
    "skipdecode": {"k_min": 1, "k_max": 2, "length": 3},
    "self_speculative": {"exit": 1, "k": 2},
    "lantern": {"neighbours": 4, "delta": 0.3, "codebook": torch.arange(2.0 * V).sin().view(V, 2)},
    "guidance": {"scale": 1.5, "prompt": (1,)},
    "eagle": {"head": "zoo:visual"},
    "fast_slow": {"slow": DRAFT, "route": "random", "threshold": 0.5},
    "cascade": {"slow": DRAFT, "threshold": -1.0},
    "threshold": {"tau": 0.6, "block": 3},
    "regex": {"pattern": "[abt]{1,3}"},
    "choice": {"options": ("ab", "at", "b")},
    "json_schema": {"schema": {"type": "boolean"}},
    "sql": {"schema": "CREATE TABLE a (b INTEGER, t TEXT)"},
    "cfg": {"grammar": 'start: "a" "b"~0..2'},
}
PROMPTS, MOST, SAMPLES, HORIZON = [[1, 2], [3], [2, 1, 1]], [6, 3, 5], 300, 2


def example(name: str) -> Any:
    return load(name)(**EXAMPLES.get(name, {}))


class Asked:
    """What bound constraints allow, asked text by text: for real ones there is no other account of it."""

    def __init__(self, strategy: Sequence[Any], constraint: Any, prompt: Sequence[int]) -> None:
        kit, _ = kit_for(strategy, TABLE, constraint=constraint)
        self.bound, self.prompt = kit.constraint, prompt

    def allowed(self, generated: Sequence[int]) -> list[int]:
        if self.bound is None:
            return list(range(V))
        rows = rows_of([[*self.prompt, *generated]], start=len(self.prompt))
        ids: list[int] = self.bound.mask(rows, rows.n[:, None])[0, 0].nonzero()[:, 0].tolist()
        return ids


def facts(row: Retired) -> tuple[list[int], str, float]:
    return row.tokens, row.reason, row.logw


def law_fits(strategy: Sequence[Any], constraint: Any, exactness: str, weighs: bool) -> None:
    """Spot check. A population over a selector that gives no weights knows of dead ends only."""
    kit, _ = kit_for(strategy, TABLE, constraint=constraint)
    prompt = PROMPTS[0]
    laws = enumerate_law(TABLE.logits, prompt, HORIZON, TABLE.eos, Asked(strategy, constraint, prompt), kit.warpers)
    out = run(strategy, TABLE, [prompt], constraint=constraint, max_tokens=HORIZON, samples=SAMPLES, seed=5)
    width = kit.population.width
    if exactness == "exact":
        ends = [(*row.tokens[row.start :], *((NONE,) if row.reason == "dead end" else ())) for row in out.rows[::width]]
        assert chi_square(laws.masked, ends) > FALSE_ALARM
    else:
        weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp().view(SAMPLES, width)
        alive = sum(p for text, p in laws.masked.items() if text[-1:] != (NONE,))
        assert abs(z_score(weight.mean(1), laws.evidence if weighs else alive)) < Z_ALARM


def green(strategy: Sequence[Any], model: TableModel, constraint: Any) -> bool:
    """Whether it works; False if it is refused as it should be."""
    try:
        composition = compose(list(strategy), model.provides, () if constraint is None else (constraint,))
        kit_for(strategy, model, constraint=constraint)
        if model is MASKED:  # what fits no canvas is refused when it is laid
            run(strategy, model, PROMPTS, constraint=constraint, max_tokens=MOST, seed=1)
    except (CompositionError, ConstraintError) as error:
        if isinstance(error, ConstraintError) and model is not MASKED:
            raise
        said = str(error)
        assert "\n" not in said
        assert len(said.split()) > 4
        return False
    batch = run(strategy, model, PROMPTS, constraint=constraint, max_tokens=MOST, seed=1)
    assert {row.reason for row in batch.rows} <= {"eos", "length", "dead end"}
    assert all(
        len(row.tokens) - row.start <= MOST[i * len(MOST) // len(batch.rows)] for i, row in enumerate(batch.rows)
    )
    assert model.mask is None or all(model.mask not in row.tokens for row in batch.rows)
    singles = [
        row
        for prompt, most in zip(PROMPTS, MOST, strict=True)
        for row in run(strategy, model, [prompt], constraint=constraint, max_tokens=most, seed=1).rows
    ]
    assert [facts(row) for row in batch.rows] == [facts(row) for row in singles]
    if model is TABLE and composition.exactness != "approximate":
        law_fits(strategy, constraint, composition.exactness, "weights" in composition.provides)
    return True


PAIRS = list(itertools.combinations_with_replacement(names(), 2))


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_pair_works_or_is_refused(first: str, second: str) -> None:
    pair = [example(first)] if first == second else [example(first), example(second)]
    for model, constraint in ((TABLE, None), (TABLE, TOY), (MASKED, None), (MASKED, WIDE_TOY)):
        green(pair, model, constraint)


@pytest.mark.parametrize(("first", "second"), [pair for pair in PAIRS if "speculative" not in pair])
def test_a_pair_with_a_drafter_works_or_is_refused(first: str, second: str) -> None:
    pair = [example(first)] if first == second else [example(first), example(second)]
    green([*pair, example("speculative")], TABLE, TOY)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *(
        (name, EXAMPLES.get(name, {}))
        for name in ("greedy", "sample", "mask", "awrs", "rejection", "lantern", "adadec")
    ),
    *((name, EXAMPLES.get(name, {})) for name in ("threshold", "factor", "entropy_bounded", "unmask", "dream", "ete")),
    ("wino", EXAMPLES["wino"]),
    *(
        (name, {"sample": True})
        for name in ("threshold", "factor", "entropy_bounded", "unmask", "dream", "ete", "wino")
    ),
    ("mask", {"greedy": True}),
    ("awrs", {"weight": "none"}),
    ("lantern", EXAMPLES["lantern"] | {"rule": "greedy"}),
    ("lantern", EXAMPLES["lantern"] | {"rule": "greedy", "delta": 0.0}),
    ("adadec", {"signal": "random", "threshold": 0.7}),
    ("adadec", {"signal": "random", "threshold": 0.7, "steps": 0}),
    ("adadec", {"candidates": 1}),
    ("unmask", {"order": "random"}),
    ("unmask", {"order": "random", "sample": True}),
    ("dream", {"order": "origin"}),
    ("dream", {"alg_temp": 2.0}),
    ("dream", {"order": "maskgit_plus", "sample": True}),
    ("ete", {"hypotheses": 3, "explore": 1}),
    ("fast_slow", EXAMPLES["fast_slow"]),
    ("fast_slow", {"slow": DRAFT, "route": "entropy"}),
]
"""Selectors, and what else chooses by chance, with the options that decide whether they draw and weigh."""


def _of_one(name: str, options: dict[str, Any]) -> tuple[list[Any], TableModel, Any]:
    """What a variant is tried with: a constraint, for weights are spoken of, and guesses where it needs them."""
    part = load(name)(**options)
    masked = "masked_lm" in part.about.requires
    drafted = [example("speculative")] if "logq" in part.about.requires else []
    greedy = [example("greedy")] if "selector" not in part.about.roles else []
    return [part, *drafted, *greedy], MASKED if masked else TABLE, WIDE_TOY if masked else TOY


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(VARIANTS)])
def test_what_an_instance_gives_is_what_it_does(name: str, options: dict[str, Any]) -> None:
    """randomness: seeds give different texts, else the same. weights: some row has one, else none."""
    parts, model, constraint = _of_one(name, options)
    made = compose(parts, model.provides, (constraint,))
    prompts = [[1 + i % (V - 2), 2] for i in range(12)]
    runs = [run(parts, model, prompts, constraint=constraint, max_tokens=6, seed=seed) for seed in range(4)]
    told = {tuple(map(tuple, out.texts)) for out in runs}
    assert ("randomness" in made.provides) == (len(told) > 1)
    weights = {row.logw for out in runs for row in out.rows} - {-torch.inf}  # a dead end says nothing
    assert ("weights" in made.provides) == bool(weights - {0.0})
    assert made.weighs == ("weights" in made.provides)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(VARIANTS)])
def test_what_cannot_act_is_refused(name: str, options: dict[str, Any]) -> None:
    parts, model, constraint = _of_one(name, options)
    provides = compose(parts, model.provides, (constraint,)).provides
    for word, extra in (
        ("distribution", "temperature"),
        ("distribution", "top_k"),
        ("distribution", "top_p"),
        ("distribution", "min_p"),
        ("distribution", "top_h"),
        ("randomness", "best_of"),
        ("weights", "smc"),
    ):
        if word in provides:
            compose([*parts, example(extra)], model.provides, (constraint,))
        else:
            with pytest.raises(CompositionError, match=rf"{extra} (changes nothing|would choose|needs weights)"):
                compose([*parts, example(extra)], model.provides, (constraint,))


MUST: list[tuple[Callable[[], list[Any]], TableModel, Any, bool]] = [
    (lambda: [example("sample"), example("temperature")], TABLE, TOY, True),
    (lambda: [example("awrs"), example("smc")], TABLE, TOY, True),
    (lambda: [example("speculative"), example("rejection")], TABLE, TOY, True),
    (lambda: [example("speculative"), example("regex")], TABLE, None, True),
    (lambda: [example("mask"), example("sql")], TABLE, None, True),
    (lambda: [example("threshold")], MASKED, None, True),
    (lambda: [example("threshold")], MASKED, WIDE_TOY, True),
    (lambda: [example("ete"), example("choice")], MASKED, None, True),
    (lambda: [example("unmask"), example("sql")], MASKED, None, False),
    (lambda: [example("ete"), example("mask_guidance"), example("temperature")], MASKED, None, True),
    (lambda: [example("wino"), example("top_p")], MASKED, None, True),
    (lambda: [example("wino"), example("mask_guidance")], MASKED, None, False),
    (lambda: [example("canvas_draft"), example("sample")], TABLE, TOY, True),
    (lambda: [example("awrs")], TABLE, None, False),
    (lambda: [example("temperature")], TABLE, TOY, True),
    (lambda: [example("greedy"), example("temperature")], TABLE, TOY, False),
    (lambda: [example("greedy"), example("repetition_penalty"), example("top_k")], TABLE, TOY, True),
    (lambda: [example("best_of")], TABLE, None, True),
    (lambda: [example("greedy"), example("best_of")], TABLE, None, False),
    (lambda: [example("smc")], TABLE, TOY, True),
    (lambda: [example("smc")], TABLE, None, False),
    (lambda: [example("smc")], MASKED, WIDE_TOY, True),
    (lambda: [example("threshold"), example("smc")], MASKED, WIDE_TOY, False),
    (lambda: [example("ete"), example("smc")], MASKED, WIDE_TOY, False),
    (lambda: [load("mask")(greedy=True), example("smc")], TABLE, TOY, False),
    (lambda: [load("awrs")(weight="none"), example("smc")], TABLE, TOY, False),
    (lambda: [example("greedy"), example("sample")], TABLE, None, False),
    (lambda: [example("speculative")], MASKED, None, False),
]


@pytest.mark.parametrize(("strategy", "model", "constraint", "works"), MUST, ids=range(len(MUST)))
def test_the_matrix_is_not_green_by_refusing_everything(
    strategy: Callable[[], list[Any]], model: TableModel, constraint: Any, works: bool
) -> None:
    assert green(strategy(), model, constraint) is works
