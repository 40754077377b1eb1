"""The ledger: how many bits a canvas was given in each round, what a rule allows, and what filling in parallel costs.

A round commits cells S; it carries the sum over S of -log2 p(value | canvas before the round). The sum over all rounds
is the path's negative log-likelihood L, so no canvas is filled in fewer rounds than L / (most bits in a round): rules
that take only what is almost certain are slow because what is almost certain carries next to nothing (Fu et al. 2025,
arXiv 2511.21103).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from decodekit.core.bound import Model
from decodekit.core.cells import packed
from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.errors import DecodekitError

if TYPE_CHECKING:
    from decodekit.run.results import Result
    from decodekit.trace.trace import Array, Trace

LN2: Final = math.log(2.0)
_SLACK: Final = 1e-3  # float32 columns of the trace, relative to a bit


# -- what rules allow, all for the most probable value of each cell


def threshold_cap(cells: Tensor, tau: float) -> Tensor:
    """Most bits of `cells` [R] cells that each have probability at least `tau`: cells x log2(1 / tau)."""
    if tau <= 0.0:
        return torch.where(cells > 0, torch.inf, 0.0).double()
    return cells * max(0.0, -math.log2(tau))


def factor_cap(cells: Tensor, factor: float) -> Tensor:
    """Most bits of `cells` [R] cells of which the least sure has (cells + 1)(1 - c) < factor.

    cells x log2(1 / (1 - factor / (cells + 1))): for factor 1 never more than log2 e = 1.44 bits.
    """
    n = cells.double()
    least = 1.0 - factor / (n + 1.0)  # [R] every probability is above this
    return torch.where(n == 0, 0.0, torch.where(least > 0, n * -least.clamp(min=1e-300).log2(), torch.inf))


def bounded_cap(gamma: float, vocab: int) -> float:
    """Most bits, in expectation over drawn values, of cells with sum H - max H <= `gamma` nats: gamma + log V."""
    return (gamma + math.log(vocab)) / LN2


# -- what a run spent


@dataclass(frozen=True)
class Path:
    """One canvas: what each round of it committed. Arrays are over its rounds [T], or over its cells [N].

    rounds: T, forward passes that it waited for. canvases: read in all, hypotheses counted one by one.
    bits: [T] committed in each round. caps: [T] most bits of the rule's own cells, NaN where it told none.
    ruled: [T] bits of those cells. position, token, cost, when, why: [N] each cell of the final text, its bits, its
    round and its reason. revoked: commits that were taken back later.
    """

    group: int
    slot: int
    bits: Array
    caps: Array
    ruled: Array
    position: Array
    token: Array
    cost: Array
    when: Array
    why: tuple[str, ...]
    canvases: int
    revoked: int

    @property
    def rounds(self) -> int:
        """Forward passes that the canvas waited for."""
        return len(self.bits)

    @property
    def total(self) -> float:
        """Bits of all commits."""
        return float(self.bits.sum())

    @property
    def peak(self) -> float:
        """Most bits in a round."""
        return float(self.bits.max(initial=0.0))

    def check(self) -> None:
        """Rounds >= total / peak, and no rule above its cap.

        Raises:
            DecodekitError: the trace contradicts itself.
        """
        if self.peak > 0 and self.rounds < self.total / self.peak - _SLACK:
            raise DecodekitError(f"{self.rounds} rounds cannot hold {self.total:.3f} bits at {self.peak:.3f} a round")
        over = self.ruled > self.caps * (1 + 1e-6) + _SLACK  # NaN compares False
        if bool(over.any()):
            t = int(over.argmax())
            raise DecodekitError(
                f"round {t} committed {self.ruled[t]:.3f} bits where its rule allows {self.caps[t]:.3f}: values were "
                "drawn, for which caps hold in expectation only, or the rule is wrong"
            )


@dataclass(frozen=True)
class Ledger:
    """All canvases of a trace, and the seconds that they took together.

    law: "raw" for bits under the plain model, "used" for bits under the law that was decided by (after warpers and
    constraint), for which alone the caps hold.
    """

    paths: tuple[Path, ...]
    law: str
    seconds: float = field(default=math.nan)

    def __iter__(self) -> Any:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def check(self) -> None:
        """See :meth:`Path.check`, for each."""
        for path in self.paths:
            path.check()

    def mean(self) -> Mapping[str, float]:
        """Means over canvases: rounds, canvases, bits, bits a round, peak; and the seconds of all."""
        if not self.paths:
            return {}
        each = {
            "rounds": [float(p.rounds) for p in self.paths],
            "canvases": [float(p.canvases) for p in self.paths],
            "bits": [p.total for p in self.paths],
            "bits_per_round": [p.total / max(1, p.rounds) for p in self.paths],
            "peak": [p.peak for p in self.paths],
            "revoked": [float(p.revoked) for p in self.paths],
        }
        return {**{name: float(np.mean(values)) for name, values in each.items()}, "seconds": self.seconds}


def ledger(trace: Trace | None, law: str = "raw") -> Ledger:
    """The ledger of a trace (`Result.trace`), one :class:`Path` for every canvas.

    law: "raw" or "used", see :class:`Ledger`. Values that were revoked count in the round in which they were committed.

    Raises:
        DecodekitError: there is no trace, or `law` is neither.
    """
    if trace is None:
        raise DecodekitError("there is no trace to make a ledger of; generate with trace=True")
    if law not in ("raw", "used"):
        raise DecodekitError(f"law={law!r} is refused; give 'raw' or 'used'")
    events = trace.events
    column = events["logp" if law == "raw" else "logt"].astype(np.float64)
    paths = []
    keys = np.stack([events["group"], events["slot"]], 1)
    for group, slot in np.unique(keys, axis=0):
        mine = (events["group"] == group) & (events["slot"] == slot) & events["accepted"]
        paths.append(_path(trace, int(group), int(slot), mine, -column[mine] / LN2))
    return Ledger(tuple(paths), law, float(trace.rounds["seconds"].sum()))


def _path(trace: Trace, group: int, slot: int, mine: Array, bits: Array) -> Path:
    events, words = trace.events, trace.header["words"]
    when, position, token = (events[name][mine] for name in ("round", "position", "token"))
    by = events["by"][mine]
    numbers = np.unique(when)
    turn = np.searchsorted(numbers, when)  # [E] number among the canvas's own rounds
    per = np.bincount(turn, weights=bits, minlength=len(numbers))
    named = np.array([words[int(code)] for code in by]) if len(by) else np.zeros(0, dtype=str)
    ruled = np.bincount(turn, weights=bits * (named != "fallback") * (named != "explore"), minlength=len(numbers))
    last = {int(p): i for i, p in enumerate(position)}  # events are in the order of rounds: the last commit stands
    kept = np.array([last[p] for p in sorted(last)], dtype=np.int64)
    return Path(
        group=group,
        slot=slot,
        bits=per,
        caps=_told(trace, "cap", group, slot, numbers, math.nan),
        ruled=ruled,
        position=position[kept],
        token=token[kept],
        cost=bits[kept],
        when=turn[kept],
        why=tuple(str(named[i]) for i in kept),
        canvases=int(_told(trace, "canvases", group, slot, numbers, 1.0).sum()),
        revoked=len(position) - len(kept),
    )


def _told(trace: Trace, name: str, group: int, slot: int, numbers: Array, missing: float) -> Array:
    """[T] what was told under `name` of a row in each of its rounds `numbers`."""
    facts = trace.told(name, group)
    mine = facts["slot"] == slot
    values = dict(zip(facts["round"][mine].tolist(), facts["value"][mine].tolist(), strict=True))
    return np.array([values.get(int(number), missing) for number in numbers], dtype=np.float64)


# -- what parallel filling costs


def summary(values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard error)."""
    data = np.asarray(values, dtype=np.float64)
    error = float(data.std(ddof=1) / math.sqrt(len(data))) if len(data) > 1 else math.nan
    return float(data.mean()), error


