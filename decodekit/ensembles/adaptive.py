"""A strategy for each request: a probe on the prompt's hidden state chooses (DiffAdapt, arXiv 2510.19669)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from decodekit.api import Decoder
from decodekit.core.cost import ModelCost
from decodekit.errors import CompositionError, OptionError
from decodekit.models.load import load
from decodekit.run.results import Result

VERSION: Final = 1


@dataclass(frozen=True)
class Bundle:
    """What a class of requests is answered with. strategy: as `generate` takes it. max_tokens: None for the call's own.

    prompt: what is read, "{prompt}" standing for the request (which must then be text).
    """

    strategy: Any = None
    max_tokens: int | None = None
    prompt: str = "{prompt}"


@dataclass(frozen=True)
class Probe:
    """A small classifier of a hidden state h [H]: argmax of second @ relu(first @ (h - mean) / scale + low) + high.

    made: what made it: model, data, seed, figures on held-out requests.
    """

    names: tuple[str, ...]
    mean: Tensor
    scale: Tensor
    first: Tensor
    low: Tensor
    second: Tensor
    high: Tensor
    made: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def constant(cls, name: str, hidden: int) -> Probe:
        """Always `name`: the same as its bundle alone. hidden: width of the model."""
        zero = torch.zeros
        return cls((name,), zero(hidden), torch.ones(hidden), zero(1, hidden), zero(1), zero(1, 1), zero(1))

    def scores(self, hidden: Tensor) -> Tensor:
        """[N, C] from hidden states [N, H]."""
        x = (hidden.float() - self.mean) / self.scale
        return torch.relu(x @ self.first.T + self.low) @ self.second.T + self.high

    def classes(self, hidden: Tensor) -> list[str]:
        """[N] names."""
        return [self.names[i] for i in self.scores(hidden).argmax(-1).tolist()]

    def save(self, path: str | PathLike[str]) -> None:
        """One safetensors file; names and what made it are its metadata."""
        told = {"version": str(VERSION), "names": json.dumps(self.names), "made": json.dumps(self.made)}
        save_file({name: getattr(self, name).contiguous() for name in _TENSORS}, str(path), told)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Probe:
        """Read a file of :meth:`save`.

        Raises:
            CompositionError: no such file, or one of another kind.
        """
        try:
            with safe_open(str(path), "pt") as file:
                told = file.metadata() or {}
                if told.get("version") != str(VERSION):
                    raise CompositionError(
                        f"{str(path)!r} is no probe of version {VERSION}; make one with `decodekit fit probe`"
                    )
                found = {name: file.get_tensor(name) for name in _TENSORS}
        except FileNotFoundError:
            raise CompositionError(f"there is no probe {str(path)!r}; make one with `decodekit fit probe`") from None
        except SafetensorError as problem:
            raise CompositionError(f"the probe {str(path)!r} cannot be read: {problem}") from problem
        return cls(names=tuple(json.loads(told["names"])), **found, made=json.loads(told["made"]))


_TENSORS: Final = ("mean", "scale", "first", "low", "second", "high")
assert {f.name for f in fields(Probe)} == {"names", "made", *_TENSORS}


@torch.inference_mode()
def hidden_states(model: Any, prompts: Sequence[Sequence[int]]) -> Tensor:
    """[N, H] float32: the last layer's hidden state of the last token of each prompt (token ids).

    Raises:
        CompositionError: the model gives no hidden states.
    """
    if "hidden" not in model.provides or not hasattr(model, "hf"):
        raise CompositionError(
            f"a probe reads hidden states, which {model.name} does not give; use a causal language model"
        )
    found = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)], device=model.device)
        out = model.hf(input_ids=ids, use_cache=False, output_hidden_states=True)
        found.append(out.hidden_states[-1][0, -1].float().cpu())
    return torch.stack(found)


class Adaptive:
    """Decodes each request with the bundle that the probe chooses.

    Requests of one class run in one batch, and every answer is what its bundle alone would give: results do not depend
    on the batch. The probe costs one reading of the prompt, which is counted as "probe".

    Args:
        model: as `generate` takes it. bundles: by class name; a strategy stands for a bundle with it.
        probe: a :class:`Probe` or the file of one. options: of `generate`, for all bundles.

    Raises:
        CompositionError: the probe knows a class that has no bundle, or another width than the model.
    """

    def __init__(
        self, model: Any, bundles: Mapping[str, Bundle | Any], probe: Probe | str | PathLike[str], **options: Any
    ) -> None:
        self.model = load(model)
        self.probe = probe if isinstance(probe, Probe) else Probe.load(probe)
        self.bundles = {name: b if isinstance(b, Bundle) else Bundle(b) for name, b in bundles.items()}
        missing = [name for name in self.probe.names if name not in self.bundles]
        if missing:
            raise CompositionError(
                f"the probe chooses {missing[0]!r}, and there is no bundle of this name; "
                f"give one beside {', '.join(map(repr, self.bundles)) or 'none'}"
            )
        width = int(self.model.hf.config.get_text_config().hidden_size) if hasattr(self.model, "hf") else 0
        if width != len(self.probe.mean):
            raise CompositionError(
                f"the probe reads hidden states of width {len(self.probe.mean)}, and {self.model.name} has {width}; "
                "fit one for this model"
            )
        self._decoders = {
            name: Decoder(self.model, bundle.strategy, **_merged(options, bundle))
            for name, bundle in self.bundles.items()
        }

    def chosen(self, prompts: Sequence[str]) -> list[str]:
        """The class of each request."""
        ids = [self.model.tokenizer(prompt)["input_ids"] for prompt in prompts]
        return self.probe.classes(hidden_states(self.model, ids))

    def generate(self, prompts: str | Sequence[str], **options: Any) -> Any:
        """Like :meth:`Decoder.generate`; `Result.spec` says which strategy answered. One prompt gives one result."""
        asked = [prompts] if isinstance(prompts, str) else list(prompts)
        if not all(isinstance(prompt, str) for prompt in asked):
            raise OptionError("Adaptive.generate reads text; give strings")
        names = self.chosen(asked) if asked else []
        found: list[Result | None] = [None] * len(asked)
        for name in dict.fromkeys(names):
            which = [at for at, one in enumerate(names) if one == name]
            bundle = self.bundles[name]
            texts = [bundle.prompt.replace("{prompt}", asked[at]) for at in which]
            results = self._decoders[name].generate(texts, **options)
            self._count(results[0].cost.model("probe"), [len(one.prompt.tokens) for one in results])
            for at, result in zip(which, results, strict=True):
                found[at] = result
        return found[0] if isinstance(prompts, str) else found

    def _count(self, work: ModelCost, lengths: Sequence[int]) -> None:
        """The probe's own reading of the prompts."""
        work.calls += len(lengths)
        work.fed += sum(lengths)
        work.flops += 2.0 * self.model.hf.num_parameters() * sum(lengths)


def _merged(options: Mapping[str, Any], bundle: Bundle) -> dict[str, Any]:
    return {**options, **({} if bundle.max_tokens is None else {"max_tokens": bundle.max_tokens})}


def described(probe: Probe, made: dict[str, Any]) -> Probe:
    """The probe with more said of what made it."""
    return replace(probe, made={**probe.made, **made})
