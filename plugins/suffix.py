"""Guesses from the longest end of the text that stood before: in the text itself, or in a corpus."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import Rows
from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin
from decodekit.speculation.draft_length import Pace
from decodekit.speculation.lookup import earlier
from decodekit.speculation.model_free import certain, standing
from decodekit.speculation.suffix_automaton import Automaton, Reading, automaton


@plugin(
    role="proposer",
    exactness="exact",
    requires=("causal_lm",),
    provides=("guesses", "logq", "certain"),
    paper="Oliaro et al. 2024 (SuffixDecoding), arXiv 2411.04975; the score of a continuation is its share of places",
)
class Suffix:
    """The longest end of the text, up to `most` tokens, is looked up in a corpus and in the text itself.

    Where it stands in the corpus, the continuation that followed most often is guessed, token by token, as long as
    its share of all places is at least `sure`; where a longer end (or an equally long one) stands in the text itself,
    what followed there. The corpus is a suffix automaton, built when it is first used and shared by later calls:
    answers of earlier calls, documents, code of the same project. No model is asked. Guesses are certain, so they are
    exact with every exact selector.

    Args:
        corpus: texts, lists of token ids, or a file (JSON lines with "text" or "prompt" and "answer", or any text);
            None for the text itself alone.
        k: most guesses per round and row.
        least: shortest end that counts. most: longest end that is looked for in the text itself.
        sure: least share of a continuation in the corpus.
        adapt: guess fewer where guesses have not stood (see `speculative`); a guess counts for 0.02 passes.

    Raises:
        OptionError: when bound, if the corpus cannot be read or is empty.
    """

    corpus: Any = None
    k: Annotated[int, Field(ge=1)] = 8
    least: Annotated[int, Field(ge=1)] = 2
    most: Annotated[int, Field(ge=1)] = 32
    sure: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    adapt: bool = False

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise OptionError(f"suffix(least={self.least}, most={self.most}): give least <= most")

    def bind(self, run: BindContext) -> Matches:
        """Read the corpus and build its automaton."""
        return Matches(run, self, None if self.corpus is None else automaton(self.corpus, run.model, "suffix"))


class Matches:
    """The bound proposer."""

    def __init__(self, run: BindContext, options: Suffix, automaton: Automaton | None) -> None:
        self._run, self._options, self._automaton = run, options, automaton
        self._reading = None if automaton is None else Reading(automaton)
        self._pace = Pace(options.k, 0.02) if options.adapt else None

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """Guesses from `n` on, and one position more."""
        o = self._options
        lengths, runs = earlier(rows, o.most, o.least, o.k)
        if self._reading is not None and self._automaton is not None:
            for r, (state, length) in enumerate(self._reading.states(rows)):
                if length >= o.least and length > lengths[r]:
                    runs[r] = self._automaton.ahead(state, o.k, o.sure) or runs[r]
        ask = standing(self._run, rows, certain(self._run, rows, runs, "suffix"))
        return ask if self._pace is None else self._pace.cut(rows, ask)
