"""decodekit as a model of lm-evaluation-harness: its tasks, our strategies. Needs the extra `lm-eval`.

In Python, after `import decodekit.integrations.lm_eval`:

    lm_eval.simple_evaluate(model="decodekit", model_args={"pretrained": ..., "strategy": ...}, tasks=[...])

On the shell, `decodekit lm-eval --model decodekit --model_args '{"pretrained": ..., "strategy": ...}' --tasks ...`: the
harness has no entry points for models, so its own command does not know ours.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import model_registry
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from decodekit.analysis.likelihood import likelihood
from decodekit.api import Decoder
from decodekit.errors import OptionError

NAME = "decodekit"
DEFAULT_TOKENS = 256
_SAMPLING = ("temperature", "top_k", "top_p", "min_p")


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """A decoder for the harness.

    Args:
        pretrained: a path, hub name or `zoo:NAME`, or a loaded decodekit model.
        strategy: a spec string; it decides how texts are generated, and its scorer the likelihoods. Without one a
            task's own `do_sample`, `temperature`, `top_k`, `top_p` and `min_p` do, and greedy decoding is the default.
        constraint: whatever `generate` takes as one.
        batch_size: rows at once. max_gen_toks: where a task does not say. seed: of the noise.
        device, dtype: as for :func:`decodekit.load`.

    Raises:
        DecodekitError: in one sentence.
    """

    def __init__(
        self,
        pretrained: Any = "zoo:base",
        strategy: str | None = None,
        constraint: Any = None,
        batch_size: int | str | None = None,
        max_gen_toks: int = DEFAULT_TOKENS,
        seed: int = 0,
        device: str | None = None,
        dtype: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
            device = None  # the harness asks for a GPU unless it is told otherwise
        rows = None if batch_size in (None, "auto") else int(str(batch_size))
        self._strategy, self._constraint = strategy, constraint
        self._options: dict[str, Any] = {"seed": int(seed), "batch_size": rows or max_batch_size, "progress": False}
        self._most = int(max_gen_toks)
        self._decoder = Decoder(pretrained, strategy, constraint, device=device, dtype=dtype, **self._options)
        self._by_spec: dict[str | None, Decoder] = {strategy: self._decoder}
        self.tokenizer = self._decoder.model.tokenizer
        self._device = self._decoder.model.device

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping[str, Any] | None = None) -> Self:
        """Of `name=value,name=value`; commas within brackets or quotes belong to the value."""
        more = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**{**split(arg_string), **more})

    @property
    def eot_token_id(self) -> int:
        """The id that ends a text; what stands before a text without context, where there is no begin token."""
        return int(self._decoder.model.eos[0])

    @property
    def prefix_token_id(self) -> int:
        """The begin token, or the end token where there is none."""
        begin = getattr(self.tokenizer, "bos_token_id", None)
        return self.eot_token_id if begin is None else int(begin)

    @property
    def tokenizer_name(self) -> str:
        """For the harness's caches."""
        return str(self._decoder.model.name).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; special tokens as the tokenizer adds them, unless told otherwise or begun already."""
        begin = getattr(self.tokenizer, "bos_token", None)
        if add_special_tokens is None:
            add_special_tokens = not (begin and string.startswith(begin))
        ids: list[int] = [int(i) for i in self.tokenizer.encode(string, add_special_tokens=add_special_tokens)]
        bare = ids if not add_special_tokens else self.tokenizer.encode(string, add_special_tokens=False)
        while ids and ids[-1] in self._decoder.model.eos and len(ids) > len(bare):  # texts are continued, not closed
            ids.pop()
        return ids

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """By the tokenizer's template."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        room = self._decoder.model.context
        pairs = []
        for _, context, continuation in requests:
            keep = len(context) if room is None else max(1, room + 1 - len(continuation))
            pairs.append((context[-keep:], continuation))
        found = [tuple(one) for one in likelihood(self._decoder, pairs)]
        for (texts, _, _), one in zip(requests, found, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, one)
        return found  # type: ignore[return-value]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Of whole texts; one that is longer than the model's context is read window by window, without overlap."""
        room = self._decoder.model.context or sys.maxsize
        out = []
        for request in requests:
            (text,) = request.args
            ids = self.tok_encode(text, add_special_tokens=False)
            windows = get_rolling_token_windows(ids, self.prefix_token_id, min(room, max(1, len(ids))), 1)
            pairs = [(list(a), list(b)) for a, b in map(make_disjoint_window, windows)]
            total = sum(one.logp for one in likelihood(self._decoder, pairs))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
            out.append(total)
        return out

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Texts up to a stop string. Requests that share their options go together."""
        out: dict[int, str] = {}
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(self._asked(dict(request.args[1])), []).append(number)
        for (spec, stop, most), numbers in groups.items():
            decoder = self._of(spec)
            prompts = [self._prompt(requests[i].args[0], most) for i in numbers]
            for i, found in zip(numbers, decoder.generate(prompts, stop=stop, max_tokens=most), strict=True):
                out[i] = found.text
                self.cache_hook.add_partial("generate_until", requests[i].args, found.text)
        return [out[i] for i in range(len(requests))]

    def _asked(self, given: dict[str, Any]) -> tuple[str | None, tuple[str, ...], int]:
        """(spec, stop strings, most tokens) that a task's generation keywords mean."""
        until = given.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(one for one in until if one)
        most = int(given.get("max_gen_toks") or given.get("max_new_tokens") or self._most)
        if self._strategy is not None:
            return self._strategy, stop, most
        if not given.get("do_sample") or float(given.get("temperature") or 0.0) == 0.0:
            return None, stop, most
        usual = {"temperature": 1.0, "top_p": 1.0}  # which change nothing
        parts = [f"{name}({given[name]})" for name in _SAMPLING if given.get(name) not in (None, usual.get(name))]
        return " | ".join([*parts, "sample"]), stop, most

    def _of(self, spec: str | None) -> Decoder:
        if spec not in self._by_spec:
            self._by_spec[spec] = Decoder(self._decoder.model, spec, self._constraint, **self._options)
        return self._by_spec[spec]

    def _prompt(self, text: str, most: int) -> list[int]:
        """The prompt's tokens; of one that is too long the last that leave room for the answer, as harnesses do."""
        ids, room = self.tok_encode(text) or [self.prefix_token_id], self._decoder.model.context
        return ids if room is None else ids[-max(1, room - most) :]


def split(text: str) -> dict[str, str]:
    """`name=value,name=value` as a dict; commas within brackets or quotes belong to the value.

    Raises:
        OptionError: a part that is no `name=value`.
    """
    found = {}
    for part in re.findall(
        r"""(?:[^,('"\[{]|'[^']*'|"[^"]*"|[(\[{](?:[^()\[\]{}'"]|'[^']*'|"[^"]*"|\([^()]*\))*[)\]}])+""", text
    ):
        name, equals, value = part.partition("=")
        if not equals:
            raise OptionError(f"model_args: {part!r} is no name=value; write pretrained=zoo:base,strategy=greedy")
        found[name.strip()] = value.strip()
    return found


if NAME not in model_registry:
    model_registry.register(NAME, target=HarnessModel)
