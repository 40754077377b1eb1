"""Trees of drafts: the text of plain decoding, the law of the target, the logits of a plain forward pass."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from decodekit.core import trees
from decodekit.core.cost import Cost
from decodekit.core.protocols import Nodes
from decodekit.core.rows import NONE
from decodekit.errors import OptionError
from decodekit.models.branching import BranchingReader
from decodekit.models.forward import Forward
from decodekit.models.plain import PlainReader
from decodekit.plugins.tree import Tree
from decodekit.testing.harness import rows_for, run
from decodekit.testing.oracle import FALSE_ALARM, chi_square, enumerate_law
from decodekit.testing.readers import build
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint
from tests.exact.test_equal import acting

WARPERS = ["temperature(0.6)", "top_k(3)", "top_p(0.8)", "min_p(0.15)", "repetition_penalty(1.7)"]
SHAPES: list[dict[str, Any]] = [
    {"branch": (2, 2, 1)},
    {"branch": (3,)},
    {"branch": (1, 1, 1, 1)},
    {"width": 2, "depth": 3, "nodes": 5},
    {"width": 3, "depth": 2, "nodes": 12},
]


@pytest.mark.parametrize("seed", range(60))
def test_a_tree_changes_nothing_but_the_number_of_passes(seed: int) -> None:
    luck = random.Random(seed)
    vocab = luck.randint(3, 8)
    model = TableModel(vocab=vocab, seed=seed, scale=luck.choice([0.3, 1.0, 3.0]))
    draft = luck.choice([model, TableModel(vocab=vocab, seed=seed, blur=0.5, context=luck.choice([None, 5]))])
    toy = ToyConstraint(seed=seed, vocab=vocab, refuse=0.4, dead_ends=luck.random() < 0.4)
    with_toy = luck.random() < 0.5
    selector = luck.choice(["greedy", "sample", "mask", "awrs"] if with_toy else ["greedy", "sample"])
    prompts = [[luck.randrange(vocab) for _ in range(luck.randint(1, 7))] for _ in range(luck.randint(1, 4))]
    most = [luck.randint(1, 14) for _ in prompts]
    warpers = luck.sample(WARPERS, luck.randint(0, 3))
    rest = [selector, *acting(warpers, selector != "greedy")]
    options: dict[str, Any] = {"constraint": toy if with_toy else None, "max_tokens": most, "seed": seed, "samples": 2}
    plain = run(rest, model, prompts, **options)
    tree = run([Tree(draft, **luck.choice(SHAPES)), *rest], model, prompts, **options)
    assert tree.texts == plain.texts
    assert [row.reason for row in tree.rows] == [row.reason for row in plain.rows]
    assert [row.logw for row in tree.rows] == pytest.approx([row.logw for row in plain.rows], abs=1e-9)


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("shape", SHAPES[:1] + SHAPES[3:4])
def test_acceptance_rejection_over_siblings_gives_the_law_of_the_target(shape: Any, constrained: bool) -> None:
    target = TableModel(vocab=4, seed=11, scale=1.0)
    draft = TableModel(vocab=4, seed=11, scale=1.0, blur=2.0)
    toy = ToyConstraint(seed=6, vocab=4, refuse=0.2) if constrained else None
    out = run([Tree(draft, **shape), "rejection"], target, [[1, 2]], constraint=toy, max_tokens=4, samples=3000)
    assert chi_square(enumerate_law(target.logits, [1, 2], 4, target.eos, toy).masked, out.texts) > FALSE_ALARM
    wrong = enumerate_law(draft.logits, [1, 2], 4, target.eos, toy).masked
    assert chi_square(wrong, out.texts) < FALSE_ALARM  # the drafter's law would be noticed


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "llama", "qwen2", "mistral"])
def test_nodes_are_read_as_plain_text_is(family: str, attention: str) -> None:
    forward = Forward(build(family, attention), family, None)
    luck = torch.Generator().manual_seed(3)
    rows = rows_for([[5, 6, 7, 8, 9, 10], [3, 4], [9] * 12], max_tokens=40)
    one, truth = BranchingReader(forward, Cost(), "target"), PlainReader(forward, Cost(), "truth")
    for number in range(5):
        token = torch.randint(3, 20, (3, 6), generator=luck)
        above = torch.stack([torch.randint(-1, max(j, 1), (3,), generator=luck).clamp(max=j - 1) for j in range(6)], 1)
        token[2, 4:], above[2, 4:] = NONE, NONE
        nodes = Nodes(rows.n.clone(), token, above)
        got, want = trees.read(one, rows, nodes), trees.read(truth, rows, nodes)
        held = torch.nn.functional.pad(token != NONE, (1, 0), value=True)
        torch.testing.assert_close(got[held], want[held], rtol=0, atol=2e-5)
        for r, where in enumerate((3, 2, 0)):  # the text goes on along a path of the tree, and one token more
            path = []
            while where != NONE:
                path.append(int(token[r, where]))
                where = int(above[r, where])
            for piece in (*reversed(path), 7):
                at = torch.full((3, 1), NONE)
                at[r] = rows.n[r]
                rows.commit(at, torch.full_like(at, piece), at != NONE)
        if number == 2:
            rows.fork(torch.tensor([0, 0, 2]))


def test_a_perfect_draft_fills_every_level() -> None:
    model = TableModel(seed=1, eos=())
    out = run([Tree(model, branch=(2, 1, 1)), "greedy"], model, [[1], [2, 3, 1]], max_tokens=8)
    assert out.takes == [[4, 4], [4, 4]]


def test_trees_out_of_range_are_refused() -> None:
    with pytest.raises(OptionError, match="nodes; give 1 to 256"):
        Tree(TableModel(), branch=(20, 20))
    with pytest.raises(OptionError, match="nodes; give 1 to 256"):
        Tree(TableModel(), branch=())
