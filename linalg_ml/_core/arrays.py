"""Arrays: namespace, device and dtype, and the one place where input is checked.

Built on array-api-compat; there is no backend class here, only questions and checks. Every error names the
argument, says what was got and what is accepted.
"""

import operator
from collections.abc import Collection
from typing import Any

import numpy as np
from array_api_compat import (
    array_namespace,
    device,
    is_array_api_obj,
    is_dask_array,
    is_numpy_array,
    is_torch_array,
    is_writeable_array,
)
from scipy import sparse

Array = Any  # an array of any namespace; Python has no type for "follows the array API standard" yet

DENSE = "a NumPy, CuPy, PyTorch or other array-API array, or nested lists of numbers"


def namespace(*arrays: Array) -> Any:
    """Return the array-API namespace (array-api-compat's) that all of the dense `arrays` belong to."""
    return array_namespace(*arrays)


# --- kinds of input -----------------------------------------------------------------------------------


def _origin(A: Any) -> str:
    return type(A).__module__


def is_cupy_sparse(A: Any) -> bool:
    return _origin(A).startswith("cupyx.scipy.sparse")


def is_sparse(A: Any) -> bool:
    """Tell SciPy's and CuPy's sparse matrices and arrays."""
    return sparse.issparse(A) or is_cupy_sparse(A)


def _kind(A: Any) -> str:
    """Describe an object for an error message."""
    shape = getattr(A, "shape", None)
    dtype = getattr(A, "dtype", None)
    text = f"{_origin(A)}.{type(A).__qualname__}".removeprefix("builtins.")
    if isinstance(shape, tuple):
        text += f" of shape {tuple(shape)}"
    return text if dtype is None else f"{text} and dtype {dtype}"


# --- dtypes -------------------------------------------------------------------------------------------

_NARROW = {"float16": "float32", "bfloat16": "float32"}
_WIDE = {"float96": "float64", "float128": "float64", "complex192": "complex128", "complex256": "complex128"}
_FLOATS = ("float32", "float64")
_COMPLEX = ("complex64", "complex128")


def _dtype_name(dtype: Any) -> str:
    return np.dtype(dtype).name if isinstance(dtype, np.dtype) else str(dtype).rpartition(".")[2]


def compute_dtype(dtype: Any, name: str = "A", *, complex_ok: bool = True) -> str:
    """Return the name of the dtype in which input of `dtype` is computed and answered.

    float32, float64, complex64 and complex128 stay; float16 and bfloat16 become float32; integers and bools
    float64; longdouble float64 and clongdouble complex128, as in SciPy. All else is a TypeError.
    """
    given = _dtype_name(dtype)
    computed = _NARROW.get(given) or _WIDE.get(given) or given
    if given == "bool" or given.startswith(("int", "uint")):
        computed = "float64"
    if computed in _COMPLEX and not complex_ok:
        raise TypeError(f"{name} must be real, got dtype {given}")
    if computed not in _FLOATS + _COMPLEX:
        accepted = f"bool, integer, float{' or complex' * complex_ok}"
        raise TypeError(f"{name} must hold numbers ({accepted}), got dtype {given}")
    return computed


def is_complex(A: Array) -> bool:
    return _dtype_name(A.dtype) in _COMPLEX


def real_dtype(A: Array) -> str:
    """Return the name of the dtype of the real and imaginary parts of `A`."""
    return {"complex64": "float32", "complex128": "float64"}.get(_dtype_name(A.dtype), _dtype_name(A.dtype))


def wide_dtype(A: Array) -> str:
    """Return the name of the dtype of double precision in which `A` is judged: of errors, norms and certificates."""
    return "complex128" if is_complex(A) else "float64"


def wide(A: Array) -> Array:
    """Return `A` in double precision, itself where it is so already."""
    return cast(A, wide_dtype(A))


def cast(A: Array, dtype_name: str) -> Array:
    """Return `A` in the named dtype and in native byte order, itself where it is so already."""
    if is_sparse(A) or is_numpy_array(A):
        return A.astype(dtype_name, copy=False)
    xp = namespace(A)
    return xp.astype(A, getattr(xp, dtype_name), copy=False)


