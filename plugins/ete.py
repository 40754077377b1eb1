"""Explore-then-exploit: commit what is certain anywhere, and a few cells that are not, so that more becomes certain."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import BindContext
from decodekit.core.cells import FAR, imagined
from decodekit.core.follower import Follower
from decodekit.core.protocols import Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.diffusion import information
from decodekit.diffusion.canvas import Filler, Pick, View
from decodekit.diffusion.cell_selection import Dependence, apart, one_per_block
from decodekit.diffusion.check_cells import Reread, reread
from decodekit.errors import CompositionError
from decodekit.registry.declaration import plugin
from decodekit.registry.metadata import without

_APART = 1 << 32  # positions of one hypothesis's noise are this far from those of the next
_LEFT = 1e-3  # of a nat of entropy that is left, against one cell that became certain


@plugin(
    role=("proposer", "selector"),
    exactness="approximate",
    requires=("masked_lm",),
    provides=("weights", "randomness", "distribution"),
    paper="Fu et al. 2025 (ETE), arXiv 2511.21103: the three claims; the procedure is our reconstruction",
)
class ETE:
    """Each round: every certain cell in the window of blocks (exploit), and some of the most uncertain ones (explore).

    What is certain carries no information, so a rule that takes nothing else needs many rounds; an uncertain cell
    carries much, and once it stands, others follow from it. The paper's abstract says this and no more: the score
    (entropy), the number of cells and their values are our reading of it.

    Args:
        threshold: a cell is certain from this probability of its most probable token on. That token is what it gets
            (under a constraint, with `sample`: what the joint draw has there).
        explore: uncertain cells a round; their values are drawn if `sample`, else the most probable ones.
        gap: least distance between explored cells, or "block" for one per block.
        window: blocks, from the first unfinished one, that may be committed into; None for all.
        block: cells per block, None for one block.
        floor: cells whose most probable token is less probable than this are not explored.
        trigger: explore only if the certain cells carry fewer bits than this; None for always.
        absorb: do not explore in a round whose certain cells carry this many bits under the model alone (a constraint
            forced them: evidence first); None for never minding.
        hypotheses: look ahead with so many choices of explored cells, read in one batch; the best goes on and its
            reading is the next round's. 1 does not look ahead.
        revoke: explored cells are read again without themselves a round later, and opened again if their value is less
            probable than this. 0 for never. Each cell at most once.
        max_rounds: fill the canvas in at most so many rounds: `explore` and `gap` are then chosen round by round, from
            what cells have been seen to explain of each other; the last round takes whatever is left.
        max_excess: instead explore as much as costs no more than so many bits in all, by the same measure.
        sample: draw the values of explored cells.

    Raises:
        OptionError: hypotheses and revoke, or max_rounds and max_excess, are given together.
        CompositionError: when bound, if the model has no mask token; in the first round, if hypotheses are to be read
            through a cache.
    """

    threshold: Annotated[float, Field(ge=0.0)] = 0.9
    explore: Annotated[int, Field(ge=0)] = 1
    gap: Annotated[int, Field(ge=1)] | Literal["block"] = 1
    window: Annotated[int, Field(ge=1)] | None = None
    block: Annotated[int, Field(ge=1)] | None = 32
    floor: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    trigger: Annotated[float, Field(ge=0.0)] | None = None
    absorb: Annotated[float, Field(ge=0.0)] | None = None
    hypotheses: Annotated[int, Field(ge=1)] = 1
    revoke: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    max_rounds: Annotated[int, Field(ge=1)] | None = None
    max_excess: Annotated[float, Field(ge=0.0)] | None = None
    sample: bool = False

    @model_validator(mode="after")
    def _one_of_each(self) -> ETE:
        if self.hypotheses > 1 and self.revoke > 0:
            raise ValueError("hypotheses and revoke both decide what is read in a round; give one of them")
        if self.revoke > 0 or self.hypotheses > 1:  # what is chosen depends on values that are thrown away
            without(self, "weights")
        if not self.sample:
            by_chance = self.hypotheses > 1  # they are drawn around the plain choice
            without(self, "weights", *(() if by_chance else ("randomness",)))
        if self.max_rounds is not None and self.max_excess is not None:
            raise ValueError("max_rounds and max_excess both say how much to explore; give one of them")
        return self

    def bind(self, run: BindContext) -> Explorer:
        """Remember the ids that matter; runs no model."""
        return Explorer(self, run)


class Explorer(Filler):
    """The rule. What it learns of a row is in columns of the rows."""

    def __init__(self, options: ETE, run: BindContext) -> None:
        window = options.window or FAR
        super().__init__(run, "ete", block=options.block, window=window, sample=options.sample)
        if options.max_rounds is not None:
            self.window = FAR  # what is out of sight could not be filled in time
        self.o = options
        self.weighs = options.revoke == 0.0 and options.hypotheses == 1
        self._depends = Dependence("ete")
        self._read: Reread
        self._reader = run.model.reader(run.cost, run.label) if options.revoke > 0 else None

    # Reading

    def propose(self, rows: Rows) -> Proposal:
        """The open cells in the window; what looking ahead has read is not read again."""
        if self._reader is not None:
            doubtful = rows.column("ete.doubt", torch.zeros(len(rows), 0, dtype=torch.bool, device=rows.device))
            self._read = reread(self, rows, self._reader, doubtful)
            return self._read.ask
        ask = super().propose(rows)
        at = rows.columns.get("ete.at")
        width = ask.at.shape[1]
        if at is None or at.shape[1] < width or not torch.equal(at[:, :width], ask.at):
            return ask
        return Proposal(ask.at, ask.guess, known=rows.columns["ete.known"][:, :width])

    # Choosing

    def choose(self, view: View) -> Pick:
        """Exploit, explore, and if there is neither, the best cell."""
        scope = view.scope if self._reader is None else view.scope & ~self._read.check
        sure = (view.top >= self.o.threshold) & scope
        # Under a constraint all values must be of one filling; the best token of each cell by itself need not be.
        tokens = view.value if self.held is not None else torch.where(sure, view.logp.argmax(2), view.value)
        allowed = self._may_explore(view, sure, tokens)
        explored = self._explore(view, scope & ~sure, allowed)
        canvases = torch.ones_like(view.rows.n)
        if self.o.hypotheses > 1:
            explored, canvases = self._look_ahead(view, sure, explored, tokens, allowed)
        last = self._last_round(view.rows)
        if last is not None:
            explored = explored | (scope & ~sure & last[:, None])
        nothing = ~(sure | explored).any(1)
        take = sure | explored | (view.best & scope & nothing[:, None])
        if self._budgeted:
            self._depends.remember(view, explored)
            self._count(view.rows, explored)
        why = torch.where(sure, 1, torch.where(explored, 2, 3))
        if self._reader is not None:
            canvases, take, tokens = self._doubt(view, take, explored, tokens)
        cap = information.threshold_cap(sure.sum(1), self.o.threshold)
        return Pick(take, why, tokens=tokens, cap=cap, canvases=canvases)

    @property
    def _budgeted(self) -> bool:
        return self.o.max_rounds is not None or self.o.max_excess is not None

    def _may_explore(self, view: View, sure: Tensor, tokens: Tensor) -> Tensor:
        """[R] bool, rows that what the certain cells carry does not keep from exploring."""
        allowed = torch.ones_like(sure[:, 0])
        index = tokens[..., None]
        if self.o.trigger is not None:
            gain = -view.logp.gather(2, index)[..., 0].masked_fill(~sure, 0.0).sum(1) / information.LN2
            allowed = allowed & (gain < self.o.trigger)
        if self.o.absorb is not None:
            news = -view.raw.gather(2, index)[..., 0].masked_fill(~sure, 0.0).sum(1) / information.LN2
            allowed = allowed & (news < self.o.absorb)
        return allowed

    def _explore(self, view: View, cells: Tensor, allowed: Tensor, score: Tensor | None = None) -> Tensor:
        """[R, K] bool, the cells that are explored."""
        cells = cells & (view.top >= self.o.floor) & allowed[:, None]
        if self._budgeted:
            self._depends.learn(view)
            return self._by_budget(view, cells)
        count = torch.full_like(view.rows.n, self.o.explore)
        score = view.entropy if score is None else score
        if self.o.gap == "block":
            return one_per_block(score, cells, self.blocks(view.rows, view.ask.at), count)
        return apart(score, cells, view.ask.at, count, self.o.gap)

    # Looking ahead

    def _look_ahead(
        self, view: View, sure: Tensor, explored: Tensor, tokens: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """([R, K] cells that the best hypothesis explores, [R] canvases read); keeps its reading for the next round."""
        rows, many = view.rows, self.o.hypotheses
        scorer = self.run.kit.scorer
        if isinstance(scorer, Follower) or getattr(scorer, "follows", False):
            raise CompositionError(
                "ete: hypotheses are canvases that part from each other, which a cache of one canvas cannot read; drop "
                "the cache, or look ahead with hypotheses=1"
            )
        sets = [explored]
        for h in range(1, many):  # the first is the plain choice, the others are drawn around it
            place = view.ask.at.clamp(min=0) + h * _APART
            jitter = noise.uniform(rows.stream, place, noise.Salt.ORDER)
            sets.append(self._explore(view, view.scope & ~sure, allowed, view.entropy * jitter))
        nothing = ~(sure | explored).any(1, keepdim=True)
        takes = torch.stack([sure | one | (view.best & nothing) for one in sets], 1)  # [R, H, K]
        index = torch.arange(len(rows), device=rows.device).repeat_interleave(many)
        ahead = imagined(rows, index)
        flat = takes.flatten(0, 1)  # [R * H, K]
        ahead.commit(view.ask.at[index], tokens[index], flat & (view.ask.at[index] != NONE))
        ask = super().propose(ahead)
        going = (ask.at != NONE).any(1).view(len(rows), many)
        if not bool(going.any()):
            return explored, torch.ones_like(rows.n)
        logits = scorer.read(ahead, ask.at)
        best = self._scores(ahead, ask, logits, many).argmax(1)  # [R]
        winner = torch.arange(len(rows), device=rows.device) * many + best
        rows.columns["ete.at"], rows.columns["ete.known"] = ask.at[winner], logits[winner]
        chosen = torch.stack(sets, 1).gather(1, best[:, None, None].expand(-1, 1, flat.shape[1]))[:, 0]
        return chosen, torch.where(going.any(1), many, 1)

    def _scores(self, ahead: Rows, ask: Proposal, logits: Tensor, many: int) -> Tensor:
        """[R, H] how good it is to go on from each: cells that are certain now, less a little of what is still open."""
        view = self.look(ahead, ask, self.run.kit.reshape(ahead, ask, logits).logits)
        certain = (view.scope & (view.top >= self.o.threshold)).sum(1).double()
        certain = certain - _LEFT * view.entropy.masked_fill(~view.scope, 0.0).sum(1)
        done = ~view.scope.any(1)  # a full canvas leaves nothing to be certain of
        return certain.masked_fill(done, float(ask.at.shape[1] + 1)).view(-1, many)

    # Taking back

    def _doubt(self, view: View, take: Tensor, explored: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(canvases read [R], cells to take [R, K], their tokens) with explored cells that do not hold opened again."""
        rows, cell = view.rows, view.ask.at.clamp(min=0)
        held = view.logp.gather(2, rows.tokens.gather(1, cell)[..., None])[..., 0].exp()
        weak = self._read.check & (held < self.o.revoke) & take.any(1, keepdim=True)
        width = int(rows.limit.max())
        once = rows.column("ete.once", torch.zeros(len(rows), width, dtype=torch.bool, device=rows.device))
        fresh = explored & ~once.gather(1, cell)
        rows.columns["ete.doubt"] = torch.zeros_like(once).scatter_reduce(1, cell, fresh, "amax")
        rows.columns["ete.once"] = once.scatter_reduce(1, cell, fresh, "amax")
        return self._read.canvases, take | weak, tokens.masked_fill(weak, NONE)

    # Keeping to a budget

    def _by_budget(self, view: View, cells: Tensor) -> Tensor:
        """[R, K] bool, as many cells as the budget asks for, least dependent on each other first."""
        rows = view.rows
        if self.o.max_rounds is None:
            left = (self.o.max_excess or 0.0) * information.LN2 - self._spent(rows)
            taken, cost = self._depends.pick(view, cells, cells.sum(1), (left / 2).clamp(min=0.0))
            rows.columns["ete.spent"] = self._spent(rows) + cost
            return taken
        known = self._counts(rows)  # [R, 4]
        uncertain = (view.scope & (view.top < self.o.threshold)).sum(1)
        # Cells that one explored cell settles, itself included; before anything was seen, three by two is believed.
        settled = known[:, 2] + (known[:, 1] - uncertain).clamp(min=0).masked_fill(known[:, 0] == 0, 0)
        each = (settled + 3.0) / (known[:, 3] + 2.0)
        left = (self.o.max_rounds - known[:, 0] - 1).clamp(min=1)  # rounds to explore in: the last takes what is left
        wanted = (uncertain / (each * left)).ceil().long().clamp(min=1)
        known = torch.stack([known[:, 0], uncertain, settled, known[:, 3]], 1)
        rows.columns["ete.counts"] = known
        free = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=rows.device)
        return self._depends.pick(view, cells, wanted, free)[0]

    def _last_round(self, rows: Rows) -> Tensor | None:
        if self.o.max_rounds is None:
            return None
        return self._counts(rows)[:, 0] >= self.o.max_rounds - 1

    def _count(self, rows: Rows, explored: Tensor) -> None:
        new = torch.zeros_like(self._counts(rows))
        new[:, 0], new[:, 3] = 1, explored.sum(1)
        rows.columns["ete.counts"] = self._counts(rows) + new

    def _counts(self, rows: Rows) -> Tensor:
        """[R, 4]: rounds so far, cells uncertain at the last look, settled so far, explored so far."""
        return rows.column("ete.counts", torch.zeros(len(rows), 4, dtype=torch.int64, device=rows.device))

    def _spent(self, rows: Rows) -> Tensor:
        return rows.column("ete.spent", torch.zeros(len(rows), dtype=torch.float64, device=rows.device))
