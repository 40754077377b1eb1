"""A strategy inside transformers: `model.generate(..., custom_generate=decodekit.hf("speculative(draft=...)"))`.

`generate` prepares prompts, logits processors and stopping criteria as for its own methods and then calls us instead
of its sampling loop. The processors become one warper and the criteria one stop, asked position by position, so that
they see the tokens that they would see in transformers' own loop, guesses of a draft model included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from decodekit.api import Decoder
from decodekit.core.bound import BoundStrategy
from decodekit.core.cost import Cost
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, OptionError, PromptError
from decodekit.registry.spec import Strategy
from decodekit.run.result_building import pick
from decodekit.run.results import Prompt
from decodekit.run.session import Session, Want
from decodekit.trace.trace import Trace

_POINTWISE = ("TemperatureLogitsWarper", "RepetitionPenaltyLogitsProcessor")
_UNSUPPORTED = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


def hf(
    strategy: object = None,
    *,
    constraint: object = None,
    tokenizer: Any = None,
    seed: int | None = None,
    streamer: Any = None,
) -> HFGenerate:
    """A callable for the argument `custom_generate` of transformers' `generate`.

    Args:
        strategy: as for :func:`decodekit.generate`. Where it names no selector the same rule chooses one, and
            `do_sample=True` asks for randomness. So `do_sample=False` is argmax, unless a part of the strategy itself
            draws (`temperature`) or weighs (`smc`).
        constraint: as for :func:`decodekit.generate`; it needs `tokenizer`.
        tokenizer: of the model; `generate` does not hand its own on. Only constraints need it, and models that were
            not loaded from a folder which has one.
        seed: of the noise field; None draws one from torch's global generator, so that `set_seed` decides.
        streamer: as for `generate`, which does not hand its own on to a callable.

    Temperature, top-k, top-p and the like are set as usual: in `generate` or its generation config. With a constraint
    they act on what it allows. Truncation, also to the 50 tokens that transformers keeps unless `top_k=0` is given,
    then needs the mask of every step.
    """
    return HFGenerate(strategy, constraint, tokenizer, seed, streamer)


class HFGenerate:
    """What :func:`hf` makes. After a call `cost` and `trace` say what happened.

    Raises:
        CompositionError: for beams, and for outputs that only transformers' own loop has.
    """

    def __init__(self, strategy: object, constraint: object, tokenizer: Any, seed: int | None, streamer: Any) -> None:
        self._strategy, self._constraint = Strategy.of(strategy), constraint
        self._tokenizer, self._seed, self._streamer = tokenizer, seed, streamer
        self._made: dict[int, Decoder] = {}
        self.cost = Cost()
        self.trace: Trace | None = None

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Sequence[Any] = (),
        stopping_criteria: Sequence[Any] = (),
        generation_config: Any = None,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """Continue `input_ids` [B, L] (left-padded) and return [B, L'] ids, right-padded, as `generate` does."""
        config = generation_config
        _refuse(config, synced_gpus, model_kwargs)
        decoder = self._decoder(model)
        setup = decoder.setup_for(draws=bool(config.do_sample))
        prompts = _prompts(input_ids, model_kwargs.get("attention_mask"))
        more = config.max_length - input_ids.shape[1]
        wants = [
            Want(r, nth, Prompt("tokens", ids, ids), len(ids) + more) for r, (ids, nth) in enumerate(_counted(prompts))
        ]
        eos = getattr(config, "_eos_token_tensor", None)
        seed = int(torch.randint(1 << 62, ())) if self._seed is None else self._seed
        options = decoder.options.having({"seed": seed, "eos": () if eos is None else eos.flatten().tolist()})
        pad = _pad(config, options.eos or ())

        def adapt(kit: BoundStrategy) -> BoundStrategy:
            ours = _Padded(input_ids, pad)
            warpers = _warpers(ours, logits_processor)
            stops = (_Criteria(ours, stopping_criteria),) if len(stopping_criteria) else ()
            return replace(kit, warpers=(*warpers, *kit.warpers), stops=(*stops, *kit.stops))

        self.cost = Cost()
        session = Session(setup, options, wants, self.cost, adapt=adapt)
        _drive(session, streamer or self._streamer)
        self.trace = session.trace()
        new = []
        for want, rows in zip(wants, session.outcomes(), strict=True):
            new.append(rows[pick([one.logw for one in rows], want.prompt.tokens, seed)].tokens)
        return _output(input_ids, new, pad, config)

    def _decoder(self, model: Any) -> Decoder:
        key = id(model)
        if key not in self._made:
            self._made[key] = Decoder(model, self._strategy, self._constraint, tokenizer=self._speller(model))
        return self._made[key]

    def _speller(self, model: Any) -> Any:
        """The tokenizer, if one is known: ids are all that the loop itself needs."""
        if self._tokenizer is not None:
            return self._tokenizer
        folder = str(getattr(model, "name_or_path", "") or "")
        if folder and (Path(folder) / "tokenizer_config.json").is_file():
            return folder
        if self._constraint is not None or any("constraint" in part.about.roles for part in self._strategy.parts):
            raise OptionError(
                "a constraint needs the model's tokenizer, which generate does not hand on: call "
                "decodekit.hf(..., tokenizer=tokenizer)"
            )
        return _NoTokenizer()


class _NoTokenizer:
    """Stands for a tokenizer where only ids matter."""

    all_special_ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return 0


class _Padded:
    """Rows in the shape in which transformers shows them: one line per row of the call, left-padded prompts."""

    def __init__(self, prompts: Tensor, pad: int) -> None:
        self.prompts, self._pad = prompts, pad  # [B, L]
        self._last: dict[tuple[int, int], list[int]] = {}  # generated so far, by (line, slot)

    def see(self, rows: Rows, upto: Sequence[int]) -> list[tuple[int, int]]:
        """Remember the text of every row up to its length `upto`; (line, slot) of each row."""
        places = list(zip(rows.group.tolist(), rows.sample.tolist(), strict=True))
        start = rows.start.tolist()
        for r, place in enumerate(places):
            if upto[r] != NONE:
                self._last[place] = rows.tokens[r, start[r] : upto[r]].tolist()
        return places

    def ids(self, slot: int, length: int) -> Tensor:
        """[B, L + length] all lines at `length` generated tokens; lines that have fewer are filled up with padding."""
        lines = []
        for line in range(len(self.prompts)):
            text = self._last.get((line, slot), [])[:length]
            lines.append(text + [self._pad] * (length - len(text)))
        new = torch.tensor(lines, dtype=self.prompts.dtype, device=self.prompts.device).reshape(len(lines), length)
        return torch.cat([self.prompts, new], 1)


def _warpers(padded: _Padded, processors: Any) -> tuple[_Processors, ...]:
    """The leading pointwise ones as one warper, which may act before a constraint, and all others as another."""
    from transformers.generation import logits_process

    simple = tuple(getattr(logits_process, name) for name in _POINTWISE)
    count = next((i for i, one in enumerate(processors) if not isinstance(one, simple)), len(processors))
    parts = (type(processors)(processors[:count]), True), (type(processors)(processors[count:]), False)
    return tuple(_Processors(padded, part, pointwise) for part, pointwise in parts if len(part))


class _Processors:
    """Warper: a list of transformers' logits processors."""

    def __init__(self, padded: _Padded, processors: Any, pointwise: bool) -> None:
        self._padded, self._processors, self.pointwise = padded, processors, pointwise

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V] -> [R, K, V]; every position is processed with the tokens before it, guesses included."""
        out = logits.clone()
        at, start = ask.at.tolist(), rows.start.tolist()
        places = self._padded.see(rows, [max(line) for line in at])
        for k in range(ask.at.shape[1]):
            same: dict[tuple[int, int], list[int]] = {}
            for r, line in enumerate(at):
                if line[k] != NONE:
                    same.setdefault((places[r][1], line[k] - start[r]), []).append(r)
            for (slot, length), members in same.items():
                lines = [places[r][0] for r in members]
                scores = logits.new_zeros(len(self._padded.prompts), logits.shape[-1])  # [B, V]
                scores[lines] = logits[members, k]
                ids = self._padded.ids(slot, length)
                out[members, k] = self._processors(ids, scores.to(ids.device))[lines].to(out)
        return out


class _Criteria:
    """Stop: a list of transformers' stopping criteria."""

    reason = "criteria"

    def __init__(self, padded: _Padded, criteria: Any) -> None:
        self._padded, self._criteria = padded, criteria

    def ended(self, rows: Rows, before: Tensor) -> Tensor:
        """[R] the first length at which a criterion holds among the new ones, or -1."""
        cut = [NONE] * len(rows)
        old, n, start = before.tolist(), rows.n.tolist(), rows.start.tolist()
        places = self._padded.see(rows, n)
        new: dict[tuple[int, int], list[int]] = {}
        for r in range(len(rows)):
            for length in range(old[r] + 1 - start[r], n[r] + 1 - start[r]):
                new.setdefault((length, places[r][1]), []).append(r)
        for length, slot in sorted(new):
            over = self._criteria(self._padded.ids(slot, length), None)  # [B] bool
            for r in new[length, slot]:
                if cut[r] == NONE and bool(over[places[r][0]]):
                    cut[r] = start[r] + length
        return torch.tensor(cut, dtype=torch.int64, device=rows.device)


