"""Compiling CPU kernels with Numba. Imported by `_kernels_numba.py` files alone."""

import numba


def jit(function):
    """Compile a serial kernel lazily, without the GIL, cached on disk where a folder can be written.

    The cache goes beside the source, or to the user's cache folder where the package is read-only; where
    neither can be written Numba raises at decoration and the kernel is compiled in memory. The cache does not
    see decorator options, nor edits in another file: one `def` per version, callees in the kernel's file.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


def jit_reassociating(function):
    """As `jit`, for sums whose order is free: the compiler may vectorise them. NaN and infinity keep their meaning."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


def _probe():
    """Exist so that `cache_folder` can ask where kernels of this package are cached."""


def cache_folder() -> str | None:
    """Return the folder of the kernel cache, None where there is none."""
    return jit(_probe).stats.cache_path
