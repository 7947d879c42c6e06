"""Kernels: one reference for every namespace, faster versions for NumPy and CuPy, chosen by the arrays.

A kernel is declared in a file `_kernels.py` by decorating its reference, which is plain array-API code::

    @kernel(cases=_fwht_cases, versions=("numba", "cupy"))
    def hadamard(x): ...

Its faster versions are functions of the same name in `_kernels_numba.py` and `_kernels_cupy.py` beside that
file. They are imported when the first NumPy or CuPy array arrives, never before: Numba takes a quarter of a
second to load and CuPy needs a device. `cases` yields argument tuples of NumPy arrays and scalars, small and
nasty; the parity test holds every version against the reference on them, and `linalg_ml warmup` compiles with
them, so a kernel cannot be declared without.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata, util
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

from array_api_compat import is_array_api_obj, is_cupy_array, is_numpy_array

REGISTRY: dict[str, "Kernel"] = {}

# --- configuration ------------------------------------------------------------------------------------

_CHOICES = {"kernels": ("auto", "reference")}
_VARIABLE = "LINALG_ML_KERNELS"
_everywhere: dict[str, str] = {}
_here: ContextVar[dict[str, str] | None] = ContextVar("linalg_ml_config", default=None)


def _checked(settings: dict[str, Any], source: str = "") -> dict[str, str]:
    for name, value in settings.items():
        if name not in _CHOICES:
            raise TypeError(f"unknown setting {name!r}; accepted: {', '.join(_CHOICES)}")
        if value not in _CHOICES[name]:
            accepted = " or ".join(map(repr, _CHOICES[name]))
            raise ValueError(f"{source or name} must be {accepted}, got {value!r}")
    return settings


def get_config() -> dict[str, str]:
    """Return the settings in force here.

    Returns
    -------
    config : dict
        ``kernels``: "auto" or "reference".

    Raises
    ------
    ValueError
        If the environment variable ``LINALG_ML_KERNELS`` holds neither.

    Examples
    --------
    >>> import linalg_ml
    >>> with linalg_ml.config_context(kernels="reference"):
    ...     linalg_ml.get_config()
    {'kernels': 'reference'}
    """
    settings = {**_everywhere, **(_here.get() or {})}
    if "kernels" not in settings:
        from_shell = os.environ.get(_VARIABLE) or "auto"
        settings = {**_checked({"kernels": from_shell}, f"the environment variable {_VARIABLE}"), **settings}
    return settings


def set_config(*, kernels: str | None = None) -> None:
    """Set what holds from now on, in every thread of the process.

    Parameters
    ----------
    kernels : {"auto", "reference"}, optional
        "auto": a Numba kernel for NumPy arrays, a CUDA kernel for CuPy arrays, the reference for every
        other array. "reference": the reference everywhere, slow and plain; for finding out whether a
        kernel is at fault. None leaves the setting as it is. The environment variable
        ``LINALG_ML_KERNELS`` gives the value a process starts with.

    Raises
    ------
    ValueError
        If `kernels` is none of these.

    See Also
    --------
    config_context : the same for one block of code.

    Examples
    --------
    >>> import linalg_ml
    >>> linalg_ml.set_config(kernels="auto")
    """
    if kernels is not None:
        _everywhere.update(_checked({"kernels": kernels}))


@contextmanager
def config_context(*, kernels: str | None = None) -> Iterator[None]:
    """Set what holds inside a ``with`` block, in this thread or task alone; not on the workers of a dask cluster.

    Parameters
    ----------
    kernels : {"auto", "reference"}, optional
        As in `set_config`.

    Raises
    ------
    ValueError
        If `kernels` is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> import linalg_ml
    >>> with linalg_ml.config_context(kernels="reference"):
    ...     linalg_ml.sketching.fwht(np.arange(4.0))
    array([ 6., -2., -4.,  0.])
    """
    new = {} if kernels is None else _checked({"kernels": kernels})
    token = _here.set({**(_here.get() or {}), **new})
    try:
        yield
    finally:
        _here.reset(token)


# --- the registry -------------------------------------------------------------------------------------

Cases = Callable[[], Iterable[tuple]]


@dataclass(eq=False)
class Kernel:
    """One computation: a reference, and the faster versions that exist. Calling it picks one."""

    reference: Callable
    cases: Cases
    versions: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.reference.__module__}.{self.reference.__name__}"

    def load(self, version: str) -> Callable:
        """Import one of the versions; the reference is a version too."""
        if version == "reference":
            return self.reference
        return getattr(import_module(f"{self.reference.__module__}_{version}"), self.reference.__name__)

    def choose(self, args: tuple) -> str:
        """Name the version for these arguments: their first array decides; small tables beside it may lie elsewhere."""
        data = next(a for a in args if is_array_api_obj(a))
        if is_numpy_array(data):
            version = "numba"
        elif is_cupy_array(data):
            version = "cupy"
        else:
            return "reference"
        usable = version in self.versions and version not in self.failed and get_config()["kernels"] == "auto"
        return version if usable else "reference"

    def __call__(self, *args):
        version = self.choose(args)
        if version == "reference":
            return self.reference(*args)
        try:
            return self.load(version)(*args)
        except _failures(version) as error:
            self.failed[version] = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(
                f"the {version} version of {self.name} could not be loaded or compiled, its slower reference is "
                f"used from now on ({self.failed[version]})",
                RuntimeWarning,
                stacklevel=2,
            )
            return self.reference(*args)


def kernel(*, cases: Cases, versions: tuple[str, ...]) -> Callable[[Callable], Kernel]:
    """Declare a kernel; see the head of this file."""

    def declare(reference: Callable) -> Kernel:
        made = Kernel(reference, cases, versions)
        REGISTRY[made.name] = made
        return made

    return declare


def _failures(version: str) -> tuple[type[BaseException], ...]:
    """Errors that mean "this version cannot run here" and not "these arguments are wrong".

    ImportError, and OSError from a library that lacks a symbol, come from loading; a RuntimeError comes from
    LLVM or from the CUDA driver. Numba compiles before it runs, so nothing was written when it fails.
    """
    errors: list[type[BaseException]] = [ImportError, OSError, RuntimeError]
    if version == "numba" and util.find_spec("numba") is not None:
        errors.append(import_module("numba.core.errors").NumbaError)
    if version == "cupy" and util.find_spec("cupy") is not None:
        errors.append(import_module("cupy.cuda.compiler").CompileException)
    return tuple(errors)


def load_all() -> dict[str, Kernel]:
    """Import every `_kernels.py` of the package, and return the registry filled."""
    root = import_module(__name__.partition(".")[0])
    for module in walk_packages(root.__path__, root.__name__ + "."):
        if module.name.endswith("._kernels"):
            import_module(module.name)
    return REGISTRY


# --- CUDA sources -------------------------------------------------------------------------------------


@cache
def cuda_module(source: str, *defines: str):
    """Turn CUDA C into a module whose `get_function` launches it; `defines` are NAME=VALUE.

    The one place that does so: tests put a stand-in here that runs the same source on the CPU. Contraction to
    fused multiply-adds is off, so that a device rounds as the reference does.
    """
    import cupy

    options = ("--std=c++17", "--fmad=false", *(f"-D{define}" for define in defines))
    return cupy.RawModule(code=source, options=options)


# --- what would be chosen, and why --------------------------------------------------------------------


def show_config() -> None:
    """Print the versions found, the threads, the devices, and which kernels would run.

    Examples
    --------
    >>> import linalg_ml
    >>> linalg_ml.show_config()  # doctest: +SKIP
    linalg_ml 0.1.0 ...
    """
    print("\n".join(_report()))


def _report() -> Iterator[str]:
    import platform

    from .. import __version__
    from .threads import n_threads

    setting = get_config()["kernels"]
    yield f"linalg_ml {__version__}, Python {platform.python_version()}, {platform.machine()} {platform.system()}"
    for package in ("numpy", "scipy", "scikit-learn", "numba", "cupy", "torch", "dask"):
        yield f"  {package:<14}{_version(package)}"
    yield f"threads         {n_threads()} for Numba kernels (NUMBA_NUM_THREADS)"
    yield from _blas()
    yield f"NumPy arrays    {_answer('numba', setting)}"
    yield f"CuPy arrays     {_answer('cupy', setting)}"
    yield "other arrays    reference kernels (array API)"
    yield f"kernels         {setting!r}; change by linalg_ml.config_context(kernels=...) or {_VARIABLE}"
    yield f"kernel cache    {_cache_folder()}"
    for name, item in sorted(load_all().items()):
        broken = "".join(f"; {version} failed: {why}" for version, why in item.failed.items())
        yield f"  {name.partition('.')[2]:<36}{', '.join(item.versions)}{broken}"


def _version(package: str) -> str:
    names = [package] if package != "cupy" else ["cupy-cuda12x", "cupy-cuda13x", "cupy"]
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def _blas() -> Iterator[str]:
    from threadpoolctl import threadpool_info

    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            name = f"{pool['internal_api']} {pool['version'] or ''}".strip()
            yield f"BLAS            {name}, {pool['num_threads']} threads ({Path(pool['filepath']).name})"


def _answer(version: str, setting: str) -> str:
    if setting == "reference":
        return "reference kernels, because kernels='reference'"
    if version == "numba":
        return "Numba kernels"
    if util.find_spec("cupy") is None:
        return "none here: CuPy is not installed (extras cuda12, cuda13)"
    from cupy.cuda import runtime

    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return f"none here: CuPy finds no device ({error})"
    return f"CUDA kernels on {', '.join(runtime.getDeviceProperties(i)['name'].decode() for i in range(count))}"


def _cache_folder() -> str:
    from .jit import cache_folder

    return cache_folder() or "none: no folder can be written, kernels compile in memory"
