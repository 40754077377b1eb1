"""Any sub-stack of the decoder layers of a stock Hugging Face model, without model code of our own.

While a pass runs, the list of layers is exchanged for the wanted ones, the final norm for the identity where what is
wanted is the hidden state, and a learned position table for one that adds nothing where the input is a hidden state
already. Layers keep their own index, so each writes its own row of the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from decodekit.errors import ModelError


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family keeps its parts: the decoder inside the model, and in it layers, final norm, position table."""

    decoder: str
    layers: str
    norm: str
    positions: str | None = None


_LLAMA: Final = Family("model", "layers", "norm")
FAMILIES: Final[dict[str, Family]] = {
    "gpt2": Family("transformer", "h", "ln_f", "wpe"),
    "gpt_neox": Family("gpt_neox", "layers", "final_layer_norm"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "opt": Family("model.decoder", "layers", "final_layer_norm", "embed_positions"),
}
"""Families whose sub-stacks the tests compare with the plain forward pass."""


def family_of(model: nn.Module) -> Family:
    """The family of a transformers model.

    Raises:
        ModelError: its layers cannot be run apart.
    """
    config: Any = model.config
    kind = config.get_text_config().model_type
    known = ", ".join(sorted(FAMILIES))
    if kind not in FAMILIES:
        raise ModelError(f"the layers of {kind} cannot be run apart; strategies of depth serve {known}")
    if kind == "opt" and (not config.do_layer_norm_before or config.word_embed_proj_dim != config.hidden_size):
        raise ModelError(
            "this opt model normalises after its layers or projects its embeddings (OPT-350m does), so its layers "
            "cannot be run apart; choose another size"
        )
    if "sliding_attention" in (getattr(config, "layer_types", None) or []):
        raise ModelError(
            f"this {kind} model mixes kinds of attention, so its layers cannot be run apart; choose one in which all "
            "layers see the whole text"
        )
    return FAMILIES[kind]


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The decoder layers, lowest first."""
    family = family_of(model)
    found = model.get_submodule(f"{family.decoder}.{family.layers}")
    assert isinstance(found, nn.ModuleList)
    return found


class _NoPositions(nn.Module):
    """A position table that adds nothing."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.zero = like.new_zeros(())

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Zero, whatever is looked up."""
        return self.zero


_LOCKS: Final[WeakKeyDictionary[nn.Module, Any]] = WeakKeyDictionary()


class Stack:
    """Runs sub-stacks of one model. Passes of threads that share the model wait for each other."""

    def __init__(self, model: Any) -> None:
        family = family_of(model)
        self.model, self._family = model, family
        self._decoder = model.get_submodule(family.decoder)
        self.layers = list(layers_of(model))
        self._norm = getattr(self._decoder, family.norm)
        self._head = model.get_output_embeddings()
        self._lists: dict[tuple[int, ...], nn.ModuleList] = {}
        self._identity, self._nothing = nn.Identity(), _NoPositions(self._head.weight)
        self._lock = _LOCKS.setdefault(model, threading.RLock())

    def run(self, which: Sequence[int], given: Tensor, position: Tensor, mask: Any, cache: Any) -> Tensor:
        """Hidden states [B, F, H] after the layers `which` (increasing), before the final norm.

        given: token ids [B, F] (int64), which are embedded first, or hidden states [B, F, H]. position: [B or 1, F].
        mask: as the model's attention expects it (:class:`decodekit.models.masks.Masks`), or None.
        cache: aimed at these rows and positions, or None.
        """
        embedded = given.is_floating_point()
        named = {"inputs_embeds": given} if embedded else {"input_ids": given}
        with self._only(tuple(which), embedded):
            out: Tensor = self._decoder(
                **named,
                attention_mask=mask,
                position_ids=position.expand(given.shape[0], -1),
                past_key_values=cache,
                use_cache=cache is not None,
            ).last_hidden_state
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., V] from hidden states [..., H]: final norm and head."""
        out: Tensor = self._head(self._norm(hidden))
        return out

    @contextmanager
    def _only(self, which: tuple[int, ...], embedded: bool) -> Iterator[None]:
        modules, family = self._decoder._modules, self._family  # past nn.Module.__setattr__, which is slow
        with self._lock:
            if which not in self._lists:
                self._lists[which] = nn.ModuleList([self.layers[j] for j in which])
            swaps: dict[str, nn.Module] = {family.layers: self._lists[which], family.norm: self._identity}
            if embedded and family.positions is not None:
                swaps[family.positions] = self._nothing
            kept = {name: modules[name] for name in swaps}
            modules.update(swaps)
            try:
                yield
            finally:
                modules.update(kept)
