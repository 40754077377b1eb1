"""Several constraints at once: what all of them allow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Constraint
from decodekit.core.rows import NONE, Rows


class Product:
    """The intersection of bound constraints; itself a bound constraint (:class:`decodekit.core.protocols.Constraint`).

    A text is allowed as far as each part allows it on its own. Parts look one token ahead each for itself, so two that
    have no text in common are noticed where their masks are first disjoint: a dead end.
    """

    def __init__(self, parts: Sequence[Constraint]) -> None:
        self.parts = tuple(parts)
        self.dear = any(getattr(part, "dear", False) for part in self.parts)

    def mask(self, rows: Rows, at: Tensor) -> Tensor:
        """[R, K, V] bool, True where all parts allow the token; all True past a guess that one of them refuses."""
        allowed = self.parts[0].mask(rows, at)  # [R, K, V]
        for part in self.parts[1:]:
            allowed = allowed & part.mask(rows, at)
        if at.shape[1] == 1:
            return allowed
        # A part lifts its own mask past a guess that it refuses; the others do not know of that refusal.
        here = at[:, :-1].clamp(min=0)
        guess = rows.tokens.gather(1, here.clamp(max=rows.tokens.shape[1] - 1))  # [R, K - 1]
        known = (here < rows.tokens.shape[1]) & (guess >= 0) & (guess < allowed.shape[-1])
        legal = allowed[:, :-1].gather(-1, guess.clamp(0, allowed.shape[-1] - 1)[..., None])[..., 0]  # [R, K - 1]
        refused = (~legal & known).cumsum(1) > 0  # [R, K - 1]
        allowed[:, 1:] |= refused[..., None]
        return allowed

    def admits(self, rows: Rows, at: Tensor, tokens: Tensor) -> Tensor:
        """[R, C] bool; a part is asked only about candidates that the parts before it admit."""
        admitted = self.parts[0].admits(rows, at, tokens)  # [R, C]
        for part in self.parts[1:]:
            admitted = admitted & part.admits(rows, at, tokens.masked_fill(~admitted, NONE))
        return admitted

    def complete(self, rows: Rows) -> Tensor:
        """[R] bool, whether the text of each row satisfies all parts as it stands."""
        return torch.stack([part.complete(rows) for part in self.parts]).all(0)

    def finished(self, rows: Rows) -> Tensor:
        """[R] bool, complete, and one part says that nothing may follow (parts that can tell have `finished`)."""
        over = torch.zeros_like(rows.done)
        for part in self.parts:
            if hasattr(part, "finished"):
                over = over | part.finished(rows)
        return over & self.complete(rows)

    def forced(self, rows: Rows) -> list[list[int]]:
        """What the first part that forces anything gives for a row, as far as all others admit it."""
        found: list[list[int]] = [[] for _ in range(len(rows))]
        by = [-1] * len(rows)
        for index, part in enumerate(self.parts):
            for r, run in enumerate(part.forced(rows)):
                if run and not found[r]:
                    found[r], by[r] = run, index
        longest = max(map(len, found), default=0)
        if longest == 0:
            return found
        kept = rows.tokens.clone()
        rows.reserve(int(rows.n.max()) + longest + 1)
        good = torch.tensor([bool(run) for run in found], device=rows.device)  # [R]
        length = torch.zeros_like(rows.n)
        for j in range(longest):
            token = torch.tensor([run[j] if j < len(run) else NONE for run in found], device=rows.device)  # [R]
            good = good & (token != NONE)
            at = (rows.n + j).masked_fill(~good, NONE)  # [R]
            for index, part in enumerate(self.parts):
                asked = good & torch.tensor([source != index for source in by], device=rows.device)
                admitted = part.admits(rows, at.masked_fill(~asked, NONE), token.masked_fill(~asked, NONE)[:, None])
                good = good & (admitted[:, 0] | ~asked)
            rows.write((rows.n + j)[:, None], token[:, None], good[:, None])  # the next one is asked for along it
            length = length + good
        rows.tokens[:, : kept.shape[1]] = kept  # guesses are the proposer's to write
        return [run[: int(length[r])] for r, run in enumerate(found)]

    def explain(self, rows: Rows, row: int) -> str:
        """What each part that can say it expected after the final text of `row`."""
        asks = [getattr(part, "explain", None) for part in self.parts]
        return "; and ".join(str(ask(rows, row)) for ask in asks if ask is not None)


def another_constraint(run: BindContext) -> Constraint | None:
    """The constraint of a run once more, bound for rows of one's own: bound ones follow the rows of the run."""
    bound: list[Constraint] = [limit.bind(run) for limit in run.limits]
    return Product(bound) if len(bound) > 1 else next(iter(bound), None)
