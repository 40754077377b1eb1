"""Trees of drafts: several guesses for each position, checked by the target in one pass."""

from __future__ import annotations

from math import prod
from typing import Annotated, Any

from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin
from decodekit.speculation.drafting import opened
from decodekit.speculation.tree_drafting import Shape, TreeDrafter

MOST = 256


@plugin(
    role="proposer",
    exactness="exact",
    requires=("causal_lm",),
    provides=("guesses", "logq"),
    paper="SpecInfer, arXiv 2305.09781, section 4 (tree attention); EAGLE-2, arXiv 2406.16858, section 4",
)
class Tree:
    """A draft model guesses a tree of continuations; the target reads all of it in one pass and takes the best path.

    The round is a walk from the root: at each node the target decides as it does without a draft (warpers,
    constraint, noise, selector), and where its token is among the guesses the walk goes on there. With `sample` or
    `greedy` the text is therefore that of plain decoding, token for token; with `rejection` the guesses after a node
    are tried in turn, and the law is the target's.

    With `branch` the tree has a fixed shape. Without, it follows the draft's probabilities: `depth` times the `width`
    most probable nodes get `width` guesses each, and the `nodes` most probable of all are checked.

    Args:
        draft: the draft model, with the tokens of the target. scorer: how its logits are computed, or None.
        branch: guesses after each node, by depth: [3, 2, 1] is 3 + 6 + 6 nodes.
        width, depth, nodes: of a tree that follows probabilities.

    Raises:
        OptionError: a tree without nodes, or with more than 256.
        CompositionError: when bound, if the draft is not a causal model or has other tokens than the target.
    """

    draft: Any
    branch: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    width: Annotated[int, Field(ge=1)] = 3
    depth: Annotated[int, Field(ge=1)] = 4
    nodes: Annotated[int, Field(ge=1, le=MOST)] = 12
    scorer: Any = None

    def __post_init__(self) -> None:
        if self.branch is not None and not 0 < size(self.branch) <= MOST:
            raise OptionError(f"tree(branch={list(self.branch)}) has {size(self.branch)} nodes; give 1 to {MOST}")

    def bind(self, run: BindContext) -> TreeDrafter:
        """Open the draft model and compare vocabularies; runs neither model."""
        shape = Shape(self.branch, self.width, self.depth, self.nodes)
        return TreeDrafter(run, opened(run, self.draft, self.scorer, "tree"), shape)


def size(branch: tuple[int, ...]) -> int:
    """Nodes of a fixed tree."""
    return sum(prod(branch[: depth + 1]) for depth in range(len(branch)))