def _refuse(config: Any, synced_gpus: bool, model_kwargs: dict[str, Any]) -> None:
    if config is None:
        raise OptionError(
            "this is for the argument custom_generate: call model.generate(..., custom_generate=decodekit.hf(...))"
        )
    if config.num_beams and config.num_beams > 1:
        raise CompositionError(f"num_beams={config.num_beams} is transformers' own search; drop it, or custom_generate")
    wanted = [name for name in _UNSUPPORTED if getattr(config, name, None)]
    if wanted and config.return_dict_in_generate:
        raise CompositionError(
            f"{wanted[0]}=True is not offered under custom_generate=decodekit.hf(...); drop it, and read the trace "
            "of the callable instead"
        )
    if synced_gpus:
        raise CompositionError(
            "synced_gpus=True (sharded generation) is not supported by decodekit.hf; set it to False"
        )
    if model_kwargs.get("inputs_embeds") is not None:
        raise PromptError("decodekit.hf reads token ids and was given inputs_embeds; pass input_ids")


def _prompts(input_ids: Tensor, mask: Tensor | None) -> list[list[int]]:
    if mask is None:
        found: list[list[int]] = input_ids.tolist()
    else:
        found = [row[keep.bool()].tolist() for row, keep in zip(input_ids, mask.to(input_ids.device), strict=True)]
    for r, ids in enumerate(found):
        if not ids:
            raise PromptError(f"row {r} of input_ids is all padding; give at least one token")
    return found


