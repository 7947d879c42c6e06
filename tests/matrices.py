"""Matrices for tests: known spectra, hard conditioning, bad scaling, odd shapes and odd memory.

Makers take a `seed` and answer with NumPy arrays; ``xp.asarray`` takes them elsewhere.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy import sparse

NASTY_SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (5, 3), (3, 5), (17, 16), (31, 33)]


def gaussian(m: int, n: int, *, seed: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return independent standard normal entries; for a complex dtype, of variance 1 in all.

    >>> gaussian(2, 3, dtype=np.complex64).dtype
    dtype('complex64')
    """
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, n))
    if np.issubdtype(dtype, np.complexfloating):
        A = (A + 1j * rng.standard_normal((m, n))) / np.sqrt(2)
    return A.astype(dtype)


def orthonormal(m: int, n: int, *, seed: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return n ≤ m orthonormal columns in general position.

    >>> Q = orthonormal(5, 3)
    >>> bool(np.allclose(Q.T @ Q, np.eye(3)))
    True
    """
    wide = np.result_type(dtype, np.float64)
    return np.linalg.qr(gaussian(m, n, seed=seed, dtype=wide))[0].astype(dtype)


def with_spectrum(
    m: int, n: int, singular_values: ArrayLike, *, seed: int = 0, dtype: DTypeLike = np.float64
) -> np.ndarray:
    """Return an (m, n) matrix of these singular values (at most min(m, n); those not given are zero).

    >>> np.linalg.svd(with_spectrum(6, 4, [3, 2, 1]), compute_uv=False).round(12)
    array([3., 2., 1., 0.])
    """
    values = np.asarray(singular_values, np.float64)
    wide = np.result_type(dtype, np.float64)
    U = orthonormal(m, values.size, seed=seed, dtype=wide)
    V = orthonormal(n, values.size, seed=seed + 1, dtype=wide)
    return ((U * values) @ V.conj().T).astype(dtype)


def low_rank(
    m: int, n: int, rank: int, *, noise: float = 0.0, seed: int = 0, dtype: DTypeLike = np.float64
) -> np.ndarray:
    """Return singular values one, `rank` of them, and `noise` (a spectral norm) on top.

    >>> int(np.linalg.matrix_rank(low_rank(9, 7, 3)))
    3
    """
    A = with_spectrum(m, n, np.ones(rank), seed=seed, dtype=dtype)
    if noise:
        E = gaussian(m, n, seed=seed + 2, dtype=dtype)
        A += (noise / np.linalg.norm(E, 2) * E).astype(dtype)
    return A


def ill_conditioned(
    m: int,
    n: int,
    condition: float = 1e15,
    *,
    decay: str = "geometric",
    seed: int = 0,
    dtype: DTypeLike = np.float64,
) -> np.ndarray:
    """Return singular values from 1 to 1/condition: "geometric", "linear", "one_small" or "one_large".

    >>> bool(1e7 < np.linalg.cond(ill_conditioned(20, 5, 1e8)) < 1e9)
    True
    """
    k, small = min(m, n), 1 / condition
    values = {
        "geometric": np.geomspace(1, small, k),
        "linear": np.linspace(1, small, k),
        "one_small": np.r_[np.ones(k - 1), small],
        "one_large": np.r_[1.0, np.full(k - 1, small)],
    }[decay]
    return with_spectrum(m, n, values, seed=seed, dtype=dtype)


def badly_scaled(
    m: int, n: int, decades: float = 12.0, *, axis: int = 1, seed: int = 0, dtype: DTypeLike = np.float64
) -> np.ndarray:
    """Return Gaussian columns (rows for axis 0) graded over so many powers of ten.

    >>> A = badly_scaled(50, 3, 6)
    >>> bool(np.linalg.norm(A[:, 0]) > 1e5 * np.linalg.norm(A[:, 2]))
    True
    """
    scales = np.logspace(0, -decades, (m, n)[axis])
    return (gaussian(m, n, seed=seed) * (scales if axis == 1 else scales[:, None])).astype(dtype)


def heavy_rows(
    m: int, n: int, count: int = 1, *, weight: float = 1e6, seed: int = 0, dtype: DTypeLike = np.float64
) -> np.ndarray:
    """Return Gaussian rows of which a few, anywhere, are `weight` times as long: uniform samples miss them.

    >>> norms = np.linalg.norm(heavy_rows(100, 4, 2), axis=1)
    >>> int((norms > 1e5).sum())
    2
    """
    A = gaussian(m, n, seed=seed)
    A[np.random.default_rng(seed + 1).choice(m, count, replace=False)] *= weight
    return A.astype(dtype)


def coherent(m: int, n: int, *, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return [I; 0]: all that it spans lies in n rows, of leverage one.

    >>> coherent(3, 2)
    array([[1., 0.],
           [0., 1.],
           [0., 0.]])
    """
    return np.eye(m, n, dtype=dtype)


def positive_definite(
    n: int, eigenvalues: ArrayLike | None = None, *, seed: int = 0, dtype: DTypeLike = np.float64
) -> np.ndarray:
    """Return a Hermitian matrix of these eigenvalues (by default from 1 to 10), exactly Hermitian.

    >>> np.linalg.eigvalsh(positive_definite(3, [1, 2, 5])).round(12)
    array([1., 2., 5.])
    """
    values = np.linspace(1, 10, n) if eigenvalues is None else np.asarray(eigenvalues, np.float64)
    Q = orthonormal(n, n, seed=seed, dtype=np.result_type(dtype, np.float64))
    A = (Q * values) @ Q.conj().T
    return ((A + A.conj().T) / 2).astype(dtype)


def sparse_matrix(
    m: int, n: int, density: float = 0.1, *, seed: int = 0, dtype: DTypeLike = np.float64
) -> sparse.csr_array:
    """Return Gaussian entries at random places, with an empty first row and column where there are several.

    >>> sparse_matrix(10, 10).format
    'csr'
    """
    kept = np.random.default_rng(seed).random((m, n)) < density
    kept[0] &= m == 1
    kept[:, 0] &= n == 1
    return sparse.csr_array(np.where(kept, gaussian(m, n, seed=seed + 1, dtype=dtype), 0))


def tiny(m: int, n: int, *, seed: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return denormal entries: a few hundred times the least positive number, squares of which are zero.

    >>> bool(0 < np.abs(tiny(2, 2)).max() < np.finfo(np.float64).tiny)
    True
    """
    return (100 * gaussian(m, n, seed=seed)).round().astype(dtype) * np.finfo(dtype).smallest_subnormal


def huge(m: int, n: int, *, seed: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return entries up to a thousandth of the largest number: sums of a few do not overflow, squares do.

    >>> bool(np.isfinite(huge(9, 9)).all() and np.abs(huge(9, 9)).max() > 1e300)
    True
    """
    A = gaussian(m, n, seed=seed)
    return (A / np.abs(A).max()).astype(dtype) * (np.finfo(dtype).max / 1000)


def layouts(A: ArrayLike) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, array equal to `A`) for the ways in which an array may lie in memory.

    >>> [name for name, B in layouts(np.ones((2, 3))) if not B.flags.c_contiguous]
    ['Fortran', 'strided', 'negative strides', 'inside a larger array']
    """
    A = np.asarray(A)
    yield "C", A.copy()
    yield "Fortran", np.asfortranarray(A)
    every_second = np.repeat(A, 2, axis=-1)[..., ::2]
    yield "strided", every_second
    turned = (slice(None, None, -1),) * A.ndim
    yield "negative strides", A[turned].copy()[turned]
    frame = np.full(tuple(size + 2 for size in A.shape), A.dtype.type(7))
    inside = frame[(slice(1, -1),) * A.ndim]
    inside[...] = A
    yield "inside a larger array", inside
    read_only = A.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only


def regression(
    m: int, n: int, condition: float = 10.0, residual: float = 1.0, *, seed: int = 0, dtype: DTypeLike = np.float64
) -> tuple[np.ndarray, np.ndarray]:
    """Return A with singular values from 1 to 1/condition, and b of which ‖b - A x‖ = residual·‖A x‖ for the best x.

    >>> A, b = regression(20, 3, residual=0.5)
    >>> x = np.linalg.lstsq(A, b)[0]
    >>> round(float(np.linalg.norm(b - A @ x) / np.linalg.norm(A @ x)), 10)
    0.5
    """
    wide = np.result_type(dtype, np.float64)
    A = ill_conditioned(m, n, condition, seed=seed, dtype=wide)
    fitted, noise = A @ gaussian(n, 1, seed=seed + 2, dtype=wide), gaussian(m, 1, seed=seed + 3, dtype=wide)
    Q = np.linalg.qr(A)[0]
    for _ in range(2):
        noise = noise - Q @ (Q.conj().T @ noise)
    b = fitted / np.linalg.norm(fitted) + residual * noise / np.linalg.norm(noise)
    return A.astype(dtype), b[:, 0].astype(dtype)


def accurate_lstsq(A: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Return the least-squares solution by Householder QR in longdouble (80 bits on x86), real or complex.

    >>> accurate_lstsq([[2, 0], [0, 4], [0, 0]], [2, 2, 1]).astype(float)
    array([1. , 0.5])
    """
    T = np.column_stack([A, b])
    T = T.astype(np.result_type(T, np.longdouble))
    d = np.shape(A)[1]
    for j in range(d):
        v = T[j:, j].copy()
        v[0] += (v[0] / abs(v[0]) if v[0] != 0 else 1) * np.sqrt(np.sum(np.abs(v) ** 2))
        v /= np.sqrt(np.sum(np.abs(v) ** 2))
        T[j:, j:] -= 2 * np.multiply.outer(v, v.conj() @ T[j:, j:])
    x = T[:d, d:]
    for j in reversed(range(d)):
        x[j] = (x[j] - T[j, j + 1 : d] @ x[j + 1 :]) / T[j, j]
    return x[:, 0] if np.ndim(b) == 1 else x


def backward_error(A: np.ndarray, b: np.ndarray, x: np.ndarray) -> float:
    """Return Karlson and Waldén's ‖ΔA‖_F/‖A‖_F of a least-squares solution, from the SVD, with a long residual.

    >>> backward_error(np.eye(3, 2), np.ones(3), np.ones(2))
    0.0
    """
    long = np.result_type(A, b, np.longdouble)
    r = b.astype(long) - A.astype(long) @ x.astype(long)
    g = (A.conj().T.astype(long) @ r).astype(np.result_type(A, b))
    _, s, Vh = np.linalg.svd(A, full_matrices=False)
    x_norm, r_norm = float(np.linalg.norm(x)), float(np.linalg.norm(r.astype(g.dtype)))
    return float(np.linalg.norm((Vh @ g) / np.hypot(s, r_norm / x_norm)) / (x_norm * np.linalg.norm(s)))
