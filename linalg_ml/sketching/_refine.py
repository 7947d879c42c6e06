"""Iterative refinement of least squares: conjugate gradients on a well-conditioned operator, started afresh.

One loop serves every preconditioner. Each round solves for a correction from the residual of the original problem;
a single long run from one start is not backward stable (Meier, Nakatsukasa, Townsend, Webb 2024).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack, qr, solve_triangular, svd, svdvals

Apply = Callable[[np.ndarray], np.ndarray]

_ROUNDS = 5
_INNER = 100  # iterations of one round


class Preconditioner:
    """A triangle R with RᴴR ≈ AᴴA, through which A R⁻¹ is well conditioned; numerical rank by `cond`.

    If R is far from singular, R⁻¹ is applied by triangular solves. Otherwise its SVD drops the directions with
    singular values ≤ cond·σ₁, so that answers are of minimum norm.

    Attributes
    ----------
    rank : int
        Number of directions kept.
    norm : float
        ‖R‖_F, for ‖A‖_F.
    """

    def __init__(self, R: np.ndarray, cond: float):
        self.R = R
        self.norm = float(np.linalg.norm(R))
        d = R.shape[1]
        self.triangular = R.shape[0] == d and reciprocal_condition(R) > 10 * d * cond
        if self.triangular:
            self.rank = d
        else:
            self._U, self.singular_values, Vh = svd(R, check_finite=False)
            top = self.singular_values[0]
            self.rank = int(np.sum(self.singular_values > cond * top)) if top > 0 else 0
            self._V = Vh.conj().T

    @cached_property
    def singular_values(self) -> np.ndarray:
        """All singular values of R, descending."""
        return svdvals(self.R, check_finite=False)

    @property
    def smallest(self) -> float:
        """The smallest singular value that is kept."""
        return float(self.singular_values[self.rank - 1]) if self.rank else 0.0

    @property
    def _basis(self) -> np.ndarray:
        return self._V[:, : self.rank]

    def apply(self, Y: np.ndarray) -> np.ndarray:
        """Return P Y, P = R⁻¹ or V_k Σ_k⁻¹."""
        if self.triangular:
            return solve_triangular(self.R, Y, check_finite=False)
        return self._basis @ (Y / self.singular_values[: self.rank, None])

    def solve(self, Z: np.ndarray) -> np.ndarray:
        """Return the solution of least norm of R x = z, as far as z lies in the directions kept."""
        if self.triangular:
            return solve_triangular(self.R, Z, check_finite=False)
        return self.apply(self._U[:, : self.rank].conj().T @ Z)

    def solve_adjoint(self, B: np.ndarray) -> np.ndarray:
        """Return the solution of least norm of Rᴴ z = b, as far as b lies in the directions kept."""
        if self.triangular:
            return solve_triangular(self.R, B, trans="C", check_finite=False)
        return self._U[:, : self.rank] @ self.adjoint(B)

    def kept(self, G: np.ndarray) -> np.ndarray:
        """Return the coefficients of G in the directions kept, up to a rotation."""
        return G if self.triangular else self._basis.conj().T @ G

    def adjoint(self, G: np.ndarray) -> np.ndarray:
        """Return Pᴴ G."""
        if self.triangular:
            return solve_triangular(self.R, G, trans="C", check_finite=False)
        return (self._basis.conj().T @ G) / self.singular_values[: self.rank, None]

    def shifted(self, G: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """Return, for each column, ‖(RᴴR + shift² I)^(-1/2) g‖; directions of R that are zero count by their shift."""
        if not self.triangular:
            rotated = np.abs(self._V.conj().T @ G) ** 2
            values = self.singular_values
            values = np.concatenate([values, np.zeros(rotated.shape[0] - values.size)])
            with np.errstate(divide="ignore", invalid="ignore"):
                shares = np.where(rotated > 0, rotated / (values[:, None] ** 2 + shifts**2), 0.0)
            return np.sqrt(shares.sum(axis=0))
        norms = np.empty(G.shape[1])
        for j, shift in enumerate(shifts):
            R = _stacked(self.R, shift)
            norms[j] = np.linalg.norm(solve_triangular(R, G[:, j], trans="C", check_finite=False))
        return norms


def reciprocal_condition(R: np.ndarray) -> float:
    """Return LAPACK's estimate of 1/(‖R‖₁ ‖R⁻¹‖₁) of a triangle."""
    (trcon,) = lapack.get_lapack_funcs(("trcon",), (R,))
    value, _ = trcon(R)
    return float(value)


def _stacked(R: np.ndarray, shift: float) -> np.ndarray:
    """Return the triangle of [R; shift I]."""
    d = R.shape[0]
    (tpqrt,) = lapack.get_lapack_funcs(("tpqrt",), (R,))
    out, _, _, _ = tpqrt(d, panel_width(d), np.asfortranarray(R), np.asfortranarray(shift * np.eye(d, dtype=R.dtype)))
    return np.triu(out)


def panel_width(size: int) -> int:
    """Return how many columns LAPACK should take together: measured."""
    return min(16 if size < 500 else 32, size)


