"""The metric of the inputs in which approximations are judged: weights, checked, scaled and factored."""

import contextlib
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.linalg import LinAlgError

from .._core.arrays import (
    Array,
    check_array,
    check_same,
    is_complex,
    real_dtype,
    to_numpy,
    wide,
)
from .._linalg.estimates import exact_norm
from ._compact import adjoint
from ._layout import Layout

_ASYMMETRY = 1e4  # units of rounding, relative to the diagonal, up to which weights count as Hermitian
_EPS = float(np.finfo(np.float64).eps)


class Coupling(NamedTuple):
    """What block descent needs of a Σ̂ that is not block-diagonal."""

    inverse: Array  # (K, q, q), C⁻¹ of each block
    product: Array  # (K, Kq, q), Σ̂_:k C⁻ᴴ
    root: Array  # (Kq, any), Σ̂ = root rootᴴ


class Metric(NamedTuple):
    """Σ = 2**powers Σ̂ 2**powers, on the host; padded columns have unit weight."""

    powers: np.ndarray  # (K, q), integers
    blocks: np.ndarray  # (K, q, q), lower C with C Cᴴ = Σ̂_kk; (K, 1, q), their diagonals, where that is all
    coupling: Coupling | None


def metric_of(weights: Any, A: Array, cut: Layout) -> Metric:
    """Return the metric of weights (n,), (K, q, q) or (n, n) for A, or say what is wrong with them."""
    weights = check_array(weights, "weights")
    check_same(A=A, weights=weights)
    if is_complex(weights) and not is_complex(A):
        raise TypeError(f"weights must be real where A is, got dtypes {weights.dtype} and {A.dtype}")
    accepted = {1: (cut.n,), 2: (cut.n, cut.n), 3: (cut.K, cut.q, cut.q)}
    if accepted.get(weights.ndim) != tuple(weights.shape):
        shapes = " or ".join(map(str, accepted.values()))
        raise ValueError(f"weights must be of shape {shapes} (diagonal, full, blocks), got {tuple(weights.shape)}")
    unit = float(np.finfo(real_dtype(weights)).eps)
    values = to_numpy(wide(weights))
    if values.ndim == 1:
        return _of_diagonal(_hermitian(values[:, None, None], unit)[:, 0, 0].real, cut)
    values = _hermitian(values, unit)
    return _of_blocks(values, cut) if values.ndim == 3 else _of_full(values, cut, unit)


def _hermitian(values: np.ndarray, unit: float) -> np.ndarray:
    """Return Hermitian matrices (…, q, q), without what rounding has added."""
    size = np.sqrt(np.abs(np.diagonal(values, axis1=-2, axis2=-1)))
    skew = np.abs(values - adjoint(values))
    if (skew > _ASYMMETRY * unit * size[..., :, None] * size[..., None, :]).any():
        raise ValueError(
            "weights must be symmetric (Hermitian, where complex) with a real diagonal, got a largest difference of "
            f"{skew.max():.3g} from the conjugate transpose"
        )
    return 0.5 * values + 0.5 * adjoint(values)


def _of_diagonal(values: np.ndarray, cut: Layout) -> Metric:
    weights = np.append(values, np.ones(cut.K * cut.q - cut.n)).reshape(cut.K, cut.q)
    powers = _powers(weights)
    return Metric(powers, np.sqrt(np.ldexp(weights, -2 * powers))[:, None, :], None)


def _of_blocks(values: np.ndarray, cut: Layout) -> Metric:
    real = np.arange(cut.K * cut.q).reshape(cut.K, cut.q) < cut.n
    values = np.where(real[:, :, None] & real[:, None, :], values, np.eye(cut.q))
    powers = _powers(np.diagonal(values, axis1=-2, axis2=-1).real)
    return Metric(powers, _factored(_unscaled(values, powers)), None)


def _of_full(values: np.ndarray, cut: Layout, unit: float) -> Metric:
    padded = np.eye(cut.K * cut.q, dtype=values.dtype)
    padded[: cut.n, : cut.n] = values
    powers = _powers(np.diagonal(padded).real.reshape(cut.K, cut.q))
    scaled = _unscaled(padded, powers.ravel())
    blocks = _factored(_diagonal_blocks(scaled, cut))
    if not np.abs(scaled).max() <= 2:  # above what a diagonal below one allows; it may have overflowed
        raise _negative()
    if np.count_nonzero(scaled) == np.count_nonzero(_diagonal_blocks(scaled, cut)):
        return Metric(powers, blocks, None)
    return Metric(powers, blocks, _coupling(scaled, blocks, _root(scaled, unit)))