def _counted(prompts: Sequence[list[int]]) -> list[tuple[list[int], int]]:
    """Each prompt with how often it stood before: repeated prompts (num_return_sequences) get noise of their own."""
    seen: dict[tuple[int, ...], int] = {}
    out = []
    for ids in prompts:
        nth = seen[tuple(ids)] = seen.get(tuple(ids), -1) + 1
        out.append((ids, nth))
    return out


def _pad(config: Any, eos: Sequence[int]) -> int:
    pad = getattr(config, "_pad_token_tensor", None)
    return int(pad) if pad is not None else (eos[0] if eos else 0)


def _drive(session: Session, streamer: Any) -> None:
    sent = 0
    for what in session.rounds():
        if streamer is not None:  # transformers streams batches of one only
            new = what.rows.text(0)[int(what.rows.start[0]) :]
            if len(new) > sent:
                streamer.put(torch.tensor(new[sent:]))
                sent = len(new)
    if streamer is not None:
        streamer.end()


def _output(input_ids: Tensor, new: Sequence[list[int]], pad: int, config: Any) -> Any:
    width = max(map(len, new), default=0)
    lines = [one + [pad] * (width - len(one)) for one in new]
    grown = torch.tensor(lines, dtype=input_ids.dtype, device=input_ids.device).reshape(len(input_ids), width)
    sequences = torch.cat([input_ids, grown], 1)
    if not config.return_dict_in_generate:
        return sequences
    from transformers.generation import GenerateDecoderOnlyOutput

    return GenerateDecoderOnlyOutput(sequences=sequences)
