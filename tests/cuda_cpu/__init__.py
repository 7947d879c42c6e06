"""CUDA C kernels without a GPU, for tests.

:class:`CpuModule` stands in for ``cupy.RawModule``: the system's C++ compiler builds the source together with
``cuda_on_cpu.h``, and the kernels run on NumPy arrays. :func:`compile_cuda` has NVRTC compile the same source
for a GPU that need not be there.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import math
import operator
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

__all__ = ["CpuModule", "compile_cuda", "find_compiler", "find_nvrtc"]

_HEADER = Path(__file__).with_name("cuda_on_cpu.h")
# A kernel's frame must fit into the 64 KB stack of a fibre. Hidden names: a kernel called like a function of
# some loaded library stays itself. "-z defs": a name that nothing defines fails here, not at loading.
_FLAGS = [
    *("-O1", "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC"),
    *("-fvisibility=hidden", "-Werror=frame-larger-than=16384", "-Wl,-z,defs"),
]
_BOUNDS = re.compile(r"__launch_bounds__\s*\([^)]*\)")
_KERNEL = re.compile(r'extern\s*"C"\s*__global__\s+void\s+(\w+)\s*\(([^)]*)\)')
_SHARED_LIMIT = 48 * 1024
_GRID_LIMIT = (2**31 - 1, 65535, 65535)
_BLOCK_LIMIT = (1024, 1024, 64)


@functools.cache
def find_compiler() -> str | None:
    """Path of the C++ compiler; None if there is none, or off Linux (the header reads ELF's tables)."""
    return (shutil.which("g++") or shutil.which("c++")) if sys.platform == "linux" else None


@functools.cache
def find_nvrtc() -> ctypes.CDLL | None:
    """NVRTC from NVIDIA's wheel, None if that is not installed."""
    for package in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name.startswith("libnvrtc.so"):
                return ctypes.CDLL(str(file.locate()))
    return None


def compile_cuda(lib: ctypes.CDLL, source: str, arch: str, options: Sequence[str] = ()) -> None:
    """Compile for a real architecture ("sm_80": ptxas checks too); any complaint is a RuntimeError."""
    flags = [f"--gpu-architecture={arch}", *options]
    if not any("-std=" in option for option in options):
        flags.append("--std=c++17")
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    if lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None):
        raise RuntimeError("nvrtcCreateProgram failed")
    try:
        array = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        failed = lib.nvrtcCompileProgram(program, len(flags), array)
        lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        lib.nvrtcGetProgramLog(program, log)
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))
    if failed or log.value:
        raise RuntimeError(f"NVRTC, {arch}: {log.value.decode() or f'error {failed}'}")


class CpuModule:
    """Stand-in for ``cupy.RawModule``: the same source, on the CPU.

    Of the options only ``-DNAME=VALUE`` are used. Arguments are arrays (of any strides: the kernel gets
    their address) and NumPy scalars, of exactly the types the kernel declares. With ``CpuModule.reverse`` set
    threads, warps and blocks run in reverse order; a kernel that answers differently then lacks a barrier.
    """

    reverse: ClassVar[bool] = False

    def __init__(self, *, code: str, options: Sequence[str] = (), name_expressions: Any = None) -> None:
        self._library = _build(code, tuple(option for option in options if option.startswith("-D")))

    def get_function(self, name: str) -> _Kernel:
        return _Kernel(self._library, name)


class _Library(NamedTuple):
    dll: ctypes.PyDLL
    parameters: dict[str, list[str]]  # of each kernel: the names of its parameters
    static_shared: dict[str, int]  # of each kernel: the bytes of its static __shared__ arrays


