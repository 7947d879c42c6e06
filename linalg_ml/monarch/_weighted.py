"""The best Monarch approximation in the metric of the inputs: minimise tr((A - M) Σ (A - M)ᴴ).

Where Σ is block-diagonal, slices S stay independent: with Σ_k = C Cᴴ and the leading left singular vectors u of S C,
the best is u uᴴ S, so that nothing is ever divided by C. A full Σ takes block descent: while all other column blocks of
M are fixed, the best M_k is that of the slices of T = M_k + (A - M) Σ_:k Σ_kk⁻¹.

All of it in double precision, with columns scaled by powers of two: Â = A 2**(powers - top), where Σ̂, of a diagonal
near one, is Σ without 2**powers on both sides, and no entry of Â is above one.
"""

import contextlib
import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.linalg import LinAlgError

from .._core.arrays import (
    Array,
    cast,
    check_array,
    check_same,
    compute_dtype,
    device,
    is_complex,
    like,
    namespace,
    real_dtype,
    to_numpy,
)
from .._linalg.estimates import exact_norm
from ._compact import adjoint
from ._form import two_stages
from ._layout import Layout
from ._matrix import MonarchMatrix
from ._slices import Truncated, gauged, panels, truncate

_ASYMMETRY = 1e4  # units of rounding, relative to the diagonal, up to which weights count as Hermitian
_EPS = float(np.finfo(np.float64).eps)


def project_weighted(A: Array, cut: Layout, rank: int, weights: Any, *, max_iter: int, tol: float) -> MonarchMatrix:
    """Return the best approximation of one matrix, finite and in its dtype of computation, in the metric `weights`."""
    return fit_weighted(A, cut, rank, metric_of(weights, A, cut), max_iter=max_iter, tol=tol)[0]


# --- metrics -------------------------------------------------------------------------------------------------


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
    values = to_numpy(_wide(weights))
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


# --- fits ----------------------------------------------------------------------------------------------------


class _Scale(NamedTuple):
    """Powers of two for columns of A: A' = A 4**-half and Â = A 2**(powers - top) have entries of at most about one."""

    half: int
    top: int
    powers: np.ndarray

    def hat(self, S: Array) -> Array:
        """Return Ŝ of S."""
        return _shifted(S, self.powers - self.top)

    def near_one(self, S: Array) -> Array:
        """Return S' of S."""
        return _shifted(S, np.asarray(-2 * self.half))

    def hat_of_near_one(self, S: Array) -> Array:
        return _shifted(S, self.powers - self.top + 2 * self.half)

    def near_one_of_hat(self, S: Array) -> Array:
        return _shifted(S, self.top - self.powers - 2 * self.half)


class _Part(NamedTuple):
    """One column block of the result."""

    U: Array  # (J, p, r)
    V: Array  # (J, r, q)
    difference: Array  # (J, p, q), Ŝ less the product of these factors
    error: float
    norm: float


def fit_weighted(
    A: Array, cut: Layout, rank: int, metric: Metric, *, max_iter: int, tol: float
) -> tuple[MonarchMatrix, list[float]]:
    """Return the approximation, and its weighted error at the start and after each sweep of the descent."""
    if metric.coupling is None:
        return _closed_form(A, cut, rank, metric)
    return _descent(A, cut, rank, metric, metric.coupling, max_iter=max_iter, tol=tol)


def _closed_form(A: Array, cut: Layout, rank: int, metric: Metric) -> tuple[MonarchMatrix, list[float]]:
    """Return the best approximation for block weights, column block by column block."""
    parts, sigma, gap, weighted = [], [], [], []
    for k, panel in panels(A, cut, finite=False):
        S, powers = _wide(panel), metric.powers[k]
        scale = _scale(_column_peaks(S), powers)
        C = like(metric.blocks[k], S, _wide_name(S))
        T = _times(scale.hat(S), C)
        found = truncate(T, rank)
        u = _directions(found, T)
        part = _part(A, S, u, _product(adjoint(u), scale.near_one(S)), scale)
        weighted.append(float(_power(exact_norm(_times(part.difference, C)), scale.top)))
        parts.append(part._replace(difference=None))
        sigma.append(_power(found.sigma, scale.top))
        gap.append(found.gap)
    error = exact_norm(np.array(weighted))
    facts = {"singular_values": np.stack(sigma), "gap": np.stack(gap), "n_iter": 0, "converged": True}
    return _assembled(parts, cut, weighted_error=error, **facts), [error]


