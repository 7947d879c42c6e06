"""Threads for kernels: one pool of Python threads over which a serial kernel's range is cut.

Numba's own threading layers are not used. GNU OpenMP keeps spinning after a launch, which delays the next BLAS
call by milliseconds, and kills forked children; `workqueue` aborts the process when two Python threads launch at
once. A pool of Python threads that call a `nogil` kernel has neither fault and costs about 50 µs a launch, so
small work stays in the caller.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

_SERIAL = 2e5  # ns of work below which the pool costs more than it gains
_PIECES = 4  # per thread, so that a thread that lost its core does not hold up the rest

_lock = Lock()
_pool: ThreadPoolExecutor | None = None


def n_threads() -> int:
    """Return the number of threads a kernel may use (`NUMBA_NUM_THREADS`, else the cores of this process)."""
    from numba import config  # get_num_threads() would load a threading layer

    return config.NUMBA_NUM_THREADS


def launch(function: Callable, stop: int, *args, cost: float) -> None:
    """Run ``function(*args, start, stop)`` over all of [0, stop), in pieces on several threads.

    Parameters
    ----------
    function : callable
        A compiled kernel that releases the GIL, writes only what belongs to its range, and never launches.
    stop : int
        End of the range.
    *args
        What every piece gets first.
    cost : float
        Rough time of the whole range on one thread, in nanoseconds.
    """
    threads = min(n_threads(), stop)
    if threads < 2 or cost < _SERIAL:
        if stop > 0:
            function(*args, 0, stop)
        return
    pieces = min(stop, _PIECES * threads)
    edges = [stop * i // pieces for i in range(pieces + 1)]
    counter = itertools.count()  # its next() is atomic: the pieces go to whoever is free

    def work() -> None:
        while (i := next(counter)) < pieces:
            function(*args, edges[i], edges[i + 1])

    helpers = []
    try:
        for _ in range(threads - 1):
            helpers.append(_executor().submit(work))
    except RuntimeError:  # no further thread to be had (a limit, or the interpreter is closing): go on with these
        threads = 1 + len(helpers)
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():  # one that never started is not waited for: the caller did its work
                helper.result()


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, n_threads() - 1), thread_name_prefix="linalg_ml")
        return _pool


def _forget() -> None:
    """Drop the pool in a forked child: its threads were not copied, and its lock may be held for ever."""
    global _pool, _lock
    _pool, _lock = None, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
