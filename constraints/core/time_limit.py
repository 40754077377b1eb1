"""A limit of time for work in plain Python that knows none of its own."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class _OverError(BaseException):
    """Ends a worker; no handler of ordinary errors holds it up."""


def within(seconds: float, make: Callable[[], T]) -> T:
    """`make()`, worked out on a thread of its own, which is ended where it takes longer.

    Raises:
        TimeoutError: the time is up.
        Exception: what `make` raised.
    """
    done = list[T]()
    failed = list[BaseException]()

    def work() -> None:
        try:
            done.append(make())
        except _OverError:
            pass
        except BaseException as error:
            failed.append(error)

    worker = threading.Thread(target=work, daemon=True, name="within")
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        threading.Thread(target=_end, args=(worker,), daemon=True, name="within: end").start()
        raise TimeoutError(f"not done within {seconds:g} s")
    if failed:
        raise failed[0]
    return done[0]


def _end(worker: threading.Thread) -> None:
    """Until it has ended: an object that is being deleted may swallow what is raised."""
    while worker.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident or 0), ctypes.py_object(_OverError))
        worker.join(0.2)