def _descent(
    A: Array, cut: Layout, rank: int, metric: Metric, coupling: Coupling, *, max_iter: int, tol: float
) -> tuple[MonarchMatrix, list[float]]:
    """Return what block descent reaches from the best approximation for the diagonal blocks."""
    hats, scale = _hats(A, cut, metric)
    blocks, *moved = (like(values, hats[0], _wide_name(hats[0])) for values in (metric.blocks, *coupling))
    coupling = Coupling(*moved)
    D = _zeros(hats[0], cut)
    unit = float(np.finfo(real_dtype(A)).eps)
    found, errors, converged = _swept(hats, blocks, coupling, rank, D, max_iter=max_iter, tol=tol, unit=unit)
    if not converged:
        _warn(max_iter, errors, tol)
    parts = []
    for k, panel in panels(A, cut, finite=False):
        (u, V), of = found[k], scale._replace(powers=metric.powers[k])
        parts.append(_part(A, _wide(panel), u, of.near_one_of_hat(V), of))
    weighted = _weighted_norm(_filled(D, [part.difference for part in parts]), coupling)
    facts = {"weighted_error": float(_power(weighted, scale.top)), "n_iter": len(errors) - 1, "converged": converged}
    return _assembled(parts, cut, **facts), [float(_power(error, scale.top)) for error in errors]


def _swept(
    hats: list[Array],
    blocks: Array,
    coupling: Coupling,
    rank: int,
    D: Array,
    *,
    max_iter: int,
    tol: float,
    unit: float,
) -> tuple[list[tuple[Array, Array]], list[float], bool]:
    """Return u and V̂ of each column block, the errors at the start and after each sweep, and whether they converged."""
    size = _weighted_norm(_filled(D, hats), coupling)
    floor = 10 * unit * size  # what rounding of the factors does
    found = _start(hats, blocks, rank, D)
    errors = [_weighted_norm(D, coupling)]
    converged = errors[0] <= floor
    while not converged and len(errors) <= max_iter:
        sweep = _sweep(hats, blocks, coupling, rank, D)
        error = _weighted_norm(D, coupling)
        old, new = errors[-1] / size, error / size
        converged = old**2 - new**2 <= tol * old**2 or error <= floor
        if new <= old:  # else rounding is all that is left
            found = sweep
        errors.append(min(error, errors[-1]))
    return found, errors, converged


def _warn(max_iter: int, errors: list[float], tol: float) -> None:
    from sklearn.exceptions import ConvergenceWarning

    fall = 1 - (errors[-1] / errors[-2]) ** 2 if len(errors) > 1 else 1.0
    warnings.warn(
        f"block descent stopped after {max_iter} sweeps, the last of which lowered the loss by {fall:.1e} of it, where "
        f"tol is {tol:.1e}",
        ConvergenceWarning,
        stacklevel=6,
    )


def _start(hats: list[Array], blocks: Array, rank: int, D: Array) -> list[tuple[Array, Array]]:
    """Return u and V̂ of each column block for the diagonal blocks alone; D becomes what they leave."""
    found = []
    for k, hat in enumerate(hats):
        T = _product(hat, blocks[k, ...])
        u = _directions(truncate(T, rank), T)
        V = _product(adjoint(u), hat)
        D[_columns(hat, k)] = hat - _product(u, V)
        found.append((u, V))
    return found