# --- checks -------------------------------------------------------------------------------------------


def check_array(
    A: Any,
    name: str,
    *,
    ndim: int | Collection[int] | None = None,
    complex_ok: bool = True,
    sparse_ok: bool = False,
    finite: bool = True,
    convert: bool = True,
) -> Array:
    """Return `A` as an array that can be computed with, or say what is wrong with it.

    Parameters
    ----------
    A : object
        A dense array of any namespace, nested lists of numbers (these become NumPy arrays) and, where
        `sparse_ok`, a sparse matrix or array of SciPy or CuPy (SciPy's become CSR arrays).
    name : str
        What the caller calls this argument.
    ndim : int or collection of int, optional
        Accepted numbers of axes.
    complex_ok, finite : bool
        Whether complex numbers are accepted; whether NaN and infinity are refused (one pass over `A`).
    convert : bool
        Convert to the dtype of `compute_dtype`. False for inputs too large to copy: their blocks are converted.

    Returns
    -------
    A : array
        Never a copy of what could be used as it is.

    Raises
    ------
    TypeError
        Not an array, or not of numbers.
    ValueError
        Wrong number of axes, empty, or not finite.
    """
    A = _as_array(A, name, sparse_ok)
    wanted = compute_dtype(A.dtype, name, complex_ok=complex_ok)
    accepted = (ndim,) if isinstance(ndim, int) else ndim
    if accepted is not None and A.ndim not in accepted:
        text = " or ".join(f"{k}-d" for k in accepted)
        raise ValueError(f"{name} must be {text}, got {_kind(A)}")
    if 0 in A.shape:
        raise ValueError(f"{name} is empty: got shape {tuple(A.shape)}, every axis must be at least 1 long")
    if convert:
        A = cast(A, wanted)
    if finite:
        check_finite(A, name)
    return A


def _as_array(A: Any, name: str, sparse_ok: bool) -> Array:
    if is_sparse(A):
        if not sparse_ok:
            raise TypeError(f"{name} must be dense here, got {_kind(A)}; convert it by .toarray() if it fits in memory")
        if is_cupy_sparse(A):
            return A.tocsr()
        if A.ndim != 2:
            raise ValueError(f"{name} must be 2-d if it is sparse, got {_kind(A)}")
        return sparse.csr_array(A)  # shares the data of a CSR input
    if _origin(A).partition(".")[0] == "sparse":
        raise TypeError(f"{name} is a pydata/sparse array, which is not accepted; convert it by .to_scipy_sparse()")
    if isinstance(A, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; fill it first (A.filled(value))")
    if is_torch_array(A) and A.is_sparse | A.is_sparse_csr:
        raise TypeError(f"{name} is a sparse PyTorch tensor, which is not accepted; convert it by .to_dense()")
    if is_dask_array(A):
        raise TypeError(f"{name} is a dask array, which is not accepted here; accepted is {DENSE}")
    if isinstance(A, list | tuple | int | float | complex | np.generic):
        try:
            A = np.asarray(A)
        except ValueError as error:
            raise ValueError(f"{name} is no regular array: {error}") from None
    if isinstance(A, np.ndarray):
        A = np.asarray(A)  # np.matrix and np.memmap with their own rules become plain views
    if not is_array_api_obj(A):
        hint = "; convert a data frame by .to_numpy()" if hasattr(A, "to_numpy") else ""
        raise TypeError(f"{name} must be {DENSE}{' or a sparse array' * sparse_ok}, got {_kind(A)}{hint}")
    return A


def all_finite(A: Array) -> bool:
    """Tell whether `A` holds neither NaN nor infinity; one pass, no temporary where the sum is finite."""
    if is_sparse(A):
        A = A.data
    xp = namespace(A)
    if not is_numpy_array(A):
        return bool(xp.all(xp.isfinite(A)))
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(A.sum())) or bool(np.isfinite(A).all())