class _Kernel:
    def __init__(self, library: _Library, name: str) -> None:
        if name not in library.parameters:
            known = ", ".join(library.parameters) or "none"
            raise ValueError(f'no extern "C" kernel {name!r}; there are: {known}')
        self._name = name
        self._static_shared = library.static_shared[name]
        self._launch = library.dll[f"{name}_launch"]
        self._launch.restype = ctypes.c_char_p
        signature = library.dll[f"{name}_signature"]
        signature.restype = ctypes.c_char_p
        types = signature().decode().split(";")[:-1]
        self._parameters = list(zip(library.parameters[name], types, strict=True)) if types else []

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: Any = None,
    ) -> None:
        dims = self._dims("grid", grid, _GRID_LIMIT) + self._dims("block", block, _BLOCK_LIMIT)
        if math.prod(dims[3:]) > 1024:
            raise ValueError(f"kernel {self._name!r}: block {block} has more than 1024 threads")
        if shared_mem < 0 or self._static_shared + shared_mem > _SHARED_LIMIT:
            raise ValueError(
                f"kernel {self._name!r}: {self._static_shared} bytes of static and {shared_mem} of dynamic "
                f"shared memory, the limit is {_SHARED_LIMIT}"
            )
        if len(args) != len(self._parameters):
            raise TypeError(f"kernel {self._name!r} takes {len(self._parameters)} arguments, got {len(args)}")
        values = [
            self._value(f"kernel {self._name!r}, argument {i} ({name})", kind, value)
            for i, ((name, kind), value) in enumerate(zip(self._parameters, args, strict=True))
        ]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        error = self._launch(pointers, (ctypes.c_uint * 6)(*dims), ctypes.c_size_t(shared_mem), int(CpuModule.reverse))
        if error:
            raise RuntimeError(f"kernel {self._name!r}: {_explain(error.decode())}")

    def _dims(self, what: str, dims: tuple[int, ...], limits: tuple[int, ...]) -> tuple[int, ...]:
        if not isinstance(dims, tuple) or not 1 <= len(dims) <= 3:
            raise TypeError(f"kernel {self._name!r}: {what} must be a tuple of 1 to 3 integers, got {dims!r}")
        full = tuple(operator.index(n) for n in dims) + (1,) * (3 - len(dims))
        if not all(1 <= n <= limit for n, limit in zip(full, limits, strict=True)):
            raise ValueError(f"kernel {self._name!r}: {what} {dims} is empty or beyond the limit {limits}")
        return full

    @staticmethod
    def _value(where: str, kind: str, value: Any) -> np.ndarray[Any, Any]:
        """An array whose memory holds what the kernel is passed: a scalar, or the address of an array."""
        code = kind.removeprefix("const ").removesuffix("*")
        expected = "any type" if code[0] == "V" else np.dtype(code).name
        if kind.endswith("*"):
            if not isinstance(value, np.ndarray):
                raise TypeError(f"{where} must be an array of {expected}, got {type(value).__name__}")
            # Kernels see complex numbers as pairs of reals, by either type.
            accepted = {"f4": ("f4", "c8"), "f8": ("f8", "c16"), "c8": ("f4", "c8"), "c16": ("f8", "c16")}
            if code[0] != "V" and not any(value.dtype == np.dtype(c) for c in accepted.get(code, (code,))):
                raise TypeError(f"{where} must be an array of {expected}, got {value.dtype}")
            if not kind.startswith("const ") and not value.flags.writeable:
                raise TypeError(f"{where} is a read-only array, but the kernel's pointer is not const")
            return np.array(value.ctypes.data, dtype=np.uintp)
        if not isinstance(value, np.generic):  # of a Python number CuPy would guess the type
            raise TypeError(f"{where} must be a NumPy scalar of {expected}, got {type(value).__name__}")
        if code[0] != "V" and value.dtype != np.dtype(code):
            raise TypeError(f"{where} must be a NumPy scalar of {expected}, got {value.dtype}")
        return np.array(value)


def _explain(error: str) -> str:
    """Put the threads that do the same into one line."""
    headline, *threads = error.splitlines()
    groups: dict[str, list[int]] = {}
    for i, doing in enumerate(threads):
        groups.setdefault(doing, []).append(i)
    lines = (f"{len(group)} threads ({group[0]}, ...) {doing}" for doing, group in groups.items())
    return "\n  ".join([headline, *lines])


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="cuda_on_cpu_")  # removed at exit


@functools.cache
def _build(code: str, options: tuple[str, ...]) -> _Library:
    macros = (option.removeprefix("-D").partition("=") for option in options)
    # Not on the command line: -DN=8 would reach the system's headers.
    defines = "".join(f"#define {name} {value if equals else 1}\n" for name, equals, value in macros)
    expanded = _compiler("-E", "-P", "-x", "c++", "-", text=f"{defines}{code}")
    parameters = {
        name: [re.findall(r"\w+", parameter)[-1] for parameter in text.split(",") if parameter.strip()]
        for name, text in _KERNEL.findall(_BOUNDS.sub("", expanded))
    }
    exports = "".join(f"CUDA_ON_CPU_EXPORT({name})\n" for name in parameters)
    source = f'#include "{_HEADER}"\n{defines}#line 1 "kernel.cu"\n{code}\n{exports}'
    path = Path(_folder().name, hashlib.sha256(source.encode()).hexdigest()[:32] + ".so")
    _compiler(*_FLAGS, "-x", "c++", "-", "-o", str(path), text=source)
    # PyDLL keeps the GIL: the state in the header is global, launches must not overlap.
    return _Library(ctypes.PyDLL(str(path)), parameters, _static_shared(path, parameters))


def _compiler(*arguments: str, text: str) -> str:
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("CpuModule needs a C++ compiler on Linux")
    result = subprocess.run([compiler, *arguments], input=text, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{compiler} failed:\n{result.stderr}")
    return result.stdout


def _static_shared(path: Path, kernels: Iterable[str]) -> dict[str, int]:
    """Bytes of static shared memory by kernel; an array of a ``__device__`` function counts for all."""
    sizes = dict.fromkeys(kernels, 0)
    nm = subprocess.run(["nm", "--format=sysv", str(path)], capture_output=True, text=True, check=True)
    for symbol in re.finditer(r"^(_Z\S*) *\|[^|]*\|[^|]*\| *TLS\|([0-9a-f]+)", nm.stdout, re.MULTILINE):
        owner = re.match(r"_ZZ(\d+)", symbol[1])  # _ZZ3sumE4part is the array `part` of the kernel `sum`
        name = symbol[1][owner.end() :][: int(owner[1])] if owner else ""
        for kernel in [name] if name in sizes else sizes:
            sizes[kernel] += int(symbol[2], 16)
    return sizes
