"""Trees of guesses in the slab cache: read in one pass, and what was taken of them is kept.

Node j of a tree is written to the slot n + j past the text of n tokens, whatever its position; it sees the text and its
own ancestors. Once the text has grown along a path of the tree, the keys and values of that path move to the slots
that are their positions, as if the path had been read as text; nobody has to say so, the reader compares tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from decodekit.core.protocols import Nodes
from decodekit.core.rows import NONE, Rows
from decodekit.core.trees import ancestors
from decodekit.models.causal import SHARE, CausalReader, Need


@dataclass(frozen=True, slots=True)
class _Aim:
    """What the next pass reads: the tree, how many of its nodes are in the cache, whether the text's law is wanted."""

    nodes: Nodes
    known: int
    root: bool


class BranchingReader(CausalReader):
    """A causal reader that also reads trees (:func:`decodekit.core.trees.read`)."""

    _held: Nodes | None = None  # nodes in the cache; row by row as the rows stood when they last moved
    _aim: _Aim | None = None

    @property
    def reads_trees(self) -> bool:
        """Whether the model takes positions; others are read path by path."""
        return self._forward.branches

    def read_tree(self, rows: Rows, nodes: Nodes, since: int = 0, only: Tensor | None = None) -> Tensor:
        """[R, M, V] laws from place `since` on; see :func:`decodekit.core.trees.read`.

        Raises:
            ModelError: a node lies beyond the model's context.
        """
        asks = (nodes.base != NONE) & ~rows.done
        asks = asks if only is None else asks & only
        root, base = since == 0, nodes.base
        stands = self._stands(rows)
        if bool((asks & (base - stands > SHARE - 1)).any()):  # a prompt, say: read as text, shared among its rows
            self._columns = 1
            self.sync(rows, base - 1, None, asks & (base - 1 > stands))
            stands = self._stands(rows)
        known = 0 if root else self._known(nodes, asks & (stands == base), asks)
        if since <= known:  # what is wanted is known, but its law is not: read once more
            known = max(0, since - 1)
        self._aim = _Aim(nodes, known, root)
        try:
            out = self.sync(rows, base, base - 1 if root else None, asks)
        finally:
            self._aim = None
        self._held = nodes
        assert isinstance(out, Tensor)
        return out[:, max(0, since - 1 - known) :] if since else out

    def fork(self, index: Tensor) -> None:
        """Relabel, and know whose nodes are whose."""
        super().fork(index)
        if self._held is not None:
            held = self._held
            self._held = Nodes(held.base[index], held.token[index], held.above[index])

    def feed(self, rows: Rows, keep: Tensor, upto: Tensor, only: Tensor) -> Tensor:
        """As :class:`CausalReader`; or the pass that was aimed at a tree."""
        self._held = None  # what is written now may stand where nodes did
        if self._aim is None:
            return super().feed(rows, keep, upto, only)
        needs, _, _ = self._needs(rows, upto, only)
        width = self._aim.nodes.token.shape[1] - self._aim.known + int(self._aim.root)
        out = torch.zeros(len(rows), width, self._forward.vocab, dtype=self._forward.out, device=rows.device)
        if needs:
            needs = sorted(needs, key=lambda need: need.place)
            logits = self._read_nodes(rows, needs, self._aim)
            order = [need.row for need in needs]
            if order == list(range(len(rows))):
                return logits
            out[torch.tensor(order, device=rows.device)] = logits
        return out

    def _stands(self, rows: Rows) -> Tensor:
        stands = super()._stands(rows)
        held = self._held
        if held is None or not bool((rows.n > held.base).any()):
            return stands
        self._held = None
        gained = self._adopt(rows, held, stands)
        self._have = stands + gained
        return self._have

    def _known(self, nodes: Nodes, whole: Tensor, asks: Tensor) -> int:
        """How many leading nodes are in the cache for all rows that ask; `whole` [R] bool: their whole text is."""
        held = self._held
        if held is None or not bool((whole | ~asks).all()) or not bool((held.base == nodes.base)[asks].all()):
            return 0
        count = min(held.token.shape[1], nodes.token.shape[1])
        same = (held.token[:, :count] == nodes.token[:, :count]) & (held.above[:, :count] == nodes.above[:, :count])
        return int(same[asks].long().cumprod(1).sum(1).min()) if bool(asks.any()) else 0

    def _adopt(self, rows: Rows, held: Nodes, stands: Tensor) -> Tensor:
        """[R] how many tokens of the text past `stands` the nodes say; their keys and values are moved into place.

        Clones share a place until they part; what is moved is the path of the first of them.
        """
        alive = (stands == held.base) & (held.base != NONE) & ~rows.done
        path, height = self._path(rows, held, alive), held.height
        first = self._first()
        agree = (path == path[first]) & (path != NONE)  # NONE: the text left the tree
        gained = agree.long().cumprod(1).sum(1)  # [R]
        movers = [r for r in (gained > 0).nonzero()[:, 0].tolist() if int(first[r]) == r]
        if movers:
            index = torch.tensor(movers, device=rows.device)
            place = torch.tensor([self._places.of[r] for r in movers], device=rows.device)
            start = held.base[index, None]
            target = start + torch.arange(height, device=rows.device)
            source = torch.where(path[index] == NONE, target, start + path[index])
            if not bool((source == target).all()):
                self._slabs.move(place, source, target)
        return gained

    def _path(self, rows: Rows, held: Nodes, alive: Tensor) -> Tensor:
        """[R, height] nodes along which the final text went, NONE from where it left the tree."""
        height, where = held.height, torch.full_like(rows.n, NONE)
        path = torch.full((len(rows), max(1, height)), NONE, device=rows.device)
        last = rows.tokens.shape[1] - 1
        for depth in range(height):
            at = held.base + depth
            token = rows.tokens.gather(1, at.clamp(min=0, max=last)[:, None])
            fits = (held.token == token) & (held.above == where[:, None]) & (held.token != NONE)
            alive = alive & fits.any(1) & (at < rows.n)
            where = torch.where(alive, fits.to(torch.uint8).argmax(1), NONE)
            path[:, depth] = where
        return path

    def _first(self) -> Tensor:
        """[R] the first row that lives in the same place."""
        seen: dict[int, int] = {}
        own = [seen.setdefault(place, r) if place != NONE else r for r, place in enumerate(self._places.of)]
        return torch.tensor(own, device=self._forward.device)

    def _read_nodes(self, rows: Rows, needs: Sequence[Need], aim: _Aim) -> Tensor:
        """Logits [B, root + N - known, V] of one pass over what is left of the text and the nodes from `known` on."""
        device, nodes, known = rows.device, aim.nodes, aim.known
        order = torch.tensor([need.row for need in needs], device=device)
        base, token = nodes.base[order], nodes.token[order, known:]
        count, width = token.shape[1], max(need.upto - need.keep for need in needs)
        deep = base[:, None] + nodes.depth[order]  # [B, N] positions
        self._guard((deep.masked_fill(nodes.token[order] == NONE, 0).amax(1) + 1).tolist() if deep.shape[1] else [1])
        deep = torch.where(nodes.token[order] == NONE, base[:, None], deep)
        # Rows shorter than the pass read their first token several times: the same value in the same slot.
        text = (base[:, None] - width + torch.arange(width, device=device)).clamp(min=0)  # [B, P]
        slot = torch.cat([text, base[:, None] + torch.arange(known, known + count, device=device)], 1)  # [B, F]
        length = max(need.upto for need in needs) + known + count
        see, keys = self._seen_by(
            replace(nodes, token=nodes.token[order], above=nodes.above[order]), base, deep, length
        )
        see = torch.cat([torch.arange(length, device=device) <= text[..., None], see[:, known:]], 1)  # [B, F, T]
        places = [need.place for need in needs]
        which = None if places == list(range(len(needs))) else torch.tensor(places, device=device)
        self._slabs.aim(which, len(needs), slot, slot.shape[1], length)
        ids = torch.cat([rows.tokens[order].gather(1, text), token.clamp(min=0)], 1)
        position = torch.cat([text, deep[:, known:]], 1)
        wanted = count + int(aim.root)
        logits = self._forward.tree(ids, position, keys, see, self._slabs, wanted)
        spans = [(n.keep, n.upto + held) for n, held in zip(needs, (token != NONE).sum(1).tolist(), strict=True)]
        self._forward.bill(self._cost.model(self._label), spans, ids.numel(), wanted)
        return logits if torch.is_inference_mode_enabled() else logits.clone()

    def _seen_by(self, nodes: Nodes, base: Tensor, deep: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """([B, N, T] bool, which slots each node sees; [B, T] positions of the slots)."""
        count, slots = nodes.token.shape[1], torch.arange(length, device=base.device)
        place = base[:, None] + torch.arange(count, device=base.device)  # [B, N] slots of the nodes
        own = ancestors(nodes)
        see = (slots < base[:, None])[:, None].repeat(1, count, 1)
        see.scatter_(2, place[:, None].expand_as(own), own)
        keys = slots.repeat(len(base), 1).scatter_(1, place, deep)
        return see, keys
