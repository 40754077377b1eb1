"""Completions of a text of a grammar, looked for byte by byte: lower stacks first."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Any, Final

SEARCH: Final = 3_000
"""How many spots are looked at for a completion, before a text counts as possible."""
OFTEN, LITTLE = 30, 200
"""A grammar that met this bound so often is looked at so little from then on: what it costs stays small."""
ENDING: Final = 20_000
"""How many spots are looked at for the text of an end."""


def searched(reader: Any, spot: Any) -> bool:
    """Whether some text leads from a spot of a :class:`decodekit.constraints.lark.machine.Reader` to the end.

    True too where the bound is met; the reader counts these.
    """
    tick, came = count(), dict[Any, Any]({spot: None})
    open_: list[tuple[int, int, Any]] = [(0, next(tick), spot)]
    while open_:
        cost, _, here = heapq.heappop(open_)
        if here.fate or reader.final(here):
            while here is not None:
                here.fate, here = True, came[here]
            return True
        if here.fate is False:
            continue
        for byte in reader.bytes_of(here):
            after = reader.read(here, byte)
            if after is not None and after not in came and reader.hopeful(after):
                came[after] = here
                heapq.heappush(open_, (_cost(cost, here, after), next(tick), after))
        if len(came) > (SEARCH if reader.unknown < OFTEN else LITTLE):
            reader.unknown += 1
            return True
    for here in came:
        here.fate = False
    return False


def ended(reader: Any, spot: Any) -> bytes | None:
    """A text that completes a spot, short where that is found soon; None where the bound is met."""
    for steep, most in ((2, ENDING // 10), (16, ENDING)):
        found = _ended(reader, spot, steep, most)
        if found is not None:
            return found
    return None


def _ended(reader: Any, spot: Any, steep: int, most: int) -> bytes | None:
    """A text of an end; `steep` is how many bytes one frame less on the stack is worth."""
    tick, came = count(), dict[Any, Any]({spot: None})
    open_: list[tuple[int, int, Any]] = [(0, next(tick), spot)]
    while open_ and len(came) <= most:
        cost, _, here = heapq.heappop(open_)
        if reader.final(here):
            out = bytearray()
            while (back := came[here]) is not None:
                here = back[0]
                out.append(back[1])
            return bytes(reversed(out))
        for byte in reader.bytes_of(here):
            after = reader.read(here, byte)
            if after is not None and after not in came and after.fate is not False and reader.hopeful(after):
                came[after] = here, byte
                heapq.heappush(open_, (_cost(cost, here, after, steep), next(tick), after))
    return None


def _cost(cost: int, here: Any, after: Any, steep: int = 2) -> int:
    return int(cost + 1 + steep * (after.stack.height - here.stack.height))