def triangle_of(*blocks: np.ndarray) -> np.ndarray:
    """Return the triangular factor of blocks stacked on each other; one in Fortran order may be overwritten."""
    A = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
    _, R = qr(A, mode="raw", overwrite_a=True, check_finite=False)  # "r" would copy all rows of A
    return R[: A.shape[1]]


# --- the loop -----------------------------------------------------------------------------------------


@dataclass
class Refined:
    """What the loop ends with; arrays have one entry for each right-hand side."""

    x: np.ndarray
    residual_norm: np.ndarray  # ‖b - A x‖
    augmented_norm: np.ndarray  # with λ‖x‖ as a further part of the residual
    backward_error: np.ndarray
    n_iter: int
    slow: bool = False  # an iteration reached its limit
    deficient: bool = False  # found to have many solutions, without a factorisation
    gradient: np.ndarray | None = None  # what is left of the normal equations


def refine(
    residual: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    normal: Apply,
    P: Preconditioner,
    x: np.ndarray,
    b_norm: np.ndarray,
    *,
    damp: float,
    unit: float,
    target: float,
    dtype: np.dtype,
) -> Refined:
    """Refine x until the backward error is `target`, or no longer falls.

    Parameters
    ----------
    residual : callable
        x ↦ Aᴴ(b - A x) and the squared norms ‖b - A x‖².
    normal : callable
        v ↦ Aᴴ(A v).
    P : Preconditioner
        Of [A; λI].
    x : array, shape (d, k)
        Start.
    b_norm : array, shape (k,)
        Norms of the right-hand sides.
    """
    n_iter, slow, previous = 0, False, np.full(x.shape[1], np.inf)
    for turn in range(_ROUNDS + 1):
        x = x.astype(dtype).astype(x.dtype)  # the residual is that of the x which is returned
        g, squares = residual(x)
        g = g - damp**2 * x
        x_norm = np.linalg.norm(x, axis=0)
        r_norm = np.sqrt(squares)
        augmented = np.hypot(r_norm, damp * x_norm)
        c = P.adjoint(g)
        error = _backward_error(P, g, c, x_norm, augmented, b_norm, unit, free=turn < _ROUNDS)
        stop = (error <= target) | ((error > previous / 2) if turn >= 2 else False)
        if stop.all() or turn == _ROUNDS:
            break
        previous = error
        norms = np.linalg.norm(c, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            tolerance = np.clip(0.25 * unit * P.norm * x_norm / norms, 1e-10, 0.1)
        step, used, full = conjugate_gradients(normal, P, c, damp, tolerance, ~stop)
        n_iter, slow = n_iter + used, slow or full
        x = x + step
    error = _backward_error(P, g, c, x_norm, augmented, b_norm, unit, free=False)
    return Refined(x, r_norm, augmented, error, n_iter, slow)


def _backward_error(
    P: Preconditioner,
    g: np.ndarray,
    c: np.ndarray,
    x_norm: np.ndarray,
    r_norm: np.ndarray,
    b_norm: np.ndarray,
    unit: float,
    *,
    free: bool,
) -> np.ndarray:
    """Return the Karlson–Waldén estimate of the smallest ‖ΔA‖_F/‖A‖_F for which x is a solution.

    If `free`, a bound that costs nothing is given where it is small enough to stop by.
    """
    error = np.zeros(x_norm.size)
    zero = x_norm == 0
    small = np.linalg.norm(g, axis=0) <= unit * P.norm * b_norm
    error[zero & ~small] = 1.0  # x = 0 solves no problem near this one
    todo = ~zero & (P.norm > 0)
    if todo.any():
        scale = x_norm[todo] * P.norm
        bound = np.linalg.norm(c[:, todo], axis=0) / scale
        if P.rank < P.R.shape[1] or not free or np.any(bound > unit):
            bound = P.shifted(g[:, todo], r_norm[todo] / x_norm[todo]) / scale
        error[todo] = bound
    return error


def conjugate_gradients(
    normal: Apply, P: Preconditioner, c: np.ndarray, damp: float, tolerance: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, int, bool]:
    """Solve Pᴴ(AᴴA + λ²I)P y = c from 0, each column with its own steps; return P y, iterations, limit reached."""
    norms = np.linalg.norm(c, axis=0)
    y, r, p = np.zeros_like(c), c.copy(), c.copy()
    rho = norms**2
    active = np.flatnonzero((norms > 0) & wanted)
    n_iter = 0
    while active.size and n_iter < _INNER:
        n_iter += 1
        v = P.apply(p[:, active])
        q = P.adjoint(normal(v) + damp**2 * v)
        alpha = rho[active] / np.einsum("ij,ij->j", p[:, active].conj(), q).real
        y[:, active] += alpha * p[:, active]
        r[:, active] -= alpha * q
        new = np.einsum("ij,ij->j", r[:, active].conj(), r[:, active]).real
        p[:, active] = r[:, active] + new / rho[active] * p[:, active]
        rho[active] = new
        active = active[np.sqrt(new) > tolerance[active] * norms[active]]
    return P.apply(y), n_iter, bool(active.size)
