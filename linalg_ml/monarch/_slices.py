"""Truncated singular value decompositions of slices: by their Gram matrices, or by LAPACK on each."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import array_api_extra as xpx
import numpy as np
import scipy.linalg
from array_api_compat import is_numpy_array

from .._core.arrays import Array, cast, check_finite, compute_dtype, is_complex, namespace, real_dtype, to_numpy, wide
from .._core.scaling import half_exponents, norms, times_powers
from ._compact import adjoint, relative_gap
from ._layout import Layout, slices

_SMALL = 32  # columns up to which a call for each matrix costs more than double precision

_WIDE = 2**17  # numbers of a slice that are held in double precision at a time


class Truncated(NamedTuple):
    """S ≈ U V for a stack of slices (…, p, q); all but the factors as float64 on the host."""

    U: Array  # (…, p, r), u √σ
    V: Array  # (…, r, q), √σ vᴴ
    sigma: np.ndarray  # (…, r)
    gap: np.ndarray  # (…), 1 - σ²_{r+1}/σ²_r
    residual: np.ndarray  # (…), ‖S - U V‖_F of these factors
    norm: np.ndarray  # (…), ‖S‖_F


def panels(A: Array, cut: Layout, *, finite: bool = True) -> Iterator[tuple[int, Array]]:
    """Yield (k, panel) with the slices (…, J, p, q) of column block k, copied, in the dtype of computation.

    Each panel is checked for NaN and infinity where `finite`, so that A is read once.
    """
    dtype = compute_dtype(A.dtype)
    for k in range(cut.K):
        columns = A[..., k * cut.q : (k + 1) * cut.q]
        if finite and not _finite(columns):
            check_finite(A, "A")
        yield k, _panel(columns, cut, dtype)


def _finite(columns: Array) -> bool:
    xp = namespace(columns)
    return bool(xp.all(xp.isfinite(columns))) if not xp.isdtype(columns.dtype, ("bool", "integral")) else True


def _panel(columns: Array, cut: Layout, dtype: str) -> Array:
    """Return columns (…, m, ≤ q) as slices (…, J, p, q)."""
    *batch, m, width = columns.shape
    if is_numpy_array(columns):
        panel = np.zeros((*batch, cut.J, cut.p, cut.q), dtype)
        whole, rest = divmod(m, cut.J)
        rows = columns[..., : whole * cut.J, :].reshape(*batch, whole, cut.J, width)
        panel[..., :whole, :width] = rows.swapaxes(-3, -2)
        if rest:
            panel[..., :rest, whole, :width] = columns[..., whole * cut.J :, :]
        return panel
    columns = cast(columns, dtype)
    if (m, width) != (cut.p * cut.J, cut.q):
        columns = xpx.pad(columns, [(0, 0)] * len(batch) + [(0, cut.p * cut.J - m), (0, cut.q - width)])
    one = cut._replace(K=1)
    return slices(columns, one)[..., 0, :, :, :]


def truncate(S: Array, rank: int, method: str = "gram") -> Truncated:
    """Return the best approximations of rank `rank` of a stack of slices (…, p, q), real or complex.

    Scaled by powers of two, so that no square overflows or is lost. "gram" takes the leading eigenvectors of the
    smaller Gram matrix, multiplies S by them, orthonormalises, and projects S on that basis, which brings back the
    digits that squaring has lost; slices whose σ_r is too small for that are left to LAPACK, and with "svd" all are.
    """
    xp = namespace(S)
    half = half_exponents(S)
    scaled = times_powers(S, -half)
    if S.shape[-2] < S.shape[-1]:
        v, s, uh, gap = _decomposed(adjoint(scaled), rank, method)
        u, vh = adjoint(uh), adjoint(v)
    else:
        u, s, vh, gap = _decomposed(scaled, rank, method)
    root = xp.sqrt(s)
    U, V = gauged(u * root[..., None, :], root[..., :, None] * vh)
    residual = _residuals(scaled, U, V)  # of the factors as they are: a complex phase has rounded them once more
    power = np.ldexp(1.0, half)
    U, V = times_powers(U, half, 1), times_powers(V, half, 1)
    sigma = to_numpy(s).astype(np.float64) * power[..., None] * power[..., None]
    return Truncated(U, V, sigma, gap, residual * power * power, norms(scaled) * power * power)


def _decomposed(S: Array, rank: int, method: str) -> tuple[Array, Array, Array, np.ndarray]:
    """Return u (…, p, r), σ (…, r), vᴴ (…, r, q) and gaps of slices with p ≥ q."""
    if method == "svd":
        return _by_svd(S, rank)
    energies, W = _leading(namespace(S).matmul(adjoint(S), S), rank)
    seen = energies[..., rank - 1] > 100 * S.shape[-1] * np.finfo(real_dtype(S)).eps * energies[..., 0]
    gap = relative_gap(np.maximum(energies, 0), rank)
    if seen.all():
        return *_by_gram(S, W), gap
    if not is_numpy_array(S) or not seen.any():
        return _by_svd(S, rank)
    u, s, vh = _empty(S, rank)
    u[seen], s[seen], vh[seen] = _by_gram(S[seen], W[seen])
    u[~seen], s[~seen], vh[~seen], gap[~seen] = _by_svd(S[~seen], rank)
    return u, s, vh, gap


def _empty(S: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    *batch, p, q = S.shape
    s = np.empty((*batch, rank), real_dtype(S))
    return np.empty((*batch, p, rank), S.dtype), s, np.empty((*batch, rank, q), S.dtype)


def _by_svd(S: Array, rank: int) -> tuple[Array, Array, Array, np.ndarray]:
    u, s, vh = namespace(S).linalg.svd(S, full_matrices=False)
    gap = relative_gap(to_numpy(s).astype(np.float64) ** 2, rank)
    return u[..., :, :rank], s[..., :rank], vh[..., :rank, :], gap


def _by_gram(S: Array, W: Array) -> tuple[Array, Array, Array]:
    """Return a decomposition from leading eigenvectors W (…, q, r) of the Gram matrix, whose energies it sees.

    The columns of S W are orthogonal but for rounding, so that Cholesky makes them orthonormal. The product of Q and
    Z = QᴴS is the approximation; turning both by the eigenvectors of Z Zᴴ changes it by rounding only.
    """
    xp = namespace(S)
    Y = xp.matmul(S, W)
    Y = Y / _lengths(Y, -2)
    R = xp.linalg.cholesky(xp.matmul(adjoint(Y), Y))  # lower: YᴴY = R Rᴴ
    Q = xp.matmul(Y, adjoint(xp.linalg.inv(R)))
    Z = xp.matmul(adjoint(Q), S)
    turn = xp.flip(xp.linalg.eigh(xp.matmul(Z, adjoint(Z)))[1], axis=-1)
    Z = xp.matmul(adjoint(turn), Z)
    s = _lengths(Z, -1)
    return xp.matmul(Q, turn), s[..., 0], Z / s


def _lengths(X: Array, axis: int) -> Array:
    return namespace(X).linalg.vector_norm(X, axis=axis, keepdims=True)


def _leading(gram: Array, rank: int) -> tuple[np.ndarray, Array]:
    """Return all eigenvalues, descending, on the host, and the first `rank` eigenvectors."""
    xp = namespace(gram)
    if is_numpy_array(gram) and gram.dtype in (np.float32, np.complex64) and gram.shape[-1] > _SMALL:
        energies, W = _single_eigh(gram)
    else:
        energies, W = xp.linalg.eigh(gram)
    return to_numpy(xp.flip(energies, axis=-1)).astype(np.float64), xp.flip(W[..., gram.shape[-1] - rank :], axis=-1)


def _single_eigh(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues and -vectors, computed in single precision: `numpy.linalg` would compute in double."""
    energies, W = np.empty(gram.shape[:-1], real_dtype(gram)), np.empty_like(gram)
    for at in np.ndindex(gram.shape[:-2]):
        energies[at], W[at] = scipy.linalg.eigh(gram[at], driver="evd", check_finite=False)
    return energies, W


def _residuals(S: Array, U: Array, V: Array) -> np.ndarray:
    """Return ‖S - U V‖_F of every slice, in double precision, a few rows at a time: factors are judged as they are."""
    xp = namespace(S)
    *batch, p, q = S.shape
    step = max(1, _WIDE // max(1, math.prod(batch) * q))
    total = np.zeros(tuple(batch))
    V = wide(V)
    for start in range(0, p, step):
        rows = slice(start, min(p, start + step))
        total += norms(wide(S[..., rows, :]) - xp.matmul(wide(U[..., rows, :]), V)) ** 2
    return np.sqrt(total)


def gauged(U: Array, V: Array) -> tuple[Array, Array]:
    """Make the entry of largest modulus in each row of V real and positive, and keep U V."""
    xp = namespace(V)
    at = xp.argmax(xp.abs(V), axis=-1, keepdims=True)
    top = xp.take_along_axis(V, at, axis=-1)[..., 0]
    modulus = xp.abs(top)
    phase = xp.where(modulus > 0, top / xp.where(modulus > 0, modulus, xp.ones_like(modulus)), xp.ones_like(top))
    back = xp.conj(phase) if is_complex(V) else phase
    return U * phase[..., None, :], V * back[..., :, None]
