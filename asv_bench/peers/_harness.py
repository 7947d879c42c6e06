"""The common part of all side-by-side runs: measure callables in turn, print a Markdown table.

A script makes one `Run`, which reads the command line and sets the number of threads, and lets it `compare`.

The callables run interleaved (A B C A B C …) in one process, so that what disturbs the machine disturbs all
of them alike; ratios come from the medians, and from the pairs of the same round. On one thread they are
ratios of CPU time, which other processes falsify least, on more threads of wall time.
"""

import argparse
import contextlib
import ctypes
import gc
import os
import platform
import shlex
import sys
import threading
import time
import tracemalloc
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # measure this tree, whether another copy is installed or not

_THREADS = "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"
_PACKAGES = "numpy", "scipy", "numba", "scikit-learn"


# --- measuring ----------------------------------------------------------------------------------------


@dataclass
class Timing:
    """The seconds of one callable, a number a round, and the bytes of its peak where that was asked for."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: int | None = None
    judged: dict[str, str] = field(default_factory=dict)

    def record(self, function, *inputs):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function(*inputs)  # freed after the clocks have stopped
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        del result


def measure(functions, inputs, repeats, judge=None):
    """Return a `Timing` for each of the named functions, run in turn after a warm-up of each."""
    timings = {name: Timing() for name in functions}
    for name, function in functions.items():  # compiles, and touches the memory that later rounds are given again
        result = function(*inputs)
        if judge is not None:
            timings[name].judged = judge(result)
        del result
    gc.disable()
    try:
        for _ in range(repeats):
            for name, function in functions.items():
                timings[name].record(function, *inputs)
    finally:
        gc.enable()
    return timings


def peak_memory(function, *inputs):
    """Return the most bytes that a call held beyond its inputs, its result included.

    NumPy reports its arrays to `tracemalloc`; what compiled code allocates by itself is not seen.
    """
    tracemalloc.start()
    try:
        result = function(*inputs)
        return tracemalloc.get_traced_memory()[1]
    finally:
        del result
        tracemalloc.stop()


def peak_anonymous(function, *inputs):
    """Return the most bytes of anonymous memory that a call added to this process, its result included; Linux only.

    Compiled code is seen too, pages of mapped files are not. It is looked at every millisecond: a call must take some.
    Best in a new process: what the allocator still holds from before is given back first, as far as it goes.
    """
    with contextlib.suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    before, peak, done = _anonymous(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(1e-3):
            peak = max(peak, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = function(*inputs)
    done.set()
    watcher.join()
    peak = max(peak, _anonymous())
    del result
    return max(0, peak - before)


def _anonymous():
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


def read_bandwidth(array=None, repeats=7):
    """Return how many bytes per second one thread reads from memory, the best of some runs.

    `array` is what it reads, C-contiguous float64; without it 512 MB. It must have been written: pages that
    never were are all one page of zeros, which sits in the cache.
    """
    import numpy as np

    values = np.full(2**26, 1.0) if array is None else array.reshape(-1)
    read = reader(values)
    read()
    return values.size // _BLOCK * _BLOCK * 8 / min(_seconds(read) for _ in range(repeats))


def reader(array):
    """Return a function that reads `array`, as `read_bandwidth` does: to run in turn with what is measured against it.

    Any dtype: its bytes are read as float64. A rest of less than 128 KB is left out.
    """
    import numpy as np

    values = array.reshape(-1).view(np.float64)
    blocks = values[: values.size // _BLOCK * _BLOCK].reshape(-1, 8, _BLOCK // 8)
    kernel = _sum_kernel()
    return lambda: kernel(blocks)


_BLOCK = 8 * 2048  # eight streams of four pages each: enough for the prefetcher, few for the page table


def _sum_kernel():
    """Compile a sum that waits for memory alone.

    Each of the eight sums becomes a vector accumulator or several (their order is free), so that no addition
    waits for the one before.
    """
    import numba

    @numba.njit(nogil=True, fastmath={"reassoc", "nsz"})
    def total(blocks):
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for block in blocks:
            for i in range(block.shape[1]):
                s0 += block[0, i]
                s1 += block[1, i]
                s2 += block[2, i]
                s3 += block[3, i]
                s4 += block[4, i]
                s5 += block[5, i]
                s6 += block[6, i]
                s7 += block[7, i]
        return s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7

    return total


def _seconds(function, *inputs):
    start = time.process_time()
    function(*inputs)
    return time.process_time() - start


# --- a run --------------------------------------------------------------------------------------------


class Run:
    """One run of a script: its options, its header (with the versions of further `packages`), comparisons and goals."""

    def __init__(self, title, add_options=None, packages=()):
        self.options = options = _arguments(title, add_options)
        _fix_threads(options.threads)
        self.quick, self.repeats = options.quick, options.repeats
        print(f"## {title.removesuffix('.')}\n\n{header(options, packages)}", flush=True)

    def compare(self, title, functions, inputs=(), *, memory=False, repeats=None, judge=None, clock=None):
        """Run the named `functions` on `inputs`, print their table, and return their timings.

        The first function is ours; the others are measured against it. With `memory` each runs once more,
        unmeasured, for its peak, or those alone whose names `memory` holds. `judge` turns the result of the warm-up
        into further columns, a dict of texts. `clock` is what the printed ratios are of, where not that of the run.
        """
        timings = measure(functions, inputs, repeats or self.repeats, judge)
        for name, function in functions.items():
            if memory is True or (memory and name in memory):
                timings[name].memory = peak_memory(function, *inputs)
        print(f"\n### {title}\n\n{table(timings, clock or self.clock)}", flush=True)
        return timings

    @property
    def clock(self):
        return "cpu" if self.options.threads == 1 else "wall"

    def seconds(self, timing, clock=None):
        """Return the median of what ratios are made of."""
        return median(getattr(timing, clock or self.clock))

    def ratio(self, timings, peer, clock=None):
        """Return how many times as long as ours (the first) the peer takes."""
        ours = next(iter(timings.values()))
        return self.seconds(timings[peer], clock) / self.seconds(ours, clock)

    def goal(self, what, value, *, least=None, most=None, aim=None):
        """Print whether `value` is at least or at most what was hoped for; a missed goal is no error."""
        limit, sign = (least, "≥") if most is None else (most, "≤")

        def verdict(limit):
            return "met" if (value >= limit if sign == "≥" else value <= limit) else "missed"

        text = f"\n- {what}: {value:.3g}; goal {sign} {limit:.3g} {verdict(limit)}"
        if aim is not None:
            text += f", aim {sign} {aim:.3g} {verdict(aim)}"
        print(text + (" (small sizes: says nothing)" if self.quick else ""), flush=True)


def _arguments(title, add_options):
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count, at least 5 (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="threads for Numba and BLAS (default: 1)")
    parser.add_argument("--quick", action="store_true", help="small sizes: does the script still work?")
    if add_options is not None:
        add_options(parser)
    options = parser.parse_args()
    if options.repeats < 5 or options.threads < 1:
        parser.error("--repeats must be at least 5 and --threads at least 1")
    return options


def _fix_threads(threads):
    """Start the script again where the environment does not say how many threads: it is read at import."""
    wanted = dict.fromkeys(_THREADS, str(threads))
    if not wanted.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})


# --- printing -----------------------------------------------------------------------------------------


def header(options, packages=()):
    """Return what a reader needs to judge the numbers, or to get their own."""
    from threadpoolctl import threadpool_info

    import linalg_ml

    blas = {f"{pool['internal_api']} {pool['num_threads']}" for pool in threadpool_info()}
    versions = [f"Python {platform.python_version()}", f"linalg_ml {linalg_ml.__version__}"]
    clock = "CPU time" if options.threads == 1 else "wall time"
    lines = (
        f"`{_command()}`, {date.today().isoformat()}",
        ", ".join([*versions, *filter(None, map(_version, (*_PACKAGES, *packages)))]),
        f"{_cpu_model()}, {os.cpu_count()} cores; threads: "
        + ", ".join([f"numba {os.environ['NUMBA_NUM_THREADS']}", *sorted(blas)]),
        f"medians of {options.repeats} interleaved runs where not said otherwise; ratios are of {clock}, above 1 where "
        "ours is faster",
    )
    return "\n".join(f"- {line}" for line in lines)


def _command():
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    options = (
        Path(word).name if os.path.isabs(word) else word for word in sys.argv[1:]
    )  # where it lay is no one's need
    return shlex.join(["python", str(shown), *options])


def _version(package):
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None


def _cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(timings, clock):
    """Return the timings as a Markdown table, the first row being what the others are measured against."""
    with_memory = any(timing.memory is not None for timing in timings.values())
    ours = getattr(next(iter(timings.values())), clock)
    columns = ["", "wall, ms", "CPU, ms", "CPU / wall", "ratio to ours", "pairs, min … max"]
    rows = [columns + ["extra memory, MB"] * with_memory + list(next(iter(timings.values())).judged)]
    rows.append(["---", *["---:"] * (len(rows[0]) - 1)])
    for name, timing in timings.items():
        rows.append([name, *_cells(timing, getattr(timing, clock), ours, with_memory)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cells(timing, theirs, ours, with_memory):
    wall, cpu = median(timing.wall), median(timing.cpu)
    pairs = [b / a for a, b in zip(ours, theirs, strict=True)]
    cells = [f"{1e3 * wall:.4g}", f"{1e3 * cpu:.4g}", f"{cpu / wall:.2f}"]
    cells += [f"{median(theirs) / median(ours):.2f}", f"{min(pairs):.2f} … {max(pairs):.2f}"]
    if with_memory:
        cells.append("" if timing.memory is None else f"{timing.memory / 1e6:.4g}")
    return [*cells, *timing.judged.values()]
