"""A text that completes a place of the JSON machine: what is open is closed first, before anything else is tried."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from .white_space import BLANK

if TYPE_CHECKING:
    from .machine import Place

SEARCH: Final = 4_000
"""How many places are looked at for an end."""
LEVEL: Final = 4
"""How many bytes half a level of nesting less is worth."""
_BYTES: Final = (*range(0x21, 0x100), 0x20, 0x0A)


def ended(place: Any) -> bytes | None:
    """A short text after which the text is whole; None where none was found among :data:`SEARCH` places.

    Best first, by length and depth: numbers and strings that must differ from others have so many ways to go on that a
    search by length alone does not come to the closing bracket.
    """
    tick, came = count(), dict[Any, tuple[Any, int] | None]({place: None})
    open_: list[tuple[int, int, int, Any]] = [(0, next(tick), 0, place)]
    while open_ and len(came) <= SEARCH:
        _, _, length, here = heapq.heappop(open_)
        if here.final():
            out = bytearray()
            while (back := came[here]) is not None:
                here = back[0]
                out.append(back[1])
            return bytes(reversed(out))
        for byte in _BYTES:
            after = tight(here, byte)
            if after is not None and after not in came:
                came[after] = here, byte
                heapq.heappush(open_, (length + 1 + LEVEL * _depth(after), next(tick), length + 1, after))
    return None


def tight(place: Place, byte: int) -> Place | None:
    """The place after one more byte; None for white space that could be left out."""
    between = place.between() if byte in BLANK else None
    if between is not None and byte != between.machine.blanks.needed(between):
        return None
    return place.step(byte)


def _depth(place: Any) -> int:
    """How deep a place lies: twice the depth of what is open, and one less between its parts than within one."""
    if hasattr(place, "after"):
        return _depth(place.after)
    for name in ("body", "row"):
        inner = getattr(place, name, None)
        if inner is not None:
            return 2 * int(inner.holder.depth) + 1
    holder = getattr(place, "holder", None)
    return -1 if holder is None else 2 * int(holder.depth)