def check_finite(A: Array, name: str, first_row: int = 0) -> None:
    """Raise a ValueError that names the first row of `A` with a NaN or an infinity, counted from `first_row`."""
    if all_finite(A):
        return
    if is_sparse(A):
        position = np.flatnonzero(~np.isfinite(to_numpy(A.data)))[0]
        row = int(np.searchsorted(to_numpy(A.indptr), position, side="right")) - 1
    else:
        xp = namespace(A)
        bad = ~xp.isfinite(xp.reshape(A, (A.shape[0], -1)) if A.ndim > 1 else A)
        row = int(xp.argmax(xp.astype(xp.any(bad, axis=1) if A.ndim > 1 else bad, xp.int8)))
    raise ValueError(f"{name} must be finite, got NaN or infinity in row {first_row + row}")


def check_same(**arrays: Array) -> Any:
    """Return the namespace of all these dense arrays; a ValueError names two that differ in it or in device."""
    (first, reference), *others = arrays.items()
    xp = namespace(reference)
    for name, A in others:
        if namespace(A) is not xp:
            got = f"{_kind(reference)} and {_kind(A)}"
            raise ValueError(f"{first} and {name} must come from one array library, got {got}")
        if device(A) != device(reference):
            raise ValueError(f"{first} and {name} must be on one device, got {device(reference)} and {device(A)}")
    return xp


def check_int(value: Any, name: str, low: int = 1, high: int | None = None, why: str = "") -> int:
    """Return `value` as an int in [low, high], or say what was got and what is accepted."""
    accepted = f"an integer ≥ {low}" if high is None else f"an integer from {low} to {high}"
    accepted += f" ({why})" * bool(why)
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be {accepted}, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {accepted}, got {value!r}") from None
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} must be {accepted}, got {number}")
    return number


def check_real(value: Any, name: str, low: float, high: float, *, open_ends: bool = True) -> float:
    """Return `value` as a float inside (low, high), or [low, high] if not `open_ends`."""
    left, right = ("(", ")") if open_ends else ("[", "]")
    accepted = f"a number in {left}{low:g}, {high:g}{right}"
    refused = bool | np.bool_ | str | bytes | complex | np.complexfloating
    if isinstance(value, refused) or np.ndim(value):  # older NumPy makes a float of an array of one
        raise TypeError(f"{name} must be {accepted}, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {accepted}, got {value!r}") from None
    if not (low < number < high if open_ends else low <= number <= high):
        raise ValueError(f"{name} must be {accepted}, got {number:g}")
    return number


def check_choice(value: Any, name: str, accepted: Collection[Any]) -> Any:
    """Return `value` if it is one of `accepted`."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in accepted):
        raise ValueError(f"{name} must be {' or '.join(map(repr, accepted))}, got {value!r}")
    return value


# --- moving -------------------------------------------------------------------------------------------


def to_numpy(A: Array) -> np.ndarray:
    """Return `A` on the host, a view where it is there already."""
    if is_numpy_array(A):
        return A
    if is_torch_array(A):
        return A.detach().cpu().resolve_conj().resolve_neg().numpy()
    if hasattr(A, "get"):  # CuPy
        return A.get()
    try:
        return np.from_dlpack(A)
    except BufferError:  # NumPy 2.0 takes no read-only data
        return np.asarray(A)


def like(values: np.ndarray, A: Array, dtype: Any = None) -> Array:
    """Return host `values` in the namespace and on the device of `A`, in a dtype of that namespace or of that name."""
    if is_numpy_array(A):
        return values if dtype is None else values.astype(dtype, copy=False)
    if is_torch_array(A):  # shares memory, and takes neither negative strides nor read-only arrays
        values = np.require(values, requirements=["C", "W"])
    xp = namespace(A)
    return xp.asarray(values, dtype=getattr(xp, dtype) if isinstance(dtype, str) else dtype, device=device(A))


def can_write(A: Array) -> bool:
    """Tell whether entries of `A` can be assigned (not so in JAX, nor in a read-only memmap)."""
    return is_writeable_array(A)