def _sweep(hats: list[Array], blocks: Array, coupling: Coupling, rank: int, D: Array) -> list[tuple[Array, Array]]:
    """Return u and V̂ of each column block, the best while all others are fixed; D is kept up to date."""
    found = []
    for k, hat in enumerate(hats):
        gradient = namespace(D).reshape(_product(D, coupling.product[k, ...]), hat.shape)  # D Σ̂_:k C⁻ᴴ
        now = hat - D[_columns(hat, k)]
        T = _product(now, blocks[k, ...]) + gradient
        u = _directions(truncate(T, rank), T)
        uh = adjoint(u)
        V = _product(uh, now) + _product(_product(uh, gradient), coupling.inverse[k, ...])
        D[_columns(hat, k)] = hat - _product(u, V)
        found.append((u, V))
    return found


def _weighted_norm(D: Array, coupling: Coupling) -> float:
    return exact_norm(_product(D, coupling.root))


# --- parts of a fit ------------------------------------------------------------------------------------------


def _hats(A: Array, cut: Layout, metric: Metric) -> tuple[list[Array], _Scale]:
    """Return the slices of Â, a column block each, and their common scale."""
    peaks = np.stack([_column_peaks(panel) for _, panel in panels(A, cut, finite=False)])
    scale = _scale(peaks, metric.powers)
    hats = [scale._replace(powers=metric.powers[k]).hat(_wide(panel)) for k, panel in panels(A, cut, finite=False)]
    return hats, scale


def _zeros(hat: Array, cut: Layout) -> Array:
    """Return D (J, p, Kq); assigned to in parts."""
    xp = namespace(hat)
    return xp.zeros((cut.J, cut.p, cut.K * cut.q), dtype=hat.dtype, device=device(hat))


def _columns(part: Array, k: int) -> tuple[slice, ...]:
    """Return where column block k, of the shape of `part`, lies in D."""
    q = part.shape[-1]
    return slice(None), slice(None), slice(k * q, (k + 1) * q)


def _filled(D: Array, parts: list[Array]) -> Array:
    for k, part in enumerate(parts):
        D[_columns(part, k)] = part
    return D


def _column_peaks(S: Array) -> np.ndarray:
    """Return the largest modulus of each column of the slices (J, p, q)."""
    xp = namespace(S)
    return to_numpy(xp.max(xp.abs(S), axis=(0, 1))).astype(np.float64)


