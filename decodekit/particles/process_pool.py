"""A few processes that call a slow function, and that can be ended when it takes too long."""

from __future__ import annotations

import atexit
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Semaphore
from typing import Any, Final

from decodekit.errors import OptionError

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
        _importable(fn)
        if not _POOLS:
            atexit.register(_end_all)
        context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads can hang
        up = context.Semaphore(0)
        found = _POOLS[fn, workers] = context.Pool(workers, _ready, (up, fn))
        for _ in range(workers):
            up.acquire()
    return found


def _importable(fn: Callable[[str], Any]) -> None:
    """A process that cannot import the function dies, and would be replaced by another one for ever."""
    module = str(getattr(fn, "__module__", None) or type(fn).__module__)
    top = module.partition(".")[0]
    if top != "__main__" and all(finder.find_spec(top, None) is None for finder in sys.meta_path):
        raise OptionError(
            f"workers: {module!r} cannot be imported by another process, for it is not on sys.path; move the function "
            "into a module that is, or give workers=0"
        )


def _end(fn: Callable[[str], Any], workers: int) -> None:
    pool = _POOLS.pop((fn, workers), None)
    if pool is not None:
        pool.terminate()
        pool.join()


def _end_all() -> None:
    for key in list(_POOLS):
        _end(*key)