def metric_of_root(root: np.ndarray, cut: Layout) -> Metric:
    """Return the metric Σ = rootᴴ root of a root (any, n), made definite where it is not, to rounding.

    The weights that do so are within rounding of the diagonal of Σ. They are not part of the weighted error.
    """
    norms = np.ones(cut.K * cut.q)
    norms[: cut.n] = [exact_norm(root[:, i]) for i in range(cut.n)]
    powers = np.frexp(np.where(norms > 0, norms, norms.max()))[1]
    wide = np.zeros((root.shape[0] + norms.size - cut.n, norms.size), root.dtype)
    wide[: root.shape[0], : cut.n] = np.ldexp(root, -powers[: cut.n])
    wide[root.shape[0] :, cut.n :] = 0.5 * np.eye(norms.size - cut.n)  # unit weights without 2**powers, which is 2
    scaled = wide.T @ wide + 4 * norms.size * _EPS * np.eye(norms.size)
    blocks = _factored(_diagonal_blocks(scaled, cut))
    return Metric(powers.reshape(cut.K, cut.q), blocks, _coupling(scaled, blocks, wide.T) if cut.K > 1 else None)


def _powers(diagonal: np.ndarray) -> np.ndarray:
    """Return integers (K, q) near half the logarithms of a positive diagonal."""
    bad = ~(diagonal > 0).all(axis=-1)
    if bad.any():
        raise _indefinite(int(np.argmax(bad)))
    return np.frexp(np.sqrt(diagonal))[1]


def _indefinite(k: int) -> LinAlgError:
    return LinAlgError(f"weights must be positive definite, but their block {k} is not")


def _unscaled(values: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Return Σ̂ of Σ (…, q, q)."""
    factor = np.ldexp(1.0, -powers)
    with np.errstate(over="ignore"):  # what overflows is far from definite
        return values * factor[..., :, None] * factor[..., None, :]


def _diagonal_blocks(values: np.ndarray, cut: Layout) -> np.ndarray:
    """Return the blocks (K, q, q), a copy."""
    k = np.arange(cut.K)
    return values.reshape(cut.K, cut.q, cut.K, cut.q)[k, :, k, :]


def _factored(blocks: np.ndarray) -> np.ndarray:
    """Return the lower Cholesky factor of every block, or name the block that has none."""
    C = np.empty_like(blocks)
    for k, block in enumerate(blocks):
        try:
            C[k] = np.linalg.cholesky(block)
        except LinAlgError:
            raise _indefinite(k) from None
        if not np.isfinite(C[k]).all():
            raise _indefinite(k)
    return C


def _coupling(scaled: np.ndarray, blocks: np.ndarray, root: np.ndarray) -> Coupling:
    K, q, _ = blocks.shape
    unit = np.eye(q)
    inverse = np.stack([scipy.linalg.solve_triangular(C, unit, lower=True, check_finite=False) for C in blocks])
    columns = scaled.reshape(-1, K, q).swapaxes(0, 1)
    return Coupling(inverse, columns @ adjoint(inverse), root)


def _root(scaled: np.ndarray, unit: float) -> np.ndarray:
    """Return a root (n, any) with root rootᴴ = Σ̂: by Cholesky, with pivots where Σ̂ is singular to rounding.

    Norms of products with it are right where ⟨D Σ̂, D⟩ would cancel.
    """
    with contextlib.suppress(LinAlgError):
        return np.linalg.cholesky(scaled)
    n = scaled.shape[0]
    (factor,) = scipy.linalg.get_lapack_funcs(("pstrf",), (scaled,))
    packed, pivots, rank, _ = factor(scaled, tol=n * unit, lower=1)
    root = np.empty((n, rank), scaled.dtype)
    root[pivots - 1] = np.tril(packed)[:, :rank]
    if not np.abs(scaled - root @ adjoint(root)).max() <= 10 * n * unit:
        raise _negative()
    return root


def _negative() -> LinAlgError:
    return LinAlgError("weights must be positive semidefinite as a whole, but they have a negative eigenvalue")
