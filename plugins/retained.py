"""Conditional SMC: one particle of the population is told what to write."""

from __future__ import annotations

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, OptionError
from decodekit.particles.resampling import RETAINED
from decodekit.registry.declaration import plugin


@plugin(
    role="proposer",
    exactness="approximate",
    requires=("particles", "weights"),
    conflicts_with=("awrs", "rejection", "greedy"),
    paper="Andrieu, Doucet, Holenstein 2010, section 4.3 (conditional SMC, the kernel of particle Gibbs)",
)
class Retained:
    """The first particle of every population writes `text`, weighed like the others; the others are free.

    One run is then a step of particle Gibbs: if the text came from the law that the population aims at, so does a draw
    from the final weights (`Result.text`), for any number of particles. Repeat it with that draw to explore the law.
    One run from any other text is no sample, hence `approximate`, and its mean weight is no estimate of the evidence.

    The weight of a step must be known whichever token is taken, so the selector is `mask`, and `awrs` is refused; the
    population resamples its other slots independently.

    Args:
        text: what the first particle writes, without its end of text, which is added; or token ids, taken as they are.

    Raises:
        CompositionError: when bound, if the model has no tokenizer for the text or no end of text; while decoding, if
            the selector takes another token than it is told, or the constraint does not allow the text.
    """

    text: str | tuple[int, ...]

    def bind(self, run: BindContext) -> _Retained:
        """The tokens of the text."""
        if not isinstance(self.text, str):
            if bad := [token for token in self.text if not 0 <= token < run.model.vocab]:
                raise OptionError(f"retained: {bad[0]} is no token of {run.model.name}, which has {run.model.vocab}")
            return _Retained(self.text)
        if run.model.tokenizer is None or not run.eos:
            raise CompositionError(
                f"retained: {run.model.name} has no tokenizer or no end of text; give the tokens themselves"
            )
        ids = run.model.tokenizer.encode(self.text, add_special_tokens=False)
        return _Retained((*ids, run.eos[0]))


class _Retained:
    def __init__(self, tokens: tuple[int, ...]) -> None:
        self._tokens = tokens

    def start(self, rows: Rows) -> None:
        """Mark the populations; a text that does not fit is refused."""
        if int((rows.limit - rows.start).min()) < len(self._tokens):
            raise CompositionError(
                f"retained: the text has {len(self._tokens)} tokens, more than may be written; raise max_tokens"
            )
        rows.columns[RETAINED] = torch.ones_like(rows.done)

    def propose(self, rows: Rows) -> Proposal:
        """The next position; in the first slot of each group with the token that must stand there."""
        told = torch.tensor((*self._tokens, NONE), device=rows.device)
        here = (rows.n - rows.start).clamp(max=len(self._tokens))  # [R] tokens written
        first = rows.sample == 0
        self._verify(rows, first, here)
        guess = told[here].masked_fill(~first | rows.done, NONE)[:, None]  # [R, 1]
        at = rows.n.masked_fill(rows.done, NONE)[:, None]
        return Proposal(at, guess, by="retained", pinned=guess != NONE)

    def _verify(self, rows: Rows, first: Tensor, here: Tensor) -> None:
        """Whether the first slots have written what they were told."""
        for r in first.nonzero()[:, 0].tolist():
            count = int(here[r])
            written = rows.text(r)[int(rows.start[r]) :][:count]
            if tuple(written) != self._tokens[:count]:
                raise CompositionError("retained: the selector takes tokens of its own; choose mask")
            if bool(rows.done[r]) and count < len(self._tokens):
                raise CompositionError(
                    f"retained: its text ends after {count} of {len(self._tokens)} tokens ({rows.why(r)}); retain a "
                    "text that the constraint allows"
                )
