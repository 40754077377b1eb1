"""Confidence-threshold unmasking for masked language models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from decodekit import noise
from decodekit.errors import CompositionError
from decodekit.kit import Run
from decodekit.registry import plugin
from decodekit.roles import Choice, Constraint, Proposal
from decodekit.rows import NONE, Rows

_FAR = torch.iinfo(torch.int64).max


@plugin(
    role=("proposer", "selector"),
    keeps="approximate",
    needs=("masked_lm",),
    refuses=("constraint",),
    paper="Wu et al. 2025 (Fast-dLLM), arXiv 2505.22618, section 3.3",
)
class Threshold:
    """Fill a canvas of mask tokens: each round every cell of which the model is sure enough, and always the best one.

    The canvas reaches from the prompt to the row's limit and is cut into blocks, which are filled from left to right.
    In the current block a cell is committed if its largest probability is at least `tau`. Cells behind a committed
    end token are left alone: the row is over as soon as everything before that token stands.

    Args:
        tau: how sure is sure enough. 0 fills a block in one round; above 1 every round commits one cell.
        block: cells per block.
        sample: draw each token instead of taking the most probable one. Which cells are committed does not depend on
            what is drawn, so with `tau` above 1 the text is an exact draw from the model's own law in this order.
    """

    tau: Annotated[float, Field(ge=0.0)] = 0.9
    block: Annotated[int, Field(ge=1)] = 32
    sample: bool = False

    def bind(self, run: Run) -> Canvas:
        """Remember the ids that matter; runs no model.

        Raises:
            CompositionError: the model has no mask token.
        """
        if run.model.mask is None:
            raise CompositionError(
                f"threshold: the model {run.model.name!r} has no mask token; choose a masked model whose tokenizer "
                "names one"
            )
        eos = torch.tensor(run.eos, dtype=torch.int64, device=run.model.device)  # [E]
        return Canvas(self, run.model.mask, eos)


@dataclass(frozen=True)
class Canvas:
    """The bound proposer and selector; all it knows about a row is in the row."""

    options: Threshold
    mask: int
    eos: Tensor

    def start(self, rows: Rows) -> None:
        """Write mask tokens from the end of each prompt to the row's limit."""
        longest = max(0, int((rows.limit - rows.n).max()))
        at = rows.n[:, None] + torch.arange(longest, device=rows.device)  # [R, K]
        rows.write(at, torch.full_like(at, self.mask), at < rows.limit[:, None])

    def propose(self, rows: Rows) -> Proposal:
        """The open cells of each row's current block, in increasing order."""
        size = self.options.block
        begin = rows.start + (rows.n - rows.start) // size * size  # [R] the block that holds the first open cell
        at = begin[:, None] + torch.arange(size, device=rows.device)  # [R, block]
        place = at.clamp(max=rows.tokens.shape[1] - 1)
        final = rows.final.gather(1, place)
        past = at >= rows.limit[:, None]
        # Cells behind an end token cannot reach the text; the first open cell stands before it or the row is over.
        stop = final & torch.isin(rows.tokens.gather(1, place), self.eos) & ~past
        past = past | (stop.cumsum(1) > 0)
        is_open = ~final & ~past & ~rows.done[:, None]
        at = at.masked_fill(~is_open, _FAR).sort(1).values
        at = at[:, : max(1, int(is_open.sum(1).max()))]  # [R, K]
        at = at.masked_fill(at == _FAR, NONE)
        return Proposal(at, torch.full_like(at, NONE))

    def select(self, rows: Rows, ask: Proposal, logits: Tensor, constraint: Constraint | None) -> Choice:
        """Commit what is sure enough, and the best cell of each row."""
        nothing = torch.tensor([self.mask], device=logits.device)
        logp = logits.double().index_fill(2, nothing, -torch.inf).log_softmax(-1)  # [R, K, V]
        top, token = logp.max(2)  # [R, K]
        sure = top.exp().masked_fill(ask.at == NONE, -1.0)
        if self.options.sample:
            token = noise.argmax(logp, rows.stream, ask.at)
        take = (sure >= self.options.tau) & (ask.at != NONE)
        take = take.scatter(1, sure.argmax(1, keepdim=True), True)
        return Choice(token, take, law=logp)
