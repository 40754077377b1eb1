"""Fast and slow: two or three models write one text, and a rule says where the dear one is asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext, Model
from decodekit.core.protocols import Round, Scorer
from decodekit.core.rows import NONE, Rows
from decodekit.core.uncertainty import Reading
from decodekit.core.vocabulary_checks import fitted, same_tokens
from decodekit.ensembles import combiners
from decodekit.ensembles.routers import Route, Router, entropy_limit, router
from decodekit.errors import CompositionError, OptionError
from decodekit.models.prompted import Prompted
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without

Combine = Literal["oracle", "contrastive", "interpolate", "proxy", "ensemble", "product", "guidance"]


@plugin(
    role=("scorer", "observer"),
    exactness="approximate",
    requires=("causal_lm",),
    provides=("randomness",),
    paper="FS-GEN, arXiv 2406.12295, section 3; proxy tuning, arXiv 2401.08565; guidance, arXiv 2306.17806",
)
class FastSlow:
    """The run's model is fast and always asked; `slow` is asked where `route` says; `combine` makes one law of both.

    A model that is not asked lags behind and reads all it has missed in one pass when it is. The law at a position
    depends on the text before it alone, so results do not depend on the batch, and the composition may be verified
    in chunks like any other target (`speculative(draft=...)` is the fourth member of the family).

    Combiners, with f and s the fast and slow logits: "oracle" s; "contrastive" (1 + beta) log p_s - beta log p_f among
    tokens of at least `alpha` times the best of s; "interpolate" f + beta (s - f) among the same (what the code of
    FS-GEN calls contrastive); "proxy" s + beta (t - f), t being `tuned`, which also speaks where s is not asked;
    "ensemble" (1 - weight) p_f + weight p_s; "product" their geometric mean; "guidance" s + scale (f - s) on
    log-probabilities, where s is by default the run's model after `prompt` (a negative or empty prompt).

    Args:
        slow: the other model: a name that the loader knows or a loaded one, with the tokens of the run's model. May be
            left out for "guidance".
        combine: how. route: where: "always", "never", by a signal of the fast law ("entropy" or "varentropy" above,
            "top1" or "gap" below the threshold), "random" at a rate (a control), "fitted",
            or by a running "score" of the text so far.
        threshold: of the route; None for a usual one (1 nat, 2 nats squared, 0.5, 0.4, a rate of 0.2).
        fitted: file that `decodekit fit` wrote, with route="fitted". score: with route="score", one of tokens.
        beta: None for 0.5 ("contrastive", "interpolate") or 1 ("proxy"). alpha: 0 keeps every token.
        weight: of the slow law in "ensemble" and "product". scale: of "guidance"; 1 is no guidance.
        tuned: the small tuned model of "proxy".
        prompt: what the slow model reads instead of each prompt; "{prompt}" in it stands for the row's own.

    Raises:
        OptionError: what belongs to another combiner. CompositionError: when bound, models with other tokens, a
            threshold out of range, no fitted file.
    """

    slow: Any = None
    combine: Combine = "oracle"
    route: Route = "always"
    threshold: float | None = None
    fitted: str | None = None
    score: Any = None
    beta: Annotated[float, Field(ge=0.0)] | None = None
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    scale: Annotated[float, Field(ge=0.0)] = 1.5
    tuned: Any = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        if self.slow is None and self.combine != "guidance":
            raise OptionError(f"fast_slow(combine={self.combine!r}) needs slow=, the model that is asked")
        if self.slow is None and self.prompt is None:
            raise OptionError(
                "fast_slow(combine='guidance') needs prompt=, what the text is to be unlike; '' is allowed"
            )
        if (self.tuned is not None) != (self.combine == "proxy"):
            raise OptionError("fast_slow: tuned= and combine='proxy' go together; give both, or neither")
        if self.route != "random":
            without(self, "randomness")

    def bind(self, run: BindContext) -> Collaboration:
        """Open the models and compare their tokens; runs none."""
        rule = router(self.route, self.threshold, self.fitted, "fast_slow", self.score, run)
        slow = run.model if self.slow is None else _opened(run, self.slow, "slow")
        asked: Scorer = slow.reader(run.cost, "slow")
        if self.prompt is not None:
            asked = Prompted(asked, _Exchange(run.model, slow, self.prompt))
        tuned = None if self.tuned is None else _opened(run, self.tuned, "tuned").reader(run.cost, "tuned")
        return Collaboration(self, run, rule, run.model.reader(run.cost, run.label), asked, tuned)


def _opened(run: BindContext, named: object, who: str) -> Model:
    model = run.open(named)
    if "causal_lm" not in model.provides:
        raise CompositionError(f"fast_slow: the {who} model {model.name!r} is not a causal language model; choose one")
    if not same_tokens(model, run.model):
        raise CompositionError(
            f"fast_slow: the {who} model {model.name!r} has other tokens ({model.vocab}) than {run.model.name!r} "
            f"({run.model.vocab}); choose models with one tokenizer"
        )
    return model


class _Exchange:
    """A row's prompt -> the slow model's."""

    def __init__(self, fast: Model, slow: Model, template: str) -> None:
        self._fast, self._slow, self._template = fast, slow, template

    def __call__(self, own: list[int]) -> list[int]:
        text = self._template
        if "{prompt}" in text:
            text = text.replace("{prompt}", self._fast.tokenizer.decode(own))
        ids: list[int] = list(self._slow.tokenizer(text)["input_ids"])
        return ids or own[-1:]  # an empty prompt: something must be read, so the last token of the row's own


class Collaboration:
    """The bound scorer and observer: after every round it tells where the slow model was asked and what it changed."""

    def __init__(
        self, options: FastSlow, run: BindContext, rule: Router, fast: Scorer, slow: Scorer, tuned: Scorer | None
    ) -> None:
        self._options, self._run, self._rule = options, run, rule
        self._fast, self._slow, self._tuned = fast, slow, tuned
        self._last: tuple[Tensor, Tensor, Tensor] | None = None
        self._limit = entropy_limit(options.route, options.threshold, options.fitted, "fast_slow")

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, K, V] combined logits; see :class:`decodekit.core.protocols.Scorer`."""
        fast = self._fast.read(rows, at, only)
        reading = Reading(fast)
        asked = self._rule(rows, at, reading) & (at != NONE) & ~rows.done[:, None]
        asked = asked if only is None else asked & only[:, None]
        alone = fast if self._tuned is None else fitted(self._tuned.read(rows, at, only), fast.shape[-1]).to(fast)
        out = alone
        if bool(asked.any()):
            there = at.masked_fill(~asked, NONE)
            slow = fitted(self._slow.read(rows, there, asked.any(1)), fast.shape[-1]).to(fast)
            out = torch.where(asked[..., None], self._combined(rows, there, fast, slow, alone), alone)
        # The trace is told of the choice without the slow model: by the model that speaks where it is not asked.
        self._last = asked, alone.argmax(-1), reading.entropy
        return out

    def _combined(self, rows: Rows, at: Tensor, fast: Tensor, slow: Tensor, tuned: Tensor) -> Tensor:
        options = self._options
        usual = 1.0 if options.combine == "proxy" else 0.5
        beta = usual if options.beta is None else options.beta
        if options.combine in ("contrastive", "interpolate"):
            kit = getattr(self._run, "kit", None)  # whose constraint is the whole one: with an end that is due, too
            constraint = self._run.constraint if kit is None else kit.constraint
            allowed = None if constraint is None else constraint.mask(rows, at)
            mixed = (combiners.contrastive if options.combine == "contrastive" else _interpolated)(slow, fast, beta)
            return mixed.masked_fill(~combiners.plausible(slow, options.alpha, allowed), -torch.inf)
        if options.combine == "proxy":
            return combiners.proxy(slow, tuned, fast, beta)
        if options.combine == "ensemble":
            return combiners.ensemble(fast, slow, options.weight)
        if options.combine == "product":
            return combiners.product(fast, slow, options.weight)
        return combiners.guided(fast, slow, options.scale) if options.combine == "guidance" else slow

    def round(self, what: Round) -> None:
        """Tell, as positions: where the slow model was asked, and where the token is another than without it.

        Of rounds of a tree nothing is told: what was read last there is one of its paths, not the one that was taken.
        """
        if self._last is None or what.refused is not None or self._last[0].shape != what.take.shape:
            return
        asked, alone, entropy = self._last
        rows, took = what.rows, what.take & (what.choice.tokens != NONE)
        if what.number == 0 and self._limit is not None:
            groups = torch.tensor(sorted(set(rows.group.tolist())), device=rows.device)
            value = torch.full_like(groups, self._limit, dtype=torch.float64)
            rows.tell("entropy threshold", groups, torch.full_like(groups, NONE), value)
        changed = took & (what.choice.tokens != alone)
        group, slot = (one[:, None].expand_as(took) for one in (rows.group, rows.sample))
        position = what.ask.at - rows.start[:, None]
        for name, where, value in (
            ("position asked", took & asked, position),
            ("position changed", changed, position),
            ("entropy, changed", changed, entropy),
            ("entropy, kept", took & ~changed, entropy),
        ):
            if bool(where.any()):
                rows.tell(name, group[where], slot[where], value[where].double())

    def moved(self, rows: Rows, index: Tensor) -> None:
        """Readers follow by themselves."""


def _interpolated(slow: Tensor, fast: Tensor, beta: float) -> Tensor:
    return combiners.interpolated(fast, slow, beta)