def price(model: Model, results: Sequence[Result]) -> list[float]:
    """Bits that filling in parallel cost each sample: those of its text, one cell a round, less those of its path.

    The mean over samples estimates KL(strategy || model filling one cell a round, most confident first): what the
    strategy writes and the model, asked cell by cell, would not. Single values may be negative. Values that are not
    drawn (greedy) give no such mean: then it only compares two readings of one text.

    Args:
        model: a loaded masked model (:func:`decodekit.models.load.load`), the one that wrote them.
        results: of one call with `trace=True`, prompts and samples in the order of the call.

    Raises:
        DecodekitError: there is no trace.
    """
    out: list[float] = []
    for result in results:
        paths = ledger(result.trace).paths
        alone = one_by_one(model, [result], None, [path.position for path in paths])
        out += [bits - float(path.cost.sum()) for path, bits in zip(paths, alone, strict=True)]
    return out


def one_by_one(
    model: Model,
    results: Sequence[Result],
    rounds: Sequence[Array] | None,
    positions: Sequence[Array],
) -> list[float]:
    """Bits of each sample's text when its cells `positions` are revealed again, most confident first, one a round.

    rounds: reveal cells in these rounds instead, all of one number together, which is what the path itself spent.
    """
    texts = [[*result.prompt.before, *one.tokens] for result in results for one in result.samples]
    cost, mask = Cost(), model.mask
    if mask is None:
        raise DecodekitError(f"the model {model.name!r} has no mask token, so nothing can be revealed to it")
    reader, given = model.reader(cost, "target"), [len(text) for text in texts]
    totals = [0.0] * len(texts)
    rows = _rows(texts, [set(p.tolist()) for p in positions], mask, model)
    turn = 0
    with torch.inference_mode():
        while bool((rows.tokens == mask).any()):
            hidden = rows.tokens[:, : max(given)] == mask  # [N, T]
            at = packed(hidden)
            law = reader.read(rows, at).double()
            law = law.index_fill(2, torch.tensor([mask], device=law.device), -torch.inf).log_softmax(-1)
            truth = rows.columns["truth"].gather(1, at.clamp(min=0))
            logp = law.gather(2, truth[..., None])[..., 0].masked_fill(at == NONE, 0.0)
            if rounds is None:
                best = law.amax(2).masked_fill(at == NONE, -torch.inf).argmax(1, keepdim=True)
                show = torch.zeros_like(at, dtype=torch.bool).scatter(1, best, True)
            else:
                show = torch.stack([_now(p, w, a, turn) for p, w, a in zip(positions, rounds, at, strict=True)])
            show = show & (at != NONE)
            rows.write(at, truth, show)
            for r, value in enumerate((-logp * show).sum(1).tolist()):
                totals[r] += value / LN2
            turn += 1
    return totals


def _now(position: Array, when: Array, at: Tensor, turn: int) -> Tensor:
    now = torch.as_tensor(position[when == turn], device=at.device)
    return torch.isin(at, now)


def _rows(texts: Sequence[Sequence[int]], hide: Sequence[set[int]], mask: int, model: Model) -> Rows:
    """The texts with the cells `hide` masked again; what they were is the column "truth"."""
    device = model.device
    limit = torch.tensor([len(text) for text in texts], device=device)
    shown = [[mask if i in out else t for i, t in enumerate(text)] for text, out in zip(texts, hide, strict=True)]
    each = torch.arange(len(texts), device=device)
    rows = Rows(shown, limit, torch.zeros_like(limit), each, torch.zeros_like(each))
    truth = torch.zeros_like(rows.tokens)
    for r, text in enumerate(texts):
        truth[r, : len(text)] = torch.tensor(text, device=device)
    rows.column("truth", truth)
    return rows
