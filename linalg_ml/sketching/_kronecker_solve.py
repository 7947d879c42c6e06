"""Least squares on A1 ⊗ A2: exact, from the singular value decompositions of the two factors."""

import numpy as np

from .._core.arrays import like, to_numpy
from ._kronecker import KroneckerRows
from ._passes import Passes
from ._refine import Refined


class PairSpectrum:
    """The singular values of A1 ⊗ A2, with λ: what `Preconditioner` tells of a triangle."""

    def __init__(self, values: np.ndarray, damp: float, cond: float):
        self.all = values
        with_damp = np.hypot(np.sort(values.ravel())[::-1], damp)
        self.singular_values = with_damp
        self.norm = float(np.linalg.norm(with_damp))
        self.kept = np.hypot(values, damp) > cond * with_damp[0]
        self.rank = int(self.kept.sum()) if self.norm > 0 else 0

    @property
    def smallest(self) -> float:
        """The smallest singular value that is kept."""
        return float(self.singular_values[self.rank - 1]) if self.rank else 0.0


def solve_pairs(
    problem: Passes, A: KroneckerRows, damp: float, cond: float | None, target: float
) -> tuple[PairSpectrum, Refined, int]:
    """Return the spectrum, the solution with its errors, and how often A was multiplied by."""
    if A.shape[0] < A.shape[1]:
        shapes = " and ".join(str(tuple(factor.shape)) for factor in A.factors)
        raise ValueError(f"A must have at least as many rows as columns, got KroneckerRows of {shapes}")
    dtype, unit = problem.wide_dtype, problem.unit
    (U1, s1, Vh1), (U2, s2, Vh2) = (
        np.linalg.svd(to_numpy(factor).astype(dtype), full_matrices=False) for factor in A.factors
    )
    P = PairSpectrum(np.multiply.outer(s1, s2), damp, 20 * unit if cond is None else cond)
    with np.errstate(divide="ignore", invalid="ignore"):
        filtered = np.where(P.kept, P.all / (P.all**2 + damp**2), 0.0)[:, :, None]
    b = problem.right_hand_sides()
    d, k = A.shape[1], b.shape[1]

    def solve(R: np.ndarray) -> np.ndarray:
        """Return the damped pseudo-inverse times R, (n1·n2, k)."""
        cube = R.reshape(U1.shape[0], U2.shape[0], k)
        inner = np.einsum("ip,ijk,jq->pqk", U1.conj(), cube, U2.conj(), optimize=True)
        return np.einsum("pa,pqk,qb->abk", Vh1.conj(), filtered * inner, Vh2.conj(), optimize=True).reshape(d, k)

    x = solve(b)
    best: Refined | None = None
    used = 0
    for turn in range(3):
        x = x.astype(problem.dtype).astype(dtype)
        done = _judged(A, P, b, x, damp, (Vh1, Vh2), turn)
        used += 2
        if best is None or np.max(done.backward_error) < np.max(best.backward_error):
            best = done
        if np.all(done.backward_error <= target):
            break
        x = x + _correction(A, P, done, (Vh1, Vh2), damp)
    assert best is not None
    return P, best, used


def _judged(A, P, b, x, damp, V, turn) -> Refined:
    """Return x with its residual and the Karlson–Waldén backward error."""
    example = A.factors[0]
    device = lambda X: like(X, example, X.dtype.name)  # noqa: E731
    wide = KroneckerRows(*(like(to_numpy(f).astype(x.dtype), f) for f in A.factors))
    r = b - to_numpy(wide @ device(x))
    g = to_numpy(wide.H @ device(r)) - damp**2 * x
    x_norm, r_norm = np.linalg.norm(x, axis=0), np.linalg.norm(r, axis=0)
    augmented = np.hypot(r_norm, damp * x_norm)
    rotated = np.abs(_rotated(g, V)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = rotated / ((P.all**2 + damp**2)[:, :, None] + (augmented / x_norm) ** 2)
        error = np.sqrt(np.where(rotated > 0, shares, 0).sum(axis=(0, 1))) / (x_norm * P.norm)
    small = np.linalg.norm(g, axis=0) <= np.finfo(x.dtype).eps * P.norm * np.linalg.norm(b, axis=0)
    error = np.where(x_norm > 0, error, np.where(small, 0.0, 1.0))
    return Refined(x, r_norm, augmented, error, turn, gradient=g)


def _rotated(g: np.ndarray, V: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return (V1 ⊗ V2)ᴴ g, shape (d1, d2, k)."""
    Vh1, Vh2 = V
    return np.einsum("pa,abk,qb->pqk", Vh1, g.reshape(Vh1.shape[1], Vh2.shape[1], -1), Vh2, optimize=True)


def _correction(A, P, done: Refined, V, damp: float) -> np.ndarray:
    """Return (AᴴA + λ²I)⁻¹ g on the directions kept."""
    Vh1, Vh2 = V
    gradient = done.gradient
    assert gradient is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.where(P.kept[:, :, None], _rotated(gradient, V) / (P.all**2 + damp**2)[:, :, None], 0)
    return np.einsum("pa,pqk,qb->abk", Vh1.conj(), inner, Vh2.conj(), optimize=True).reshape(done.x.shape)
