"""One batch from prompts to results: bind the answers, run the loop, read off what came of every row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from decodekit.core import noise
from decodekit.core.bound import BindContext, BoundStrategy, Model
from decodekit.core.cells import open_templates
from decodekit.core.cost import Cost
from decodekit.core.loop import decode
from decodekit.core.protocols import Round, Stop
from decodekit.core.rows import Rows
from decodekit.core.stopping import Budget, Complete, Deadline, EndOfText, Length, StopStrings
from decodekit.errors import CompositionError, OptionError
from decodekit.registry.compose import Composition, bind
from decodekit.run.must_end import MustEnd
from decodekit.run.options import Options
from decodekit.run.results import Prompt
from decodekit.text.codec import Codec
from decodekit.text.token_bytes import OfCodec
from decodekit.trace.recorder import Recorder, Told
from decodekit.trace.trace import Trace


@dataclass(frozen=True)
class Setup:
    """What stays the same over all batches of a decoder.

    open: opens a second model, once. readings: constraints that can read a finished text (they have `value`).
    """

    model: Model
    composition: Composition
    spec: str
    open: Callable[[object], Model]
    codec: Callable[[], Codec]
    readings: tuple[Any, ...] = ()

    def bound(self, options: Options, cost: Cost) -> tuple[BindContext, BoundStrategy]:
        """Bind every answer anew: readers follow the rows of one batch."""
        eos = self.model.eos if options.eos is None else options.eos
        run = BindContext(self.model, self.open, tuple(eos), options.seed, cost, hidden=options.hidden)
        kit = bind(self.composition, run)
        if options.hidden and not getattr(kit.scorer, "tells_hidden", False):
            raise CompositionError(
                f"hidden=True asks for hidden states, and the scorer of {self.spec!r} does not tell them; drop either"
            )
        return run, kit


@dataclass(frozen=True)
class Want:
    """One population that is wanted: sample number `number` of prompt `which`, of at most `limit` tokens in all."""

    which: int
    number: int
    prompt: Prompt
    limit: int


@dataclass(frozen=True)
class Outcome:
    """How one row went: `tokens` generated, why it ended, its sums, and what was remarked on it."""

    tokens: list[int]
    finish: str
    logp: float
    logw: float
    slot: int
    note: str = ""


class Session:
    """One batch in flight.

    Args:
        setup: of the decoder. options: of the call. wants: one per group of rows.
        cost: where everything is counted. until: the clock of the call, shared by its batches.
        adapt: changes the bound kit before the run, for a caller that brings its own warpers and stops.
    """

    def __init__(
        self,
        setup: Setup,
        options: Options,
        wants: Sequence[Want],
        cost: Cost,
        until: Deadline | None = None,
        adapt: Callable[[BoundStrategy], BoundStrategy] | None = None,
    ) -> None:
        self._cost, self.wants, self._setup = cost, list(wants), setup
        self._retired = self._settled = 0
        run, kit = setup.bound(options, cost)
        kit = kit if adapt is None else adapt(kit)
        with torch.inference_mode():
            self.rows = _rows(self.wants, kit.population.width, options.seed, setup.model.device)
            if setup.model.mask is not None:
                open_templates(self.rows, setup.model.mask)
            self.recorder = Recorder(
                self.rows,
                cost,
                trace=options.trace,
                top_k=options.top_k,
                told=_told(kit),
                scattered=getattr(kit.proposer, "scattered", False),
            )
        if options.in_time:
            _steer(kit.constraint, self.rows)
        if options.must_end:
            kit = replace(kit, constraint=MustEnd(kit.constraint, run))
        stops = _stops(setup, options, run, kit, until)
        self._kit = run.kit = replace(kit, stops=stops, observers=(*kit.observers, self.recorder))
        self.header = {"spec": setup.spec, "seed": options.seed, "model": setup.model.name}

    def rounds(self) -> Iterator[Round]:
        """Run the loop, round by round; between two rounds everything is consistent."""
        steps = decode(self._kit, self.rows)
        while True:
            begun = time.perf_counter()
            with torch.inference_mode():  # entered per round: a suspended generator must not change the caller's mode
                what = next(steps, None)
            self._cost.seconds += time.perf_counter() - begun
            if what is None:
                return
            self._cost.rounds += 1
            yield what

    def trace(self) -> Trace | None:
        """The events so far, with what their tokens say; None if none are kept."""
        trace = self.recorder.trace(**self.header)
        if trace is None or self._setup.model.tokenizer is None:
            return trace
        return trace.spelt(OfCodec(self._setup.codec))

    def settled(self) -> int:
        """How many groups have left altogether."""
        if len(self.rows.retired) != self._retired:
            self._retired = len(self.rows.retired)
            self._settled = len(self.wants) - len(set(self.rows.group.tolist()))
        return self._settled

    def outcomes(self, unfinished: str = "interrupted") -> list[list[Outcome]]:
        """For every want its rows by slot; rows still in flight end as `unfinished` with what they have."""
        found: list[list[Outcome]] = [[] for _ in self.wants]
        for row, logp in zip(self.rows.retired, self.recorder.left, strict=False):
            tokens = row.tokens[row.start :]
            found[row.group].append(Outcome(tokens, row.reason, logp, row.logw, row.sample, row.note))
        for group, outcome in self._in_flight(unfinished):
            found[group].append(outcome)
        for rows in found:
            rows.sort(key=lambda one: one.slot)
        self._cost.tokens += sum(len(one.tokens) for rows in found for one in rows)
        return found

    def _in_flight(self, unfinished: str) -> Iterator[tuple[int, Outcome]]:
        rows, logp = self.rows, self.recorder.logp
        whole = {len(part) for part in (rows.tokens, rows.n, rows.start, rows.logw, rows.group, rows.sample, logp)}
        if len(whole) > 1:  # interrupted while rows were being moved: what had left is safe, the rest is not readable
            return
        for r in range(len(rows)):
            tokens = rows.text(r)[int(rows.start[r]) :]
            finish = rows.why(r) or unfinished
            sums = float(logp[r]), float(rows.logw[r])
            yield int(rows.group[r]), Outcome(tokens, finish, *sums, int(rows.sample[r]), rows.remarked(r))


def _told(kit: BoundStrategy) -> Told | None:
    """What the scorer tells of the positions that it was asked, if it tells anything."""
    found: Told | None = getattr(kit.scorer, "told", None)
    return found


def _rows(wants: Sequence[Want], width: int, seed: int, device: torch.device) -> Rows:
    streams = [noise.streams(seed, w.prompt.tokens, (w.number + 1) * width)[w.number * width :] for w in wants]
    return Rows(
        [w.prompt.tokens for w in wants for _ in range(width)],
        limit=torch.tensor([w.limit for w in wants for _ in range(width)], device=device),
        stream=torch.cat(streams).to(device),
        group=torch.arange(len(wants), device=device).repeat_interleave(width),
        sample=torch.arange(width, device=device).repeat(len(wants)),
    )


def _steer(constraint: object, rows: Rows) -> None:
    """Have the constraint refuse what cannot be completed in time; it refuses rows without room for any text."""
    steer = getattr(constraint, "steer", None)
    if steer is None:
        what = (
            "none is given" if constraint is None else "this one is not: several in a list, or one of another package"
        )
        raise OptionError(
            f"in_time=True needs a constraint that can be steered to its end, and {what}; "
            "give one (all_of joins several), or drop in_time"
        )
    steer(rows)


def _stops(
    setup: Setup, options: Options, run: BindContext, kit: BoundStrategy, until: Deadline | None
) -> tuple[Stop, ...]:
    """In order of preference where two cut at the same place."""
    stops: list[Stop] = []
    if run.eos:
        stops.append(EndOfText(run.eos, setup.model.device))
    if options.stop:
        stops.append(StopStrings(options.stop, setup.codec()))
    stops += kit.stops
    finished = getattr(kit.constraint, "finished", None)
    if finished is not None and not run.eos:
        stops.append(Complete(finished))
    stops.append(Length())
    if options.max_fed is not None:
        stops.append(Budget(run.cost, options.max_fed))
    if until is not None:
        stops.append(until)
    return tuple(stops)
