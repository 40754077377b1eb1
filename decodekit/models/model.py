"""A loaded Hugging Face model as plugins see it (:class:`decodekit.core.bound.Model`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch

from decodekit.core.cost import Cost
from decodekit.core.protocols import Scorer
from decodekit.errors import ModelError
from decodekit.models import hidden_states
from decodekit.models.append_only_cache import HolesReader
from decodekit.models.branching import BranchingReader
from decodekit.models.codebook import Codebook
from decodekit.models.forward import Forward
from decodekit.models.masked import MaskedReader
from decodekit.models.plain import PlainReader
from decodekit.models.stack import family_of

CacheKind = Literal["slab", "holes", "none"]


class ReaderOf(Protocol):
    """Makes a reader over an empty cache."""

    def __call__(self, forward: Forward, cost: Cost, label: str) -> Scorer:
        """The reader; its work is counted under `label`."""


_CAUSAL: dict[CacheKind, ReaderOf] = {"slab": BranchingReader, "holes": HolesReader, "none": PlainReader}


class HFModel:
    """A transformers model with its tokenizer. Readers share the weights and nothing else.

    Attributes:
        hf: the transformers model. tokenizer: its tokenizer. name: for messages and reports.
        vocab: width V of the logits. context: most positions, or None. eos: ids that end a text. mask: mask id or None.
        block: cells per block of a block-causal masked model, counted from position 0, or None.
        gives: capabilities. cache: how readers of a causal model keep what they have read.
        codebook: of the tokens of a visual model, or None.
    """

    def __init__(
        self,
        hf: Any,
        tokenizer: Any,
        name: str,
        *,
        context: int | None,
        eos: tuple[int, ...],
        mask: int | None,
        masked: bool,
        cache: CacheKind = "slab",
        codebook: Codebook | None = None,
    ) -> None:
        self.hf, self.tokenizer, self.name = hf, tokenizer, name
        self.context, self.eos, self.mask, self.cache = context, eos, mask, cache
        kind = "masked_lm" if masked else "causal_lm"
        self.provides = frozenset({kind, "embeddings"} if masked else {kind, "embeddings", "hidden"})
        self.codebook = codebook
        if codebook is not None:
            self.provides |= {"codebook"}
        self._masked = masked
        self.block: int | None = getattr(hf, "block", None)
        self._forward = None if masked else Forward(hf, name, context)
        head = hf.get_output_embeddings()
        self.vocab = int(head.weight.shape[0] if head is not None else hf.config.get_text_config().vocab_size)

    @property
    def device(self) -> torch.device:
        """Where inputs go and logits come from."""
        device: torch.device = self.hf.get_input_embeddings().weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        dtype: torch.dtype = self.hf.get_input_embeddings().weight.dtype
        return dtype

    def reader(self, cost: Cost, label: str) -> Scorer:
        """A new reader over an empty cache; its work is counted under `label`."""
        cost.names[label] = self.name
        if self._forward is None:
            return MaskedReader(self.hf, self.mask, cost, label)
        return _CAUSAL[self.cache](self._forward, cost, label)

    def reading(self, forward: Callable[[Any, str, int | None], Forward], cost: Cost, label: str) -> Scorer:
        """A reader whose passes are another's: `forward(model, name, context)` says how logits are computed.

        Models that cannot have our own cache are read anew each time, which is slow and exact.
        """
        cost.names[label] = self.name
        made = forward(self.hf, self.name, self.context)
        return BranchingReader(made, cost, label) if self.cache == "slab" else PlainReader(made, cost, label)

    def hidden_scorer(self, cost: Cost, label: str) -> Scorer:
        """A scorer that also records the last hidden states, for the trace.

        Raises:
            CompositionError: the model does not give them.
        """
        return hidden_states.reader_of(self, cost, label)

    def stacked(self, reader: ReaderOf, cost: Cost, label: str) -> Scorer:
        """A reader that runs layers apart: `reader(forward, cost, label)` over our own cache.

        Raises:
            ModelError: the model's layers cannot be run apart, or it was opened with another kind of cache.
        """
        family_of(self.hf)
        cost.names[label] = self.name
        if self._forward is None or self.cache != "slab":
            raise ModelError(
                f"strategies of depth keep a cache of their own, and {self.name} was opened with cache={self.cache!r}; "
                "open it with cache='slab'"
            )
        return reader(self._forward, cost, label)

    def __repr__(self) -> str:
        return f"<{type(self.hf).__name__} {self.name}>"
