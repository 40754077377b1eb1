"""Which physical row of the cache each logical row lives in. Plain lists: decisions, not tensor operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

NOWHERE = -1


class Places:
    """Logical row -> physical row. Moves only relabel; copies are made when rows that share one must part.

    copy: called as `copy(source, target, upto)` for every row that is really moved.
    """

    def __init__(self, copy: Callable[[int, int, int], None]) -> None:
        self.of: list[int] = []
        self._copy = copy

    def move(self, index: Sequence[int]) -> None:
        """New logical row j continues old row `index[j]`, for now in the same place."""
        self.of = [self.of[i] for i in index]

    def settle(self, have: Sequence[int], gone: Sequence[bool]) -> None:
        """Give every logical row a place of its own, without holes: places are then 0 .. live rows - 1.

        have: tokens that each row's place holds. gone: rows that are done and give theirs up.
        """
        self.of = [NOWHERE if out else place for place, out in zip(self.of, gone, strict=True)]
        owner: dict[int, int] = {}
        homeless = []
        for row, place in enumerate(self.of):
            if place != NOWHERE and place not in owner:
                owner[place] = row
            elif not gone[row]:
                homeless.append(row)
        live = len(owner) + len(homeless)
        free = iter([place for place in range(live) if place not in owner])
        for row in homeless:  # copies first: their source may be about to move
            target = next(free)
            if self.of[row] != NOWHERE:
                self._copy(self.of[row], target, have[row])
            self.of[row] = target
        for place in sorted(place for place in owner if place >= live):
            target = next(free)
            self._copy(place, target, have[owner[place]])
            self.of[owner[place]] = target
