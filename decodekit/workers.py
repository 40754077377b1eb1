"""A few processes that call a slow function, and that can be ended when it takes too long."""

from __future__ import annotations

import atexit
import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Semaphore
from typing import Any, Final

_POOLS: Final[dict[tuple[Any, int], Pool]] = {}  # kept from call to call: starting a process takes about a second


def ask(fn: Callable[[str], Any], texts: Sequence[str], workers: int, timeout: float | None) -> list[Any]:
    """`fn` of each text, called in `workers` processes; `fn` must be importable.

    Raises:
        TimeoutError: one took longer than `timeout` seconds (the start of the processes is not counted).
        Exception: whatever `fn` raised first.
    """
    pool = _pool(fn, workers)
    calls = [pool.apply_async(fn, (text,)) for text in texts]
    rounds = -(-len(texts) // workers)  # calls wait for each other: nobody is late before this many have passed
    until = None if timeout is None else time.monotonic() + timeout * rounds
    try:
        return [call.get(None if until is None else max(0.0, until - time.monotonic())) for call in calls]
    except multiprocessing.TimeoutError:
        _end(fn, workers)
        raise TimeoutError(f"no answer within {timeout:g} s") from None


def _ready(up: Semaphore, fn: Callable[[str], Any]) -> None:
    """Runs first in every process; that `fn` came here means that its module is imported."""
    up.release()


def _pool(fn: Callable[[str], Any], workers: int) -> Pool:
    found = _POOLS.get((fn, workers))
    if found is None:
        if not _POOLS:
            atexit.register(_end_all)
        context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads can hang
        up = context.Semaphore(0)
        found = _POOLS[fn, workers] = context.Pool(workers, _ready, (up, fn))
        for _ in range(workers):
            up.acquire()
    return found


def _end(fn: Callable[[str], Any], workers: int) -> None:
    pool = _POOLS.pop((fn, workers), None)
    if pool is not None:
        pool.terminate()
        pool.join()


def _end_all() -> None:
    for key in list(_POOLS):
        _end(*key)
