"""Speculative decoding: a cheap model guesses, the target model checks several guesses in one pass."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.registry.declaration import plugin
from decodekit.speculation.draft_length import Pace, cost_ratio
from decodekit.speculation.drafting import Drafter, opened


@plugin(
    role="proposer",
    exactness="exact",
    requires=("causal_lm",),
    provides=("guesses", "logq"),
    paper="Leviathan et al. 2023, arXiv 2211.17192; shared noise: Daliri et al. 2024, arXiv 2408.07978",
)
class Speculative:
    """A draft model guesses `k` tokens; the target model reads them in one pass and takes those that stand.

    The drafter is bound to the target's own rules: warpers, constraint, noise and selector decide its guesses too.
    With `sample` or `greedy` (shared noise) the text is therefore token for token the one that plain decoding gives
    with the same seed, whatever the drafter; with `rejection` it is another text of the same distribution.

    Args:
        draft: the draft model: a name that the loader knows (`zoo:draft`, a path) or a loaded model. It must use the
            target's vocabulary; a padded embedding matrix of another size is fine.
        k: most guesses per round and row.
        adapt: k is the most, and each row guesses as many tokens as pay: the number that maximises expected tokens
            over expected cost, (1 - a^(k+1)) / ((1 - a) (1 + c k)), for the acceptance rate a of its own past rounds.
        cost: c, of a draft step over a target pass; None for the ratio of parameters.
        scorer: how the draft's logits are computed, a scorer plugin such as `skipdecode`; None for a plain pass. With
            the target's own name as `draft` the target drafts for itself, more cheaply.

    Raises:
        CompositionError: when bound, if the draft is not a causal model or has other tokens than the target.
    """

    draft: Any
    k: Annotated[int, Field(ge=1)] = 4
    scorer: Any = None
    adapt: bool = False
    cost: Annotated[float, Field(ge=0.0)] | None = None

    def bind(self, run: BindContext) -> Drafter:
        """Open the draft model and compare vocabularies; runs neither model."""
        draft = opened(run, self.draft, self.scorer, "speculative", ", or translated(draft), which goes through text")
        pace = None
        if self.adapt:
            pace = Pace(self.k, cost_ratio(run.open(self.draft), run.model) if self.cost is None else self.cost)
        return Drafter(run, draft.reader, draft.vocab, draft.context, self.k, pace=pace)
