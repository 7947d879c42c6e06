"""Compile and cache all CPU kernels, so that the first call is as fast as the others."""

import argparse
from time import perf_counter
from typing import TYPE_CHECKING

from ._text import duration, reason

if TYPE_CHECKING:
    from .._core.kernels import Kernel

NAME = "warmup"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take --quiet."""
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress bar")


def run(args: argparse.Namespace) -> int:
    """Compile every kernel that has a Numba version; those that fail do not hold up the rest."""
    from .._core import kernels
    from .._core.progress import progress

    start = perf_counter()
    compiled = [kernel for kernel in kernels.load_all().values() if "numba" in kernel.versions]
    failures = {}
    for kernel in progress(compiled, "compiling", verbose=not args.quiet):
        try:
            _compile(kernel)
        except Exception as error:
            failures[kernel.name] = reason(error)
    for name, why in failures.items():
        print(f"failed: {name}: {why}")
    _report(len(compiled) - len(failures), len(compiled), perf_counter() - start)
    return int(bool(failures))


def _compile(kernel: "Kernel") -> None:
    """Call the Numba version itself: the kernel would hide a failure behind its reference."""
    function = kernel.load("numba")
    for case in kernel.cases():
        function(*case)


def _report(n_ready: int, n_kernels: int, seconds: float) -> None:
    count = f"{n_ready}" if n_ready == n_kernels else f"{n_ready} of {n_kernels}"
    print(f"{count} kernels ready in {duration(seconds)}")
    if n_ready:  # where Numba itself cannot be imported there is no cache to speak of
        from .._core.jit import cache_folder

        print(f"cached in {cache_folder() or 'no folder, for none can be written: they live in memory only'}")
