"""Dream's unmasking: a continuous time from 1 to 0, whatever the length of the canvas."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.rows import Rows
from decodekit.diffusion.canvas import Filler, Pick, View, first
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without

_APART = 1 << 32  # positions of one step's noise are this far from those of the next


@plugin(
    role=("proposer", "selector"),
    exactness="approximate",
    requires=("masked_lm",),
    provides=("weights", "randomness", "distribution"),
    paper="Ye et al. 2025 (Dream 7B), arXiv 2508.15487, section 3.3; schedule: the authors' generation code",
)
class Dream:
    """Fill a canvas along times t_0 = 1 > ... > t_steps = eps: step i fills a share 1 - t_(i+1) / t_i of what is open.

    No blocks. The last step fills the rest. A step that would fill nothing is passed over: the canvas would be the
    same, and so would be the model's answer. Confidence is that of the law after temperature and top-p.

    Args:
        steps: of the schedule; no more rounds than that.
        order: `origin` fills each cell by chance alone; `maskgit_plus` takes the highest probability, `topk_margin` the
            largest gap between the first two tokens, `entropy` the lowest entropy.
        alg_temp: draw the cells from softmax(score / alg_temp) without replacement; 0 takes the highest scores.
        eps: the last time.
        sample: draw each value instead of taking the most probable one.

    Raises:
        CompositionError: when bound, if the model has no mask token.
    """

    steps: Annotated[int, Field(ge=1)] = 64
    order: Literal["origin", "maskgit_plus", "topk_margin", "entropy"] = "entropy"
    alg_temp: Annotated[float, Field(ge=0.0)] = 0.0
    eps: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-3
    sample: bool = False

    def __post_init__(self) -> None:
        if self.order == "maskgit_plus":  # which cells come next depends on the drawn values of all
            without(self, "weights")
        if not self.sample:
            by_chance = self.order == "origin" or self.alg_temp > 0  # which cells come next
            without(self, "weights", *(() if by_chance else ("randomness",)))

    def bind(self, run: BindContext) -> Timed:
        """Remember the ids that matter; runs no model."""
        return Timed(self, run)


class Timed(Filler):
    """The rule. Where a row is in time is a column of the rows."""

    def __init__(self, options: Dream, run: BindContext) -> None:
        super().__init__(run, "dream", sample=options.sample)
        self._options = options
        self.weighs = options.order != "maskgit_plus"
        times = torch.linspace(1.0, options.eps, options.steps + 1, dtype=torch.float64, device=run.model.device)
        self._times = times  # [steps + 1]
        share = 1 - times[1:] / times[:-1]  # [steps]
        share[-1] = 1.0
        self._share = share

    def choose(self, view: View) -> Pick:
        """The cells whose time has come, or the best of the step's number."""
        if self._options.order == "origin":
            return Pick(self._flipped(view))
        step, count = self._step(view.rows, view.scope.sum(1))
        score = {
            "maskgit_plus": lambda: -view.nats,
            "topk_margin": lambda: view.margin,
            "entropy": lambda: -view.entropy,
        }[self._options.order]()
        if self._options.alg_temp > 0:
            place = view.ask.at.clamp(min=0) + (step[:, None] + 1) * _APART
            u = noise.uniform(view.rows.stream, place, noise.Salt.ORDER)
            score = score.exp() if self._options.order == "maskgit_plus" else score
            score = score / self._options.alg_temp - (-u.log()).log()
        return Pick(first(score, view.scope, count))

    def _flipped(self, view: View) -> Tensor:
        """[R, K] bool. A cell is open after step i with chance t_(i+1), so one uniform per cell says when it flips."""
        u = noise.uniform(view.rows.stream, view.ask.at, noise.Salt.ORDER)  # [R, K]
        when = (self._times[1:-1] >= u[..., None]).sum(-1)  # [R, K] step at which the cell flips
        when = when.masked_fill(~view.scope, self._options.steps)
        return view.scope & (when == when.amin(1, keepdim=True))

    def _step(self, rows: Rows, left: Tensor) -> tuple[Tensor, Tensor]:
        """([R] the next step that fills something, [R] how many cells it fills of those `left` [R])."""
        step = rows.column("dream.step", torch.zeros_like(rows.n))
        many = (left[:, None] * self._share).long()  # [R, steps]
        ahead = torch.arange(len(self._share), device=left.device) >= step[:, None]
        ready = ahead & (many > 0)
        ready[:, -1] = True
        step = ready.view(torch.uint8).argmax(1)
        rows.columns["dream.step"] = step + 1
        return step, many.gather(1, step[:, None])[:, 0]
