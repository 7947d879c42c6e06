"""Design matrices for regression, and a sketch of a regression that grows with its rows."""

from typing import Any, Self

import numpy as np
from scipy import sparse

from .._core.arrays import Array, cast, compute_dtype, is_sparse, like, namespace, to_numpy
from ._formed import FormedMap, rows_of
from ._refine import Preconditioner, triangle_of
from ._sparse import SparseSign

_UNBOUNDED = 2**62  # rows that a stream may have


class Design(FormedMap):
    """Rows √w [x - shift, 1], followed by [λI 0]: what a ridge with an intercept minimises, formed block by block."""

    def __init__(
        self, X: Array, root_weights: np.ndarray | None, intercept: bool, damp: float, shift: np.ndarray | None = None
    ):
        self.X, self.intercept, self.damp = X, intercept, damp
        self._shift = None if shift is None else like(shift, X, compute_dtype(X.dtype))
        self.dtype = np.dtype(compute_dtype(X.dtype))
        self._roots = None if root_weights is None else like(root_weights, X, self.dtype.name)
        n, d = X.shape
        self.shape = (n + d * (damp > 0), d + intercept)

    @property
    def example(self) -> Array:
        """The samples."""
        return self.X

    def rows(self, start: int, stop: int) -> Array:
        """Form rows `start` … `stop` - 1."""
        xp, (n, d) = namespace(self.X), self.X.shape
        parts = []
        if start < n:
            last = min(stop, n)
            block = cast(self.X[start:last, ...], self.dtype.name)
            if self._shift is not None:
                block = block - self._shift
            if self.intercept:
                ones = xp.ones((last - start, 1), dtype=block.dtype, device=block.device)
                block = xp.concat([block, ones], axis=1)
            parts.append(block if self._roots is None else block * self._roots[start:last, None])
        if stop > n:
            ridge = self.damp * np.eye(d, d + self.intercept)[max(start - n, 0) : stop - n]
            parts.append(like(ridge, self.X, self.dtype.name))
        return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)

    def _apply(self, X: Any) -> Array:
        n = self.shape[0]
        return self.rows(0, n) @ X

    def _apply_adjoint(self, Y: Any) -> Array:
        n = self.shape[0]
        return self.rows(0, n).T @ Y


def sparse_design(X: Any, root_weights: np.ndarray | None, intercept: bool, damp: float) -> sparse.csr_array:
    """Return the same as a sparse matrix."""
    n, d = X.shape
    A = cast(sparse.csr_array(X), compute_dtype(X.dtype))
    if intercept:
        A = sparse.hstack([A, np.ones((n, 1), A.dtype)])
    if root_weights is not None:
        A = sparse.diags_array(root_weights.astype(A.dtype)) @ A
    if damp > 0:
        A = sparse.vstack([A, damp * sparse.eye_array(d, d + intercept, dtype=A.dtype)])
    return sparse.csr_array(A)


def mean_row(X: Array, root_weights: np.ndarray | None) -> np.ndarray | None:
    """Return the weighted mean of the samples, about; None for a sparse matrix.

    Less it, columns far from zero do not look like the column of ones, and a solution of least norm does not depend
    on where zero is. With an intercept any row may be subtracted, so rounding does not matter here.
    """
    if is_sparse(X):
        return None
    weights = np.ones(X.shape[0]) if root_weights is None else root_weights**2
    weights = weights / max(float(weights.sum()), np.finfo(np.float64).tiny)
    return to_numpy(like(weights, X, X.dtype) @ X)


def design(
    X: Array, root_weights: np.ndarray | None, intercept: bool, damp: float, shift: np.ndarray | None = None
) -> Any:
    """Return what `lstsq` is given: X itself where nothing is to be added."""
    if root_weights is None and not intercept and damp == 0:
        return X
    if is_sparse(X):
        return sparse_design(X, root_weights, intercept, damp)
    A = Design(X, root_weights, intercept, damp, shift)
    small = A.shape[0] <= 2 * A.shape[1] or A.shape[0] * A.shape[1] <= 2**19
    return A.rows(0, A.shape[0]) if small else A


def targets(y: Array, root_weights: np.ndarray | None, n_zeros: int) -> Array:
    """Return √w y, followed by zeros."""
    xp = namespace(y)
    if root_weights is not None:
        roots = like(root_weights, y, y.dtype)
        y = y * (roots if y.ndim == 1 else roots[:, None])
    if n_zeros:
        y = xp.concat([y, xp.zeros((n_zeros, *y.shape[1:]), dtype=y.dtype, device=y.device)], axis=0)
    return y


class RegressionSketch:
    """S [A b] of all rows seen so far; each row falls where its number says, so the cut into blocks counts for nothing.

    Attributes
    ----------
    n_rows : int
        Rows seen.
    sums : ndarray of shape (m, d + k)
        The sketch.
    """

    def __init__(self, n_sketch: int, width: int, columns: int, key: int, shift: np.ndarray | None = None):
        self.n_rows = self.n_counted = 0  # all, and those of weight above 0
        self.width, self.shift = width, shift
        self.sums = np.zeros((n_sketch, width + columns))
        self._S = SparseSign(_UNBOUNDED, n_sketch, rng=key)

    def update(self, A: Any, b: Array) -> Self:
        """Add rows of A and b, b of shape (rows, k)."""
        for start, block in rows_of(A).blocks():
            stop = start + block.shape[0]
            self.sums[:, : self.width] += to_numpy(self._S.partial(block, self.n_rows))
            self.sums[:, self.width :] += to_numpy(self._S.partial(b[start:stop, ...], self.n_rows))
            self.n_rows += block.shape[0]
        return self

    def solve(self, ridge: np.ndarray, cond: float) -> tuple[np.ndarray, Preconditioner, np.ndarray]:
        """Return the solution, its preconditioner and an estimate of the squared norms of the residuals.

        `ridge` holds λ for each column.
        """
        d, m = self.width, self.sums.shape[0]
        below = np.concatenate([np.diag(ridge), np.zeros((d, self.sums.shape[1] - d))], axis=1)
        T = triangle_of(self.sums, below)
        P = Preconditioner(T[:d, :d], cond)
        x = P.solve(T[:d, d:])
        squares = np.sum((self.sums[:, d:] - self.sums[:, :d] @ x) ** 2, axis=0)
        return x, P, squares * m / max(m - P.rank, 1)
