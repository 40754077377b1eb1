"""Trees of guesses from a reader that is cheaper than the target, under the target's own rules."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from decodekit.core import selection, trees
from decodekit.core.bound import BindContext
from decodekit.core.protocols import Nodes, Proposal
from decodekit.core.rows import NONE, Rows
from decodekit.core.vocabulary_checks import fitted
from decodekit.core.warping import Reshaped
from decodekit.speculation.drafting import Draft, readable


@dataclass(frozen=True, slots=True)
class Shape:
    """What a tree looks like.

    branch: guesses after each node, by depth (a fixed tree), or None: at each of `depth` levels the `width` most
    probable nodes get `width` guesses each, and the `nodes` most probable of all are kept (EAGLE-2, arXiv 2406.16858,
    section 4).
    """

    branch: tuple[int, ...] | None
    width: int
    depth: int
    nodes: int

    @property
    def fixed(self) -> bool:
        """Whether it does not depend on what is guessed."""
        return self.branch is not None

    @property
    def height(self) -> int:
        """Levels."""
        return self.depth if self.branch is None else len(self.branch)

    def children(self, depth: int) -> int:
        """Guesses after a node of this depth."""
        return self.width if self.branch is None else self.branch[depth]


@dataclass(slots=True)
class _Level:
    """All nodes of one depth, [R, M] each: token, the place above among the nodes of all levels, log-probability of
    the path to it.
    """

    token: Tensor
    above: Tensor
    score: Tensor


@dataclass(slots=True)
class _Front:
    """The nodes that grow next, [R, W] each: whether they do, their place among all nodes and among those that the
    draft has read, the score and the tokens [R, W, depth] of their path.
    """

    on: Tensor
    place: Tensor
    inside: Tensor
    score: Tensor
    path: Tensor


class TreeDrafter:
    """A proposer (:class:`decodekit.core.protocols.Proposer`): a tree of guesses along the readings of a draft.

    The guesses after a node are what the run's own selector would take there, then what it would take if that were
    forbidden, and so on: the first tokens of the noisy order when it samples, the most probable ones when it does not.
    For a selector that reads laws (acceptance-rejection) these are draws without replacement, if the shape is fixed. A
    shape that follows probabilities would favour the very guesses that it was chosen by, so there the most probable
    tokens are guessed, which are not drawn and have no law.
    """

    def __init__(self, run: BindContext, draft: Draft, shape: Shape, by: str = "draft") -> None:
        self._run, self._draft, self._shape, self._by = run, draft, shape, by
        self._eos = torch.tensor(run.eos, dtype=torch.int64, device=run.model.device)
        self._room = torch.iinfo(torch.int64).max if draft.context is None else draft.context
        reads_laws = "logq" in run.requires
        self._gives_laws = reads_laws and shape.fixed
        self._best = reads_laws and not shape.fixed

    def start(self, rows: Rows) -> None:
        """Nothing to lay out."""

    def propose(self, rows: Rows) -> Proposal:
        """A tree for every row that has room for one and that the draft can read, in the order of its levels."""
        alive = readable(rows, self._draft.vocab, self._run.model.vocab)
        alive = alive & (rows.n + 1 < rows.limit) & (rows.n <= self._room)
        base = rows.n.masked_fill(~alive, NONE)
        none, levels, laws = torch.full_like(base, NONE)[:, None], list[_Level](), list[Tensor]()
        front = _Front(
            alive[:, None], none, none, torch.zeros_like(none, dtype=torch.float64), none[:, :, None][..., :0]
        )
        read = Nodes(base, none[:, :0], none[:, :0])
        for depth in range(self._shape.height if bool(alive.any()) else 0):
            if depth == 0:
                law = self._draft.reader.read(rows, base[:, None], alive)  # [R, 1, V]
            else:
                law = trees.read(self._draft.reader, rows, read, 1 + read.token.shape[1] - front.on.shape[1], alive)
            law = fitted(law, self._run.model.vocab)
            token, gain, processed = self._options(rows, base + depth, law, front, self._shape.children(depth))
            laws.append(processed)
            levels.append(_sprouted(front, token, gain))
            if depth + 1 < self._shape.height:
                front, read = self._climb(rows, levels, front, read)
                if not bool(front.on.any()):
                    break
        return self._finish(rows, base, levels, laws)

    def _options(self, rows: Rows, at: Tensor, law: Tensor, front: _Front, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens [R, W, C], NONE where there are fewer; their log-probabilities; the processed law [R, W, V])."""
        kit, width = self._run.kit, law.shape[1]
        together = kit.constraint is None  # then only warpers look at the text
        parts = [(0, width)] if together and not kit.warpers else [(w, w + 1) for w in range(width)]
        warped, found = list[Tensor](), list[tuple[Tensor, Tensor]]()
        for low, high in parts:
            here = at[:, None].expand(-1, high - low).masked_fill(~front.on[:, low:high], NONE)
            ask = Proposal(here, torch.full_like(here, NONE))
            if high - low == 1 and front.path.shape[2]:
                where = (at - front.path.shape[2])[:, None] + torch.arange(front.path.shape[2], device=at.device)
                rows.write(where, front.path[:, low], front.on[:, low : low + 1].expand_as(where))
            one = kit.reshape(rows, ask, law[:, low:high])
            warped.append(one.logits)
            if not together:
                found.append(self._chosen(rows, ask, one, count))
        if together:
            one = Reshaped(torch.cat(warped, 1), None)
            here = at[:, None].expand(-1, width).masked_fill(~front.on, NONE)
            found = [self._chosen(rows, Proposal(here, torch.full_like(here, NONE)), one, count)]
        token, processed = torch.cat([tokens for tokens, _ in found], 1), torch.cat([p for _, p in found], 1)
        token = token.masked_fill(~front.on[..., None], NONE)
        if self._shape.fixed and not self._gives_laws:
            return token, torch.zeros_like(token, dtype=torch.float64), processed
        processed = processed.double().log_softmax(-1)
        return token, processed.gather(2, token.clamp(min=0)), processed

    def _chosen(self, rows: Rows, ask: Proposal, given: Reshaped, count: int) -> tuple[Tensor, Tensor]:
        """(tokens [R, W, C], processed law [R, W, V] as logits) at nodes whose text is written."""
        kit, chosen, law = self._run.kit, list[Tensor](), given.logits
        processed = law
        if self._best:
            processed = selection.allowed(rows, ask, law, given.constraint)
            best = processed.topk(min(count, law.shape[-1]), -1)
            return best.indices.masked_fill(best.values == -torch.inf, NONE), processed
        left = law
        for number in range(count):
            choice = kit.selector.select(rows, ask, left, given.constraint)
            if number == 0:
                processed = law if choice.law is None else choice.law
            spot = choice.tokens.clamp(min=0)[..., None]
            nothing = (choice.tokens == NONE)[..., None] | (left.gather(-1, spot) == -torch.inf)
            chosen.append(spot.masked_fill(nothing, NONE))
            left = left.scatter(-1, spot, -torch.inf)
        return torch.cat(chosen, -1), processed

    def _climb(self, rows: Rows, levels: list[_Level], front: _Front, read: Nodes) -> tuple[_Front, Nodes]:
        """The next front, chosen among the last level, and all that the draft reads with it."""
        level, before = levels[-1], sum(one.token.shape[1] for one in levels[:-1])
        after = rows.n + len(levels)  # where guesses below the new front would stand
        on = (level.token != NONE) & ~torch.isin(level.token, self._eos)
        on = on & ((after + 1 < rows.limit) & (after <= self._room))[:, None]
        count = on.shape[1] if self._shape.fixed else min(self._shape.width, on.shape[1])
        if self._shape.fixed:
            chosen = torch.arange(count, device=on.device).expand_as(on)
        else:
            chosen = level.score.masked_fill(~on, -torch.inf).topk(count, 1).indices.sort(1).values
        on, token = on.gather(1, chosen), level.token.gather(1, chosen)
        parent = chosen // (level.token.shape[1] // front.on.shape[1])  # place in the old front
        steps = torch.cat(
            [front.path.gather(1, parent[..., None].expand(-1, -1, front.path.shape[2])), token[..., None]], 2
        )
        above = front.inside.gather(1, parent)
        inside = read.token.shape[1] + torch.arange(count, device=on.device).expand_as(chosen)
        grown = (
            torch.cat([old, new.masked_fill(~on, NONE)], 1) for old, new in ((read.token, token), (read.above, above))
        )
        return _Front(on, before + chosen, inside, level.score.gather(1, chosen), steps), Nodes(read.base, *grown)

    def _finish(self, rows: Rows, base: Tensor, levels: list[_Level], laws: list[Tensor]) -> Proposal:
        if not levels:
            return trees.proposal(rows, Nodes(base, base[:, None] * 0 + NONE, base[:, None] * 0 + NONE), self._by)
        token, above, score = (torch.cat([getattr(one, name) for one in levels], 1) for name in _Level.__slots__)
        if not self._shape.fixed and token.shape[1] > self._shape.nodes:
            # Of equal scores the elder comes first, so whoever is kept finds its parent kept.
            order = score.masked_fill(token == NONE, -torch.inf).sort(dim=1, descending=True, stable=True).indices
            kept = order[:, : self._shape.nodes].sort(1).values
            place = torch.full_like(token, NONE).scatter_(
                1, kept, torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
            )
            token, above = token.gather(1, kept), above.gather(1, kept)
            above = torch.where(above == NONE, NONE, place.gather(1, above.clamp(min=0)))
        logq = torch.cat(laws, 1) if self._gives_laws else None
        return trees.proposal(rows, Nodes(base, token, above), self._by, logq)


def _sprouted(front: _Front, token: Tensor, gain: Tensor) -> _Level:
    """The level of all guesses `token` [R, W, C] after the front, of log-probability `gain` [R, W, C] each."""
    return _Level(
        token.flatten(1),
        front.place.repeat_interleave(token.shape[2], 1),
        (front.score[..., None] + gain).flatten(1),
    )
