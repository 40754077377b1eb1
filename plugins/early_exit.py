"""Early exit: a token that is certain half-way up the layers is not read to the top until a deeper one needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core import uncertainty, warping
from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.protocols import Proposal, Scorer
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, OptionError
from decodekit.models.exits import StagedReader
from decodekit.models.forward import Forward
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without
from decodekit.scores.running import Live, live

Rule = Literal["gap", "entropy", "cosine", "score", "never"]


@plugin(
    role="scorer",
    exactness="approximate",
    requires=("causal_lm", "hidden"),
    provides=("distribution",),
    paper="CALM, arXiv 2207.07061, section 3 (rules); FREE, arXiv 2310.05424, section 3.2 (exact keys and values)",
)
class EarlyExit:
    """The logits of a token are those of the first exit whose own law is certain enough, else the whole model's.

    The rule judges what would be selected from: after warpers and constraint, so a grammar that leaves one token makes
    it certain. The layers above an exit run later, for all pending tokens in one pass, as soon as a token goes deeper:
    keys and values are always those of the whole model, and the text depends neither on the batch nor on how many
    tokens are read at once.

    Without training for it (`training.depth_recipe exits`) lower layers are rarely certain and right.

    Args:
        rule: "gap", top-1 minus top-2 probability of at least `threshold`; "entropy", at most `threshold` nats;
            "cosine", hidden states of this and the exit below of at least this cosine (the lowest exit has none below
            and never stops); "score", while a running score of the text so far is not beyond `threshold`; "never",
            the whole model.
        threshold: of the rule. score: of rule="score", an uncertainty score of tokens; it is that of the beginning of
            the round, so results then depend on how many tokens are read at once.
        layers: after how many layers one may stop, increasing; None for a quarter, a half and three quarters.

    Raises:
        CompositionError: when bound, if the exits do not fit the model or its layers cannot be run apart.
    """

    rule: Rule = "gap"
    threshold: float = 0.9
    layers: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    score: Any = None

    def __post_init__(self) -> None:
        if (self.score is not None) != (self.rule == "score"):
            raise OptionError("early_exit: rule='score' and score= go together; give both, or neither")
        if self.rule != "score" and not self.threshold >= -1.0:  # scores have any range, nothing else goes below -1
            raise OptionError(f"early_exit(threshold={self.threshold}) is below all that {self.rule!r} can be; give -1")
        if self.rule in ("never", "cosine"):  # neither looks at probabilities
            without(self, "distribution")

    def bind(self, run: BindContext) -> Scorer:
        """A reader of the run's model that stops early."""
        stacked = getattr(run.model, "stacked", None)
        if stacked is None:
            raise CompositionError(
                f"early_exit runs layers apart, and {run.model.name} is no transformers model; load it as one"
            )

        running = None if self.score is None else live(run, self.score, "early_exit")

        def made(forward: Forward, cost: Cost, label: str) -> Scorer:
            return ExitReader(self, run, forward, cost, label, running)

        reader: Scorer = stacked(made, run.cost, run.label)
        return reader


def _cuts(layers: Sequence[int] | None, forward: Forward) -> tuple[int, ...]:
    total = forward.layers
    if layers is None:
        return tuple(sorted({total * q // 4 for q in (1, 2, 3)} - {0, total}))
    if list(layers) != sorted(set(layers)) or max(layers, default=1) >= total:
        raise CompositionError(
            f"early_exit: layers={tuple(layers)} must increase and stay below the {total} layers of {forward.name}"
        )
    return tuple(layers)


class ExitReader(StagedReader):
    """Reads a token stage by stage until the rule lets it go."""

    def __init__(
        self,
        options: EarlyExit,
        run: BindContext,
        forward: Forward,
        cost: Cost,
        label: str,
        running: Live | None = None,
    ) -> None:
        super().__init__(forward, cost, label, _cuts(options.layers, forward))
        self._options, self._run_of, self._running = options, run, running
        self._ran = (torch.zeros(0), torch.zeros(0))

    @torch.inference_mode()
    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V], position by position those of the first exit that is certain."""
        asks = self.follow(rows, at, only, self._label)
        open_ = (at != NONE) & asks[:, None]  # [R, K] positions that go deeper
        layers = torch.zeros_like(at)
        judge, out, below = Judge(self._options, self._run_of, rows, at, self._running), None, None
        for stage in range(len(self.stages)):
            self.deepen(rows, at.masked_fill(~open_, 0).amax(1), stage, self._label)
            if self._options.rule == "never" and stage < len(self.stages) - 1:
                layers = layers + open_ * len(self.stages[stage])
                continue
            here = self.states(rows, at, stage)
            logits = self.head(here, self._label)
            layers = layers + open_ * len(self.stages[stage])
            out = logits if out is None else torch.where(open_[..., None], logits, out)
            if stage < len(self.stages) - 1:
                open_ = open_ & ~judge.certain(logits, here, below)
                if not bool(open_.any()):
                    break
            below = here
        assert out is not None
        self._ran = at, layers
        return out

    def told(self, rows: Rows, at: Tensor) -> dict[str, Tensor]:
        """For the trace: `layers` [R, K] that the logits of the last reading came from, if it was at `at`."""
        last, layers = self._ran
        return {"layers": layers if torch.equal(last, at) else torch.full_like(at, NONE)}


class Judge:
    """Whether an exit's law is certain, position by position. Made once per read: one mask serves all exits."""

    def __init__(
        self, options: EarlyExit, run: BindContext, rows: Rows, at: Tensor, running: Live | None = None
    ) -> None:
        self._options, self._kit, self._rows, self._running = options, getattr(run, "kit", None), rows, running
        guess = rows.tokens.gather(1, at.clamp(min=0, max=rows.tokens.shape[1] - 1))
        self._ask = Proposal(at, guess.masked_fill((at == NONE) | (at < rows.n[:, None]), NONE))
        self._mask: Tensor | None = None

    def certain(self, logits: Tensor, here: Tensor, below: Tensor | None) -> Tensor:
        """[R, K] bool from logits [R, K, V] and the hidden states [R, K, H] of this exit and of the one below."""
        threshold = self._options.threshold
        if self._options.rule == "cosine":
            if below is None:
                return torch.zeros(here.shape[:2], dtype=torch.bool, device=here.device)
            return torch.cosine_similarity(here, below, dim=-1) >= threshold
        if self._running is not None:
            value = self._running.value(self._rows)
            sure = ~self._running.beyond(self._rows, threshold) & ~value.isnan()
            return sure[:, None].expand(here.shape[:2])
        law = uncertainty.Reading(self._law(logits))
        return law.entropy <= threshold if self._options.rule == "entropy" else law.gap >= threshold

    def _law(self, logits: Tensor) -> Tensor:
        """[R, K, V] what the selector would see."""
        if self._kit is None:
            return logits
        if self._kit.constraint is None:
            return warping.warped(self._kit.warpers, self._rows, self._ask, logits)
        if self._mask is None:
            self._mask = self._kit.constraint.mask(self._rows, self._ask.at)
        forbidden = ~self._mask
        return warping.processed(
            self._kit.warpers, self._rows, self._ask, logits, lambda before: before.masked_fill(forbidden, -torch.inf)
        )
