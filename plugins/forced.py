"""Jump-forward: text that the constraint forces is guessed and read in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import info_of
from decodekit.speculation.model_free import certain


@plugin(
    role="proposer",
    exactness="exact",
    requires=("constraint", "causal_lm"),
    provides=("guesses", "logq", "certain"),
    paper="jump-forward decoding: Zheng et al. 2024, arXiv 2312.07104, section 4; verified, hence exact",
)
class Forced:
    """Where only one text can follow (keys, quotes, punctuation of a schema), it is guessed, and read in one pass.

    The text is certain, its tokens are not: the model may spell it otherwise. So the tokens that the tokenizer itself
    writes for it are *guesses*, which the selector verifies like those of a draft model: with `sample`, `greedy` or
    `mask` the text is token for token the one without jumping, in fewer passes of the model.

    Args:
        k: most tokens to guess per round and row.
        canonical: take the guesses as they are, where the constraint allows them. Then nothing is verified, and the
            text is spelled as the tokenizer would; that is `approximate`: the model might have spelled it otherwise.
    """

    k: Annotated[int, Field(ge=1)] = 16
    canonical: bool = False

    def __post_init__(self) -> None:
        if self.canonical:  # what is not verified is not exact: an instance says so for itself
            about = info_of(self)
            assert about is not None  # set by the decorator
            object.__setattr__(self, "about", replace(about, exactness="approximate"))

    def bind(self, run: BindContext) -> Jumps:
        """Nothing to prepare."""
        return Jumps(run, self.k, self.canonical)


class Jumps:
    """The bound proposer."""

    def __init__(self, run: BindContext, k: int, canonical: bool) -> None:
        self._run, self._k, self._canonical = run, k, canonical

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """Guesses from `n` on along the forced text, and one position more; just the next one where there is none."""
        runs = [run[: self._k] for run in self._foreseen()(rows)]
        ask = certain(self._run, rows, runs, "forced")
        return replace(ask, pinned=ask.guess != NONE) if self._canonical else ask

    def _foreseen(self) -> Callable[[Rows], list[list[int]]]:
        """What the constraint can say: its text, spelled canonically, or at least the tokens that it forces."""
        constraint: Any = self._run.kit.constraint
        found: Callable[[Rows], list[list[int]]] = getattr(constraint, "foreseen", None) or constraint.forced
        return found
