"""EAGLE: a head over the target's own features guesses; the target checks, and leaves new features behind."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from decodekit import zoo
from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError
from decodekit.models.feature_head import Featured, FeatureHead, FeatureReader, columns, opened
from decodekit.registry.declaration import plugin
from decodekit.speculation.draft_length import Pace, share
from decodekit.speculation.drafting import Drafter

_ZOO = "zoo:"


@plugin(
    role=("proposer", "scorer"),
    exactness="exact",
    requires=("causal_lm", "hidden"),
    provides=("guesses", "logq"),
    paper="EAGLE, arXiv 2401.15077",
)
class Eagle:
    """A feature head guesses `k` tokens, one layer a token; the target reads them in one pass.

    Guesses follow the target's own warpers, constraint and noise, so with `sample` or `greedy` the text is token for
    token that of plain decoding. A row guesses nothing in its first round, for the target has left no features yet. The
    head reads the last `window` tokens anew for each guess, so it keeps no cache and nothing can be stale.

    Args:
        head: `head.safetensors`, a folder that holds one, or `zoo:visual`.
        k: most guesses per round and row.
        window: tokens that the head looks back.
        heads: of its attention; None for the target's.
        adapt: k is the most, and each row guesses as many tokens as pay (see `speculative`), a step costing its share
            of the parameters.

    Raises:
        CompositionError: when bound, if the model is no transformers model with our own cache.
        ModelError: no head there, or of another width.
    """

    head: str
    k: Annotated[int, Field(ge=1)] = 4
    window: Annotated[int, Field(ge=1)] = 64
    heads: Annotated[int, Field(ge=1)] | None = None
    adapt: bool = False

    def bind(self, run: BindContext) -> EagleDrafter:
        """Open the head; runs no model."""
        hf, cache = getattr(run.model, "hf", None), getattr(run.model, "cache", None)
        if hf is None or cache != "slab":
            raise CompositionError(
                f"eagle reads features of a transformers model through decodekit's own cache, and {run.model.name} has "
                "none; load it as one with cache='slab'"
            )
        forward = Featured(hf, run.model.name, run.model.context)
        path = str(zoo.path(self.head.removeprefix(_ZOO))) if self.head.startswith(_ZOO) else self.head
        heads = self.heads or int(hf.config.get_text_config().num_attention_heads)
        head = opened(path, heads, hf.get_input_embeddings().weight)
        return EagleDrafter(self, run, forward, head)


class EagleDrafter(FeatureReader):
    """The bound proposer and scorer."""

    def __init__(self, options: Eagle, run: BindContext, forward: Featured, head: FeatureHead) -> None:
        super().__init__(forward, run.cost, run.label)
        pace = Pace(options.k, share(head, forward.model)) if options.adapt else None
        reader = _HeadReader(forward, head, options.window, run.cost)
        self._guesser = _Guesser(run, reader, forward, options.k, pace)

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """Guesses of the head."""
        return self._guesser.propose(rows)


class _Guesser(Drafter):
    """Guesses where the target has left features of all tokens but the last."""

    def __init__(self, run: BindContext, reader: _HeadReader, forward: Featured, k: int, pace: Pace | None) -> None:
        super().__init__(run, reader, forward.vocab, forward.context, k, pace=pace)
        self._featured = forward

    def _readable(self, rows: Rows) -> Tensor:
        _, read = columns(rows, self._featured)
        return super()._readable(rows) & (read >= rows.n - 1) & (rows.n > 1)


class _HeadReader:
    """The head as a scorer (:class:`decodekit.core.protocols.Scorer`) of the positions from `n` on, asked one after
    another.
    """

    def __init__(self, forward: Featured, head: FeatureHead, window: int, cost: Cost) -> None:
        self._forward, self._head, self._window, self._cost = forward, head, window, cost
        self._guessed: list[Tensor] = []  # the head's features of the tokens from n - 1 on, [R, H] each

    @torch.inference_mode()
    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        """[R, 1, V] logits of the tokens AT `at` [R, 1]; undefined where it is NONE."""
        states, _ = columns(rows, self._forward)
        asked = at[:, 0] != NONE
        step = int((at[:, 0] - rows.n).masked_fill(~asked, 0).max())  # tokens guessed before
        del self._guessed[step:]
        span = torch.arange(-self._window, 0, device=rows.device)
        place = rows.n[:, None] - 1 + span  # [R, W] tokens whose features are the target's
        place = place.masked_fill(place < 0, NONE)
        known = states.gather(1, place.clamp(min=0)[..., None].expand(-1, -1, states.shape[-1]))
        later = rows.n[:, None] - 1 + torch.arange(step, device=rows.device)
        place = torch.cat([place, later], 1)
        features = torch.cat([known, *(one[:, None] for one in self._guessed)], 1)
        after = (place + 1).clamp(min=0, max=rows.tokens.shape[1] - 1)
        table = self._forward.model.get_input_embeddings()
        ids = rows.tokens.gather(1, after).clamp(min=0, max=table.weight.shape[0] - 1)
        feature = self._head(features, table(ids), place)[:, -1]
        self._guessed.append(feature)
        mine = self._cost.model("draft")
        mine.calls += 1
        mine.fed += int(asked.sum())
        logits: Tensor = self._forward.model.get_output_embeddings()(feature[:, None]).to(self._forward.out)
        return logits.clone()
