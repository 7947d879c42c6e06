"""The fast Walsh–Hadamard transform."""

import math
import operator
from typing import Any

import array_api_extra as xpx
import numpy as np
from array_api_compat import is_numpy_array
from numpy.linalg import LinAlgError

from .._core.arrays import (
    Array,
    all_finite,
    can_write,
    check_array,
    check_choice,
    check_int,
    is_complex,
    like,
    namespace,
)
from ._kernels import hadamard


def fwht(
    x: Any,
    n: int | None = None,
    axis: int = -1,
    norm: str | None = None,
    order: str = "natural",
    overwrite_x: bool = False,
) -> Array:
    """Compute the fast Walsh–Hadamard transform along one axis.

    Parameters
    ----------
    x : array_like
        Real or complex, any number of axes ≥ 1, any strides; of any array library.
    n : int, optional
        Length of the transform, a power of two: `x` is cut or padded with zeros to it. By default the length
        of `x` along `axis`, which then must be a power of two.
    axis : int, default -1
        The axis to transform.
    norm : {None, "backward", "ortho", "forward"}, optional
        No factor (None and "backward"), 1/√n, or 1/n.
    order : {"natural", "sequency", "dyadic"}, default "natural"
        Order of the result. Natural (Hadamard): entry r is Σ_i (-1)^popcount(r & i) x_i, as with
        `scipy.linalg.hadamard`. Sequency: by number of sign changes. Dyadic (Paley): bits of r reversed.
    overwrite_x : bool, default False
        Whether `x` may be used as scratch, or to hold the result. Ignored where `x` cannot be written to.

    Returns
    -------
    y : array
        The shape of `x` but for `n` along `axis`; C-contiguous; in the library and on the device of `x`.
        float32 and complex64 stay, integers and bools become float64.

    Raises
    ------
    ValueError
        If the length is no power of two, `axis` is out of range, or `x` is empty or not finite (what `n` cuts off
        is not looked at).
    TypeError
        If `x` is not an array of numbers.
    LinAlgError
        If finite numbers overflow.

    See Also
    --------
    SRHT : rows mixed by this transform, and a few of them kept.
    scipy.fft.dct : the trigonometric relative.

    Notes
    -----
    H is symmetric and H² = n I, so the transform with ``norm="ortho"`` is its own inverse. It costs
    n log₂ n additions for each column and no multiplication; rounding errors grow as log₂ n. On NumPy arrays it
    reads and writes memory once for every 10 bits of n. Extra memory: the result, and small buffers.

    References
    ----------
    .. [1] B. J. Fino, V. R. Algazi, "Unified matrix treatment of the fast Walsh–Hadamard transform", IEEE
       Transactions on Computers C-25 (1976).

    Examples
    --------
    >>> from linalg_ml.sketching import fwht
    >>> fwht([1.0, 0.0, 1.0, 0.0])
    array([2., 2., 0., 0.])
    >>> fwht([1, 2, 3], n=4, order="sequency")
    array([ 6.,  0., -4.,  2.])
    """
    given = x
    x = check_array(x, "x", finite=bool(overwrite_x))  # what is overwritten cannot be looked at afterwards
    if x.ndim == 0:
        raise ValueError(f"x must have at least one axis, got {given!r}")
    check_choice(norm, "norm", (None, "backward", "ortho", "forward"))
    check_choice(order, "order", ("natural", "sequency", "dyadic"))
    axis = _check_axis(axis, x.ndim)
    length = _check_length(n, x.shape[axis], axis)
    ours = x is not given and not (is_numpy_array(x) and isinstance(given, np.ndarray) and np.shares_memory(x, given))
    scale = {"ortho": length**-0.5, "forward": 1 / length}.get(norm or "", 1.0)
    y = transform(x, length, axis, scale, (bool(overwrite_x) and can_write(x)) or ours)
    if not all_finite(y):
        check_array(given, "x")
        raise LinAlgError(f"the transform of x overflows {y.dtype}; scale x down")
    return y if order == "natural" else namespace(y).take(y, like(_places(length, order), y), axis=axis)


def _check_axis(axis: Any, ndim: int) -> int:
    try:
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an integer, got {axis!r}") from None
    if not -ndim <= number < ndim:
        raise ValueError(f"axis must be an integer from {-ndim} to {ndim - 1} for {ndim}-d x, got {number}")
    return number % ndim


def power_of_two(n: int) -> int:
    """Return the least power of two that is not below n."""
    return 1 << (n - 1).bit_length()


def _check_length(n: int | None, length: int, axis: int) -> int:
    if n is None:
        if length != power_of_two(length):
            raise ValueError(
                f"x must have a power of two as its length along axis {axis}, got {length}; pad it with zeros by "
                f"n={power_of_two(length)}"
            )
        return length
    n = check_int(n, "n")
    if n != power_of_two(n):
        raise ValueError(f"n must be a power of two, got {n}; the next one is {power_of_two(n)}")
    return n


def transform(x: Array, n: int, axis: int, scale: float = 1.0, overwrite: bool = False) -> Array:
    """Return the transform in natural order times `scale`, of a float or complex array, unchecked."""
    resized = _resize(x, n, axis)
    return _transform(resized, axis, scale, overwrite or x.shape[axis] < n)


def _resize(x: Array, n: int, axis: int) -> Array:
    """Cut `x` (a view) or pad it with zeros (a copy)."""
    length = x.shape[axis]
    if length > n:
        return x[(slice(None),) * axis + (slice(n), ...)]
    if length == n:
        return x
    return xpx.pad(x, [(0, (n - length) * (i == axis)) for i in range(x.ndim)])


def _transform(x: Array, axis: int, scale: float, overwrite: bool) -> Array:
    """Bring `x` to the kernel's form (before, n, after); complex numbers are pairs of real ones."""
    xp, shape = namespace(x), x.shape
    if is_complex(x):
        if is_numpy_array(x):
            pairs = np.ascontiguousarray(x)
            real = pairs.view(pairs.real.dtype).reshape(*shape, 2)
            y = _transform(real, axis, scale, overwrite or pairs is not x)
            return y.view(x.dtype).reshape(shape)
        parts = xp.stack([xp.real(x), xp.imag(x)], axis=-1)
        y = _transform(parts, axis, scale, True)
        return xp.astype(y[..., 0], x.dtype) + xp.astype(y[..., 1], x.dtype) * 1j
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return xp.reshape(hadamard(xp.reshape(x, (before, shape[axis], after)), scale, overwrite), shape)


def _places(n: int, order: str) -> np.ndarray:
    """Return the natural row for each row of the wanted order."""
    k = np.arange(n)
    if order == "sequency":
        k = k ^ (k >> 1)
    reverse = np.zeros_like(k)
    for bit in range(n.bit_length() - 1):
        reverse = reverse << 1 | (k >> bit & 1)
    return reverse
