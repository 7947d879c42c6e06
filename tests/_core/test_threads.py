"""The pool under the kernels: every piece once, from any thread, in any process."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from linalg_ml._core import threads
from linalg_ml._core.threads import launch, n_threads

BIG, SMALL = 1e12, 0.0  # costs: always cut, never cut
DEADLINE = 120  # seconds; a guard against a process that hangs, not a measurement


@pytest.fixture(params=[1, 2, 3, 8])
def pool_size(request, monkeypatch):
    """Have a pool of this size of our own."""
    monkeypatch.setattr(threads, "n_threads", lambda: request.param)
    monkeypatch.setattr(threads, "_pool", None)
    yield request.param
    if threads._pool is not None:
        threads._pool.shutdown()


def count(counts, start, stop):
    counts[start:stop] += 1


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 31, 32, 33, 1000, 99_991])
@pytest.mark.parametrize("cost", [SMALL, BIG])
def test_every_index_once(pool_size, size, cost):
    counts = np.zeros(size, int)
    launch(count, size, counts, cost=cost)
    np.testing.assert_array_equal(counts, 1)


def test_arguments_go_before_the_range():
    seen = []
    launch(lambda *args: seen.append(args), 5, "a", "b", cost=SMALL)
    assert seen == [("a", "b", 0, 5)]


def test_small_work_stays_in_the_caller(pool_size):
    workers = set()
    launch(lambda start, stop: workers.add(threading.get_ident()), 1000, cost=threads._SERIAL / 2)
    assert workers == {threading.get_ident()}
    assert threads._pool is None


def test_large_work_is_shared(monkeypatch):
    monkeypatch.setattr(threads, "n_threads", lambda: 2)
    monkeypatch.setattr(threads, "_pool", None)
    both = threading.Barrier(2, timeout=DEADLINE)
    met = []

    def piece(start, stop):
        if not met:  # the first pieces of both threads wait for each other: one thread alone would not return
            both.wait()
            met.append(threading.get_ident())

    launch(piece, 8, cost=BIG)
    assert met
    threads._pool.shutdown()


def test_exceptions_propagate(pool_size):
    def fail(start, stop):
        if start <= 17 < stop:
            raise KeyError("piece with 17")

    with pytest.raises(KeyError, match="piece with 17"):
        launch(fail, 100, cost=BIG)
    counts = np.zeros(100, int)  # the pool works on
    launch(count, 100, counts, cost=BIG)
    np.testing.assert_array_equal(counts, 1)


def test_exception_in_a_helper_propagates(monkeypatch):
    monkeypatch.setattr(threads, "n_threads", lambda: 2)
    monkeypatch.setattr(threads, "_pool", None)
    caller, helper_was_here = threading.get_ident(), threading.Event()

    def fail(start, stop):
        if threading.get_ident() == caller:
            assert helper_was_here.wait(DEADLINE)
        else:
            helper_was_here.set()
            raise ArithmeticError("in the helper")

    with pytest.raises(ArithmeticError, match="in the helper"):
        launch(fail, 10, cost=BIG)
    threads._pool.shutdown()


def test_no_further_thread_to_be_had(pool_size, monkeypatch):
    class Full:
        def submit(self, work):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_executor", Full)
    counts = np.zeros(100, int)
    launch(count, 100, counts, cost=BIG)
    np.testing.assert_array_equal(counts, 1)


def test_many_callers_at_once(pool_size):
    def caller(_):
        counts = np.zeros(1001, int)
        launch(count, counts.size, counts, cost=BIG)
        return counts

    with ThreadPoolExecutor(8) as callers:
        for counts in callers.map(caller, range(100)):
            np.testing.assert_array_equal(counts, 1)


def test_number_of_threads_is_numbas():
    numba = pytest.importorskip("numba")
    assert n_threads() == numba.config.NUMBA_NUM_THREADS


# --- processes ----------------------------------------------------------------------------------------


def run(script, **environment):
    environment = {**os.environ, **environment}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


FORK = """
import multiprocessing, os, warnings
import numpy as np
from linalg_ml._core import threads
from linalg_ml._core._kernels import philox_words

warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
threads._SERIAL = 0
ids = np.arange(5000, dtype=np.uint64)
expected = philox_words(ids, 0, 8, 1, 2)
assert threads.n_threads() == 2 and threads._pool is not None
threads._lock.acquire()  # as if another thread held it at this moment

def work(_):
    return np.array_equal(philox_words(ids, 0, 8, 1, 2), expected) and threads._pool is not None

context = multiprocessing.get_context("fork")
with context.Pool(2) as children:
    assert children.map_async(work, range(6)).get(timeout=60) == [True] * 6
threads._lock.release()
assert np.array_equal(philox_words(ids, 0, 8, 1, 2), expected)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_children_work():
    assert run(FORK, NUMBA_NUM_THREADS="2") == "done\n"


DIGEST = """
import hashlib
import numpy as np
from linalg_ml._core import _kernels, threads
threads._SERIAL = 0
digest = hashlib.sha256()
for kernel in (_kernels.philox_words, _kernels.philox_normals):
    for case in kernel.cases():
        digest.update(np.ascontiguousarray(kernel.load("numba")(*case)))
print(threads.n_threads(), digest.hexdigest())
"""


def test_the_number_of_threads_changes_no_bit():
    one, three = (run(DIGEST, NUMBA_NUM_THREADS=number).split() for number in "13")
    assert (one[0], three[0]) == ("1", "3")
    assert one[1] == three[1]
