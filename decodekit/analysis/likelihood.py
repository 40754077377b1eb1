"""How probable given texts are under a strategy's scorer: the law that it samples from, before warpers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from decodekit.core import noise
from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.errors import CompositionError, PromptError

if TYPE_CHECKING:
    from decodekit.api import Decoder


class Likelihood(NamedTuple):
    """logp: natural logarithm of the continuation's probability. greedy: whether each of its tokens is the best one."""

    logp: float
    greedy: bool


@torch.inference_mode()
def likelihood(decoder: Decoder, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Likelihood]:
    """Log-probability of each continuation after its context, both as token ids, in the order given.

    The scorer of the decoder's strategy is asked (a plain pass, pondering, several models ...), with the context as the
    prompt; warpers, constraint and selector have no part in it.

    Raises:
        CompositionError: the model is no causal one, so a text has no such probability.
        PromptError: an empty context, or a text beyond the model's context.
    """
    model = decoder.model
    if "causal_lm" not in model.provides:
        raise CompositionError(f"{model.name!r} is no causal model, so a text has no likelihood; choose one that is")
    for number, (context, continuation) in enumerate(pairs):
        if not context:
            raise PromptError(f"text {number} has an empty context; begin it with a token, such as the begin token")
        if model.context is not None and len(context) + len(continuation) > model.context + 1:
            raise PromptError(
                f"text {number} has {len(context) + len(continuation)} tokens, and {model.name!r} reads "
                f"{model.context}; shorten it"
            )
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
    found: dict[int, Likelihood] = {}
    step = decoder.options.rows
    for start in range(0, len(order), step):
        chosen = order[start : start + step]
        found.update(zip(chosen, _batch(decoder, [pairs[i] for i in chosen]), strict=True))
    return [found[i] for i in range(len(pairs))]


def _batch(decoder: Decoder, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Likelihood]:
    device, seed = decoder.model.device, decoder.options.seed
    _, kit = decoder.setup.bound(decoder.options, Cost())
    start = torch.tensor([len(context) for context, _ in pairs], device=device)  # [R]
    length = torch.tensor([len(context) + len(rest) for context, rest in pairs], device=device)  # [R]
    number = torch.arange(len(pairs), device=device)
    streams = torch.cat([noise.streams(seed, list(context), 1) for context, _ in pairs]).to(device)
    rows = Rows([[*context, *rest] for context, rest in pairs], length, streams, number, torch.zeros_like(number))
    rows.start = start  # schedules by position count from the end of the prompt
    width = max(1, int((length - start).max()))
    at = start[:, None] + torch.arange(width, device=device)  # [R, K]
    at = at.masked_fill(at >= length[:, None], NONE)
    logp = kit.scorer.read(rows, at).double().log_softmax(-1)  # [R, K, V]
    tokens = rows.tokens.gather(1, at.clamp(min=0))  # [R, K]
    given = logp.gather(-1, tokens[..., None])[..., 0].masked_fill(at == NONE, 0.0)
    best = (logp.argmax(-1) == tokens) | (at == NONE)
    return [Likelihood(*pair) for pair in zip(given.sum(1).tolist(), best.all(1).tolist(), strict=True)]
