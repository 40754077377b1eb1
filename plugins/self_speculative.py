"""Self-speculation: the lower layers of the target guess, the upper ones check, and nothing is computed twice."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.protocols import Proposal
from decodekit.core.rows import Rows
from decodekit.errors import CompositionError
from decodekit.models.exits import StagedReader
from decodekit.models.forward import Forward
from decodekit.registry.declaration import plugin
from decodekit.speculation.draft_length import Pace
from decodekit.speculation.drafting import Drafter


@plugin(
    role=("proposer", "scorer"),
    exactness="exact",
    requires=("causal_lm", "hidden"),
    provides=("guesses", "logq"),
    paper="LayerSkip, arXiv 2404.16710, section 4.3 (self-speculative decoding with a shared cache)",
)
class SelfSpeculative:
    """The first `exit` layers and the head guess `k` tokens; the rest of the stack checks them in one pass.

    Draft and target share one cache: what the lower layers computed for a guess is what the target would compute, so
    the check begins at layer `exit`. The guesses follow the target's own warpers, constraint and noise, so with
    `sample` or `greedy` the text is token for token that of plain decoding.

    The gain depends on how often the lower layers agree; models trained with early-exit losses agree most.

    Args:
        exit: layers that guess.
        k: most guesses per round and row.
        sure: a row stops guessing, for this round, where the best token is less probable than this in the lower
            layers. It saves guesses that would be refused; the text is the same.
        adapt: k is the most, and each row guesses as many tokens as pay (see `speculative`), a step costing its share
            of the layers.

    Raises:
        CompositionError: when bound, if the model has no layer above the exit or its layers cannot be run apart.
    """

    exit: Annotated[int, Field(ge=1)]
    k: Annotated[int, Field(ge=1)] = 4
    sure: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    adapt: bool = False

    def bind(self, run: BindContext) -> SelfDrafter:
        """One reader of the run's model for both roles."""
        stacked = getattr(run.model, "stacked", None)
        if stacked is None:
            raise CompositionError(
                f"self_speculative runs layers apart, and {run.model.name} is no transformers model; load it as one"
            )
        drafter: SelfDrafter = stacked(lambda *made: SelfDrafter(self, run, *made), run.cost, run.label)
        return drafter


class SelfDrafter(StagedReader):
    """The bound proposer and scorer."""

    def __init__(self, options: SelfSpeculative, run: BindContext, forward: Forward, cost: Cost, label: str) -> None:
        if options.exit >= forward.layers:
            raise CompositionError(
                f"self_speculative: exit={options.exit} leaves nothing to check with, for {forward.name} has "
                f"{forward.layers} layers; lower exit"
            )
        super().__init__(forward, cost, label, (options.exit,))
        pace = Pace(options.k, options.exit / forward.layers) if options.adapt else None
        lower = _Lower(self)
        self._drafter = Drafter(run, lower, forward.vocab, forward.context, options.k, options.sure, pace)

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """Guesses of the lower layers."""
        return self._drafter.propose(rows)


class _Lower:
    """The lower layers as a scorer of their own, over the shared cache."""

    def __init__(self, whole: StagedReader) -> None:
        self._whole = whole

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] logits after the exit; see :class:`decodekit.core.protocols.Scorer`."""
        return self._whole.logits(rows, at, only, 0, "draft")
