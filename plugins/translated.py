"""A draft model whose tokens are not the target's."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.errors import CompositionError
from decodekit.registry.declaration import plugin
from decodekit.speculation.cross_tokenizer import Translator
from decodekit.speculation.draft_length import Pace, cost_ratio


@plugin(
    role="proposer",
    exactness="exact",
    requires=("causal_lm",),
    provides=("guesses", "logq", "certain"),
    paper="Timor et al. 2025 (speculative decoding for heterogeneous vocabularies), arXiv 2502.05202, algorithm 2",
)
class Translated:
    """A draft model with any tokenizer guesses; its words go through text to the tokens of the target.

    Use it where no small model with the target's tokens is at hand; with one, `speculative` guesses better, for it
    draws under the target's warpers and noise. Here the draft writes its `k` most probable tokens, which are as many
    bytes as they are. They are guesses that depend on the text alone, so every exact selector stays exact: with
    `sample` or `greedy` the text is that of plain decoding, token for token.

    Args:
        draft: the draft model: a name that the loader knows or a loaded model with its tokenizer.
        k: most tokens that the draft writes per round and row, in its own tokens.
        adapt: write fewer where guesses have not stood (see `speculative`).

    Raises:
        CompositionError: when bound, if the draft is not a causal model, or a tokenizer has no exact bytes.
    """

    draft: Any
    k: Annotated[int, Field(ge=1)] = 6
    adapt: bool = False

    def bind(self, run: BindContext) -> Translator:
        """Open the draft model; runs neither model."""
        draft = run.open(self.draft)
        if "causal_lm" not in draft.provides:
            raise CompositionError(
                f"translated: the draft {draft.name!r} is not a causal language model; choose one that is"
            )
        pace = Pace(self.k, cost_ratio(draft, run.model)) if self.adapt else None
        return Translator(run, draft, draft.reader(run.cost, "draft"), self.k, pace)
