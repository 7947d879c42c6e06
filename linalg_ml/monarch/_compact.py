"""Slices known by their factors U (p × r) and V (r × q): norms and recompression without the slices."""

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.arrays import Array, is_complex, like, namespace, real_dtype, to_numpy
from .._core.scaling import times_power, top_exponent
from .._linalg.estimates import exact_norm
from ._form import two_stages
from ._layout import Layout

if TYPE_CHECKING:
    from ._matrix import MonarchMatrix


def factor_slices(left: Array, right: Array) -> tuple[Array, Array]:
    """Return U (…, K, J, p, r) and V (…, K, J, r, q) of left (…, J, p, K, r) and right (…, K, r, J, q)."""
    xp = namespace(left)
    t = left.ndim - 4
    lead = tuple(range(t))
    return xp.permute_dims(left, (*lead, t + 2, t, t + 1, t + 3)), xp.permute_dims(
        right, (*lead, t, t + 2, t + 1, t + 3)
    )


def merge_slices(U: Array, V: Array) -> tuple[Array, Array]:
    """Return left and right, contiguous, of U (…, K, J, p, r) and V (…, K, J, r, q)."""
    xp = namespace(U)
    t = U.ndim - 4
    lead = tuple(range(t))
    left = xp.permute_dims(U, (*lead, t + 1, t + 2, t, t + 3))
    right = xp.permute_dims(V, (*lead, t, t + 2, t + 1, t + 3))
    if isinstance(left, np.ndarray):
        return np.ascontiguousarray(left), np.ascontiguousarray(right)
    return left, right


def chain_norm(M: "MonarchMatrix") -> float:
    """Return ‖M‖_F."""
    form = M._form or M.T._form
    if form is None:
        return math.hypot(*(exact_norm(to_numpy(panel)) for _, panel in M._panels(M.shape[-1])))
    U, V, exponent = _scaled_slices(*form)
    with np.errstate(over="ignore"):  # a norm beyond the largest number is infinite
        return float(np.ldexp(exact_norm(to_numpy(_core(U, V))), exponent))


def _scaled_slices(left: Array, right: Array, cut: Layout) -> tuple[Array, Array, int]:
    """Return U and V of all slices, zero beyond the shape and with entries up to one, and e: they are U V · 2**e."""
    if cut.padded:
        left, right = _cut_off(left, right, cut)
    U, V = factor_slices(left, right)
    of_u, of_v = top_exponent(U), top_exponent(V)
    return times_power(U, -of_u), times_power(V, -of_v), of_u + of_v


def _cut_off(left: Array, right: Array, cut: Layout) -> tuple[Array, Array]:
    """Set to zero what lies beyond the shape."""
    xp = namespace(left)
    rows = np.arange(cut.p)[None, :] * cut.J + np.arange(cut.J)[:, None] < cut.m
    columns = np.arange(cut.K)[:, None] * cut.q + np.arange(cut.q)[None, :] < cut.n
    left = xp.where(like(rows, left)[:, :, None, None], left, xp.zeros_like(left))
    return left, xp.where(like(columns, right)[:, None, None, :], right, xp.zeros_like(right))


def _core(U: Array, V: Array) -> Array:
    """Return the small matrix between orthonormal bases of U and of Vᴴ."""
    xp = namespace(U)
    if U.shape[-1] == 1:  # nothing to factor: norms are enough
        return xp.linalg.vector_norm(U, axis=-2, keepdims=True) * xp.linalg.vector_norm(V, axis=-1, keepdims=True)
    return xp.matmul(xp.linalg.qr(U)[1], adjoint(xp.linalg.qr(adjoint(V))[1]))


def adjoint(X: Array) -> Array:
    xp = namespace(X)
    X = xp.matrix_transpose(X)
    return xp.conj(X) if is_complex(X) else X


def recompress(M: "MonarchMatrix", rank: int | None, tol: float | None) -> "MonarchMatrix":
    """Return the nearest Monarch matrix of that rank, or of the least rank within that tolerance."""
    from ._matrix import MonarchMatrix

    left, right, cut = M._two_stage()
    xp = namespace(left)
    U, V, exponent = _scaled_slices(left, right, cut)
    (Qu, Ru), (Qv, Rv) = xp.linalg.qr(U), xp.linalg.qr(adjoint(V))
    u, s, vh = xp.linalg.svd(xp.matmul(Ru, adjoint(Rv)), full_matrices=False)
    squares = to_numpy(s).astype(np.float64) ** 2
    if rank is None:
        beyond = np.sqrt(_tails(squares))
        limit = (10 * float(np.finfo(real_dtype(left)).eps) if tol is None else tol) * beyond[0]
        rank = max(1, int(np.argmax(beyond <= limit)))
    rank = min(rank, s.shape[-1])
    half, odd = divmod(exponent, 2)
    root = xp.sqrt(s[..., :rank] * 2.0**odd)
    U = times_power(xp.matmul(Qu, u[..., :rank]) * root[..., None, :], half)
    V = times_power(root[..., :, None] * xp.matmul(vh[..., :rank, :], adjoint(Qv)), half)
    made = MonarchMatrix._of(two_stages(*merge_slices(U, V), cut.m, cut.n))
    norm, error = chain_norm(M), _distance(M, made)
    facts: dict[str, Any] = {
        "error": error,
        "relative_error": error / norm if norm else 0.0,
        "singular_values": np.ldexp(to_numpy(s[..., :rank]).astype(np.float64), exponent),
        "gap": relative_gap(squares, rank),
        "n_iter": 0,
        "method": "svd",
    }
    made.__dict__.update(facts)
    return made


def _distance(M: "MonarchMatrix", other: "MonarchMatrix") -> float:
    """Return ‖M - other‖_F of their factors as they are, in double precision."""
    wide = "complex128" if is_complex(M.left) else "float64"
    both = (X._of(tuple(stage.astype(wide) for stage in X._chain)) for X in (M, other))
    return chain_norm(operator.sub(*both))


def _tails(squares: np.ndarray) -> np.ndarray:
    """Return, for each rank 0 … r, the sum over all slices of the squares beyond it, smallest first added."""
    per_rank = squares.reshape(-1, squares.shape[-1]).sum(axis=0)
    return np.append(np.cumsum(per_rank[::-1])[::-1], 0.0)


def relative_gap(squares: np.ndarray, rank: int) -> np.ndarray:
    """Return 1 - σ²_{rank+1}/σ²_rank, one where nothing is left out, zero where nothing is kept."""
    kept = squares[..., rank - 1]
    left_out = squares[..., rank] if squares.shape[-1] > rank else np.zeros_like(kept)
    ratio = np.divide(left_out, kept, out=np.ones_like(kept), where=kept > 0)
    return 1 - np.minimum(ratio, 1.0)