def _scale(peaks: np.ndarray, powers: np.ndarray) -> _Scale:
    seen = peaks > 0
    if not seen.any():
        return _Scale(0, 0, powers)
    exponents = np.frexp(peaks)[1]
    return _Scale(int(exponents[seen].max()) // 2, int((exponents + powers)[seen].max()), powers)


def _part(A: Array, S: Array, u: Array, V: Array, scale: _Scale) -> _Part:
    """Return the factors u V of S', made of equal norms, in the scale and dtype of A, and what they leave of S."""
    U, V = _balanced(u, V)
    half = np.asarray(scale.half)
    U, V = (cast(_shifted(X, half), compute_dtype(A.dtype)) for X in (U, V))
    near_one = scale.near_one(S)
    difference = near_one - _product(_shifted(_wide(U), -half), _shifted(_wide(V), -half))
    error, norm = (float(_power(exact_norm(X), 2 * scale.half)) for X in (difference, near_one))
    return _Part(U, V, scale.hat_of_near_one(difference), error, norm)


def _directions(of: Truncated, S: Array) -> Array:
    """Return the left singular vectors of S; zeros where the singular value is, and in rows that are zero in S.

    Rows of zeros then stay so in the result: rounding in a target that is constant would be seen in its scores.
    """
    xp = namespace(S)
    positive = of.sigma > 0
    root = np.where(positive, 1 / np.sqrt(np.where(positive, of.sigma, 1.0)), 0.0)
    u = of.U * like(root, of.U, real_dtype(of.U))[..., None, :]
    return xp.where(xp.any(S != 0, axis=-1, keepdims=True), u, xp.zeros_like(u))


def _balanced(u: Array, V: Array) -> tuple[Array, Array]:
    """Return factors of u V whose columns and rows have equal norms, in the gauge of `truncate`."""
    xp = namespace(V)
    peak = xp.max(xp.abs(V), axis=-1)
    one = xp.ones_like(peak)
    there = peak > 0
    safe = xp.where(there, peak, one)
    size = xp.linalg.vector_norm(V / safe[..., None], axis=-1)
    root = xp.sqrt(xp.where(there, size, one)) * xp.sqrt(safe)
    return gauged(u * xp.where(there, root, xp.zeros_like(root))[..., None, :], V / root[..., None])


def _assembled(parts: list[_Part], cut: Layout, **facts: Any) -> MonarchMatrix:
    xp = namespace(parts[0].U)
    left = xp.stack([part.U for part in parts], axis=2)
    right = xp.stack([xp.permute_dims(part.V, (1, 0, 2)) for part in parts], axis=0)
    error, norm = (exact_norm(np.array(values)) for values in ([p.error for p in parts], [p.norm for p in parts]))
    relative = error / norm if norm else 0.0
    facts = {"error": error, "relative_error": relative, "method": "gram", **facts}
    return MonarchMatrix._of(two_stages(left, right, cut.m, cut.n), **facts)


def _wide_name(A: Array) -> str:
    return "complex128" if is_complex(A) else "float64"


def _wide(A: Array) -> Array:
    return cast(A, _wide_name(A))


def _product(A: Array, B: Array) -> Array:
    return namespace(A).matmul(A, B)


def _times(S: Array, C: Array) -> Array:
    """Return S C for a block C (q, q), or for its diagonal (1, q)."""
    return S * C if C.shape[0] < C.shape[1] else _product(S, C)


def _shifted(X: Array, powers: np.ndarray) -> Array:
    """Return X · 2**powers (of the last axis, or one for all), in two steps: the factor by itself may overflow."""
    powers = np.clip(powers, -2000, 2000)
    for part in (powers // 2, powers - powers // 2):
        X = X * like(np.ldexp(1.0, part), X, real_dtype(X))
    return X


def _power(x: Any, power: int) -> Any:
    """Return x · 2**power, infinite where that is too large."""
    with np.errstate(over="ignore"):
        return np.ldexp(x, power)


# --- ridge regression ----------------------------------------------------------------------------------------


def project_ridge(
    X: Array, Y: Array, cut: Layout, rank: int, alpha: float, *, dtype: str, max_iter: int, tol: float
) -> tuple[MonarchMatrix, np.ndarray]:
    """Return Monarch coefficients, of `dtype`, of a ridge regression, and its loss at the start and after each sweep.

    The loss of coefficients W is that of the best ones, W*, and tr((W - W*) (XᵀX + alpha I) (W - W*)ᵀ).
    """
    best = ridge(X, Y, alpha)
    metric = metric_of_root(best.root, cut)
    M, errors = fit_weighted(cast(best.coef, dtype), cut, rank, metric, max_iter=max_iter, tol=tol)
    with np.errstate(over="ignore"):
        return M, np.square(best.error) + np.square(errors)


class Ridge(NamedTuple):
    """Coefficients of a ridge regression, and its loss as a metric of theirs."""

    coef: Array  # (n_targets, n_features)
    root: np.ndarray  # XᵀX + alpha I = rootᵀ root
    error: float  # √(‖Y - X coefᵀ‖² + alpha ‖coef‖²)


def ridge(X: Array, Y: Array, alpha: float) -> Ridge:
    """Return the least-squares solution (of least norm) of [X; √alpha I] coefᵀ ≈ [Y; 0], in double precision."""
    xp = namespace(X)
    n, count = X.shape[1], Y.shape[1]
    if alpha > 0:
        X = xp.concat([X, like(alpha**0.5 * np.eye(n), X)])
        Y = xp.concat([Y, like(np.zeros((n, count)), Y)])
    Q, R = xp.linalg.qr(X)
    u, s, vh = xp.linalg.svd(R, full_matrices=False)
    values = to_numpy(s)
    kept = values > max(X.shape) * _EPS * values[0]
    inverse = like(np.where(kept, 1 / np.where(kept, values, 1.0), 0.0), X)
    solution = _product(adjoint(vh), inverse[:, None] * _product(adjoint(u), _product(adjoint(Q), Y)))
    error = exact_norm(Y - _product(X, solution))
    return Ridge(xp.matrix_transpose(solution), to_numpy(R), error)
