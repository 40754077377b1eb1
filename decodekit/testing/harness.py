"""Compose and decode without text: token ids in, retired rows and costs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from decodekit.core.bound import BindContext, BoundStrategy, Model
from decodekit.core.cost import Cost
from decodekit.core.loop import decode
from decodekit.core.noise import streams
from decodekit.core.protocols import Observer
from decodekit.core.rows import Retired, Rows
from decodekit.core.stopping import EndOfText, Length
from decodekit.registry.compose import bind, compose


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    rows: all rows in the order of (prompt, sample, slot). cost: of the run. rounds: how many. takes: per round, how
    many tokens each row that was in flight took.
    """

    rows: list[Retired]
    cost: Cost
    rounds: int
    takes: list[list[int]]

    @property
    def texts(self) -> list[tuple[int, ...]]:
        """Generated ids of each row, EOS included, prompt excluded."""
        return [tuple(row.tokens[row.start :]) for row in self.rows]


def opened(thing: object) -> Model:
    """Open a model for tests: loaded ones are passed through, anything else goes to the loader of models."""
    if hasattr(thing, "reader"):
        return cast(Model, thing)
    from decodekit.models.load import load  # slow to import, and tables do not need it

    return cast(Model, load(thing))


def rows_for(
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int | Sequence[int],
    seed: int = 0,
    samples: int = 1,
    width: int = 1,
) -> Rows:
    """Rows for `prompts`, `samples` groups of `width` slots each. `max_tokens` may differ per prompt."""
    most = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else list(max_tokens)
    each = samples * width
    texts = [list(prompt) for prompt in prompts for _ in range(each)]
    limit = torch.tensor([len(p) + m for p, m in zip(prompts, most, strict=True) for _ in range(each)])
    stream = torch.cat([streams(seed, list(prompt), each) for prompt in prompts])
    slot = torch.arange(len(texts))
    return Rows(texts, limit, stream, slot // width, slot % width)


def kit_for(
    strategy: Any,
    model: Model,
    *,
    constraint: Any = None,
    seed: int = 0,
    eos: Sequence[int] | None = None,
    observers: Sequence[Observer] = (),
) -> tuple[BoundStrategy, BindContext]:
    """Compose `strategy` (whatever `Strategy.of` takes) over `model` and bind it; runs no model.

    Raises:
        DecodekitError: what composition raises.
    """
    composition = compose(strategy, model.provides, () if constraint is None else (constraint,))
    ends = tuple(model.eos if eos is None else eos)
    run = BindContext(model=model, open=opened, eos=ends, seed=seed)
    return bind(composition, run, stops=(EndOfText(ends, model.device), Length()), observers=observers), run


def run(
    strategy: Any,
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    constraint: Any = None,
    max_tokens: int | Sequence[int] = 6,
    seed: int = 0,
    samples: int = 1,
    eos: Sequence[int] | None = None,
    observers: Sequence[Observer] = (),
) -> Outcome:
    """Decode `prompts` with `strategy` over `model`; nothing is turned into text.

    Args:
        strategy: a spec string, a plugin, a list of these, or a Strategy.
        model: the target.
        prompts: token ids, one list per request.
        constraint: a constraint plugin.
        max_tokens: most generated tokens, one number or one per prompt.
        seed: of the noise.
        samples: independent groups per prompt.
        eos: ids that end a text (default: the model's).
        observers: extra ones.

    Raises:
        DecodekitError: what composition and decoding raise.
        RuntimeError: a round in which no row took a token, ended or died, many times in a row (a plugin that hangs).
    """
    kit, bound = kit_for(strategy, model, constraint=constraint, seed=seed, eos=eos, observers=observers)
    rows = rows_for(prompts, max_tokens=max_tokens, seed=seed, samples=samples, width=kit.population.width)
    takes: list[list[int]] = []
    idle = 0
    for what in decode(kit, rows):
        takes.append(what.take.sum(1).tolist())
        idle = 0 if any(takes[-1]) or bool(what.ended.any()) else idle + 1
        if idle > 3:
            raise RuntimeError(f"no row took a token for {idle} rounds: the strategy hangs")
    found = sorted(rows.retired, key=lambda row: (row.group, row.sample))
    return Outcome(found, bound.cost, len(takes), takes)
