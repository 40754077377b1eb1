"""Completions of a text of a grammar, looked for byte by byte: lower stacks first."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Any, Final

SEARCH: Final = 3_000
"""How many spots are looked at for a completion, before a text counts as possible."""
ENDING: Final = 20_000
"""How many spots are looked at for the text of an end."""


def searched(reader: Any, spot: Any) -> bool:
    """Whether some text leads from a spot of a :class:`decodekit.constraints.engines.lark_machine.Reader` to the end.

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
        if len(came) > SEARCH:
            reader.unknown += 1
            return True
    for here in came:
        here.fate = False
    return False


def ended(reader: Any, spot: Any) -> bytes | None:
    """A text that completes a spot, none too long; None where the bound is met."""
    tick, came = count(), dict[Any, Any]({spot: None})
    open_: list[tuple[int, int, Any]] = [(0, next(tick), spot)]
    while open_ and len(came) <= ENDING:
        cost, _, here = heapq.heappop(open_)
        if reader.final(here):
            out = bytearray()
            while (back := came[here]) is not None:
                here = back[0]
                out.append(back[1])
            return bytes(reversed(out))
        for byte in reader.bytes_of(here):
            after = reader.step(here, byte)
            if after is not None and after not in came:
                came[after] = here, byte
                heapq.heappush(open_, (_cost(cost, here, after), next(tick), after))
    return None


def _cost(cost: int, here: Any, after: Any) -> int:
    return int(cost + 1 + 2 * (after.stack.height - here.stack.height))
