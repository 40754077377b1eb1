"""Trees of guesses: their nodes, how a model reads them, and how a round of a tree is decided.

A round of a tree is a walk. At the root, and after every guess that was taken, ONE position is judged as in plain
decoding: the law of the model there is reshaped by the warpers, cut by the constraint and given to the selector, on
the very text that stands before it. If the token that comes out is one of the guesses for this place, the walk goes on
from that guess; if not, it ends. So whatever plain decoding does right is right in a tree: every step IS plain
decoding, with a law that was computed beforehand. What is left after the walk is a chain, and that is all that the
loop, the stops and the observers see; the guesses that were not reached go to the trace as :class:`Refused`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from decodekit.core.protocols import Nodes, Proposal, Refused, Scorer, Selection
from decodekit.core.rows import NONE, Rows

if TYPE_CHECKING:
    from decodekit.core.bound import BoundStrategy

__all__ = ["Decided", "Nodes", "Refused", "ancestors", "children", "decide", "nodes_of", "proposal", "read"]


class Decided(NamedTuple):
    """A round up to its choice: for a tree, `ask` and all that follows is the chain that was walked."""

    ask: Proposal
    logits: Tensor
    warped: Tensor
    choice: Selection
    refused: Refused | None


def decide(kit: BoundStrategy, rows: Rows, ask: Proposal) -> Decided:
    """Score, warp and select, for chains and trees alike."""
    if ask.parent is not None:
        return _walk(kit, rows, ask)
    rows.write(ask.at, ask.guess, ask.guess != NONE)  # a guess is a token written past the final text
    if ask.known is None:
        kit.prepare(rows, ask.at)
    # [R, K, V], of the tokens AT ask.at; whoever looked ahead has read them in the round before
    logits = kit.scorer.read(rows, ask.at, ask.only) if ask.known is None else ask.known
    return Decided(ask, logits, *kit.judge(rows, ask, logits), None)


def nodes_of(rows: Rows, ask: Proposal) -> Nodes:
    """The nodes of a tree of guesses: its columns; those without a guess are no nodes."""
    assert ask.parent is not None
    base = rows.n.masked_fill(rows.done | (ask.at == NONE).all(1), NONE)
    return Nodes(base, ask.guess.masked_fill((base == NONE)[:, None], NONE), ask.parent)


def proposal(
    rows: Rows,
    nodes: Nodes,
    by: str,
    logq: Tensor | None = None,
    who: Tensor | None = None,
    words: tuple[str, ...] = (),
) -> Proposal:
    """The tree `nodes` as a proposal; what stands at the end of a row's room, where it could save no pass, is left out.

    logq: [R, 1 + N, V], see :class:`decodekit.core.protocols.Proposal`. who, words: who guessed, if not `by` alone.
    """
    if not nodes.token.shape[1]:
        nodes = Nodes(nodes.base, *(torch.full_like(nodes.base, NONE)[:, None] for _ in range(2)))
    at = nodes.base[:, None] + nodes.depth
    held = (nodes.token != NONE) & (nodes.base != NONE)[:, None] & (at + 1 < rows.limit[:, None])
    at, token, above = (x.masked_fill(~held, NONE) for x in (at, nodes.token, nodes.above))
    at[:, 0] = torch.where(held.any(1), at[:, 0], rows.n.masked_fill(rows.done, NONE))  # asked without a guess
    return Proposal(at, token, logq=logq, parent=above, by=by, who=who, words=words)


def ancestors(nodes: Nodes) -> Tensor:
    """[R, N, N] bool, whether node j stands on the path to node i, which itself does."""
    count = nodes.token.shape[1]
    reach = torch.eye(count, dtype=torch.bool, device=nodes.token.device).repeat(len(nodes.token), 1, 1)
    child = torch.arange(count, device=reach.device)
    up = nodes.above
    for _ in range(nodes.height - 1):  # climb all paths at once
        held = up != NONE
        reach = reach | (held[..., None] & (up[..., None] == child))
        up = torch.where(held, nodes.above.gather(1, up.clamp(min=0)), NONE)
    return reach


def children(nodes: Nodes) -> Tensor:
    """[R, 1 + N, C] the nodes after the text (0) and after each node (1 + its index), in order; NONE pads."""
    above, held = nodes.above, nodes.token != NONE
    count = above.shape[1]
    same = (above[:, :, None] == above[:, None, :]) & held[:, None, :]  # [R, N, N]
    rank = same.tril(-1).sum(2)  # [R, N] elder siblings
    most = int(rank.masked_fill(~held, 0).max()) + 1 if count else 1
    table = torch.full((len(above), (count + 1) * most + 1), NONE, device=above.device)
    where = ((above + 1) * most + rank).masked_fill(~held, (count + 1) * most)
    index = torch.arange(count, device=above.device).expand_as(above)
    return table.scatter_(1, where, index)[:, :-1].view(len(above), count + 1, most)


def read(scorer: Scorer, rows: Rows, nodes: Nodes, since: int = 0, only: Tensor | None = None) -> Tensor:
    """[R, M, V] laws of the token after the text (place 0) and after each node (place 1 + its index), from place
    `since` on; undefined where there is no such node.

    A scorer that says `reads_trees` reads all nodes in one pass (`read_tree`); any other reads path after path, which
    is the same and slower.
    """
    if getattr(scorer, "reads_trees", False):
        laws: Tensor = scorer.read_tree(rows, nodes, since, only)  # type: ignore[attr-defined]
        return laws
    return _along(scorer, rows, nodes, only)[:, since:]


def _along(scorer: Scorer, rows: Rows, nodes: Nodes, only: Tensor | None) -> Tensor:
    """The same laws, path after path, each as a chain of guesses."""
    held, depth = nodes.token != NONE, nodes.depth
    inner = torch.zeros_like(held).long()
    inner.scatter_add_(1, nodes.above.clamp(min=0), (held & (nodes.above != NONE)).long())
    leaf = held & (inner == 0)  # [R, N]
    order = (~leaf).to(torch.uint8).sort(dim=1, stable=True).indices  # leaves first
    height = nodes.height
    laws: Tensor | None = None
    for number in range(max(1, int(leaf.sum(1).max()))):
        here = order[:, number] if held.shape[1] else None
        path = torch.full((len(rows), height + 1), NONE, device=rows.device)  # [R, height + 1] nodes, by depth
        if here is not None:
            up = torch.where(leaf.gather(1, here[:, None])[:, 0], here, NONE)
            while bool((up != NONE).any()):
                spot = up.clamp(min=0)[:, None]
                where = torch.where(up != NONE, depth.gather(1, spot)[:, 0], height)
                path.scatter_(1, where[:, None], torch.where(up != NONE, up, NONE)[:, None])
                up = torch.where(up != NONE, nodes.above.gather(1, spot)[:, 0], NONE)
        path = path[:, :height]
        at = nodes.base[:, None] + torch.arange(height + 1, device=rows.device)
        on = pad(path != NONE, (1, 0), value=number == 0)  # the law after the text is read with the first path
        on[:, 0] |= (path != NONE).any(1)
        at = at.masked_fill(~on | (nodes.base == NONE)[:, None] | (at >= rows.limit[:, None]), NONE)
        if height:
            token = nodes.token.gather(1, path.clamp(min=0))
            rows.write(nodes.base[:, None] + torch.arange(height, device=rows.device), token, path != NONE)
        if bool((at != NONE).any()):
            got = scorer.read(rows, at, only)  # [R, height + 1, V]
            if laws is None:
                laws = got.new_zeros(len(rows), held.shape[1] + 2, got.shape[-1])
            where = pad(path + 1, (1, 0)).masked_fill(at == NONE, held.shape[1] + 1)  # the last place takes the rest
            laws.scatter_(1, where[..., None].expand_as(got), got)
    if laws is None:
        raise ValueError("a tree was read for no row at all")
    return laws[:, :-1]


def _walk(kit: BoundStrategy, rows: Rows, ask: Proposal) -> Decided:
    nodes = nodes_of(rows, ask)
    laws = read(kit.scorer, rows, nodes, 0, ask.only)  # [R, 1 + N, V]
    table = children(nodes)  # [R, 1 + N, C]
    where = torch.zeros_like(rows.n)  # [R] place of the law that decides next
    going = nodes.base != NONE
    steps: list[tuple[Proposal, Tensor, Tensor, Selection]] = []
    lost = nodes.token != NONE  # [R, N] nodes that were not walked
    for depth in range(nodes.height + 1):
        at = (nodes.base + depth).masked_fill(~going, NONE)
        at = at.masked_fill(at >= rows.limit, NONE)[:, None]
        if depth and not bool((at != NONE).any()):
            break
        options = _place(table, where).masked_fill(at == NONE, NONE)  # [R, C]
        step = _step(ask, nodes, at, options, where)
        law = _place(laws, where)[:, None]  # [R, 1, V]
        warped, choice = kit.judge(rows, step, law)
        token = choice.tokens[:, 0]
        hit = (step.siblings == token[:, None]) & (options != NONE)  # [R, C]
        found = hit.any(1) & choice.take[:, 0]
        node = options.gather(1, hit.to(torch.uint8).argmax(1, keepdim=True))  # [R, 1]
        shown = torch.where(found[:, None], node, options[:, :1])  # what stands as the guess of this step
        lost = _without(lost, shown)
        guess = _tokens(nodes.token, shown)
        steps.append((_seen(step, guess, ask, shown), law, warped, choice))
        rows.write(at, token[:, None], (found & (at[:, 0] != NONE))[:, None])
        going = found & (at[:, 0] != NONE)
        where = torch.where(going, node[:, 0] + 1, where)
    chain = _chain([step for step, *_ in steps], ask)
    logits, warped = (torch.cat([one[i] for one in steps], 1) for i in (1, 2))  # type: ignore[misc]
    return Decided(chain, logits, warped, _choice(steps, warped), _refused(ask, nodes, laws, lost))


def _step(ask: Proposal, nodes: Nodes, at: Tensor, options: Tensor, where: Tensor) -> Proposal:
    """The question of one step: a position, and the guesses for it in the order in which they are tried."""
    siblings = _tokens(nodes.token, options)
    logq = None if ask.logq is None else _place(ask.logq, where.clamp(max=ask.logq.shape[1] - 1))[:, None]
    return Proposal(at, siblings[:, :1], logq=logq, only=ask.only, by=ask.by, siblings=siblings)


def _seen(step: Proposal, guess: Tensor, ask: Proposal, node: Tensor) -> Proposal:
    """The same for observers: with the guess that was taken, or the first that was refused."""
    who = None if ask.who is None else _tokens(ask.who, node).clamp(min=0)
    return Proposal(step.at, guess, logq=step.logq, only=ask.only, by=ask.by, who=who, words=ask.words)


def _chain(steps: list[Proposal], ask: Proposal) -> Proposal:
    at, guess = (torch.cat([getattr(step, name) for step in steps], 1) for name in ("at", "guess"))
    logq = None if ask.logq is None else torch.cat([step.logq for step in steps if step.logq is not None], 1)
    who = None if ask.who is None else torch.cat([step.who for step in steps if step.who is not None], 1)
    return Proposal(at, guess, logq=logq, only=ask.only, by=ask.by, who=who, words=ask.words)


def _choice(steps: list[tuple[Proposal, Tensor, Tensor, Selection]], warped: Tensor) -> Selection:
    choices = [choice for *_, choice in steps]
    on = [step.at[:, 0] != NONE for step, *_ in steps]
    tokens, take = (torch.cat([getattr(one, name) for one in choices], 1) for name in ("tokens", "take"))
    logw = None
    if any(one.logw is not None for one in choices):
        zero = torch.zeros(len(tokens), 1, dtype=torch.float64, device=tokens.device)
        logw = torch.cat([zero if one.logw is None else one.logw for one in choices], 1)
    law = None
    if all(one.law is not None for one in choices):
        own = all(one.law is step[2] for one, step in zip(choices, steps, strict=True))
        law = warped if own else torch.cat([one.law for one in choices if one.law is not None], 1)
    dead = None
    if any(one.dead is not None for one in choices):
        dead = torch.zeros_like(on[0])
        for one, here in zip(choices, on, strict=True):
            dead = dead if one.dead is None else dead | (one.dead & here)
    return Selection(tokens, take, logw=logw, law=law, dead=dead)


def _refused(ask: Proposal, nodes: Nodes, laws: Tensor, lost: Tensor) -> Refused | None:
    if not bool(lost.any()):
        return None
    place, token = nodes.above.clamp(min=NONE) + 1, nodes.token.clamp(min=0)
    logp = _entries(laws, place, token) - laws.logsumexp(-1).gather(1, place)
    logq = None if ask.logq is None else _entries(ask.logq, place, token)
    at = nodes.base[:, None] + nodes.depth
    return Refused(at.masked_fill(~lost, NONE), nodes.token.masked_fill(~lost, NONE), logp, logq, ask.who)


def _entries(laws: Tensor, place: Tensor, token: Tensor) -> Tensor:
    """laws[r, place[r, n], token[r, n]]: [R, N]."""
    line = torch.arange(len(laws), device=laws.device)[:, None]
    return laws[line, place, token]


def _place(table: Tensor, where: Tensor) -> Tensor:
    """table[r, where[r]]: [R, ...]."""
    return table[torch.arange(len(table), device=table.device), where]


def _tokens(token: Tensor, index: Tensor) -> Tensor:
    """[R, C] of `token` [R, N] at `index` [R, C]; NONE stays NONE."""
    if not token.shape[1]:
        return torch.full_like(index, NONE)
    return token.gather(1, index.clamp(min=0)).masked_fill(index == NONE, NONE)


def _without(lost: Tensor, node: Tensor) -> Tensor:
    """`lost` [R, N] without the nodes [R, 1]."""
    if not lost.shape[1]:
        return lost
    return lost & ~torch.zeros_like(lost).scatter(1, node.clamp(min=0), node != NONE)
