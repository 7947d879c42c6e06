"""The best Monarch approximation in the metric of the inputs: minimise tr((A - M) Σ (A - M)ᴴ).

Where Σ is block-diagonal, slices S stay independent: with Σ_k = C Cᴴ and the leading left singular vectors u of S C,
the best is u uᴴ S, so that nothing is ever divided by C. A full Σ takes block descent: while all other column blocks of
M are fixed, the best M_k is that of the slices of T = M_k + (A - M) Σ_:k Σ_kk⁻¹.

All of it in double precision, with columns scaled by powers of two: Â = A 2**(powers - top), where Σ̂, of a diagonal
near one, is Σ without 2**powers on both sides, and no entry of Â is above one.
"""

from typing import Any, NamedTuple

import numpy as np

from .._core.arrays import (
    Array,
    cast,
    compute_dtype,
    device,
    like,
    namespace,
    real_dtype,
    to_numpy,
    wide,
    wide_dtype,
)
from .._core.convergence import warn_unconverged
from .._linalg.estimates import exact_norm
from ._compact import adjoint
from ._form import two_stages
from ._layout import Layout
from ._matrix import MonarchMatrix
from ._metric import Coupling, Metric, metric_of
from ._slices import Truncated, gauged, panels, truncate


def project_weighted(A: Array, cut: Layout, rank: int, weights: Any, *, max_iter: int, tol: float) -> MonarchMatrix:
    """Return the best approximation of one matrix, finite and in its dtype of computation, in the metric `weights`."""
    return fit_weighted(A, cut, rank, metric_of(weights, A, cut), max_iter=max_iter, tol=tol)[0]


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
        S, powers = wide(panel), metric.powers[k]
        scale = _scale(_column_peaks(S), powers)
        C = like(metric.blocks[k], S, wide_dtype(S))
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
    blocks, *moved = (like(values, hats[0], wide_dtype(hats[0])) for values in (metric.blocks, *coupling))
    coupling = Coupling(*moved)
    D = _zeros(hats[0], cut)
    unit = float(np.finfo(real_dtype(A)).eps)
    found, errors, converged = _swept(hats, blocks, coupling, rank, D, max_iter=max_iter, tol=tol, unit=unit)
    if not converged:
        _warn(max_iter, errors, tol)
    parts = []
    for k, panel in panels(A, cut, finite=False):
        (u, V), of = found[k], scale._replace(powers=metric.powers[k])
        parts.append(_part(A, wide(panel), u, of.near_one_of_hat(V), of))
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
    fall = 1 - (errors[-1] / errors[-2]) ** 2 if len(errors) > 1 else 1.0
    warn_unconverged(
        f"block descent stopped after {max_iter} sweeps, the last of which lowered the loss by {fall:.1e} of it, where "
        f"tol is {tol:.1e}",
        6,
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
    hats = [scale._replace(powers=metric.powers[k]).hat(wide(panel)) for k, panel in panels(A, cut, finite=False)]
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
    difference = near_one - _product(_shifted(wide(U), -half), _shifted(wide(V), -half))
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
