"""Prompt look-up: what followed the last words before is guessed to follow them again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import Rows
from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin
from decodekit.speculation.draft_length import Pace
from decodekit.speculation.lookup import earlier
from decodekit.speculation.model_free import certain, standing


@plugin(
    role="proposer",
    exactness="exact",
    requires=("causal_lm",),
    provides=("guesses", "logq", "certain"),
    paper="Saxena 2023 (prompt lookup decoding); Yang et al. 2023 (LLMA), arXiv 2304.04487, section 3",
)
class Ngram:
    """The last tokens are looked up in the row's own text (prompt included); what followed them there is guessed.

    The longest of the last `least` to `n` tokens that stands earlier is taken, and its most recent place. No model is
    asked, so a guess costs next to nothing; it stands where text repeats: code, extraction, records with the same
    keys. Where the earlier place runs into the text's end the guess goes on in its period. Guesses are certain (their
    law is a point), so they are exact with `sample`, `greedy`, `mask` and `rejection`.

    Args:
        n: most tokens to match. least: fewest.
        k: most guesses per round and row.
        adapt: guess fewer where guesses have not stood (see `speculative`); a guess counts for 0.02 passes.
    """

    n: Annotated[int, Field(ge=1)] = 4
    least: Annotated[int, Field(ge=1)] = 2
    k: Annotated[int, Field(ge=1)] = 8
    adapt: bool = False

    def __post_init__(self) -> None:
        if self.least > self.n:
            raise OptionError(f"ngram(n={self.n}, least={self.least}): at least more than at most; give least <= n")

    def bind(self, run: BindContext) -> Lookup:
        """Nothing to prepare."""
        return Lookup(run, self)


class Lookup:
    """The bound proposer; it keeps nothing."""

    def __init__(self, run: BindContext, options: Ngram) -> None:
        self._run, self._options = run, options
        self._pace = Pace(options.k, 0.02) if options.adapt else None

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """Guesses from `n` on, and one position more."""
        o = self._options
        _, runs = earlier(rows, o.n, o.least, o.k)
        ask = standing(self._run, rows, certain(self._run, rows, runs, "ngram"))
        return ask if self._pace is None else self._pace.cut(rows, ask)
