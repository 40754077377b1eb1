"""Steps of single threads of :mod:`lark_regex`, without order and look-around."""

from __future__ import annotations

from typing import Any

from .terminal_regex import CHAR, MATCH, SPLIT


def target(op: tuple[Any, ...], byte: int) -> int:
    """The instruction after `byte`; -1 where there is none."""
    if op[0] == CHAR:
        for low, high, onward in op[1]:
            if low <= byte <= high:
                return int(onward)
            if byte < low:
                break
    return -1


def cuts(op: tuple[Any, ...], edges: set[int]) -> None:
    """Add the bytes at which the outcome changes."""
    if op[0] == CHAR:
        for low, high, _ in op[1]:
            edges.add(low)
            edges.add(high + 1)


def spread(code: list[Any], pc: int) -> list[int]:
    """Where a thread without look-around stands after `pc`; the order does not matter."""
    out, todo, seen = list[int](), [pc], {pc}
    while todo:
        pc = todo.pop()
        op = code[pc]
        if op[0] in (CHAR, MATCH):
            out.append(pc)
            continue
        for way in op[1] if op[0] == SPLIT else op[1:3]:
            if way not in seen:
                seen.add(way)
                todo.append(way)
    return out
